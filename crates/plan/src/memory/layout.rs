//! How an engine lays out what it holds, as data.
//!
//! A number's size depends on what it is for: a *factor* of products may be
//! narrow, a sum or anything that decides much is kept in *full*. Beyond its
//! numbers, an engine holds what makes it fast: columns filled up to whole
//! vectors, zero borders around pictures, kernels transformed into more numbers
//! than the file has. [`Layout`] says all of it, so that a plan can be exact for
//! an engine without knowing it.
//!
//! [`Layout::f32`] and [`Layout::bf16`] describe this project's two kinds of
//! numeric classes on processors; another engine is another value of the same
//! struct. `tests/memory` holds both against what is really allocated.

use serde::Serialize;

use super::{
    Grid,
    decoder::{Buffer, Kind, Volume},
    weights::Weight,
};
use crate::units::{product, sum};

/// What an engine holds for a number, a matrix, a kernel and a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Layout {
    /// Bytes of a factor: weights of products, and what enters them.
    pub factor_bytes: usize,
    /// Bytes of everything else: residual, sums, norms, the time and patch
    /// embeddings, the head, frame tensors, pictures before they are bytes.
    pub full_bytes: usize,
    /// Bytes of a cached number, of self-attention and cross-attention.
    pub cache_bytes: usize,
    /// How matrices are packed.
    pub matrices: Matrices,
    /// How kernels of convolutions are packed.
    pub kernels: Kernels,
    /// What a convolution's input is held in.
    pub volumes: Volumes,
}

/// How matrices are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Matrices {
    /// Outputs are filled up to a multiple of this.
    pub outputs_multiple: usize,
    /// Biases, in full, are filled up to a multiple of this; every matrix has one.
    pub bias_multiple: usize,
}

/// How kernels of convolutions are packed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Kernels {
    /// Channels are filled up to a multiple of this.
    pub channels_multiple: usize,
    /// 3x3x3 kernels whose channels and outputs are multiples of the second
    /// number hold the first one of places instead of the nine of a 3x3 plane.
    pub transformed: Option<(usize, usize)>,
    /// Outputs up to which neighbouring pixels are computed side by side, each
    /// with a shifted copy of the kernel.
    pub side_by_side_outputs: usize,
    /// A kernel behind doubled rows and columns: how many kernels it becomes,
    /// and how many places of each are held instead of nine.
    pub doubling: (usize, usize),
}

/// What a convolution's input is held in: frames with zero borders.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Volumes {
    /// Frames besides those that a causal kernel remembers.
    pub frames: usize,
    /// Zero pixels on each side of a frame, where the kernel reaches over it.
    pub border: usize,
    /// Rows and columns are filled up to a multiple of this.
    pub side_multiple: usize,
    /// Channels are filled up to a multiple of this.
    pub channels_multiple: usize,
    /// Pixels behind the last one.
    pub slack_pixels: usize,
}

/// What a number is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Precision {
    /// A factor of products.
    Factor,
    /// Anything else.
    Full,
}

impl Layout {
    /// Everything in f32, 3x3x3 kernels in Winograd's form.
    pub const fn f32() -> Self {
        Self {
            factor_bytes: 4,
            full_bytes: 4,
            cache_bytes: 4,
            matrices: Matrices { outputs_multiple: 16, bias_multiple: 32 },
            kernels: Kernels {
                channels_multiple: 1,
                transformed: Some((16, 16)),
                side_by_side_outputs: 16,
                doubling: (4, 4),
            },
            volumes: Volumes {
                frames: 1,
                border: 1,
                side_multiple: 2,
                channels_multiple: 1,
                slack_pixels: 16,
            },
        }
    }

    /// Factors and caches in bf16, everything else in f32.
    pub const fn bf16() -> Self {
        let Self { kernels, volumes, .. } = Self::f32();
        Self {
            factor_bytes: 2,
            cache_bytes: 2,
            kernels: Kernels { channels_multiple: 2, transformed: None, ..kernels },
            volumes: Volumes { channels_multiple: 2, ..volumes },
            ..Self::f32()
        }
    }

    /// Bytes of so many numbers.
    pub(super) fn bytes(&self, precision: Precision, elements: u64) -> u64 {
        let element = match precision {
            Precision::Factor => self.factor_bytes,
            Precision::Full => self.full_bytes,
        };
        elements.saturating_mul(element as u64)
    }

