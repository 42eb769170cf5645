//! What a model weighs while it makes videos, term by term.
//!
//! [`memory`] counts, from resolved configurations and a [`Layout`] alone,
//! everything that one process holds: weights, which its jobs share, and what
//! each job adds. Any of the three parts may be left out, as a worker of a pool
//! does: the text side, a range of layers, the decoder.
//! [`Memory::fits`] compares the total with what is available.
//!
//! Exact terms: all weights in their packed form, all caches, all buffers that
//! stay. From above: the largest moment of a job, see `activations.rs`.
//! `tests/memory` compares both with what is really allocated.
//!
//! Not counted: the executable, threads and what they work in, an attention's
//! list of its keys (8 bytes each), the tokenizer, the video's encoder, pages of
//! mapped weight files (the text encoder's table among them), and the copy of a
//! matrix while it is packed: weights are loaded before there is a job.
//!
//! - [`parameters`], [`text_encoder_parameters`], [`vae_decoder_parameters`]:
//!   elements of the weights.
//! - [`cache_elements`], [`vae_cache`]: what any engine must remember at least,
//!   as published code counts it.

mod activations;
mod attention;
mod budget;
mod decoder;
mod layout;
mod parameters;
mod weights;

use std::ops::Range;

use serde::Serialize;
use types::{Model, Sampler, TextEncoder, Tiles, Transformer, Vae, Window};

pub use self::{
    budget::{Budget, DoesNotFit},
    decoder::{CausalInput, REMEMBERED_FRAMES, vae_cache, vae_decoder_parameters},
    layout::{Kernels, Layout, Matrices, Volumes},
    parameters::{TransformerParameters, parameters, text_encoder_parameters},
};
use crate::{
    path,
    slots::{self, Slots},
    units::{product, sum},
};

/// Bytes held at once by one process with one job, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Weights, which all jobs share.
    #[serde(flatten)]
    pub shared: Shared,
    /// What every job adds.
    #[serde(flatten)]
    pub per_job: PerJob,
    /// The sum of the shared terms.
    pub shared_bytes: u64,
    /// The sum of a job's terms.
    pub per_job_bytes: u64,
    /// Both together.
    pub total_bytes: u64,
}

/// Bytes of weights in the form in which they are held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Shared {
    /// The text encoder, without its table, which stays in its file.
    pub text_encoder_bytes: u64,
    /// The transformer's text projection, which stands with the text encoder.
    pub text_projection_bytes: u64,
    /// The transformer's layers in the range, with the time embedding, and with
    /// the patch embedding and the head where the range reaches them.
    pub transformer_bytes: u64,
    /// The VAE's decoder.
    pub vae_decoder_bytes: u64,
}

/// Bytes that a job adds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PerJob {
    /// Cache slots: window, chunk in generation and room to roll back.
    pub cache_slots_bytes: u64,
    /// Cross-attention keys and values, of every prompt that a pass runs under.
    pub cross_attention_bytes: u64,
    /// Buffers that layers work in, one after the other.
    pub pass_activations_bytes: u64,
    /// Inputs of the decoder's convolutions, with their history and borders.
    pub vae_cache_bytes: u64,
    /// Buffers that decoding works in.
    pub decode_activations_bytes: u64,
    /// Clean frames that a change of the prompt may run again.
    pub kept_frames_bytes: u64,
    /// Finished chunks that wait to be written.
    pub finished_chunks_bytes: u64,
    /// The most that setting a prompt, a pass or decoding holds besides.
    pub moment_bytes: u64,
}

/// What is to be held, besides the model's own numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// The parts that are held.
    pub parts: Parts,
    /// The engine that holds them.
    pub engine: Engine,
    /// Size of the pictures.
    pub size: Size,
    /// Frames of the whole video: one pass' frames if the model has no window.
    pub video_frames: usize,
}

/// What a plan must know of an engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Engine {
    /// How it holds what it holds.
    pub layout: Layout,
    /// How much of an attention's keys and values it makes at once.
    #[serde(with = "ShownTiles")]
    pub tiles: Tiles,
    /// Chunks that may wait to be made durable, see [`Slots`].
    pub uncommitted_chunks_max: u32,
    /// Decoded chunks that exist at once, until they are written.
    pub finished_chunks_max: usize,
}

