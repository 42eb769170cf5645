//! The frame decoder: a causal 3-D VAE, one frame at a time.
//!
//! ```text
//! frame ─ 1x1 ─ conv_in ─ middle ─ stage 0 ─ ... ─ stage n ─ norm ─ conv_out ─ picture
//! middle: unit, attention, unit
//! stage:  units, then (but for the last) twice the frames, twice the pixels
//! unit:   x + conv(silu(norm(conv(silu(norm(x))))))
//! ```
//!
//! Decoding goes depth first: a frame passes all stages before the next one
//! enters, and where time doubles, so do the two halves. Memory is therefore one
//! picture per stage however many frames there are, the data of one picture stays
//! in cache between two convolutions, and decoding frame by frame is the very
//! same computation as decoding a whole clip.
//!
//! What a convolution needs of earlier frames is in its [`Backend::Volume`]. The
//! first frame of a video gives one picture and leaves no trace in the doubling
//! of time: there the second frame is the first one (`"Rep"` in the source).
//!
//! Source: `AutoencoderKLWan` of diffusers 0.42.1 (`autoencoder_kl_wan.py`, not
//! residual). Normalised frame tensors are taken as they are: mean and standard
//! deviation are folded into the first matrix (`post_quant_conv`).

mod attention;
mod stage;
mod unit;

use backend::{Activation, Backend, ConvKind, Dtype, Epilogue, Grid, PatchGrid, Tensor, Weight};
use checkpoint::Tensors;
use types::Vae;

use crate::{Error, load::Loader};
use attention::{Attention, AttentionState};
use stage::{Stage, StageState};
use unit::{Unit, UnitState};

/// Colour channels of a picture.
const COLOURS: usize = 3;

/// The decoder's weights, for any number of streams.
#[derive(Debug)]
pub struct Decoder<B: Backend> {
    z_dim: usize,
    space_scale: usize,
    entry: B::Linear,
    conv_in: B::Conv,
    middle: [Unit<B>; 2],
    attention: Attention<B>,
    stages: Vec<Stage<B>>,
    exit: Exit<B>,
}

/// The last norm and convolution.
#[derive(Debug)]
struct Exit<B: Backend> {
    channels: usize,
    norm: B::Tensor,
    conv: B::Conv,
}

/// One video being decoded: causal history, and scratch memory.
#[derive(Debug)]
pub struct Stream<B: Backend> {
    /// Rows and columns of the frame tensors.
    rows: usize,
    columns: usize,
    /// Frames decoded so far.
    frames: usize,
    entry: B::Volume,
    middle: [UnitState<B>; 2],
    attention: AttentionState<B>,
    stages: Vec<StageState<B>>,
    exit: ExitState<B>,
}

#[derive(Debug)]
struct ExitState<B: Backend> {
    volume: B::Volume,
    picture: B::Tensor,
}

/// Decoded pictures, on the device.
#[derive(Debug)]
pub struct Pictures<B: Backend> {
    /// `[count * rows * columns, 3]` f32, not clamped.
    colours: B::Tensor,
    /// Number of pictures.
    pub count: usize,
    /// Rows of a picture.
    pub rows: usize,
    /// Columns of a picture.
    pub columns: usize,
}

impl<B: Backend> Decoder<B> {
    /// Loads the decoder half of a VAE.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] if a tensor is missing or has another shape,
    /// [`Error::Backend`] if the device has no room.
    pub fn load(backend: &B, tensors: &Tensors, config: &Vae) -> Result<Self, Error> {
        let loader = Loader::new(backend, tensors);
        let dims: Vec<usize> =
            config.dim_mult.iter().rev().map(|mult| mult * config.decoder_base_dim).collect();
        let (dim, last) = (dims[0], dims[dims.len() - 1]);
        let middle = |index: usize| {
            let name = format!("decoder.mid_block.resnets.{index}");
            Unit::load(backend, &loader, &name, dim, dim)
        };
        let mut channels = dim;
        let mut stages = Vec::new();
        for (index, &dim) in dims.iter().enumerate() {
            let stage = Stage::load(backend, &loader, config, index, channels, dim)?;
            channels = stage.outputs();
            stages.push(stage);
        }
        let norm = loader.row("decoder.norm_out.gamma", &[last, 1, 1, 1])?;
        let conv = conv(backend, &loader, "decoder.conv_out", ConvKind::Causal3, COLOURS, last)?;
        Ok(Self {
            z_dim: config.z_dim,
            space_scale: config.space_scale(),
            entry: load_entry(backend, &loader, config)?,
            conv_in: self::conv(
                backend,
                &loader,
                "decoder.conv_in",
                ConvKind::Causal3,
                dim,
                config.z_dim,
            )?,
            middle: [middle(0)?, middle(1)?],
            attention: Attention::load(backend, &loader, dim)?,
            stages,
            exit: Exit { channels: last, norm, conv },
        })
    }

