//! Single parts on given inputs: the door through which results are compared.
//!
//! Each function takes and gives plain host arrays, named and shaped as the
//! documentation of `filmloom model forward` says, so that another
//! implementation can be run on the same numbers.

use std::{collections::BTreeMap, sync::Arc};

use backend::{Backend, Dtype, MlaPath, Tensor};
use checkpoint::Checkpoint;
use types::{Attention, Branch, PassKind, TokenGrid};

use crate::{
    Engine, Error, Request,
    sampler::{Noise, Sampler},
    text::Encoder,
    transformer::{Stage, TextProjection, cheaper_path, is_time},
    vae::Decoder,
};

/// Most chunks of a run of [`pipeline`], chosen: 13 hours of three frames each.
/// All of its output is held at once.
pub const CHUNKS_MAX: u32 = 1 << 16;

/// A host array.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Sizes of the axes, outermost first.
    pub shape: Vec<usize>,
    /// Values, row-major.
    pub values: Vec<f32>,
}

/// Input of [`transformer`].
#[derive(Clone, Debug)]
pub struct TransformerInput {
    /// The text encoder's output, padded: `[text_len, text_dim]`.
    pub context: Array,
    /// Chunks to commit, in order: `[chunks, channels, frames, rows, columns]`.
    pub clean: Option<Array>,
    /// The chunk to denoise: `[channels, frames, rows, columns]`.
    pub noisy: Array,
    /// Times 0 to 1000: one for all frames, or one per frame.
    pub timesteps: Vec<f32>,
    /// How latent attention is computed; the cheaper way if it is not said.
    pub path: Option<MlaPath>,
}

/// Output of [`transformer`].
#[derive(Clone, Debug)]
pub struct TransformerOutput {
    /// `[channels, frames, rows, columns]`.
    pub velocity: Array,
    /// Per layer, cached rows in window order. Latent attention:
    /// `cache.{layer}`, after the norm, rope key un-rotated. Dense:
    /// `cache.{layer}.k`, rotated, and `cache.{layer}.v`.
    pub caches: BTreeMap<String, Array>,
}

/// Input of [`pipeline`].
#[derive(Clone, Debug)]
pub struct PipelineInput {
    /// The prompt.
    pub prompt: String,
    /// Where the noise comes from.
    pub noise: Noise,
    /// Chunks to make.
    pub chunks: u32,
    /// Frames of the one chunk of a model without a window.
    pub frames: Option<usize>,
}

/// Output of [`pipeline`].
#[derive(Clone, Debug)]
pub struct PipelineOutput {
    /// Clean frames, normalised: `[chunks, channels, frames, rows, columns]`.
    pub x0: Array,
    /// `[pictures, 3, rows, columns]` in [-1, 1].
    pub pictures: Array,
}

/// The text encoder's `last_hidden_state` `[batch, tokens, dim]` for token ids
/// `[batch, tokens]`. Keys whose mask is zero are not seen; no row is zeroed.
///
/// # Errors
///
/// [`Error::Shape`] if ids and mask differ in shape, and everything that
/// loading and running can report.
pub fn text<B: Backend>(
    backend: &Arc<B>,
    checkpoint: &Checkpoint,
    ids: &[Vec<u32>],
    masks: &[Vec<bool>],
) -> Result<Array, Error> {
    let opened = checkpoint.open_text_encoder()?;
    let encoder = Encoder::load(Arc::clone(backend), opened.config, &opened.tensors)?;
    let tokens = ids.first().map_or(0, Vec::len);
    let sizes = |rows: &[usize]| rows.iter().all(|&len| len == tokens);
    let lens: Vec<usize> = ids.iter().map(Vec::len).chain(masks.iter().map(Vec::len)).collect();
    if ids.len() != masks.len() || !sizes(&lens) {
        return Err(shape("attention masks", vec![ids.len(), tokens], vec![masks.len()]));
    }
    let mut values = Vec::new();
    for (ids, mask) in ids.iter().zip(masks) {
        values.extend(backend.download(&encoder.encode(ids, mask)?)?);
    }
    Ok(Array { shape: vec![ids.len(), tokens, encoder.config().dim], values })
}

