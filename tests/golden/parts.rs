//! Running a case's part.

use std::sync::Arc;

use backend::{Cpu, MlaPath, philox};
use checkpoint::{Checkpoint, Source};
use model::{
    forward::{self, Array, PipelineInput, TransformerInput},
    sampler::Noise,
};

use crate::case::{Case, Measure, Part, compare};

/// Runs the case and compares every output.
pub(crate) fn check(
    cpu: &Arc<Cpu>,
    case: &Case,
    tolerance: f64,
    measure: Measure,
) -> Result<(), String> {
    match case.part {
        Part::Transformer => transformer(cpu, case, tolerance, measure),
        Part::Noise => noise(case, tolerance),
        Part::Text => text(cpu, case, tolerance, measure),
        Part::Vae => vae(cpu, case, tolerance, measure),
        Part::Pipeline => pipeline(cpu, case, tolerance),
    }
}

fn open(case: &Case) -> Result<Checkpoint, String> {
    let ema = checkpoint::Ema::default();
    Checkpoint::open(Source::folder(&case.model), ema).map_err(|error| error.to_string())
}

fn transformer(
    cpu: &Arc<Cpu>,
    case: &Case,
    tolerance: f64,
    measure: Measure,
) -> Result<(), String> {
    // Latent attention both ways, whichever would be chosen for this size.
    for path in [MlaPath::Rebuild, MlaPath::Absorb] {
        let input = TransformerInput {
            context: case.input.array("context").expect("a context"),
            clean: case.input.array("clean"),
            noisy: case.input.array("noisy").expect("a noisy chunk"),
            timesteps: case.input.array("timestep").expect("a timestep").values,
            path: Some(path),
        };
        let output = forward::transformer(Arc::clone(cpu), &open(case)?, &input, true)
            .map_err(|error| error.to_string())?;
        for name in case.output.names() {
            let got = match name {
                "velocity" => Some(&output.velocity),
                cache => output.caches.get(cache),
            };
            let got = got.ok_or_else(|| format!("no {name} came out"))?;
            case.compare(name, got, tolerance, measure)
                .map_err(|problem| format!("{problem} ({path:?})"))?;
        }
    }
    Ok(())
}

fn text(cpu: &Arc<Cpu>, case: &Case, tolerance: f64, measure: Measure) -> Result<(), String> {
    let ids = case.input.array("input_ids").expect("token ids");
    let masks = case.input.values("attention_mask");
    let tokens = ids.shape[1];
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "token ids")]
    let rows: Vec<Vec<u32>> =
        ids.values.chunks(tokens).map(|row| row.iter().map(|&id| id as u32).collect()).collect();
    let masks: Vec<Vec<bool>> =
        masks.chunks(tokens).map(|row| row.iter().map(|&mask| mask != 0.0).collect()).collect();
    let got = forward::text(cpu, &open(case)?, &rows, &masks).map_err(|error| error.to_string())?;
    let want = case.output.values("last_hidden_state");
    // Rows under the mask's zeros are not pinned.
    let dim = got.shape[2];
    let seen: Vec<bool> = masks.concat();
    let keep = |index: usize| !case.masked_rows || seen[index / dim];
    let pick = |index: &usize| keep(*index);
    let places: Vec<usize> = (0..want.len()).filter(pick).collect();
    let got: Vec<f32> = places.iter().map(|&place| got.values[place]).collect();
    let want: Vec<f64> = places.iter().map(|&place| want[place]).collect();
    compare("last_hidden_state", &got, &want, tolerance, measure)
}

fn vae(cpu: &Cpu, case: &Case, tolerance: f64, measure: Measure) -> Result<(), String> {
    let latents = case.input.array("latents").expect("latents");
    let decode = |streamed| {
        forward::vae(cpu, &open(case)?, &latents, streamed).map_err(|error| error.to_string())
    };
    let whole = decode(false)?;
    if case.also_streamed && decode(true)? != whole {
        return Err("frame by frame differs from the whole clip".into());
    }
    case.compare("video", &whole, tolerance, measure)
}

fn pipeline(cpu: &Arc<Cpu>, case: &Case, tolerance: f64) -> Result<(), String> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "small integers")]
    let number = |name: &str| case.input.values(name)[0] as u64;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "bytes of UTF-8")]
    let prompt = case.input.values("prompt").iter().map(|&byte| byte as u8).collect();
    let noise = match case.input.array("noise") {
        Some(Array { shape, values }) => {
            let draw = values.len() / shape[0];
            Noise::Given(values.chunks(draw).map(<[f32]>::to_vec).collect())
        }
        None => Noise::Seed(number("seed")),
    };
    let chunks = u32::try_from(number("chunks")).expect("few chunks");
    let frames = case.input.array("noise").map(|noise| noise.shape[2]);
    let prompt = String::from_utf8(prompt).expect("UTF-8");
    let input = PipelineInput { prompt, noise, chunks, frames };
    let output = forward::pipeline(Arc::clone(cpu), &open(case)?, &input)
        .map_err(|error| error.to_string())?;
    // Rounding is carried from chunk to chunk, so single pixels at an edge may
    // differ by more than the whole does.
    case.compare("x0", &output.x0, tolerance, Measure::Norm)?;
    match case.output.has("pictures") {
        true => case.compare("pictures", &output.pictures, tolerance, Measure::Norm),
        false => Ok(()),
    }
}

fn noise(case: &Case, tolerance: f64) -> Result<(), String> {
    for (index, draw) in case.draws.iter().enumerate() {
        let draw = philox::Draw {
            seed: draw.seed.parse().expect("a 64-bit seed"),
            chunk: draw.chunk,
            step: draw.step,
            domain: draw.domain,
        };
        let name = format!("draw.{index}.normals");
        let want = case.output.values(&name);
        let groups = u32::try_from(want.len().div_ceil(4)).expect("a small draw");
        let mut got: Vec<f32> = (0..groups).flat_map(|group| draw.normals(group)).collect();
        got.truncate(want.len());
        compare(&name, &got, want, tolerance, Measure::Strict)?;
        let words: Vec<f64> =
            (0..groups).flat_map(|group| draw.words(group)).map(f64::from).collect();
        if words != case.output.values(&format!("draw.{index}.words")) {
            return Err(format!("draw {index}: other words"));
        }
    }
    Ok(())
}