/// [`Tiles`] as a report shows them.
#[derive(Serialize)]
#[serde(remote = "Tiles")]
struct ShownTiles {
    keys: usize,
    group_bytes: usize,
    value_multiple: usize,
    wave_bytes_max: usize,
}

/// The parts of a model that a process holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Whether the text side is held: the encoder and the text projection.
    pub text: bool,
    /// The transformer's layers, if any.
    pub layers: Option<Range<usize>>,
    /// Whether the VAE's decoder is held.
    pub decoder: bool,
}

/// Size of the pictures, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Columns of a picture.
    pub width: usize,
    /// Rows of a picture.
    pub height: usize,
}

/// How finely a picture is cut into tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Rows of a frame tensor.
    pub rows: usize,
    /// Columns of a frame tensor.
    pub columns: usize,
    /// Tokens per frame, or per `patch_frames` frames that share their tokens.
    pub frame_tokens: usize,
    /// Frames that one token spans, at least 1.
    pub patch_frames: usize,
}

/// Why memory could not be counted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A part that the arithmetic needs is missing from the model.
    #[error(
        "the model has no {part}, which a plan counts: put {file} into its folder, or name \
         another model"
    )]
    PartMissing {
        /// The missing part.
        part: &'static str,
        /// The part's configuration, in the folder of a model.
        file: &'static str,
    },
    /// The VAE or the patches do not divide the picture. Choose another size.
    #[error(
        "{width}x{height} pictures do not divide into tokens: width and height must be \
         multiples of {column_pixels} and {row_pixels}"
    )]
    Size {
        /// Columns of a picture.
        width: usize,
        /// Rows of a picture.
        height: usize,
        /// Pixels that the width must be a multiple of.
        column_pixels: usize,
        /// Pixels that the height must be a multiple of.
        row_pixels: usize,
    },
    /// The layers asked for are not in the model. Choose others.
    #[error("layers {first}..{end} are not in the model, which has {layers}")]
    Layers {
        /// First layer asked for.
        first: usize,
        /// The layer after the last one asked for.
        end: usize,
        /// Layers of the model.
        layers: usize,
    },
    /// The window cannot be laid out.
    #[error(transparent)]
    Slots(#[from] slots::Error),
}

const NO_TEXT_ENCODER: Error =
    Error::PartMissing { part: "text encoder", file: "text_encoder/config.json" };
pub(crate) const NO_TRANSFORMER: Error =
    Error::PartMissing { part: "transformer", file: "transformer/config.json" };
pub(crate) const NO_VAE: Error = Error::PartMissing { part: "VAE", file: "vae/config.json" };

/// Counts what `load` of `model` weighs.
///
/// # Errors
///
/// [`Error`] if a part that is to be held is missing from the model, the size
/// does not divide into tokens, the layers are not there, or the window cannot
/// be laid out.
pub fn memory(model: &Model, load: &Load) -> Result<Memory, Error> {
    let held = Held::new(model, load);
    let (mut shared, mut per_job) = (Shared::default(), PerJob::default());
    let mut moments = Vec::new();
    if load.parts.text {
        held.text(&mut shared, &mut moments)?;
    }
    if let Some(layers) = &load.parts.layers {
        held.stage(layers, &mut shared, &mut per_job, &mut moments)?;
    }
    if load.parts.decoder {
        held.decoder(&mut shared, &mut per_job, &mut moments)?;
    }
    per_job.moment_bytes = moments.into_iter().max().unwrap_or(0);
    Ok(Memory::new(shared, per_job))
}

/// A model and what of it is to be held.
struct Held<'a> {
    model: &'a Model,
    load: &'a Load,
    /// Frames of a pass, and of a decoded chunk.
    frames: usize,
}

impl<'a> Held<'a> {
    fn new(model: &'a Model, load: &'a Load) -> Self {
        let window = model.transformer.as_ref().and_then(|transformer| transformer.window);
        Self { model, load, frames: window.map_or(load.video_frames, |window| window.chunk) }
    }

