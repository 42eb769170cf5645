//! Which model a command works on: the embedded one, or a folder.

use std::path::Path;

use checkpoint::{Checkpoint, Ema, Source};

use crate::failure::Failure;

/// The embedded model's name in reports and events.
pub(crate) const EMBEDDED: &str = "mini";

/// Opens the model in `folder`, or the embedded one. Reads no weights.
///
/// # Errors
///
/// [`Failure::Input`] if the folder is no model, or if there is none embedded.
pub(crate) fn open(folder: Option<&Path>) -> Result<Checkpoint, Failure> {
    let source = match folder {
        Some(folder) => existing(folder)?,
        None => embedded()?,
    };
    Ok(Checkpoint::open(source, Ema::Prefer)?)
}

/// As [`open`], for whom another place to have a model from will do: nothing if none
/// is named and none embedded.
///
/// # Errors
///
/// [`Failure::Input`] if the folder is no model.
pub(crate) fn open_any(folder: Option<&Path>) -> Result<Option<Checkpoint>, Failure> {
    if folder.is_none() && !cfg!(feature = "mini") {
        return Ok(None);
    }
    open(folder).map(Some)
}

/// How the model in `folder` is called.
pub(crate) fn name(folder: Option<&Path>) -> String {
    folder.map_or_else(|| EMBEDDED.to_owned(), |folder| folder.display().to_string())
}

fn existing(folder: &Path) -> Result<Source, Failure> {
    let refused = |problem: &str| {
        let advice = "give the folder of a model in the diffusers or the original Wan layout";
        Err(Failure::Input(format!("{}: {problem}; {advice}", folder.display())))
    };
    match folder.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(Source::folder(folder)),
        Ok(_) => refused("is a file, not a model folder"),
        Err(error) => refused(&error.to_string()),
    }
}

#[cfg(feature = "mini")]
#[expect(clippy::unnecessary_wraps, reason = "without the embedded model this fails")]
fn embedded() -> Result<Source, Failure> {
    Ok(Source::embedded(filmloom_mini::FILES))
}

#[cfg(not(feature = "mini"))]
fn embedded() -> Result<Source, Failure> {
    let problem = "this filmloom was built without its embedded model: give --model DIR";
    Err(Failure::Input(problem.to_owned()))
}