/// Pictures `[3, pictures, rows, columns]` in [-1, 1] of normalised frame
/// tensors `[channels, frames, rows, columns]`; `streamed`, one frame at a time.
///
/// # Errors
///
/// [`Error::Shape`] if the frames are not the model's, and everything that
/// loading and running can report.
pub fn vae<B: Backend>(
    backend: &B,
    checkpoint: &Checkpoint,
    latents: &Array,
    streamed: bool,
) -> Result<Array, Error> {
    let opened = checkpoint.open_vae()?;
    let z_dim = opened.config.z_dim;
    let &[channels, frames, rows, columns] = latents.shape.as_slice() else {
        return Err(axes("latents", &latents.shape));
    };
    if channels != z_dim || latents.values.is_empty() {
        return Err(shape("latents", vec![z_dim, 1, rows, columns], latents.shape.clone()));
    }
    let decoder = Decoder::load(backend, &opened.tensors, &opened.config)?;
    let mut stream = decoder.stream(backend, rows, columns)?;
    let pixels = rows * columns;
    let step = if streamed { 1 } else { frames };
    let (mut values, mut count) = (Vec::new(), 0);
    for first in (0..frames).step_by(step) {
        let part: Vec<f32> = latents
            .values
            .chunks_exact(frames * pixels)
            .flat_map(|channel| &channel[first * pixels..(first + step) * pixels])
            .copied()
            .collect();
        let part = backend.upload(channels, step * pixels, &part, Dtype::F32)?;
        let pictures = decoder.decode(backend, &mut stream, &part)?;
        values.extend(pictures.values(backend)?);
        count += pictures.count;
    }
    let scale = opened.config.space_scale();
    let (height, width) = (rows * scale, columns * scale);
    Ok(Array { shape: vec![3, count, height, width], values: channels_first(&values, 1) })
}

/// A whole film's first chunks.
///
/// # Errors
///
/// [`Error::Range`] or [`Error::NoWindow`] if there can be no such number of
/// chunks, before anything is loaded, and everything that loading and running
/// can report.
pub fn pipeline<B: Backend>(
    backend: Arc<B>,
    checkpoint: &Checkpoint,
    input: &PipelineInput,
) -> Result<PipelineOutput, Error> {
    if !(1..=CHUNKS_MAX).contains(&input.chunks) {
        let (found, most) = (input.chunks.to_string(), f64::from(CHUNKS_MAX));
        return Err(Error::Range { what: "chunks", found, least: 1.0, most });
    }
    if input.chunks != 1 && checkpoint.transformer()?.window.is_none() {
        return Err(Error::NoWindow);
    }
    let engine = Engine::load(backend, checkpoint)?;
    let model = engine.model();
    let (width, height) = (model.video.width, model.video.height);
    let request = Request {
        prompt: engine.prompt(&input.prompt)?,
        noise: input.noise.clone(),
        sampler: model.sampler.clone(),
        width,
        height,
        frames: input.frames,
    };
    let mut film = engine.start(&request)?;
    let (mut x0, mut pictures) = (Vec::new(), Vec::new());
    for _ in 0..input.chunks {
        let (clean, decoded) = film.next_values()?;
        x0.extend(clean);
        pictures.extend(decoded);
    }
    let count = pictures.len() / (3 * width * height);
    let pictures = channels_first(&pictures, count);
    let mut axes = vec![input.chunks as usize];
    axes.extend(film.x0_shape());
    Ok(PipelineOutput {
        x0: Array { shape: axes, values: x0 },
        pictures: Array { shape: vec![count, 3, height, width], values: pictures },
    })
}

/// Colours side by side to one plane per colour, for each of `groups` equal
/// parts of the values.
fn channels_first(values: &[f32], groups: usize) -> Vec<f32> {
    let plane = |part: &[f32], colour: usize| -> Vec<f32> {
        part.iter().skip(colour).step_by(3).copied().collect()
    };
    let len = (values.len() / groups.max(1)).max(1);
    values
        .chunks(len)
        .flat_map(|part| (0..3).flat_map(|colour| plane(part, colour)).collect::<Vec<_>>())
        .collect()
}