    /// Bytes of cached numbers.
    pub(super) fn cached(&self, elements: u64) -> u64 {
        elements.saturating_mul(self.cache_bytes as u64)
    }

    /// Bytes that these weights are held in.
    pub(super) fn weights(&self, weights: &[Weight]) -> u64 {
        sum(weights.iter().map(|weight| self.weight(weight)))
    }

    fn weight(&self, weight: &Weight) -> u64 {
        match *weight {
            Weight::Vector(elements) => self.bytes(Precision::Full, elements),
            Weight::Matrix { n, k, precision, .. } => {
                sum([self.bytes(precision, self.packed(n, k)), self.bias(n)])
            }
            Weight::Heads { heads, n, k } => {
                self.bytes(Precision::Factor, heads.saturating_mul(self.packed(n, k)))
            }
            Weight::HeadsEitherWay { heads, n, k } => {
                let either = self.packed(n, k).max(self.packed(k, n));
                self.bytes(Precision::Factor, heads.saturating_mul(either))
            }
            Weight::Kernel { kind, n, channels } => self.kernel(kind, n, channels),
            Weight::Table { .. } => 0,
        }
    }

    fn kernel(&self, kind: Kind, n: u64, channels: u64) -> u64 {
        let Kernels { channels_multiple, transformed, side_by_side_outputs, doubling } =
            self.kernels;
        let pixel = filled(channels, channels_multiple);
        let packed = |kernels: u64, n: u64, places: u64| {
            let weights = self.packed(n, places.saturating_mul(pixel));
            let one = sum([self.bytes(Precision::Factor, weights), self.bias(n)]);
            one.saturating_mul(kernels)
        };
        let fits = |multiple: usize| {
            let multiple = multiple as u64;
            n.is_multiple_of(multiple) && channels.is_multiple_of(multiple)
        };
        match (kind, transformed) {
            (Kind::Causal, Some((places, multiple))) if fits(multiple) => {
                let one = self.packed(n, channels.saturating_mul(3));
                let weights = one.saturating_mul(places as u64);
                let bias = self.bytes(Precision::Full, n.saturating_mul(2));
                sum([self.bytes(Precision::Factor, weights), bias])
            }
            (Kind::Causal, _) => {
                let side = (side_by_side_outputs as u64).checked_div(n).unwrap_or(1).max(1);
                packed(1, side.saturating_mul(n), 9 * (side + 2))
            }
            // One kernel for each of the two frames.
            (Kind::Temporal, _) => packed(2, n / 2, 3),
            (Kind::Spatial, _) => packed(doubling.0 as u64, n, doubling.1 as u64),
        }
    }

    /// Numbers that a matrix of `n` outputs and `k` inputs is packed into.
    fn packed(&self, n: u64, k: u64) -> u64 {
        filled(n, self.matrices.outputs_multiple).saturating_mul(k)
    }

    fn bias(&self, n: u64) -> u64 {
        self.bytes(Precision::Full, filled(n, self.matrices.bias_multiple))
    }

    /// Bytes of a convolution's input.
    pub(super) fn volume(&self, volume: &Volume, grid: Grid) -> u64 {
        let Volumes { frames, border, side_multiple, channels_multiple, slack_pixels } =
            self.volumes;
        let border = if volume.kind == Kind::Temporal { 0 } else { border };
        let side = |pixels: usize| {
            let side = filled(product([pixels, volume.scale]), side_multiple);
            sum([side, product([2, border])])
        };
        let frames = sum([frames as u64, volume.kind.remembered_frames() as u64]);
        let pixels = side(grid.rows).saturating_mul(side(grid.columns)).saturating_mul(frames);
        let pixels = sum([pixels, slack_pixels as u64]);
        let channels = filled(volume.channels as u64, channels_multiple);
        self.bytes(Precision::Factor, pixels.saturating_mul(channels))
    }

    /// Bytes of a buffer of one picture's size.
    pub(super) fn buffer(&self, buffer: &Buffer, grid: Grid) -> u64 {
        let Buffer { channels, scale, precision } = *buffer;
        self.bytes(precision, product([grid.rows, grid.columns, scale, scale, channels]))
    }
}

/// The least multiple that is not below `number`.
fn filled(number: u64, multiple: usize) -> u64 {
    let multiple = multiple.max(1) as u64;
    number.div_ceil(multiple).saturating_mul(multiple)
}
