//! The weights that a configuration implies, and how many numbers they are.
//!
//! Nothing is read from a file: the lists are what a complete checkpoint of the
//! configuration must hold. The VAE's is in `decoder.rs`.
//!
//! A transformer divides into the text projection, which stands with the text
//! encoder and is counted once, and its stages; each stage has the time
//! embedding, since it computes the modulation of its own layers.
//!
//! Sources: tensor lists of Wan2.1 (`Wan-Video/Wan2.1` at 9737cba,
//! `wan/modules/model.py`), of UMT5 (`transformers` 5.17, `modeling_umt5.py`)
//! and of VideoMLA's attention (arXiv:2605.30351, appendix D.2).

use std::ops::Range;

use types::{Attention, Mla, QueryNorm, TextEncoder, Transformer};

use super::{
    layout::{Layout, Precision},
    weights::{Bias, Weight, elements},
};
use crate::units::{product, sum};

/// Elements of a transformer's weights, by part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransformerParameters {
    /// Text encoder's rows to the context of the cross-attention; with the
    /// text encoder, whatever the range.
    pub text_projection: u64,
    /// Patch embedding; on the first stage only.
    pub patch_embedding: u64,
    /// Time embedding and projection; on every stage.
    pub time_embedding: u64,
    /// The layers of the range.
    pub layers: u64,
    /// Output head; on the last stage only.
    pub head: u64,
}

impl TransformerParameters {
    /// All parts of a stage, without the text projection.
    pub fn stage(&self) -> u64 {
        sum([self.patch_embedding, self.time_embedding, self.layers, self.head])
    }

    /// All parts together: the whole transformer, if the range is all layers.
    pub fn total(&self) -> u64 {
        sum([self.text_projection, self.stage()])
    }
}

/// Counts the weights of a stage that holds `layers`, and the text projection.
pub fn parameters(transformer: &Transformer, layers: Range<usize>) -> TransformerParameters {
    let Stage { patch_embedding, time_embedding, layer, head } = stage(transformer, layers.clone());
    TransformerParameters {
        text_projection: elements(&text_projection(transformer)),
        patch_embedding: elements(&patch_embedding),
        time_embedding: elements(&time_embedding),
        layers: elements(&layer).saturating_mul(layers.len() as u64),
        head: elements(&head),
    }
}

/// Counts the weights of a UMT5 encoder, its embedding table once.
pub fn text_encoder_parameters(encoder: &TextEncoder) -> u64 {
    let TextWeights { table, layer, norm } = text_encoder(encoder);
    let layers = elements(&layer).saturating_mul(encoder.layers as u64);
    sum([elements(&[table, norm]), layers])
}

/// Bytes that a stage holds for its weights.
pub(super) fn stage_bytes(transformer: &Transformer, layers: Range<usize>, layout: &Layout) -> u64 {
    let Stage { patch_embedding, time_embedding, layer, head } = stage(transformer, layers.clone());
    let layers = layout.weights(&layer).saturating_mul(layers.len() as u64);
    let around = [patch_embedding, time_embedding, head].map(|part| layout.weights(&part));
    sum([sum(around), layers])
}

/// Bytes that the text projection is held in.
pub(super) fn text_projection_bytes(transformer: &Transformer, layout: &Layout) -> u64 {
    layout.weights(&text_projection(transformer))
}

/// Bytes that a UMT5 encoder is held in; its table stays in the file.
pub(super) fn text_encoder_bytes(encoder: &TextEncoder, layout: &Layout) -> u64 {
    let TextWeights { table, layer, norm } = text_encoder(encoder);
    let layers = layout.weights(&layer).saturating_mul(encoder.layers as u64);
    sum([layout.weights(&[table, norm]), layers])
}

/// A stage's weights; those of one layer, since all are alike.
struct Stage {
    patch_embedding: Vec<Weight>,
    time_embedding: Vec<Weight>,
    layer: Vec<Weight>,
    head: Vec<Weight>,
}

struct TextWeights {
    table: Weight,
    layer: Vec<Weight>,
    norm: Weight,
}

