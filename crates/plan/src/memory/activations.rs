//! Upper estimate of what one pass holds besides weights and caches.
//!
//! Held in a layer, at the worse of two moments, beside the residual and its
//! normalised copy:
//!
//! - self-attention: queries (and their latent), new rows, the heads' output,
//!   and keys and values rebuilt or rotated for as many tokens as the pass has;
//! - feed-forward network: its inner activations.
//!
//! The sampler holds chunk, noise and two velocities in f32; the text context
//! stands beside. The estimate takes fused kernels for granted: attention works
//! through the window in tiles no longer than a chunk, and nothing holds scores.

use types::{Attention, Transformer};

use super::{Grid, Load, row_elements};
use crate::units::{product, sum};

/// Frame tensors, noise and velocities are f32 in every numeric class.
const FRAME_TENSOR_ELEMENT_BYTES: u64 = 4;

/// Chunk, noise, and the velocities of two branches.
const FRAME_TENSORS: usize = 4;

/// Bytes that one pass of a chunk holds at most, in any layer.
pub(super) fn pass_bytes(transformer: &Transformer, grid: Grid, load: &Load) -> u64 {
    let frames = transformer.window.map_or(load.video_frames, |window| window.chunk);
    let widths = sum([
        attention_width(transformer).max(transformer.ffn_dim as u64),
        product([2, transformer.dim]),
    ]);
    let context = product([transformer.text_len, transformer.dim]);
    let layer = sum([grid.tokens(frames).saturating_mul(widths), context]);
    let sampler = [FRAME_TENSORS, transformer.in_channels, frames, grid.rows, grid.columns];
    sum([
        layer.saturating_mul(load.element_bytes.activations as u64),
        product(sampler).saturating_mul(FRAME_TENSOR_ELEMENT_BYTES),
    ])
}

/// Numbers per token that self-attention holds.
fn attention_width(transformer: &Transformer) -> u64 {
    let Transformer { dim, heads, .. } = *transformer;
    let (query_latent, keys, values) = match &transformer.attention {
        Attention::Dense => (0, dim as u64, dim as u64),
        Attention::Mla(mla) => {
            let key = mla.nope.saturating_add(mla.rope);
            let query_latent = mla.query_rank.unwrap_or(0) as u64;
            (query_latent, product([heads, key]), product([heads, mla.value]))
        }
    };
    let (queries, outputs) = (keys, values);
    let new_rows = row_elements(transformer) as u64;
    sum([query_latent, queries, new_rows, outputs, keys, values])
}