/// Commits the clean chunks, then runs one pass over the noisy one.
///
/// # Errors
///
/// [`Error::Range`] if a time is outside its range, before anything is loaded,
/// [`Error::Shape`] if an input does not fit the model, and everything that
/// loading and running can report.
pub fn transformer<B: Backend>(
    backend: Arc<B>,
    checkpoint: &Checkpoint,
    input: &TransformerInput,
    dump_cache: bool,
) -> Result<TransformerOutput, Error> {
    let &[channels, frames, rows, columns] = input.noisy.shape.as_slice() else {
        return Err(axes("noisy frames", &input.noisy.shape));
    };
    let times = frame_times(&input.timesteps, frames)?;
    let opened = checkpoint.open_transformer(None)?;
    let config = opened.config;
    let [_, patch_rows, patch_columns] = config.patch;
    if channels != config.in_channels
        || rows % patch_rows != 0
        || columns % patch_columns != 0
        || input.noisy.values.is_empty()
    {
        let expected = vec![config.in_channels, frames, patch_rows, patch_columns];
        return Err(shape(
            "noisy frames (channels, frames, multiples of the patch)",
            expected,
            input.noisy.shape.clone(),
        ));
    }
    let grid = TokenGrid { frames, rows: rows / patch_rows, columns: columns / patch_columns };
    let keys = config.window.map_or(frames, |window| window.frames_max()) * grid.frame_tokens();
    let path = input.path.unwrap_or_else(|| cheaper_path(&config, grid.tokens(), keys));
    let layers = 0..config.layers;
    let projection = TextProjection::load(&*backend, &config, &opened.tensors)?;
    let stage = Stage::load(backend, config, &opened.tensors, layers, path)?;
    let mut job = stage.open(grid, 0)?;
    let backend = stage.backend();
    let text = upload_context(backend, stage.config(), &input.context)?;
    let context = projection.context(backend, &text)?;
    stage.set_context(&mut job, Branch::Conditional, &context)?;
    let mut sampler = Sampler::new(&stage, job, Noise::Given(Vec::new()))?;

    let (pixels, mut chunk) = (frames * rows * columns, 0);
    for clean in chunks(input.clean.as_ref(), &input.noisy.shape)? {
        let clean = backend.upload(channels, pixels, clean, Dtype::F32)?;
        sampler.single(chunk, vec![0.0; frames], PassKind::Commit, &clean)?;
        chunk += 1;
    }
    let caches = if dump_cache { caches(&stage, &sampler)? } else { BTreeMap::new() };
    let noisy = backend.upload(channels, pixels, &input.noisy.values, Dtype::F32)?;
    let velocity = sampler.single(chunk, times, PassKind::Denoise, &noisy)?;
    let velocity =
        velocity.ok_or(Error::Pass { problem: "a denoising pass has a velocity".into() })?;
    let shape = vec![velocity.rows(), frames, rows, columns];
    let velocity = Array { shape, values: backend.download(&velocity)? };
    Ok(TransformerOutput { velocity, caches })
}

fn upload_context<B: Backend>(
    backend: &B,
    config: &types::Transformer,
    context: &Array,
) -> Result<B::Tensor, Error> {
    match context.shape.as_slice() {
        &[rows, columns] if columns == config.text_dim => {
            Ok(backend.upload(rows, columns, &context.values, Dtype::F32)?)
        }
        found => {
            Err(shape("rows of context", vec![config.text_len, config.text_dim], found.to_vec()))
        }
    }
}

/// The chunks of `clean`, each of `noisy`'s shape.
fn chunks<'a>(clean: Option<&'a Array>, noisy: &[usize]) -> Result<Vec<&'a [f32]>, Error> {
    let Some(clean) = clean else { return Ok(Vec::new()) };
    let count = clean.shape.first().copied().unwrap_or_default();
    let expected: Vec<usize> = [count].into_iter().chain(noisy.iter().copied()).collect();
    if clean.shape != expected {
        return Err(shape("clean chunks", expected, clean.shape.clone()));
    }
    let len: usize = noisy.iter().product();
    Ok(clean.values.chunks_exact(len).collect())
}

/// The time of every frame.
fn frame_times(timesteps: &[f32], frames: usize) -> Result<Vec<f32>, Error> {
    if let Some(time) = timesteps.iter().find(|&&time| !is_time(time)) {
        let (found, most) = (time.to_string(), types::wan::TIMESTEPS);
        return Err(Error::Range { what: "timestep", found, least: 0.0, most });
    }
    match timesteps {
        [time] => Ok(vec![*time; frames]),
        times if times.len() == frames => Ok(times.to_vec()),
        times => Err(shape("timesteps", vec![frames], vec![times.len()])),
    }
}

/// Every layer's cached rows, as the next chunk would attend to them.
fn caches<B: Backend>(
    stage: &Stage<B>,
    sampler: &Sampler<'_, B>,
) -> Result<BTreeMap<String, Array>, Error> {
    let (config, backend) = (stage.config(), stage.backend());
    let mut caches = BTreeMap::new();
    for layer in stage.range() {
        let rows = sampler.job().window_rows(backend, layer)?;
        let width = config.row_elements();
        let tokens = rows.len() / width;
        match &config.attention {
            Attention::Mla(_) => {
                let shape = vec![tokens, width];
                caches.insert(format!("cache.{layer}"), Array { shape, values: rows });
            }
            Attention::Dense => {
                let shape = vec![tokens, config.dim];
                let (keys, values) = split(&rows, config.dim);
                let keys = rotated(stage, sampler, &keys)?;
                caches.insert(
                    format!("cache.{layer}.k"),
                    Array { shape: shape.clone(), values: keys },
                );
                caches.insert(format!("cache.{layer}.v"), Array { shape, values });
            }
        }
    }
    Ok(caches)
}

