//! What a model weighs while it makes a video, term by term.
//!
//! [`memory`] counts, from resolved configurations alone, everything that is
//! held at once on one machine: weights, the preallocated cache slots, the
//! cross-attention's keys and values, the VAE decoder's causal cache, and an
//! upper estimate of what a pass and the decoding of a frame hold besides.
//! [`Memory::fits`] compares the total with what is available.
//!
//! Exact terms: all weights (one element size for all tensors), all caches.
//! Estimates, from above: the two activation terms. They assume fused kernels
//! (attention that never holds its score matrix, convolutions that never unfold
//! their input); `activations.rs` and `decoder.rs` say what they count.
//!
//! Not counted: the executable, the tokenizer, the encoded video.
//!
//! - [`parameters`], [`text_encoder_parameters`], [`vae_decoder_parameters`]:
//!   elements of the weights.
//! - [`vae_cache`]: what the streaming decoder remembers.

mod activations;
mod budget;
mod decoder;
mod parameters;

use std::ops::Range;

use serde::Serialize;
use types::{Attention, Model, Sampler, Transformer, Vae};

pub use self::{
    budget::{Budget, DoesNotFit},
    decoder::{CausalInput, REMEMBERED_FRAMES, vae_cache, vae_decoder_parameters},
    parameters::{TransformerParameters, parameters, text_encoder_parameters},
};
use crate::{
    slots::{self, Slots},
    units::{product, sum},
};

/// Bytes held at once on one machine, by what they are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Weights of the text encoder.
    pub text_encoder_bytes: u64,
    /// Weights of the transformer's layers in the range, with the embeddings
    /// and the head where the range reaches them.
    pub transformer_bytes: u64,
    /// Weights of the VAE's decoder.
    pub vae_decoder_bytes: u64,
    /// Cache slots: window, chunk in generation and room to roll back.
    pub cache_slots_bytes: u64,
    /// Cross-attention keys and values, of every prompt that a pass runs under.
    pub cross_attention_bytes: u64,
    /// What the streaming decoder remembers between frames.
    pub vae_cache_bytes: u64,
    /// Upper estimate of what one pass holds.
    pub pass_activations_bytes: u64,
    /// Upper estimate of what decoding one frame holds.
    pub decode_activations_bytes: u64,
    /// The sum of all terms.
    pub total_bytes: u64,
}

/// What is to be held, besides the model's own numbers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Load {
    /// Size of the pictures.
    pub size: Size,
    /// Layers held; all of them in a single process.
    pub layers: Range<usize>,
    /// Whether the text encoder is held.
    pub text_encoder: bool,
    /// Whether the VAE's decoder is held.
    pub vae_decoder: bool,
    /// Sizes of stored numbers.
    pub element_bytes: ElementBytes,
    /// Chunks that may wait to be made durable, see [`Slots`].
    pub uncommitted_chunks_max: u32,
    /// Frames of the whole video: one pass' frames if the model has no window.
    pub video_frames: usize,
}

/// Size of the pictures, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Size {
    /// Columns of a picture.
    pub width: usize,
    /// Rows of a picture.
    pub height: usize,
}

