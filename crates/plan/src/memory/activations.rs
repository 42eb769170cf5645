//! What a job works in besides its caches: buffers that stay, and the largest
//! of the moments that pass.
//!
//! ```text
//!  stay      a layer's buffers, all at once; the decoder's pictures between convolutions;
//!            clean frames that a change of the prompt may run again; finished pictures
//!  moments   prompt    the text encoder's buffers, or the projected context and the new
//!                      cross-attention beside the old one
//!            pass      residual, and the patches of either end or attention's rows
//!            decoding  frames, pictures in full and as bytes
//! ```
//!
//! Buffers that stay are exact. Moments follow one another, so only the largest
//! counts; it is counted from above. Attention never holds its scores; the keys
//! and values that it makes are counted in `attention.rs`.

use std::ops::Range;

use types::{Attention, TextEncoder, Transformer, Vae};

use super::{
    Grid, cross_attention_elements,
    decoder::PICTURE_CHANNELS,
    layout::{Layout, Precision},
};
use crate::units::{product, sum};

/// Bytes of a layer's buffers for a pass of `frames` frames.
pub(super) fn pass_buffers(
    transformer: &Transformer,
    grid: Grid,
    frames: usize,
    layout: &Layout,
) -> u64 {
    let Transformer { dim, heads, ffn_dim, .. } = *transformer;
    let (queries, values, query_latent) = match &transformer.attention {
        Attention::Dense => (dim as u64, dim as u64, 0),
        Attention::Mla(mla) => (
            product([heads, mla.nope.saturating_add(mla.rope)]),
            product([heads, mla.value]),
            mla.query_rank.unwrap_or(0) as u64,
        ),
    };
    let (dim, rows) = (dim as u64, transformer.row_elements() as u64);
    // Normed residual, query latent, queries, attended values, what the
    // cross-attention gives, and inside the feed-forward network.
    let factors = sum([dim, query_latent, queries, values, dim, ffn_dim as u64]);
    // New rows, query latent, queries of both attentions, before their norms.
    let sums = sum([rows, query_latent, queries, dim]);
    let tokens = grid.tokens(frames);
    // Modulation of every frame.
    let table = product([frames, 6]).saturating_mul(dim);
    sum([
        layout.bytes(Precision::Factor, tokens.saturating_mul(factors)),
        layout.bytes(Precision::Full, sum([tokens.saturating_mul(sums), table])),
    ])
}

/// Bytes that a pass of a stage holds at its largest moment; a layer's attention
/// holds `tiles`.
pub(super) fn pass_moment(
    transformer: &Transformer,
    grid: Grid,
    chunk_frames: usize,
    layers: &Range<usize>,
    layout: &Layout,
    tiles: u64,
) -> u64 {
    let Transformer { dim, freq_dim, in_channels, out_channels, .. } = *transformer;
    let tokens = grid.tokens(chunk_frames);
    let patch = |channels: usize| {
        let [frames, rows, columns] = transformer.patch;
        product([channels, frames, rows, columns])
    };
    let frames = |channels: usize| product([channels, chunk_frames, grid.rows, grid.columns]);
    let full = |elements: u64| layout.bytes(Precision::Full, elements);

    let residual = tokens.saturating_mul(dim as u64);
    // Time's waves and vectors: of the layers, of the head, and on the way there.
    let vectors = product([chunk_frames, 10]).saturating_mul(dim as u64);
    let mut stays = vec![residual, vectors, product([chunk_frames, freq_dim])];
    let mut moments = vec![tiles];
    if layers.start == 0 {
        stays.push(frames(in_channels));
        moments.push(full(tokens.saturating_mul(patch(in_channels))));
    }
    if layers.end == transformer.layers {
        // While one velocity comes out, another waits for it.
        stays.push(frames(out_channels));
        let head = tokens.saturating_mul(sum([dim as u64, patch(out_channels)]));
        moments.push(full(sum([head, frames(out_channels)])));
    }
    sum([full(sum(stays)), moments.into_iter().max().unwrap_or(0)])
}