    fn text(&self, shared: &mut Shared, moments: &mut Vec<u64>) -> Result<(), Error> {
        let layout = &self.load.engine.layout;
        let (encoder, transformer) = (self.text_encoder()?, self.transformer()?);
        shared.text_encoder_bytes = parameters::text_encoder_bytes(encoder, layout);
        shared.text_projection_bytes = parameters::text_projection_bytes(transformer, layout);
        moments.push(activations::text_moment(encoder, transformer, layout));
        moments.push(activations::prompt_moment(transformer, 0, layout));
        Ok(())
    }

    fn stage(
        &self,
        layers: &Range<usize>,
        shared: &mut Shared,
        per_job: &mut PerJob,
        moments: &mut Vec<u64>,
    ) -> Result<(), Error> {
        let (transformer, layout, frames) =
            (self.transformer()?, &self.load.engine.layout, self.frames);
        let Range { start: first, end } = *layers;
        if end <= first || transformer.layers < end {
            return Err(Error::Layers { first, end, layers: transformer.layers });
        }
        let (grid, count) = (grid(transformer, self.vae()?, self.load.size)?, layers.len());
        shared.transformer_bytes = parameters::stage_bytes(transformer, layers.clone(), layout);
        per_job.cache_slots_bytes = layout.cached(self.slots_elements(transformer, grid, count)?);
        let prompts = prompts_per_pass(&self.model.sampler);
        let cross_attention = cross_attention_elements(transformer, count);
        per_job.cross_attention_bytes = layout.cached(cross_attention.saturating_mul(prompts));
        per_job.pass_activations_bytes =
            activations::pass_buffers(transformer, grid, frames, layout);
        if first == 0 {
            per_job.kept_frames_bytes = activations::kept_frames(transformer, grid, layout);
        }
        moments.push(activations::prompt_moment(transformer, count, layout));
        let (absorbed, engine) = (path::absorbs(self.model), &self.load.engine);
        let tiles = attention::layer_tiles(transformer, grid, frames, absorbed, engine);
        moments.push(activations::pass_moment(transformer, grid, frames, layers, layout, tiles));
        Ok(())
    }

    fn decoder(
        &self,
        shared: &mut Shared,
        per_job: &mut PerJob,
        moments: &mut Vec<u64>,
    ) -> Result<(), Error> {
        let (vae, layout, frames) = (self.vae()?, &self.load.engine.layout, self.frames);
        let grid = match &self.model.transformer {
            Some(transformer) => grid(transformer, vae, self.load.size)?,
            None => frame_grid(vae, self.load.size, [1; 3])?,
        };
        shared.vae_decoder_bytes = decoder::weights_bytes(vae, layout);
        per_job.vae_cache_bytes = decoder::volumes_bytes(vae, grid, layout);
        per_job.decode_activations_bytes = decoder::buffers_bytes(vae, grid, layout);
        per_job.finished_chunks_bytes = activations::finished_chunk(vae, grid, frames, layout)
            .saturating_mul(self.load.engine.finished_chunks_max as u64);
        let tiles = attention::decoder_tiles(vae, grid, &self.load.engine);
        moments.push(activations::decode_moment(vae, grid, frames, layout, tiles));
        Ok(())
    }

    /// Elements of all preallocated slots. A model without a window has one, for
    /// the rows of the pass itself.
    fn slots_elements(
        &self,
        transformer: &Transformer,
        grid: Grid,
        layers: usize,
    ) -> Result<u64, Error> {
        let whole = Window { sink: 0, recent: 0, chunk: self.frames };
        let window = transformer.window.unwrap_or(whole);
        let slots = Slots::new(window, self.load.engine.uncommitted_chunks_max)?;
        let slot = cache_elements(transformer, grid, layers, window.chunk);
        Ok(slot.saturating_mul(slots.count() as u64))
    }

    fn text_encoder(&self) -> Result<&'a TextEncoder, Error> {
        self.model.text_encoder.as_ref().ok_or(NO_TEXT_ENCODER)
    }

    fn transformer(&self) -> Result<&'a Transformer, Error> {
        self.model.transformer.as_ref().ok_or(NO_TRANSFORMER)
    }

    fn vae(&self) -> Result<&'a Vae, Error> {
        self.model.vae.as_ref().ok_or(NO_VAE)
    }
}

