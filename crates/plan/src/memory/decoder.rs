//! The VAE's decoder, walked layer by layer: weights, causal history, buffers.
//!
//! ```text
//! frame ─ 1x1x1 ─ conv_in ─ middle ─ stage 0 ─ ... ─ stage n ─ norm ─ conv_out ─ picture
//! middle: unit, attention, unit
//! stage:  units, then (but for the last) time convolution x2 where time
//!         doubles, nearest x2, 3x3 convolution to half the channels
//! unit:   two norms and 3x3x3 convolutions; a matrix where channels change
//! ```
//!
//! One walk answers all three questions, so they cannot disagree. A video is
//! decoded one picture at a time; every convolution has its own input, with the
//! history that it needs, and every unit its own picture between the two.
//!
//! Causal convolutions, 3x3x3 or 3x1x1, see the last [`REMEMBERED_FRAMES`] of
//! their input besides the current one: the least that any engine remembers.
//!
//! Source: `AutoencoderKLWan` of diffusers 0.42.1 (`autoencoder_kl_wan.py`, not
//! residual); the least cache is `feat_map` of `Wan-Video/Wan2.1` at 9737cba.

use serde::Serialize;
use types::Vae;

use super::{
    Grid,
    layout::{Layout, Precision},
    weights::{Weight, elements},
};
use crate::units::{product, sum};

/// Input frames that a causal convolution remembers (`CACHE_T`).
pub const REMEMBERED_FRAMES: usize = 2;

/// Channels of a picture.
pub(super) const PICTURE_CHANNELS: usize = 3;

/// Equal inputs that the streaming decoder remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CausalInput {
    /// Convolutions that remember an input of this shape.
    pub convolutions: usize,
    /// Channels of the input.
    pub channels: usize,
    /// Rows of the input.
    pub rows: usize,
    /// Columns of the input.
    pub columns: usize,
}

impl CausalInput {
    /// Numbers remembered by all these convolutions together.
    pub fn elements(&self) -> u64 {
        let Self { convolutions, channels, rows, columns } = *self;
        product([REMEMBERED_FRAMES, convolutions, channels, rows, columns])
    }
}

/// The least that a streaming decoder remembers, in order of resolution, then
/// of the shape's first use.
pub fn vae_cache(vae: &Vae, grid: Grid) -> Vec<CausalInput> {
    let mut inputs: Vec<CausalInput> = Vec::new();
    let walk = Walk::over(vae);
    for volume in walk.volumes.iter().filter(|volume| 0 < volume.kind.remembered_frames()) {
        let Volume { channels, scale, .. } = *volume;
        let (rows, columns) = (grid.rows.saturating_mul(scale), grid.columns.saturating_mul(scale));
        let input = CausalInput { convolutions: 1, channels, rows, columns };
        let same = |other: &&mut CausalInput| CausalInput { convolutions: 1, ..**other } == input;
        match inputs.iter_mut().find(same) {
            Some(other) => other.convolutions += 1,
            None => inputs.push(input),
        }
    }
    inputs
}

/// Counts the weights that decoding needs, the first 1x1x1 convolution
/// (`post_quant_conv`) included.
pub fn vae_decoder_parameters(vae: &Vae) -> u64 {
    elements(&Walk::over(vae).weights)
}

/// Bytes that the decoder's weights are held in.
pub(super) fn weights_bytes(vae: &Vae, layout: &Layout) -> u64 {
    layout.weights(&Walk::over(vae).weights)
}

/// Bytes of all convolutions' inputs with their history.
pub(super) fn volumes_bytes(vae: &Vae, grid: Grid, layout: &Layout) -> u64 {
    sum(Walk::over(vae).volumes.iter().map(|volume| layout.volume(volume, grid)))
}

/// Bytes of the buffers that a video's decoding works in.
pub(super) fn buffers_bytes(vae: &Vae, grid: Grid, layout: &Layout) -> u64 {
    sum(Walk::over(vae).buffers.iter().map(|buffer| layout.buffer(buffer, grid)))
}

/// The convolutions of the decoder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// A causal 3x3x3 convolution.
    Causal,
    /// A causal 3x1x1 convolution that doubles time.
    Temporal,
    /// A 3x3 convolution of each picture, after the nearest x2.
    Spatial,
}

impl Kind {
    /// Frames of its input that it sees before the current one.
    pub(super) fn remembered_frames(self) -> usize {
        match self {
            Self::Causal | Self::Temporal => REMEMBERED_FRAMES,
            Self::Spatial => 0,
        }
    }

