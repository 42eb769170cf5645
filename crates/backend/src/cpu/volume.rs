//! A convolution's input: the latest frames, with borders of zeros.
//!
//! ```text
//!  ring of frames     | -2 | -1 | 0 .. filled |      then around again
//!  one frame          (rows + 2) x (columns + 2) pixels, the outermost zero;
//!                     both even, since [`crate::cpu::winograd`] takes squares
//!  one pixel          channels, side by side, in the activation dtype
//! ```
//!
//! The borders are the convolution's padding and the two older frames its causal
//! history, so the kernel reads nine or twenty-seven neighbours of any pixel
//! without a branch. New frames overwrite the oldest ones of the ring; nothing
//! is ever moved. What a kernel does not look at is not there: no borders for
//! 3x1x1, no history for 1x3x3.
//!
//! Frames enter through the VAE's norm and SiLU. The norm is
//! `x / max(|x|, 1e-12) * sqrt(channels) * gamma` over a pixel's channels
//! (`WanRMS_norm` in diffusers 0.42.1, `autoencoder_kl_wan.py`).
//!
//! Invariant: border pixels, and channels that only fill up a group of the
//! register tile, are zero from the beginning and are never written.

use std::ops::Range;

use crate::{
    cpu::{
        Cpu,
        lanes::sum,
        level::multiversion,
        math, rows,
        tensor::{Matrix, Parts, Stored},
        tile::{Bf16, Element},
    },
    seam::{Activation, Class, ConvKind, Dtype, Error, Grid, Tensor},
};

/// Frames before the first one that a causal kernel sees.
const HISTORY: usize = 2;
/// Pixels behind the last frame that a tile may read (and discard) when it
/// computes neighbouring pixels side by side; see [`crate::cpu::conv`].
pub(super) const SLACK_PIXELS: usize = 16;
/// Pixels that are normalised together.
const SEGMENT_PIXELS: usize = 32;
/// Pixels of a task, at the least.
const TASK_PIXELS: usize = 64;
/// Values of a task when pictures become bytes.
const TASK_BYTES: usize = 1 << 14;

/// Frames and their causal history, ready to be convolved.
#[derive(Debug)]
pub struct Volume {
    /// What the frames are filled in for.
    pub(super) kind: ConvKind,
    /// Size of the frames without their borders.
    pub(super) grid: Grid,
    /// Elements from one pixel to the next.
    pub(super) pixel: usize,
    /// Elements from one row to the next.
    pub(super) row: usize,
    /// Elements from one frame of the ring to the next.
    frame: usize,
    /// Frames of the ring.
    slots: usize,
    /// Where the next frame goes.
    next: usize,
    /// Frames that were filled in last.
    pub(super) filled: usize,
    /// All pixels of the ring, and some slack.
    pub(super) cells: Matrix,
}

impl Volume {
    pub(crate) fn new(class: Class, grid: Grid, kind: ConvKind) -> Result<Self, Error> {
        let (border, history) = (border(kind), history(kind));
        let dtype = class.activation();
        let pixel = match dtype {
            Dtype::F32 => grid.channels,
            Dtype::Bf16 => grid.channels.next_multiple_of(2),
        };
        let slots = grid.frames + history;
        let columns = grid.columns.next_multiple_of(2) + 2 * border;
        let rows = grid.rows.next_multiple_of(2) + 2 * border;
        let pixels = rows
            .checked_mul(columns)
            .and_then(|pixels| pixels.checked_mul(slots))
            .ok_or(Error::Memory { bytes: u64::MAX })?;
        let cells = Matrix::zeros(pixels + SLACK_PIXELS, pixel, dtype)?;
        let row = columns * pixel;
        let frame = rows * row;
        Ok(Self { kind, grid, pixel, row, frame, slots, next: 0, filled: 0, cells })
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        self.cells.bytes()
    }

    /// First element of what the kernel's time step `time` sees at frame `frame`
    /// of those filled in last; the last step sees that frame itself.
    pub(super) fn frame_at(&self, frame: usize, time: usize) -> usize {
        // `slots` is added so that nothing goes below zero.
        let behind = self.filled + history(self.kind);
        (self.next + self.slots + frame + time - behind) % self.slots * self.frame
    }

    /// First element of a filled-in row of pixels, in the ring's frame `slot`.
    fn row_at(&self, slot: usize, row: usize) -> usize {
        let border = border(self.kind);
        slot * self.frame + (row + border) * self.row + border * self.pixel
    }
}

/// Zero pixels around a frame.
fn border(kind: ConvKind) -> usize {
    match kind {
        ConvKind::Causal3 | ConvKind::DoubleSpace => 1,
        ConvKind::DoubleTime => 0,
    }
}

/// Frames that the kernel sees before the current one.
fn history(kind: ConvKind) -> usize {
    match kind {
        ConvKind::Causal3 | ConvKind::DoubleTime => HISTORY,
        ConvKind::DoubleSpace => 0,
    }
}

