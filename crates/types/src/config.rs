//! Resolved configurations: what a checkpoint turned out to be.
//!
//! Every on-disk family (diffusers `WanTransformer3DModel`, original Wan, and
//! `CausalWanMLATransformer3DModel`) is converted into these structs, so that
//! the model code knows one form only. All sizes count elements unless the
//! name says otherwise.

use crate::{rope::Rope, window::Window};

/// A whole text-to-video model. A part is absent when its folder is.
#[derive(Clone, Debug, PartialEq)]
pub struct Model {
    /// The prompt's encoder.
    pub text_encoder: Option<TextEncoder>,
    /// The diffusion transformer.
    pub transformer: Option<Transformer>,
    /// The frame decoder.
    pub vae: Option<Vae>,
    /// How a chunk is denoised.
    pub sampler: Sampler,
    /// Size and rate of the pictures the model was made for.
    pub video: Video,
}

/// The diffusion transformer (Wan2.1 and its descendants).
#[derive(Clone, Debug, PartialEq)]
pub struct Transformer {
    /// Width of the residual stream.
    pub dim: usize,
    /// Inner width of the feed-forward network.
    pub ffn_dim: usize,
    /// Number of layers.
    pub layers: usize,
    /// Attention heads.
    pub heads: usize,
    /// Channels of a frame tensor.
    pub in_channels: usize,
    /// Channels of the predicted velocity.
    pub out_channels: usize,
    /// Patch size along frames, rows and columns.
    pub patch: [usize; 3],
    /// Width of the sinusoidal time embedding.
    pub freq_dim: usize,
    /// Width of the text encoder's output.
    pub text_dim: usize,
    /// Rows of text context; shorter prompts are padded with zero rows.
    pub text_len: usize,
    /// Epsilon of every normalisation.
    pub eps: f32,
    /// Whether a learned LayerNorm stands before the cross-attention (`norm3`).
    pub cross_attention_norm: bool,
    /// Whether queries and keys of the cross-attention (and of dense
    /// self-attention) pass an RMS norm over all heads together.
    pub qk_norm: bool,
    /// Self-attention kind.
    pub attention: Attention,
    /// Rotary positions of the self-attention.
    pub rope: Rope,
    /// Frames attended to. `None`: the model has no cache; one pass sees all
    /// frames of the clip (a bidirectional teacher).
    pub window: Option<Window>,
}

impl Transformer {
    /// Numbers cached per token and layer: keys and values of all heads, or one
    /// low-rank row.
    pub fn row_elements(&self) -> usize {
        match &self.attention {
            Attention::Dense => self.dim.saturating_mul(2),
            Attention::Mla(mla) => mla.kv_rank.saturating_add(mla.rope),
        }
    }
}

/// The self-attention of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Attention {
    /// Multi-head attention that caches keys and values of every head.
    Dense,
    /// Multi-head latent attention, which caches one low-rank row per token.
    Mla(Mla),
}

/// Parameters of multi-head latent attention (arXiv:2605.30351, section 3).
///
/// A cached row is `kv_rank` content values after RMSNorm, then `rope` values
/// of the shared key before rotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mla {
    /// Width of the cached content latent.
    pub kv_rank: usize,
    /// Width of the query latent; `None` projects queries directly.
    pub query_rank: Option<usize>,
    /// Width of a head's query and key without position.
    pub nope: usize,
    /// Width of a head's rotated query, and of the key shared by all heads.
    pub rope: usize,
    /// Width of a head's value.
    pub value: usize,
    /// Where queries are normalised.
    pub query_norm: QueryNorm,
    /// Whether content latent and rope key come from one matrix, `kv_down`.
    pub fused_kv_down: bool,
    /// Whether the query projections have biases.
    pub query_bias: bool,
}

/// Where an MLA layer normalises its queries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueryNorm {
    /// Not at all.
    None,
    /// RMS norm over the finished queries of all heads.
    Full,
    /// RMS norm over the query latent; needs `query_rank`.
    Latent,
}