/// Rows and columns of a frame tensor, and tokens per frame, at a size.
///
/// # Errors
///
/// [`Error::Size`] if the VAE's scale and the patches do not divide it.
pub fn grid(transformer: &Transformer, vae: &Vae, size: Size) -> Result<Grid, Error> {
    frame_grid(vae, size, transformer.patch)
}

fn frame_grid(vae: &Vae, size: Size, patch: [usize; 3]) -> Result<Grid, Error> {
    let Size { width, height } = size;
    let [patch_frames, patch_rows, patch_columns] = patch;
    let column_pixels = vae.space_scale().saturating_mul(patch_columns);
    let row_pixels = vae.space_scale().saturating_mul(patch_rows);
    let divides = |pixels: usize, by: usize| 0 < pixels && pixels.checked_rem(by) == Some(0);
    if !divides(width, column_pixels) || !divides(height, row_pixels) {
        return Err(Error::Size { width, height, column_pixels, row_pixels });
    }
    Ok(Grid {
        rows: height / vae.space_scale(),
        columns: width / vae.space_scale(),
        frame_tokens: (height / row_pixels).saturating_mul(width / column_pixels),
        patch_frames: patch_frames.max(1),
    })
}

/// Cached numbers of `frames` frames in `layers` layers.
pub fn cache_elements(transformer: &Transformer, grid: Grid, layers: usize, frames: usize) -> u64 {
    product([transformer.row_elements(), layers]).saturating_mul(grid.tokens(frames))
}

/// Cross-attention keys and values of one prompt in `layers` layers.
pub fn cross_attention_elements(transformer: &Transformer, layers: usize) -> u64 {
    product([2, transformer.text_len, transformer.dim, layers])
}

/// Prompts whose cross-attention is held at once: 2 if any chunk is guided.
pub fn prompts_per_pass(sampler: &Sampler) -> u64 {
    let guided = [&sampler.first_chunk, &sampler.later_chunks].map(|chunk| chunk.guidance != 1.0);
    1 + u64::from(guided.contains(&true))
}

impl Grid {
    /// Tokens of so many frames.
    pub fn tokens(&self, frames: usize) -> u64 {
        product([frames.div_ceil(self.patch_frames), self.frame_tokens])
    }
}

impl Parts {
    /// Everything that `model` has, as one process holds it.
    pub fn whole(model: &Model) -> Self {
        Self {
            text: model.text_encoder.is_some() && model.transformer.is_some(),
            layers: model.transformer.as_ref().map(|transformer| 0..transformer.layers),
            decoder: model.vae.is_some(),
        }
    }
}

impl Memory {
    fn new(shared: Shared, per_job: PerJob) -> Self {
        let total = |terms: &[Term]| sum(terms.iter().map(|(_, bytes)| *bytes));
        let (shared_bytes, per_job_bytes) = (total(&shared.terms()), total(&per_job.terms()));
        let total_bytes = sum([shared_bytes, per_job_bytes]);
        Self { shared, per_job, shared_bytes, per_job_bytes, total_bytes }
    }
}

/// A term's name and its bytes.
pub type Term = (&'static str, u64);

impl Shared {
    /// Every term with its name, in the order of the fields.
    pub fn terms(&self) -> [Term; 4] {
        [
            ("text encoder", self.text_encoder_bytes),
            ("text projection", self.text_projection_bytes),
            ("transformer", self.transformer_bytes),
            ("VAE decoder", self.vae_decoder_bytes),
        ]
    }
}

impl PerJob {
    /// Every term with its name, in the order of the fields.
    pub fn terms(&self) -> [Term; 8] {
        [
            ("cache slots", self.cache_slots_bytes),
            ("cross-attention", self.cross_attention_bytes),
            ("pass buffers", self.pass_activations_bytes),
            ("VAE cache", self.vae_cache_bytes),
            ("VAE buffers", self.decode_activations_bytes),
            ("frames kept", self.kept_frames_bytes),
            ("finished chunks", self.finished_chunks_bytes),
            ("largest moment", self.moment_bytes),
        ]
    }
}

#[cfg(test)]
mod tests;