/// See [`crate::Backend::fill`].
pub(super) fn fill(
    cpu: &Cpu,
    x: &Matrix,
    frames: Range<usize>,
    activation: &Activation<'_, Matrix>,
    volume: &mut Volume,
) {
    let Grid { rows, columns, channels, .. } = volume.grid;
    assert_eq!(x.columns(), channels, "channels of a volume");
    assert!(frames.len() <= volume.grid.frames, "{frames:?} fit {:?}", volume.grid);
    let gamma = match activation {
        Activation::None => None,
        Activation::NormSilu(gamma) => Some(gamma.f32s()),
    };
    assert!(gamma.is_none_or(|gamma| gamma.len() == channels), "gamma of {channels} channels");
    let pixels = frames.start * rows * columns..frames.end * rows * columns;
    let x = &x.f32s()[pixels.start * channels..pixels.end * channels];
    match volume.cells.dtype() {
        Dtype::F32 => place::<f32>(cpu, x, gamma, volume, frames.len()),
        Dtype::Bf16 => place::<Bf16>(cpu, x, gamma, volume, frames.len()),
    }
    volume.next = (volume.next + frames.len()) % volume.slots;
    volume.filled = frames.len();
}

fn place<E: Stored>(
    cpu: &Cpu,
    x: &[f32],
    gamma: Option<&[f32]>,
    volume: &mut Volume,
    frames: usize,
) {
    let Grid { rows, columns, channels, .. } = volume.grid;
    let pixel = volume.pixel;
    let starts: Vec<usize> = (0..frames * rows)
        .map(|row| volume.row_at((volume.next + row / rows) % volume.slots, row % rows))
        .collect();
    let parts = Parts::new(E::of_mut(&mut volume.cells));
    let task_rows = TASK_PIXELS.div_ceil(columns);
    cpu.pool.run(starts.len().div_ceil(task_rows), &|task| {
        let mut normed = vec![0.0; SEGMENT_PIXELS * channels];
        let last = starts.len().min((task + 1) * task_rows);
        let first = task * task_rows;
        for (row, &start_to) in (first..).zip(&starts[first..last]) {
            for first in (0..columns).step_by(SEGMENT_PIXELS) {
                let range = first..columns.min(first + SEGMENT_PIXELS);
                let start = row * columns;
                let x = &x[(start + range.start) * channels..(start + range.end) * channels];
                let to = start_to + range.start * pixel..start_to + range.end * pixel;
                // SAFETY: rows of a volume are disjoint, and so are segments of a row.
                let out = unsafe { parts.part(to) };
                let x = match gamma {
                    None => x,
                    Some(gamma) => {
                        let normed = &mut normed[..x.len()];
                        norm_silu(cpu.level, x, gamma, normed);
                        normed
                    }
                };
                place_pixels(channels, x, out, |x, out| E::round(cpu.level, x, out));
            }
        }
    });
}

/// Writes the pixels of a segment, one after the other.
fn place_pixels<E: Element>(
    channels: usize,
    x: &[f32],
    out: &mut [E],
    write: impl Fn(&[f32], &mut [E]),
) {
    if x.len() == out.len() {
        write(x, out);
        return;
    }
    // Pixels are filled up to whole groups.
    let pixel = channels.next_multiple_of(E::GROUP);
    for (x, out) in x.chunks_exact(channels).zip(out.chunks_exact_mut(pixel)) {
        write(x, &mut out[..channels]);
    }
}

multiversion! {
    /// The SiLU of up to [`SEGMENT_PIXELS`] normalised pixels.
    ///
    /// Sixteen channels at a time: a loop over all channels of a pixel is too
    /// short for the compiler's idea of a vector loop.
    fn norm_silu(x: &[f32], gamma: &[f32], out: &mut [f32]) {
        let channels = gamma.len();
        let root = root(channels);
        let mut scales = [0.0_f32; SEGMENT_PIXELS];
        for (scale, pixel) in scales.iter_mut().zip(x.chunks_exact(channels)) {
            *scale = sum(pixel, |x| x * x);
        }
        for scale in &mut scales {
            *scale = root / scale.sqrt().max(1e-12);
        }
        let pixels = x.chunks_exact(channels).zip(out.chunks_exact_mut(channels));
        for ((x, out), scale) in pixels.zip(scales) {
            let (x, x_rest) = x.as_chunks::<16>();
            let (out, out_rest) = out.as_chunks_mut::<16>();
            let (gamma, gamma_rest) = gamma.as_chunks::<16>();
            for ((out, x), gamma) in out.iter_mut().zip(x).zip(gamma) {
                for lane in 0..16 {
                    out[lane] = math::silu(x[lane] * scale * gamma[lane]);
                }
            }
            for ((out, x), gamma) in out_rest.iter_mut().zip(x_rest).zip(gamma_rest) {
                *out = math::silu(x * scale * gamma);
            }
        }
    }
}