/// Bytes that encoding a prompt holds at its largest moment.
pub(super) fn text_moment(
    encoder: &TextEncoder,
    transformer: &Transformer,
    layout: &Layout,
) -> u64 {
    let TextEncoder { dim, heads, head_dim, ffn_dim, .. } = *encoder;
    let tokens = transformer.text_len;
    let inner = product([heads, head_dim]);
    let (dim, ffn_dim) = (dim as u64, ffn_dim as u64);
    let factors = sum([dim, inner, ffn_dim]);
    // Rows of the table, residual, what comes out, another prompt's rows;
    // queries, keys and values; the gate.
    let sums = sum([dim.saturating_mul(4), inner.saturating_mul(3), ffn_dim]);
    let tokens_wide = tokens as u64;
    // The bias by position, once more on its way to where it is used.
    let bias = product([2, heads, tokens, tokens]);
    sum([
        layout.bytes(Precision::Factor, tokens_wide.saturating_mul(factors)),
        layout.bytes(Precision::Full, sum([tokens_wide.saturating_mul(sums), bias])),
    ])
}

/// Bytes that setting a prompt holds at its largest moment: its rows and their
/// context, and the cross-attention of all layers before it replaces another.
pub(super) fn prompt_moment(transformer: &Transformer, layers: usize, layout: &Layout) -> u64 {
    let Transformer { dim, text_dim, text_len, .. } = *transformer;
    // Rows of two prompts; a layer's keys and values before their norm, which
    // are more than the projection's inner rows.
    let full = product([2, text_len, text_dim]).saturating_add(product([2, text_len, dim]));
    sum([
        layout.bytes(Precision::Full, full),
        layout.bytes(Precision::Factor, product([text_len, dim])),
        layout.cached(cross_attention_elements(transformer, layers)),
    ])
}

/// Bytes that decoding a chunk's frames holds at its largest moment; the
/// attention in its middle holds `tiles`.
pub(super) fn decode_moment(
    vae: &Vae,
    grid: Grid,
    frames: usize,
    layout: &Layout,
    tiles: u64,
) -> u64 {
    let pictures = pictures(vae, grid, frames);
    let frames = product([frames, vae.z_dim, grid.rows, grid.columns]);
    let full = |elements: u64| layout.bytes(Precision::Full, elements);
    // Frames as they came, with channels side by side, and through the first
    // matrix; then the pictures in full, with the frames still to be decoded, and
    // as bytes.
    let (entering, leaving) = (full(frames.saturating_mul(2)), full(pictures));
    let leaving = sum([leaving, pictures.max(sum([full(frames), tiles]))]);
    sum([full(frames), entering.max(leaving)])
}

/// Bytes of clean frames that a change of the prompt may run again.
pub(super) fn kept_frames(transformer: &Transformer, grid: Grid, layout: &Layout) -> u64 {
    let Some(window) = transformer.window else { return 0 };
    let chunks = window.recent.div_ceil(window.chunk.max(1));
    let chunk = [window.chunk, transformer.in_channels, grid.rows, grid.columns];
    layout.bytes(Precision::Full, product(chunk).saturating_mul(chunks as u64))
}

/// Bytes of a finished chunk: its frames, and its pictures as bytes.
pub(super) fn finished_chunk(vae: &Vae, grid: Grid, frames: usize, layout: &Layout) -> u64 {
    let clean = product([frames, vae.z_dim, grid.rows, grid.columns]);
    sum([layout.bytes(Precision::Full, clean), pictures(vae, grid, frames)])
}

/// Numbers of a chunk's pictures.
fn pictures(vae: &Vae, grid: Grid, frames: usize) -> u64 {
    let (time, space) = (vae.time_scale(), vae.space_scale());
    let picture = product([grid.rows, grid.columns, space, space, PICTURE_CHANNELS]);
    product([frames, time]).saturating_mul(picture)
}