/// A UMT5 encoder: T5 with a relative-position table in every layer.
#[derive(Clone, Debug, PartialEq)]
pub struct TextEncoder {
    /// Rows of the embedding table.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub dim: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Attention heads.
    pub heads: usize,
    /// Inner width of the gated feed-forward network.
    pub ffn_dim: usize,
    /// Number of layers.
    pub layers: usize,
    /// Buckets of the relative-position table.
    pub position_buckets: usize,
    /// Distance from which all positions share the last bucket.
    pub position_distance_max: usize,
    /// Epsilon of every RMS norm.
    pub eps: f32,
}

/// A causal 3-D VAE (diffusers `AutoencoderKLWan`, not the residual variant).
#[derive(Clone, Debug, PartialEq)]
pub struct Vae {
    /// Channels of the decoder at its full resolution.
    pub decoder_base_dim: usize,
    /// Channels of a frame tensor.
    pub z_dim: usize,
    /// Channel multipliers, from full resolution to the smallest.
    pub dim_mult: Vec<usize>,
    /// Residual units per resolution, less one.
    pub res_units: usize,
    /// Which of the encoder's downsamplings also halve time, first to last.
    pub temporal_downsample: Vec<bool>,
    /// Per-channel mean that normalisation subtracted.
    pub latents_mean: Vec<f32>,
    /// Per-channel standard deviation that normalisation divided by.
    pub latents_std: Vec<f32>,
}

impl Vae {
    /// Pictures per frame, after the first frame: a power of two.
    pub fn time_scale(&self) -> usize {
        1 << self.temporal_downsample.iter().filter(|&&halves| halves).count()
    }

    /// Picture rows per row of a frame tensor (and columns per column).
    pub fn space_scale(&self) -> usize {
        1 << (self.dim_mult.len() - 1)
    }

    /// Pictures decoded from `frames` frames: the first frame gives one.
    pub fn pictures(&self, frames: usize) -> usize {
        match frames {
            0 => 0,
            _ => 1 + (frames - 1) * self.time_scale(),
        }
    }
}

/// How a chunk gets from noise to its clean frames.
#[derive(Clone, Debug, PartialEq)]
pub struct Sampler {
    /// The update rule between two steps.
    pub update: Update,
    /// Shift of the flow-matching schedule: `t = s u / (1 + (s - 1) u)`.
    pub shift: f64,
    /// Steps and guidance of the first chunk of a video.
    pub first_chunk: SizedChunk,
    /// Steps and guidance of every later chunk.
    pub later_chunks: SizedChunk,
}

/// Steps and guidance of a chunk.
#[derive(Clone, Debug, PartialEq)]
pub struct SizedChunk {
    /// The denoising levels.
    pub steps: StepList,
    /// Classifier-free guidance weight; 1 runs the conditional branch only.
    pub guidance: f32,
}

/// The update rule between two steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Update {
    /// `x += (t' - t) v`.
    Euler,
    /// `x0 = x - t v`, then fresh noise up to `t'` (Self-Forcing family).
    Renoise,
}

/// Denoising levels before the schedule's shift.
#[derive(Clone, Debug, PartialEq)]
pub enum StepList {
    /// `u = 1 - k / n` for `n` evenly spaced steps, then shifted.
    Even(usize),
    /// Listed timesteps in 0..1000, each shifted (`warp_denoising_step`).
    Warped(Vec<f64>),
    /// Listed timesteps in 0..1000, fed as they are. The noise level is the
    /// nearest one in the shifted table of 1000 entries, as the public code
    /// looks it up.
    Listed(Vec<f64>),
}

/// Size and rate of the pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Video {
    /// Picture width.
    pub width: usize,
    /// Picture height.
    pub height: usize,
    /// Pictures per second.
    pub fps: u32,
}
