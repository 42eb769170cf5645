//! Times measured at one size of pictures, as they will be at another.
//!
//! Workers are timed with chunks of the model's own size. A layer's time grows with its
//! multiplications: linear in the tokens outside of self-attention, quadratic within.
//! Everything else (embedding, head, decoding) grows with the pixels. At the size that
//! was measured nothing changes; elsewhere this is an estimate, as no device multiplies
//! equally fast at all sizes.

use types::{Attention, Model, Transformer};

use super::{Speed, WorkError};
use crate::{
    memory::{self, Grid, NO_TRANSFORMER, NO_VAE, Size},
    path,
    units::{product, sum},
};

/// How many times as long as measured something takes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scale {
    /// A run through a layer.
    pub layer: f64,
    /// The ends of a run, and decoding.
    pub pixels: f64,
}

/// What a chunk's work depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Size of the pictures.
    pub size: Size,
    /// Frames of a pass if the model has no window.
    pub video_frames: usize,
}

impl Scale {
    /// Times are used as they were measured.
    pub const MEASURED: Self = Self { layer: 1.0, pixels: 1.0 };

    /// From chunks of one shape to those of another.
    ///
    /// # Errors
    ///
    /// [`WorkError::Memory`] if the model lacks a part, or a size does not divide into
    /// tokens.
    pub fn between(model: &Model, measured: Shape, wished: Shape) -> Result<Self, WorkError> {
        let [before, then] = [counted(model, measured)?, counted(model, wished)?];
        let times = |before: u64, then: u64| match before {
            0 => 1.0,
            before => then as f64 / before as f64,
        };
        Ok(Self {
            layer: times(before.multiplications, then.multiplications),
            pixels: times(before.queries, then.queries),
        })
    }
}

impl Speed {
    /// These times at another size; a prompt takes what it took.
    pub fn scaled(self, Scale { layer, pixels }: Scale) -> Self {
        Self {
            layer_seconds: self.layer_seconds * layer,
            embedding_seconds: self.embedding_seconds * pixels,
            head_seconds: self.head_seconds * pixels,
            decode_seconds: self.decode_seconds.map(|seconds| seconds * pixels),
            text_seconds: self.text_seconds,
        }
    }
}

/// A chunk in a layer.
struct Counted {
    /// Its tokens.
    queries: u64,
    /// Multiplications of a run.
    multiplications: u64,
}

fn counted(model: &Model, shape: Shape) -> Result<Counted, WorkError> {
    let transformer = model.transformer.as_ref().ok_or(NO_TRANSFORMER)?;
    let grid = memory::grid(transformer, model.vae.as_ref().ok_or(NO_VAE)?, shape.size)?;
    let [queries, keys] = rows(transformer, grid, shape.video_frames);
    let parameters = memory::parameters(transformer, 0..1).layers;
    let to_text = product([2, transformer.text_len, transformer.dim]);
    let outside = queries.saturating_mul(sum([parameters, to_text]));
    let own = match &transformer.attention {
        Attention::Dense => {
            product([2, transformer.dim]).saturating_mul(queries.saturating_mul(keys))
        }
        Attention::Mla(mla) => {
            let head = match path::absorbs(model) {
                true => path::absorbed_multiplications(mla, queries, keys),
                false => path::rebuilt_multiplications(mla, queries, keys),
            };
            head.saturating_mul(transformer.heads as u64)
        }
    };
    Ok(Counted { queries, multiplications: sum([outside, own]) })
}

/// Tokens of a chunk, and those that it attends to with a full window.
fn rows(transformer: &Transformer, grid: Grid, video_frames: usize) -> [u64; 2] {
    let frames = match transformer.window {
        Some(window) => [window.chunk, window.frames_max()],
        None => [video_frames, video_frames],
    };
    frames.map(|frames| grid.tokens(frames))
}