fn stage(transformer: &Transformer, layers: Range<usize>) -> Stage {
    let Transformer { dim, in_channels, out_channels, freq_dim, .. } = *transformer;
    let [frames, rows, columns] = transformer.patch;
    let patch_inputs = product([in_channels, frames, rows, columns]);
    let patch_outputs = product([out_channels, frames, rows, columns]);
    let (dim, freq_dim) = (dim as u64, freq_dim as u64);
    let six = dim.saturating_mul(6);
    let held = |here: bool, weights: Vec<Weight>| if here { weights } else { Vec::new() };
    let patch_embedding = vec![Weight::full(dim, patch_inputs)];
    let head = vec![Weight::Vector(dim.saturating_mul(2)), Weight::full(patch_outputs, dim)];
    Stage {
        patch_embedding: held(layers.start == 0, patch_embedding),
        time_embedding: vec![
            Weight::full(dim, freq_dim),
            Weight::full(dim, dim),
            Weight::full(six, dim),
        ],
        layer: layer(transformer),
        head: held(layers.end == transformer.layers, head),
    }
}

fn text_projection(transformer: &Transformer) -> [Weight; 2] {
    let (dim, text_dim) = (transformer.dim as u64, transformer.text_dim as u64);
    [Weight::full(dim, text_dim), Weight::full(dim, dim)]
}

fn text_encoder(encoder: &TextEncoder) -> TextWeights {
    let TextEncoder { vocabulary, heads, head_dim, position_buckets, .. } = *encoder;
    let (dim, ffn_dim) = (encoder.dim as u64, encoder.ffn_dim as u64);
    let inner = product([heads, head_dim]);
    let layer = vec![
        Weight::Vector(dim),
        Weight::bare(inner.saturating_mul(3), dim),
        Weight::bare(dim, inner),
        Weight::Vector(product([position_buckets, heads])),
        Weight::Vector(dim),
        Weight::bare(ffn_dim, dim),
        Weight::bare(ffn_dim, dim),
        Weight::bare(dim, ffn_dim),
    ];
    let table = Weight::Table { elements: product([vocabulary, encoder.dim]) };
    TextWeights { table, layer, norm: Weight::Vector(dim) }
}

/// One layer: modulation, self-attention, cross-attention, feed-forward.
fn layer(transformer: &Transformer) -> Vec<Weight> {
    let (dim, ffn_dim) = (transformer.dim as u64, transformer.ffn_dim as u64);
    let mut weights = vec![Weight::Vector(dim.saturating_mul(6))];
    if transformer.cross_attention_norm {
        weights.extend([Weight::Vector(dim), Weight::Vector(dim)]);
    }
    match &transformer.attention {
        Attention::Dense => weights.extend(dense_attention(transformer)),
        Attention::Mla(mla) => weights.extend(mla_attention(transformer, mla)),
    }
    weights.extend(dense_attention(transformer));
    weights.extend([Weight::linear(ffn_dim, dim), Weight::linear(dim, ffn_dim)]);
    weights
}

/// Queries, keys with values, and output with biases, and the norms of queries
/// and keys. The cross-attention has the same.
fn dense_attention(transformer: &Transformer) -> Vec<Weight> {
    let dim = transformer.dim as u64;
    let rows = Weight::linear(dim.saturating_mul(2), dim);
    let mut weights = vec![Weight::linear(dim, dim), rows, Weight::linear(dim, dim)];
    if transformer.qk_norm {
        weights.extend([Weight::Vector(dim), Weight::Vector(dim)]);
    }
    weights
}

fn mla_attention(transformer: &Transformer, mla: &Mla) -> Vec<Weight> {
    let dim = transformer.dim as u64;
    let (heads, kv_rank) = (transformer.heads as u64, mla.kv_rank as u64);
    let queries = heads.saturating_mul(sum([mla.nope as u64, mla.rope as u64]));
    let bias = if mla.query_bias { Bias::Yes } else { Bias::No };
    let query = |n, k| Weight::Matrix { n, k, bias, precision: Precision::Factor };
    let mut weights = match mla.query_rank.map(|rank| rank as u64) {
        None => vec![query(queries, dim)],
        Some(rank) => vec![query(rank, dim), query(queries, rank)],
    };
    weights.push(Weight::Vector(match mla.query_norm {
        QueryNorm::None => 0,
        QueryNorm::Full => queries,
        QueryNorm::Latent => mla.query_rank.unwrap_or(0) as u64,
    }));
    weights.extend([
        Weight::bare(sum([kv_rank, mla.rope as u64]), dim),
        Weight::Vector(kv_rank),
        Weight::HeadsEitherWay { heads, n: mla.nope as u64, k: kv_rank },
        Weight::Heads { heads, n: mla.value as u64, k: kv_rank },
        Weight::linear(dim, product([transformer.heads, mla.value])),
    ]);
    weights
}