/// See [`crate::Backend::channel_norm`].
pub(super) fn channel_norm(cpu: &Cpu, x: &Matrix, gamma: &Matrix, out: &mut Matrix) {
    let (channels, gamma) = (x.columns(), gamma.f32s());
    assert_eq!(gamma.len(), channels, "gamma of {channels} channels");
    rows::each_row(cpu, x, out, &|_, x, line| norm(cpu.level, x, gamma, line));
}

multiversion! {
    fn norm(x: &[f32], gamma: &[f32], out: &mut [f32]) {
        let scale = root(x.len()) / sum(x, |x| x * x).sqrt().max(1e-12);
        for ((out, x), gamma) in out.iter_mut().zip(x).zip(gamma) {
            *out = x * scale * gamma;
        }
    }
}

#[inline(always)]
#[expect(clippy::cast_precision_loss, reason = "a pixel has few channels")]
fn root(channels: usize) -> f32 {
    (channels as f32).sqrt()
}

/// See [`crate::Backend::download_bytes`].
pub(super) fn to_bytes(cpu: &Cpu, x: &Matrix) -> Vec<u8> {
    let x = x.f32s();
    let mut bytes = vec![0; x.len()];
    let parts = Parts::new(&mut bytes);
    cpu.pool.run(x.len().div_ceil(TASK_BYTES), &|task| {
        let range = task * TASK_BYTES..x.len().min((task + 1) * TASK_BYTES);
        // SAFETY: tasks have disjoint ranges.
        colours(cpu.level, &x[range.clone()], unsafe { parts.part(range) });
    });
    bytes
}

multiversion! {
    fn colours(x: &[f32], out: &mut [u8]) {
        for (out, x) in out.iter_mut().zip(x) {
            let level = (x + 1.0).mul_add(127.5, 0.5).clamp(0.0, 255.0);
            #[expect(clippy::cast_possible_truncation, reason = "rounds half up after the shift")]
            #[expect(clippy::cast_sign_loss, reason = "clamped")]
            let byte = level as i32 as u8;
            *out = byte;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Backend;

    #[test]
    fn norm_and_silu_follow_their_formulas() {
        for channels in [1, 3, 16, 33, 96] {
            let pixels = 41;
            let x = wave(pixels * channels);
            let gamma = wave(channels);
            let cpu = Cpu::f32(2);
            let x = cpu.upload(pixels, channels, &x, Dtype::F32).unwrap();
            let gamma = cpu.upload(1, channels, &gamma, Dtype::F32).unwrap();
            let mut normed = cpu.zeros(pixels, channels, Dtype::F32).unwrap();
            cpu.channel_norm(&x, &gamma, &mut normed);
            let grid = Grid { frames: 1, rows: 1, columns: pixels, channels };
            let mut volume = cpu.volume(grid, ConvKind::DoubleTime).unwrap();
            cpu.fill(&x, 0..1, Activation::NormSilu(&gamma), &mut volume);
            let placed = &volume.cells.f32s()[volume.frame_at(0, 2)..];

            for pixel in 0..pixels {
                let row = &x.f32s()[pixel * channels..][..channels];
                let squares: f64 = row.iter().map(|&x| f64::from(x).powi(2)).sum();
                for (channel, &x) in row.iter().enumerate() {
                    let index = pixel * channels + channel;
                    let exact = f64::from(x) / squares.sqrt().max(1e-12)
                        * (channels as f64).sqrt()
                        * f64::from(gamma.f32s()[channel]);
                    assert!((f64::from(normed.f32s()[index]) - exact).abs() < 1e-5);
                    let silu = exact / (1.0 + (-exact).exp());
                    assert!((f64::from(placed[index]) - silu).abs() < 1e-5);
                }
            }
        }
    }

    #[test]
    fn a_pixel_of_zeros_stays_zero() {
        let cpu = Cpu::f32(1);
        let x = cpu.zeros(1, 4, Dtype::F32).unwrap();
        let gamma = cpu.upload(1, 4, &[1.0; 4], Dtype::F32).unwrap();
        let mut out = cpu.upload(1, 4, &[9.0; 4], Dtype::F32).unwrap();
        cpu.channel_norm(&x, &gamma, &mut out);
        assert_eq!(out.f32s(), [0.0; 4]);
    }

    #[test]
    fn colours_are_rounded_and_clamped() {
        let cpu = Cpu::f32(1);
        let x = [-1.0, 1.0, 0.0, -7.0, 7.0, -1.0 + 1.4 / 127.5, -1.0 + 1.6 / 127.5];
        let x = cpu.upload(1, 7, &x, Dtype::F32).unwrap();
        assert_eq!(cpu.download_bytes(&x).unwrap(), [0, 255, 128, 0, 255, 1, 2]);
    }

    fn wave(len: usize) -> Vec<f32> {
        (0..len).map(|i| (i * 7919 % 1013) as f32 / 506.5 - 1.0).collect()
    }
}
