//! `filmloom plan`: what a video takes, in bytes.
//!
//! The arithmetic is in the `plan` crate; this finds the model and prints.

use std::path::Path;

use backend::Dtype;
use plan::{
    presets,
    report::{Kind, Report, Request, report},
};
use types::Model;

use crate::{
    args::{AttentionKind, PlanArgs, Stored},
    failure::Failure,
    held, source, terminal,
};

/// Prints the plan that `args` ask for.
///
/// # Errors
///
/// [`Failure::Input`] if there is no such model, or no such video with it;
/// [`Failure::Machine`] if the plan cannot be printed.
pub(crate) fn run(args: &PlanArgs) -> Result<(), Failure> {
    let report = planned(args)?;
    match args.json {
        true => terminal::json_lines(&report),
        false => terminal::result(&report.table()),
    }
}

fn planned(args: &PlanArgs) -> Result<Report, Failure> {
    let (name, model) = model(args.model.as_deref())?;
    let factors = match args.precision {
        Stored::F32 => Dtype::F32,
        Stored::Bf16 => Dtype::Bf16,
    };
    let request = Request {
        seconds: args.seconds,
        size: args.size,
        attention: args.attention.map(|kind| match kind {
            AttentionKind::Dense => Kind::Dense,
            AttentionKind::Mla => Kind::Mla,
        }),
        engine: held::engine(factors),
    };
    Ok(report(&name, &model, &request)?)
}

/// The model called `name`: a built-in shape, a folder, or the embedded one.
fn model(name: Option<&Path>) -> Result<(String, Model), Failure> {
    let name = name.filter(|name| *name != Path::new(source::EMBEDDED) || name.is_dir());
    let Some(path) = name else {
        return Ok((source::name(None), source::open(None)?.model()?));
    };
    if let Some(preset) = path.to_str().and_then(presets::preset) {
        return Ok((source::name(Some(path)), preset));
    }
    if !path.exists() {
        let known = presets::NAMES.join(", ");
        return Err(Failure::Input(format!(
            "{}: neither a model folder nor a built-in shape ({}, {known})",
            path.display(),
            source::EMBEDDED,
        )));
    }
    Ok((source::name(Some(path)), source::open(Some(path))?.model()?))
}
