//! What the operations of the seam take: shapes, epilogues, operands.

use std::ops::Range;

use types::Class;

use crate::seam::Backend;

/// Why a backend could not do something.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Make smaller pictures, give the stage fewer layers, or shorten the window.
    #[error(
        "no memory for a tensor of {bytes} bytes: make smaller pictures, or free memory \
         that others use"
    )]
    Memory {
        /// Size that was asked for.
        bytes: u64,
    },
    /// Use the f32 class for this model.
    #[error("the bf16 class needs an even width, this model has one of {width}")]
    OddWidth {
        /// The odd width.
        width: usize,
    },
    /// Use the f32 class on this machine.
    #[error("this processor lacks the instructions of {}, use f32", .0.name())]
    NoClass(Class),
    /// Ask for fewer threads.
    #[error("the system refuses to start {threads} threads, use fewer")]
    Threads {
        /// Number that was asked for.
        threads: usize,
    },
    /// The device is lost for this process.
    #[error("the device failed: {0}: start again")]
    Device(String),
}

/// A weight as it stands in a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Weight<'a> {
    /// Output features.
    pub n: usize,
    /// Input features (for a kernel: channels times taps).
    pub k: usize,
    /// The values, `[n, k]` row-major.
    pub values: &'a [f32],
}

/// What happens to a product before it is stored. Sums are f32 until then.
#[derive(Debug)]
pub enum Epilogue<'a, T> {
    /// Nothing.
    Store,
    /// GELU in its tanh form.
    Gelu,
    /// SiLU.
    Silu,
    /// Product with this f32 tensor, element by element (a gated network).
    Mul(&'a T),
    /// Added to what is in `out` (f32): a residual.
    Add,
    /// Scaled by a frame table's columns `slot * n..`, then added to `out` (f32).
    AddGated {
        /// `[frames, slots * n]`, f32.
        table: &'a T,
        /// Which vector of the table.
        slot: usize,
    },
}

/// What follows a layer norm.
#[derive(Debug)]
pub enum ScaleShift<'a, T> {
    /// Learned `x * weight + bias`, both `[1, columns]` f32.
    Affine {
        /// Scale.
        weight: &'a T,
        /// Shift.
        bias: &'a T,
    },
    /// `x * (1 + scale) + shift` from a frame table `[frames, slots * columns]`.
    Modulated {
        /// The table, f32.
        table: &'a T,
        /// Which vector is added.
        shift: usize,
        /// Which vector, plus one, is multiplied.
        scale: usize,
    },
}

/// Parameters of [`Backend::finish_queries`].
#[derive(Debug)]
pub struct FinishQueries<'a, B: Backend> {
    /// RMS norm weight `[1, heads * head_dim]` f32 and its epsilon.
    pub norm: Option<(&'a B::Tensor, f32)>,
    /// Width of a head.
    pub head_dim: usize,
    /// Rotation, its first token, and how many trailing channels of a head it turns.
    pub rotation: Option<(&'a B::Rotation, usize, usize)>,
    /// Multiplied last: `1 / sqrt(head width)`.
    pub scale: f32,
}

/// How MLA attention is computed. Part of the numeric class of a job: both give
/// the same function with different rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MlaPath {
    /// Keys and values are rebuilt from latents, a tile at a time.
    Rebuild,
    /// The up-projections are moved to the query and the output, so attention
    /// runs on the latents themselves.
    Absorb,
}

/// Widths of MLA attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MlaShape {
    /// Attention heads.
    pub heads: usize,
    /// Content part of a cached row.
    pub kv_rank: usize,
    /// Unrotated part of a head's query.
    pub nope: usize,
    /// Rotated part of a head's query, and of a cached row.
    pub rope: usize,
    /// A head's value.
    pub value: usize,
}

/// The heads of an attention.
#[derive(Debug)]
pub enum Heads<'a, B: Backend> {
    /// Rows are `[keys of all heads | values of all heads]`.
    Dense {
        /// Number of heads.
        heads: usize,
        /// Width of a head.
        head_dim: usize,
    },
    /// Rows are `[content latent | rope key]`.
    Mla(&'a B::Mla),
}

/// The cached rows a chunk attends to.
#[derive(Debug)]
pub struct Keys<'a, B: Backend> {
    /// The rows.
    pub cache: &'a B::Tensor,
    /// Ranges of rows in window order; whole frames each when rotated.
    pub segments: &'a [Range<usize>],
    /// Rotation of the keys at use; token `i` is the `i`-th attended row.
    pub rotation: Option<&'a B::Rotation>,
}

/// How frame tensors divide into patches of one frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PatchGrid {
    /// Channels of a frame tensor.
    pub channels: usize,
    /// Frames.
    pub frames: usize,
    /// Token rows of a frame.
    pub rows: usize,
    /// Token columns of a frame.
    pub columns: usize,
    /// Rows of a patch.
    pub patch_rows: usize,
    /// Columns of a patch.
    pub patch_columns: usize,
}

/// Size of a volume.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Frames filled in at once, at the most.
    pub frames: usize,
    /// Rows of pixels.
    pub rows: usize,
    /// Columns of pixels.
    pub columns: usize,
    /// Channels of a pixel.
    pub channels: usize,
}

/// The convolutions of a causal VAE.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConvKind {
    /// 3x3x3 over this frame and the two before; size is kept.
    Causal3,
    /// 3x1x1 over this frame and the two before, twice the channels, which
    /// become two frames: `frames' = 2 frames`, `n' = n / 2`.
    DoubleTime,
    /// Nearest-neighbour doubling of rows and columns, then 1x3x3.
    DoubleSpace,
}

/// What happens to a pixel on its way into a volume.
#[derive(Debug)]
pub enum Activation<'a, T> {
    /// Nothing.
    None,
    /// `SiLU(x / |x|_2 * sqrt(channels) * gamma)`, gamma `[1, channels]` f32.
    NormSilu(&'a T),
}