    /// Places of its kernel.
    pub(super) fn taps(self) -> u64 {
        match self {
            Self::Causal => 27,
            Self::Temporal => 3,
            Self::Spatial => 9,
        }
    }
}

/// A convolution's input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Volume {
    pub(super) kind: Kind,
    pub(super) channels: usize,
    /// Rows per row of a frame tensor, and columns per column.
    pub(super) scale: usize,
}

/// Something of a picture's size, or of several.
#[derive(Clone, Copy, Debug)]
pub(super) struct Buffer {
    /// Numbers per pixel.
    pub(super) channels: usize,
    pub(super) scale: usize,
    pub(super) precision: Precision,
}

/// What was met so far, and the resolution where the walk stands.
struct Walk {
    weights: Vec<Weight>,
    volumes: Vec<Volume>,
    buffers: Vec<Buffer>,
    scale: usize,
}

impl Walk {
    /// The whole decoder, in the order of execution.
    fn over(vae: &Vae) -> Self {
        let mut walk =
            Self { weights: Vec::new(), volumes: Vec::new(), buffers: Vec::new(), scale: 1 };
        let width = |multiplier: &usize| vae.decoder_base_dim.saturating_mul(*multiplier);
        let widths: Vec<usize> = vae.dim_mult.iter().rev().map(width).collect();
        let Some((&widest, _)) = widths.split_first() else {
            return walk;
        };
        walk.point(vae.z_dim, vae.z_dim, Precision::Full);
        walk.convolution(Kind::Causal, vae.z_dim, widest);
        walk.unit(widest, widest);
        walk.attention(widest);
        walk.unit(widest, widest);

        let mut channels = widest;
        let mut doubles_time = vae.temporal_downsample.iter().rev();
        for (stage, &width) in widths.iter().enumerate() {
            if channels != width {
                walk.buffer(channels, Precision::Full);
            }
            walk.buffer(width, Precision::Full);
            for _ in 0..=vae.res_units {
                walk.unit(channels, width);
                channels = width;
            }
            if stage + 1 < widths.len() {
                walk.upsample(width, doubles_time.next().copied().unwrap_or(false));
                channels = width / 2;
            }
        }
        walk.vector(channels);
        walk.convolution(Kind::Causal, channels, PICTURE_CHANNELS);
        walk.buffer(PICTURE_CHANNELS, Precision::Full);
        walk
    }

    fn vector(&mut self, channels: usize) {
        self.weights.push(Weight::Vector(channels as u64));
    }

    fn point(&mut self, inputs: usize, outputs: usize, precision: Precision) {
        let (n, k) = (outputs as u64, inputs as u64);
        self.weights.push(match precision {
            Precision::Factor => Weight::linear(n, k),
            Precision::Full => Weight::full(n, k),
        });
    }

    fn convolution(&mut self, kind: Kind, inputs: usize, outputs: usize) {
        let (n, channels) = (outputs as u64, inputs as u64);
        self.weights.push(Weight::Kernel { kind, n, channels });
        self.volumes.push(Volume { kind, channels: inputs, scale: self.scale });
    }

    fn buffer(&mut self, channels: usize, precision: Precision) {
        self.buffers.push(Buffer { channels, scale: self.scale, precision });
    }

    fn unit(&mut self, inputs: usize, outputs: usize) {
        self.vector(inputs);
        self.convolution(Kind::Causal, inputs, outputs);
        self.buffer(outputs, Precision::Full);
        self.vector(outputs);
        self.convolution(Kind::Causal, outputs, outputs);
        if inputs != outputs {
            self.point(inputs, outputs, Precision::Full);
        }
    }

    fn attention(&mut self, width: usize) {
        let twice = width.saturating_mul(2);
        self.vector(width);
        self.point(width, width, Precision::Factor);
        self.point(width, twice, Precision::Factor);
        self.point(width, width, Precision::Factor);
        // Normed pixels, queries, keys with values, and what was attended to.
        for channels in [width, width, twice, width] {
            self.buffer(channels, Precision::Factor);
        }
        // Queries before they are scaled.
        self.buffer(width, Precision::Full);
    }

    fn upsample(&mut self, width: usize, doubles_time: bool) {
        if doubles_time {
            let twice = width.saturating_mul(2);
            self.convolution(Kind::Temporal, width, twice);
            self.buffer(twice, Precision::Full);
        }
        self.convolution(Kind::Spatial, width, width / 2);
        self.scale = self.scale.saturating_mul(2);
    }
}
