//! The VAE's decoder, walked layer by layer: weights, causal cache, activations.
//!
//! ```text
//! frame tensor ─ 1x1x1 ─ conv_in ─ middle ─ stage 0 ─ ... ─ stage n ─ norm ─ conv_out ─ pictures
//! middle: residual, attention, residual
//! stage:  residuals, then (but for the last) time convolution x2 where time
//!         doubles, nearest x2, 3x3 convolution to half the channels
//! ```
//!
//! One list of layers answers all three questions, so they cannot disagree.
//! Streaming decodes one frame at a time: every causal convolution over three
//! frames of input, 3x3x3 or 3x1x1, remembers its last [`REMEMBERED_FRAMES`].
//!
//! Source: `AutoencoderKLWan` of diffusers 0.42.1 (`autoencoder_kl_wan.py`, not
//! residual); the cache is `feat_map` of `Wan-Video/Wan2.1` at 9737cba.

use serde::Serialize;
use types::Vae;

use super::Grid;
use crate::units::{product, sum};

/// Input frames that a causal convolution remembers (`CACHE_T`).
pub const REMEMBERED_FRAMES: usize = 2;

/// Channels of a picture.
const PICTURE_CHANNELS: usize = 3;

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

/// What the streaming decoder remembers, in order of resolution, then of the
/// shape's first use.
pub fn vae_cache(vae: &Vae, grid: Grid) -> Vec<CausalInput> {
    let mut inputs: Vec<CausalInput> = Vec::new();
    for layer in layers(vae).iter().filter(|layer| layer.kind.looks_back()) {
        let (channels, scale) = (layer.inputs, layer.scale);
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
    sum(layers(vae).iter().map(Layer::parameters))
}

/// What decoding one frame holds at most: input, output and residual of the
/// layer where they are largest, for all pictures of the frame.
pub(super) fn activations_elements(vae: &Vae, grid: Grid) -> u64 {
    let held = |layer: &Layer| {
        let area = product([grid.rows, grid.columns, layer.scale, layer.scale, layer.pictures]);
        // The input of a 3x3 convolution is read through the nearest x2.
        let input_area = if layer.kind == Kind::Spatial { area / 4 } else { area };
        let input = input_area.saturating_mul(layer.inputs as u64);
        let output = area.saturating_mul(layer.outputs as u64);
        sum([input, output, output])
    };
    layers(vae).iter().map(held).max().unwrap_or(0)
}

/// One layer with weights.
#[derive(Clone, Copy, Debug)]
struct Layer {
    kind: Kind,
    inputs: usize,
    outputs: usize,
    /// Rows it works on, per row of a frame tensor.
    scale: usize,
    /// Pictures (or yet unspread frames) it works on, per frame.
    pictures: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// A factor per channel.
    Norm,
    /// A 1x1x1 convolution.
    Point,
    /// A 3x3 convolution of each picture, after the nearest x2.
    Spatial,
    /// A causal 3x3x3 convolution.
    Causal,
    /// A causal 3x1x1 convolution that doubles time.
    Temporal,
}

impl Kind {
    fn looks_back(self) -> bool {
        match self {
            Self::Causal | Self::Temporal => true,
            Self::Norm | Self::Point | Self::Spatial => false,
        }
    }

    fn kernel(self) -> usize {
        match self {
            Self::Norm | Self::Point => 1,
            Self::Spatial => 9,
            Self::Causal => 27,
            Self::Temporal => 3,
        }
    }
}

impl Layer {
    fn parameters(&self) -> u64 {
        match self.kind {
            Kind::Norm => self.inputs as u64,
            Kind::Point | Kind::Spatial | Kind::Causal | Kind::Temporal => {
                let kernels = product([self.kind.kernel(), self.inputs, self.outputs]);
                sum([kernels, self.outputs as u64])
            }
        }
    }
}

/// All layers with weights, in the order of execution.
fn layers(vae: &Vae) -> Vec<Layer> {
    let width = |multiplier: &usize| vae.decoder_base_dim.saturating_mul(*multiplier);
    let widths: Vec<usize> = vae.dim_mult.iter().rev().map(width).collect();
    let Some((&widest, _)) = widths.split_first() else {
        return Vec::new();
    };
    let mut walk = Walk { layers: Vec::new(), scale: 1, pictures: 1 };
    walk.push(Kind::Point, vae.z_dim, vae.z_dim);
    walk.push(Kind::Causal, vae.z_dim, widest);
    walk.residual(widest, widest);
    walk.attention(widest);
    walk.residual(widest, widest);

    let mut channels = widest;
    let mut doubles_time = vae.temporal_downsample.iter().rev();
    for (stage, &width) in widths.iter().enumerate() {
        for _ in 0..=vae.res_units {
            walk.residual(channels, width);
            channels = width;
        }
        if stage + 1 < widths.len() {
            walk.upsample(width, doubles_time.next().copied().unwrap_or(false));
            channels = width / 2;
        }
    }
    walk.push(Kind::Norm, channels, channels);
    walk.push(Kind::Causal, channels, PICTURE_CHANNELS);
    walk.layers
}

/// The layers so far, and where in space and time the walk stands.
struct Walk {
    layers: Vec<Layer>,
    scale: usize,
    pictures: usize,
}

impl Walk {
    fn push(&mut self, kind: Kind, inputs: usize, outputs: usize) {
        let Self { scale, pictures, .. } = *self;
        self.layers.push(Layer { kind, inputs, outputs, scale, pictures });
    }

    fn residual(&mut self, inputs: usize, outputs: usize) {
        self.push(Kind::Norm, inputs, inputs);
        self.push(Kind::Causal, inputs, outputs);
        self.push(Kind::Norm, outputs, outputs);
        self.push(Kind::Causal, outputs, outputs);
        if inputs != outputs {
            self.push(Kind::Point, inputs, outputs);
        }
    }

    fn attention(&mut self, width: usize) {
        self.push(Kind::Norm, width, width);
        self.push(Kind::Point, width, width.saturating_mul(3));
        self.push(Kind::Point, width, width);
    }

    fn upsample(&mut self, width: usize, doubles_time: bool) {
        if doubles_time {
            self.push(Kind::Temporal, width, width.saturating_mul(2));
            self.pictures = self.pictures.saturating_mul(2);
        }
        self.scale = self.scale.saturating_mul(2);
        self.push(Kind::Spatial, width, width / 2);
    }
}
