//! `filmloom model inspect`: what a model folder holds.
//!
//! The report is printed whole, with whatever is wrong in it. A folder that
//! cannot be used is a failure all the same, so that scripts notice.

use checkpoint::{AttentionReport, Inspection, PartReport, SamplerReport, WindowReport};
use plan::units::{Bytes, grouped};

use crate::{args::InspectArgs, failure::Failure, source, terminal};

/// Prints what the model that `args` name holds.
///
/// # Errors
///
/// [`Failure::Input`] if it is no model, or if a part of it cannot be used.
pub(crate) fn run(args: &InspectArgs) -> Result<(), Failure> {
    let inspection = source::open(args.folder.as_deref())?.inspect();
    match args.json {
        true => terminal::json_lines(&inspection)?,
        false => terminal::result(&text(&inspection))?,
    }
    match first_problem(&inspection) {
        Some(problem) => Err(Failure::Input(problem)),
        None => Ok(()),
    }
}

fn first_problem(inspection: &Inspection) -> Option<String> {
    let parts = inspection.parts.iter().filter_map(|part| part.problem.as_ref());
    parts.chain(&inspection.problems).next().cloned()
}

fn text(inspection: &Inspection) -> String {
    let mut lines = vec![inspection.source.clone()];
    if let Some(attention) = &inspection.attention {
        lines.extend(attention_lines(attention));
    }
    lines.push(field("window", &inspection.window.map_or("none".to_owned(), window_line)));
    if let Some(sampler) = &inspection.sampler {
        lines.extend(sampler_lines(sampler));
    }
    if let Some((width, height, fps)) = inspection.video {
        lines.push(field("pictures", &format!("{width}x{height}, {fps} a second")));
    }
    for part in &inspection.parts {
        lines.push(String::new());
        lines.extend(part_lines(part));
    }
    lines.push(String::new());
    for part in &inspection.missing {
        lines.push(field("missing", &part.to_string()));
    }
    if let Some(assumed) = &inspection.assumed {
        lines.push(field("assumed", assumed));
    }
    for problem in &inspection.problems {
        lines.push(field("problem", problem));
    }
    let text = lines.join("\n");
    format!("{}\n", text.trim_end())
}

fn attention_lines(attention: &AttentionReport) -> Vec<String> {
    match attention {
        AttentionReport::Dense { cached } => {
            let cached = grouped(*cached as u64);
            vec![field("attention", &format!("dense, {cached} numbers cached per token and layer"))]
        }
        AttentionReport::Mla {
            cached,
            kv_rank,
            query_rank,
            nope,
            rope,
            value,
            query_norm,
            fused_kv_down,
            query_bias,
        } => {
            let rank =
                query_rank.map_or("direct".to_owned(), |rank| format!("through rank {rank}"));
            let from = if *fused_kv_down { "one matrix" } else { "two matrices" };
            let bias = if *query_bias { "with" } else { "without" };
            vec![
                field("attention", &format!("mla, {cached} numbers cached per token and layer")),
                field("cached", &format!("{kv_rank} content and {rope} rope key, from {from}")),
                field("heads", &format!("keys of {nope} + {rope}, values of {value}")),
                field("queries", &format!("{rank}, {bias} bias, norm {query_norm}")),
            ]
        }
    }
}

fn window_line(window: WindowReport) -> String {
    let WindowReport { sink, recent, chunk, positions } = window;
    format!(
        "{sink} sink and {recent} recent frames besides the chunk of {chunk}, {positions} positions"
    )
}

fn sampler_lines(sampler: &SamplerReport) -> Vec<String> {
    let chunk = |steps: &str, guidance: f32| format!("steps {steps}, guidance {guidance}");
    vec![
        field("sampler", &format!("{}, shift {}", sampler.update, sampler.shift)),
        field("first chunk", &chunk(&sampler.first_chunk_steps, sampler.first_chunk_guidance)),
        field("later chunks", &chunk(&sampler.steps, sampler.guidance)),
    ]
}

fn part_lines(part: &PartReport) -> Vec<String> {
    let mut lines = vec![part.part.to_string()];
    if 0 < part.parameters {
        lines.push(field("parameters", &grouped(part.parameters)));
    }
    if !part.sizes.is_empty() {
        let sizes = part.sizes.iter().map(|(name, size)| format!("{name} {size}"));
        lines.push(field("sizes", &sizes.collect::<Vec<_>>().join(", ")));
    }
    if !part.tensors.is_empty() {
        let dtypes = part.dtypes.iter().map(|(dtype, count)| format!("{count} {dtype}"));
        let dtypes = dtypes.collect::<Vec<_>>().join(", ");
        lines.push(field("tensors", &format!("{} ({dtypes})", part.tensors.len())));
    }
    for (file, bytes) in &part.files {
        lines.push(field("file", &format!("{file}, {}", Bytes(*bytes))));
    }
    lines.extend(part.warnings.iter().map(|warning| field("warning", warning)));
    lines.extend(part.problem.iter().map(|problem| field("problem", problem)));
    lines
}

fn field(name: &str, value: &str) -> String {
    format!("  {name:<13} {value}")
}
