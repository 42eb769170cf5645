//! Elements of the weights, from the shapes that a configuration implies.
//!
//! Nothing is read from a file: the count is what a complete checkpoint of the
//! configuration must hold.
//!
//! Sources: tensor lists of Wan2.1 (`Wan-Video/Wan2.1` at 9737cba,
//! `wan/modules/model.py`), of UMT5 (`transformers` 5.17, `modeling_umt5.py`)
//! and of VideoMLA's attention (arXiv:2605.30351, appendix D.2).

use std::ops::Range;

use types::{Attention, Mla, QueryNorm, TextEncoder, Transformer};

use crate::units::{product, sum};

/// Elements of the transformer's weights in a range of layers, by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransformerParameters {
    /// Patch and text embedding; on the first stage only.
    pub embeddings: u64,
    /// Time embedding and projection; on every stage, since each computes the
    /// modulation of its own layers.
    pub time: u64,
    /// The layers of the range.
    pub layers: u64,
    /// Output head; on the last stage only.
    pub head: u64,
}

impl TransformerParameters {
    /// All parts together.
    pub fn total(&self) -> u64 {
        sum([self.embeddings, self.time, self.layers, self.head])
    }
}

/// Counts the weights of a stage that holds `layers`.
pub fn parameters(transformer: &Transformer, layers: Range<usize>) -> TransformerParameters {
    let Transformer { dim, in_channels, out_channels, freq_dim, text_dim, .. } = *transformer;
    let [frames, rows, columns] = transformer.patch;
    let patch_inputs = [in_channels, frames, rows, columns];
    let patch_outputs =
        [out_channels, frames, rows, columns].into_iter().fold(1, usize::saturating_mul);
    let embeddings = sum([
        product(patch_inputs).saturating_mul(dim as u64),
        dim as u64,
        linear(text_dim, dim),
        linear(dim, dim),
    ]);
    let time = sum([linear(freq_dim, dim), linear(dim, dim), linear(dim, dim.saturating_mul(6))]);
    let head = sum([linear(dim, patch_outputs), product([2, dim])]);
    TransformerParameters {
        embeddings: if layers.start == 0 { embeddings } else { 0 },
        time,
        layers: layer(transformer).saturating_mul(layers.len() as u64),
        head: if layers.end == transformer.layers { head } else { 0 },
    }
}

/// Counts the weights of a UMT5 encoder, its embedding table once.
pub fn text_encoder_parameters(encoder: &TextEncoder) -> u64 {
    let TextEncoder { dim, heads, ffn_dim, .. } = *encoder;
    let inner = heads.saturating_mul(encoder.head_dim);
    let layer = sum([
        product([4, dim, inner]),
        product([encoder.position_buckets, heads]),
        product([3, dim, ffn_dim]),
        product([2, dim]),
    ]);
    let table = product([encoder.vocabulary, dim]);
    sum([table, layer.saturating_mul(encoder.layers as u64), dim as u64])
}

/// One layer: modulation, self-attention, cross-attention, feed-forward.
fn layer(transformer: &Transformer) -> u64 {
    let Transformer { dim, ffn_dim, .. } = *transformer;
    let modulation = product([6, dim]);
    let norm = if transformer.cross_attention_norm { product([2, dim]) } else { 0 };
    let self_attention = match &transformer.attention {
        Attention::Dense => dense_attention(transformer),
        Attention::Mla(mla) => mla_attention(transformer, mla),
    };
    let feed_forward = sum([linear(dim, ffn_dim), linear(ffn_dim, dim)]);
    sum([modulation, norm, self_attention, dense_attention(transformer), feed_forward])
}

/// Queries, keys, values and output with biases, and the norms of queries and
/// keys. The cross-attention has the same.
fn dense_attention(transformer: &Transformer) -> u64 {
    let projections = linear(transformer.dim, transformer.dim).saturating_mul(4);
    let norms = if transformer.qk_norm { product([2, transformer.dim]) } else { 0 };
    sum([projections, norms])
}

fn mla_attention(transformer: &Transformer, mla: &Mla) -> u64 {
    let Transformer { dim, heads, .. } = *transformer;
    let queries = heads.saturating_mul(mla.nope.saturating_add(mla.rope));
    let values = heads.saturating_mul(mla.value);
    let query = |inputs, outputs| match mla.query_bias {
        true => linear(inputs, outputs),
        false => product([inputs, outputs]),
    };
    let query_side = match mla.query_rank {
        None => query(dim, queries),
        Some(rank) => sum([query(dim, rank), product([rank, queries])]),
    };
    let query_norm = match mla.query_norm {
        QueryNorm::None => 0,
        QueryNorm::Full => queries,
        QueryNorm::Latent => mla.query_rank.unwrap_or(0),
    };
    sum([
        query_side,
        query_norm as u64,
        product([dim, mla.kv_rank.saturating_add(mla.rope)]),
        mla.kv_rank as u64,
        product([mla.kv_rank, heads, mla.nope]),
        product([mla.kv_rank, heads, mla.value]),
        linear(values, dim),
    ])
}

/// A matrix and its bias.
fn linear(inputs: usize, outputs: usize) -> u64 {
    sum([product([inputs, outputs]), outputs as u64])
}