    /// A new video of frame tensors with `rows` rows and `columns` columns.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] if the device has no room for the causal history.
    pub fn stream(&self, backend: &B, rows: usize, columns: usize) -> Result<Stream<B>, Error> {
        let grid = Grid { frames: 1, rows, columns, channels: self.z_dim };
        let middle = || self.middle[0].state(backend, rows, columns);
        let mut stages = Vec::new();
        let (mut rows_here, mut columns_here) = (rows, columns);
        for stage in &self.stages {
            stages.push(stage.state(backend, rows_here, columns_here)?);
            if stage.doubles() {
                (rows_here, columns_here) = (2 * rows_here, 2 * columns_here);
            }
        }
        let last = Grid {
            frames: 1,
            rows: rows_here,
            columns: columns_here,
            channels: self.exit.channels,
        };
        Ok(Stream {
            rows,
            columns,
            frames: 0,
            entry: backend.volume(grid, ConvKind::Causal3)?,
            middle: [middle()?, middle()?],
            attention: self.attention.state(backend, rows * columns)?,
            stages,
            exit: ExitState {
                volume: backend.volume(last, ConvKind::Causal3)?,
                picture: backend.zeros(rows_here * columns_here, COLOURS, Dtype::F32)?,
            },
        })
    }

    /// Decodes the next frames of a video: one picture for its very first frame,
    /// `Vae::time_scale` for every other.
    ///
    /// `frames` is `[z_dim, frames * rows * columns]` f32, normalised.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if the frames are not of the stream's size,
    /// [`Error::Backend`] if the device has no room.
    pub fn decode(
        &self,
        backend: &B,
        stream: &mut Stream<B>,
        frames: &B::Tensor,
    ) -> Result<Pictures<B>, Error> {
        let (rows, columns) = (stream.rows, stream.columns);
        let count = frames.columns() / (rows * columns);
        if frames.rows() != self.z_dim || frames.columns() != count * rows * columns {
            return Err(Error::Shape {
                what: "frame tensors",
                expected: vec![self.z_dim, rows * columns],
                found: vec![frames.rows(), frames.columns()],
            });
        }
        let entered = self.enter(backend, frames, count, rows, columns)?;
        let mut pictures = self.pictures(backend, stream, count)?;
        let mut next_row = 0;
        let mut keep = |picture: &B::Tensor| {
            backend.copy_rows(picture, &mut pictures.colours, next_row);
            next_row += picture.rows();
        };
        for frame in 0..count {
            self.decode_frame(backend, stream, &entered, frame, &mut keep);
        }
        Ok(pictures)
    }

    /// Frames with their channels side by side, through the first matrix.
    fn enter(
        &self,
        backend: &B,
        frames: &B::Tensor,
        count: usize,
        rows: usize,
        columns: usize,
    ) -> Result<B::Tensor, Error> {
        let grid = PatchGrid {
            channels: self.z_dim,
            frames: count,
            rows,
            columns,
            patch_rows: 1,
            patch_columns: 1,
        };
        let pixels = count * rows * columns;
        let mut channels_last = backend.zeros(pixels, self.z_dim, Dtype::F32)?;
        backend.patchify(frames, grid, &mut channels_last);
        let mut entered = backend.zeros(pixels, self.z_dim, Dtype::F32)?;
        backend.linear(&channels_last, &self.entry, Epilogue::Store, &mut entered);
        Ok(entered)
    }

    /// Room for the pictures that the next `count` frames give.
    fn pictures(
        &self,
        backend: &B,
        stream: &Stream<B>,
        count: usize,
    ) -> Result<Pictures<B>, Error> {
        let time_scale: usize = self.stages.iter().map(Stage::time_scale).product();
        let count = match stream.frames {
            0 => count.min(1) + count.saturating_sub(1) * time_scale,
            _ => count * time_scale,
        };
        let (rows, columns) = (stream.rows * self.space_scale, stream.columns * self.space_scale);
        let colours = backend.zeros(count * rows * columns, COLOURS, Dtype::F32)?;
        Ok(Pictures { colours, count, rows, columns })
    }

    fn decode_frame(
        &self,
        backend: &B,
        stream: &mut Stream<B>,
        entered: &B::Tensor,
        frame: usize,
        keep: &mut dyn FnMut(&B::Tensor),
    ) {
        let x = stream.stages[0].input();
        backend.fill(entered, frame..frame + 1, Activation::None, &mut stream.entry);
        backend.conv(&stream.entry, &self.conv_in, false, x);
        self.middle[0].run_in_place(backend, &mut stream.middle[0], x);
        self.attention.run(backend, &mut stream.attention, x);
        self.middle[1].run_in_place(backend, &mut stream.middle[1], x);
        let first = stream.frames == 0;
        self.descend(backend, &self.stages, &mut stream.stages, &mut stream.exit, first, keep);
        stream.frames += 1;
    }