/// Bytes of one stored number, by where it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ElementBytes {
    /// Weights of all parts.
    pub weights: usize,
    /// Cached rows, and the cross-attention's keys and values.
    pub cache: usize,
    /// Activations of all parts, and the decoder's causal cache.
    pub activations: usize,
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
    #[error("the model has no {part}: its memory cannot be planned without that part's config")]
    PartMissing {
        /// The missing part.
        part: &'static str,
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

/// Counts what `load` of `model` weighs.
///
/// # Errors
///
/// [`Error`] if transformer or VAE are missing from the model, the size does
/// not divide into tokens, the layers are not there, or the window cannot be
/// laid out.
pub fn memory(model: &Model, load: &Load) -> Result<Memory, Error> {
    let transformer =
        model.transformer.as_ref().ok_or(Error::PartMissing { part: "transformer" })?;
    let vae = model.vae.as_ref().ok_or(Error::PartMissing { part: "VAE" })?;
    let Range { start: first, end } = load.layers;
    if end <= first || transformer.layers < end {
        return Err(Error::Layers { first, end, layers: transformer.layers });
    }
    let grid = grid(transformer, vae, load.size)?;
    let ElementBytes { weights, cache, activations } = load.element_bytes;
    let text_encoder = match (&model.text_encoder, load.text_encoder) {
        (None, true) => return Err(Error::PartMissing { part: "text encoder" }),
        (Some(encoder), true) => text_encoder_parameters(encoder),
        (_, false) => 0,
    };
    let decoder = |elements: u64| if load.vae_decoder { elements } else { 0 };
    let layers = load.layers.len();
    let times = |elements: u64, bytes: usize| elements.saturating_mul(bytes as u64);

    Ok(Memory {
        text_encoder_bytes: times(text_encoder, weights),
        transformer_bytes: times(parameters(transformer, load.layers.clone()).total(), weights),
        vae_decoder_bytes: times(decoder(vae_decoder_parameters(vae)), weights),
        cache_slots_bytes: times(slots_elements(transformer, grid, load)?, cache),
        cross_attention_bytes: times(
            cross_attention_elements(transformer, layers)
                .saturating_mul(prompts_per_pass(&model.sampler)),
            cache,
        ),
        vae_cache_bytes: times(
            decoder(sum(vae_cache(vae, grid).iter().map(CausalInput::elements))),
            activations,
        ),
        pass_activations_bytes: activations::pass_bytes(transformer, grid, load),
        decode_activations_bytes: times(
            decoder(decoder::activations_elements(vae, grid)),
            activations,
        ),
        total_bytes: 0,
    }
    .totalled())
}

/// Rows and columns of a frame tensor, and tokens per frame, at a size.
///
/// # Errors
///
/// [`Error::Size`] if the VAE's scale and the patches do not divide it.
pub fn grid(transformer: &Transformer, vae: &Vae, size: Size) -> Result<Grid, Error> {
    let Size { width, height } = size;
    let [patch_frames, patch_rows, patch_columns] = transformer.patch;
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

/// Cached numbers per token per layer: keys *and* values of all heads, or one
/// low-rank row.
pub fn row_elements(transformer: &Transformer) -> usize {
    match &transformer.attention {
        Attention::Dense => transformer.dim.saturating_mul(2),
        Attention::Mla(mla) => mla.kv_rank.saturating_add(mla.rope),
    }
}

/// Cached numbers of `frames` frames in `layers` layers.
pub fn cache_elements(transformer: &Transformer, grid: Grid, layers: usize, frames: usize) -> u64 {
    product([row_elements(transformer), layers]).saturating_mul(grid.tokens(frames))
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

impl Memory {
    /// Every term with its name, in the order of the fields.
    pub fn terms(&self) -> [(&'static str, u64); 8] {
        [
            ("text encoder", self.text_encoder_bytes),
            ("transformer", self.transformer_bytes),
            ("VAE decoder", self.vae_decoder_bytes),
            ("cache slots", self.cache_slots_bytes),
            ("cross-attention", self.cross_attention_bytes),
            ("VAE cache", self.vae_cache_bytes),
            ("pass activations", self.pass_activations_bytes),
            ("decode activations", self.decode_activations_bytes),
        ]
    }

    fn totalled(self) -> Self {
        Self { total_bytes: sum(self.terms().map(|(_, bytes)| bytes)), ..self }
    }
}

/// Elements of all preallocated slots; none without a window.
fn slots_elements(transformer: &Transformer, grid: Grid, load: &Load) -> Result<u64, Error> {
    let Some(window) = transformer.window else {
        return Ok(0);
    };
    let slots = Slots::new(window, load.uncommitted_chunks_max)?;
    let frames = slots.count().saturating_mul(window.chunk);
    Ok(cache_elements(transformer, grid, load.layers.len(), frames))
}

#[cfg(test)]
mod tests;