/// Dense rows to keys and values.
fn split(rows: &[f32], dim: usize) -> (Vec<f32>, Vec<f32>) {
    let halves = |second: usize| {
        rows.chunks_exact(2 * dim)
            .flat_map(move |row| row[second * dim..][..dim].to_vec())
            .collect()
    };
    (halves(0), halves(1))
}

/// Dense keys turned to their positions, as the published code caches them.
fn rotated<B: Backend>(
    stage: &Stage<B>,
    sampler: &Sampler<'_, B>,
    keys: &[f32],
) -> Result<Vec<f32>, Error> {
    let (config, backend) = (stage.config(), stage.backend());
    let tokens = keys.len() / config.dim;
    if tokens == 0 {
        return Ok(Vec::new());
    }
    let rotation = sampler.job().window_rotation(backend, config)?;
    let keys = backend.upload(tokens, config.dim, keys, Dtype::F32)?;
    let mut out = backend.zeros(tokens, config.dim, Dtype::F32)?;
    let head_dim = config.dim / config.heads;
    let finish = backend::FinishQueries {
        norm: None,
        head_dim,
        rotation: Some((&rotation, 0, head_dim)),
        scale: 1.0,
    };
    backend.finish_queries(&keys, &finish, &mut out);
    Ok(backend.download(&out)?)
}

fn axes(what: &'static str, found: &[usize]) -> Error {
    Error::Axes { what, axes: "channels, frames, rows, columns", found: found.to_vec() }
}

fn shape(what: &'static str, expected: Vec<usize>, found: Vec<usize>) -> Error {
    Error::Shape { what, expected, found }
}

#[cfg(test)]
mod tests {
    use backend::Cpu;
    use checkpoint::{Ema, Source};

    use super::*;

    #[test]
    fn times_outside_the_schedule_are_refused_before_anything_is_loaded() {
        for (time, found) in [
            (-0.5, "-0.5"),
            (1000.5, "1000.5"),
            (f32::NAN, "NaN"),
            (f32::INFINITY, "inf"),
            (f32::NEG_INFINITY, "-inf"),
        ] {
            let refused = transformer(cpu(), &nothing(), &input(&[500.0, time]), false);

            let expected = format!("timestep is {found}, 0 to 1000 is needed");
            assert_eq!(refused.unwrap_err().to_string(), expected);
        }
        let refused = transformer(cpu(), &nothing(), &input(&[1.0; 3]), false).unwrap_err();
        assert!(matches!(refused, Error::Shape { what: "timesteps", .. }), "{refused}");
        // Both ends are times; then the model is looked for.
        let found = transformer(cpu(), &nothing(), &input(&[0.0, 1000.0]), false).unwrap_err();
        assert!(matches!(found, Error::Checkpoint(_)), "{found}");
    }

    #[test]
    fn chunks_are_bounded_before_anything_is_loaded() {
        let run = |chunks| {
            let (prompt, noise) = ("a red ball".to_owned(), Noise::Seed(0));
            let input = PipelineInput { prompt, noise, chunks, frames: None };
            pipeline(cpu(), &nothing(), &input).unwrap_err()
        };

        for chunks in [0, CHUNKS_MAX + 1, u32::MAX] {
            let expected = format!("chunks is {chunks}, 1 to 65536 is needed");
            assert_eq!(run(chunks).to_string(), expected);
        }
        for chunks in [1, CHUNKS_MAX] {
            assert!(matches!(run(chunks), Error::Checkpoint(_)));
        }
    }

    /// A folder without any model, which loading complains of.
    fn nothing() -> Checkpoint {
        let source = Source::memory([("tokenizer.json".to_owned(), Vec::new())]);
        Checkpoint::open(source, Ema::Prefer).unwrap()
    }

    fn cpu() -> Arc<Cpu> {
        Arc::new(Cpu::f32(1))
    }

    /// Two frames at these times.
    fn input(timesteps: &[f32]) -> TransformerInput {
        TransformerInput {
            context: Array { shape: vec![1, 1], values: vec![0.0] },
            clean: None,
            noisy: Array { shape: vec![1, 2, 1, 1], values: vec![0.0; 2] },
            timesteps: timesteps.to_vec(),
            path: None,
        }
    }
}