    /// Takes the frame in the first state's input through these stages.
    fn descend(
        &self,
        backend: &B,
        stages: &[Stage<B>],
        states: &mut [StageState<B>],
        exit: &mut ExitState<B>,
        first: bool,
        keep: &mut dyn FnMut(&B::Tensor),
    ) {
        let ([stage, stages @ ..], [state, states @ ..]) = (stages, states) else {
            return;
        };
        stage.refine(backend, state);
        let Some(next) = states.first_mut() else {
            let activation = Activation::NormSilu(&self.exit.norm);
            backend.fill(state.output(), 0..1, activation, &mut exit.volume);
            backend.conv(&exit.volume, &self.exit.conv, false, &mut exit.picture);
            keep(&exit.picture);
            return;
        };
        let parts = stage.double_time(backend, state, first);
        stage.double_space(backend, state, parts.start, next.input());
        self.descend(backend, stages, states, exit, first, keep);
        for part in parts.skip(1) {
            let next = states.first_mut().expect("there is a next stage, as seen above");
            stage.double_space(backend, state, part, next.input());
            self.descend(backend, stages, states, exit, first, keep);
        }
    }
}

impl<B: Backend> Stream<B> {
    /// Bytes held on the device: history and scratch.
    pub fn bytes(&self, backend: &B) -> u64 {
        let entry = backend.volume_bytes(&self.entry);
        let exit = backend.volume_bytes(&self.exit.volume) + self.exit.picture.bytes();
        let middle: u64 = self.middle.iter().map(|unit| unit.bytes(backend)).sum();
        let stages: u64 = self.stages.iter().map(|stage| stage.bytes(backend)).sum();
        entry + exit + middle + self.attention.bytes() + stages
    }
}

impl<B: Backend> Pictures<B> {
    /// Colours from -1 to 1, `[count, rows, columns, 3]`. Waits for the device.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] if the device failed.
    pub fn values(&self, backend: &B) -> Result<Vec<f32>, Error> {
        let mut values = backend.download(&self.colours)?;
        values.iter_mut().for_each(|value| *value = value.clamp(-1.0, 1.0));
        Ok(values)
    }

    /// Colours from 0 to 255, `[count, rows, columns, 3]`. Waits for the device.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] if the device failed.
    pub fn bytes(&self, backend: &B) -> Result<Vec<u8>, Error> {
        Ok(backend.download_bytes(&self.colours)?)
    }
}

/// The first matrix, over normalised frames: `W (z * std + mean) + b`.
fn load_entry<B: Backend>(
    backend: &B,
    loader: &Loader<'_, B>,
    config: &Vae,
) -> Result<B::Linear, Error> {
    let k = config.z_dim;
    let mut weight = loader.values("post_quant_conv.weight", &[k, k, 1, 1, 1])?;
    let mut bias = loader.values("post_quant_conv.bias", &[k])?;
    for (row, bias) in weight.chunks_exact_mut(k).zip(&mut bias) {
        let means = row.iter().zip(&config.latents_mean);
        let shift: f64 = means.map(|(weight, mean)| f64::from(*weight) * f64::from(*mean)).sum();
        #[expect(clippy::cast_possible_truncation, reason = "rounded once, after the sum")]
        let shifted = (f64::from(*bias) + shift) as f32;
        *bias = shifted;
        for (weight, std) in row.iter_mut().zip(&config.latents_std) {
            *weight *= std;
        }
    }
    Ok(backend.load_linear(Weight { n: k, k, values: &weight }, Some(&bias), Dtype::F32)?)
}

/// The convolution `name`, with `n` outputs and `channels` inputs as the file
/// counts them.
fn conv<B: Backend>(
    backend: &B,
    loader: &Loader<'_, B>,
    name: &str,
    kind: ConvKind,
    n: usize,
    channels: usize,
) -> Result<B::Conv, Error> {
    let size: &[usize] = match kind {
        ConvKind::Causal3 => &[3, 3, 3],
        ConvKind::DoubleTime => &[3, 1, 1],
        ConvKind::DoubleSpace => &[3, 3],
    };
    let shape = [&[n, channels], size].concat();
    let values = loader.values(&format!("{name}.weight"), &shape)?;
    let bias = loader.values(&format!("{name}.bias"), &[n])?;
    let k = channels * size.iter().product::<usize>();
    Ok(backend.load_conv(kind, Weight { n, k, values: &values }, &bias)?)
}

#[cfg(test)]
mod tests;
