//! Convolutions of a causal VAE, without patch matrices.
//!
//! A tile of the product is some pixels of one row times a panel of
//! output channels. Pixels of a [`Volume`] stand side by side with their
//! channels, so the three pixels under one row of the kernel are one run of
//! `3 * channels` neighbouring elements: a 3x3x3 kernel is nine taps of the
//! register tile. Everything else is a choice of taps and of where outputs go:
//!
//! ```text
//!  Causal3       9 taps (3 frames x 3 rows) of 3 pixels
//!  DoubleTime    3 taps of 1 pixel; one phase per output frame
//!  DoubleSpace   2 taps of 2 pixels; one phase per place in the 2 x 2 square
//! ```
//!
//! Doubling by nearest neighbour and then convolving 3x3 shows the kernel only
//! four different pixels at each place of the square, so the weights that meet
//! the same pixel are summed when they are loaded: 4 products instead of 9.
//!
//! With few output channels (three at the end of a decoder) most of a panel
//! would be zeros. Then several neighbouring pixels are computed side by side:
//! a panel holds the kernel shifted by 0, 1, 2, ... pixels, and a run is longer
//! by as many pixels.
//!
//! Order of loops: a task has a few rows of one frame, a panel's taps are cut
//! into blocks that stay in the second-level cache, and the rows pass by under
//! a block. Partial sums wait in the output, in f32, which changes no bit.
//!
//! Exactness: every output is one chain of products in a fixed order, starting
//! from the bias (plus the residual). So results do not depend on threads, on
//! how many frames are filled in at once, or on the cutting into blocks.

use std::ops::Range;

use crate::{
    cpu::{
        Cpu, lanes,
        panel::Panels,
        tensor::{Matrix, Parts, Stored},
        tile::{Bf16, COLUMNS, Element, Factors, Line, ROWS_MAX, Sums, multiply},
        volume::Volume,
        winograd::{self, Winograd},
    },
    seam::{Class, ConvKind, Dtype, Error, Grid, Tensor, Weight},
};

/// Bytes of weights that stay in the second-level cache while rows pass by.
const BLOCK_BYTES: usize = 384 << 10;
/// Pixels of a task, at the least.
const TASK_PIXELS: usize = 64;
/// Widths of a panel up to which pixels are computed side by side.
const NARROW: usize = 16;

/// Packed kernels and bias.
#[derive(Debug)]
pub struct Conv {
    kind: ConvKind,
    channels: usize,
    /// Channels of an output pixel.
    n: usize,
    /// Neighbouring pixels of an output row that one row of a tile computes.
    side: usize,
    phases: Phases,
}

#[derive(Debug)]
enum Phases {
    Winograd(Winograd),
    F32(Vec<Phase<f32>>),
    Bf16(Vec<Phase<Bf16>>),
}

/// One product: where it reads, what with, and where it writes.
#[derive(Debug)]
struct Phase<E> {
    kernel: Kernel,
    panels: Panels<E>,
    /// One value per column of the panels, padded to whole panels.
    bias: Vec<f32>,
}

/// The part of a kernel that a phase applies.
#[derive(Clone, Copy, Debug)]
struct Kernel {
    /// Frames, rows and columns that are looked at.
    size: [usize; 3],
    /// The first of these rows and columns, counted from the border's corner
    /// when the output is there too.
    first: [usize; 2],
    /// Output frames, rows and columns per input frame, row and column.
    scale: [usize; 3],
    /// Which of these this phase computes.
    phase: [usize; 3],
}

impl Conv {
    pub(crate) fn load(
        class: Class,
        kind: ConvKind,
        weight: Weight<'_>,
        bias: &[f32],
    ) -> Result<Self, Error> {
        let size = full_size(kind);
        let taps: usize = size.iter().product();
        let Weight { n, k, values } = weight;
        assert!(k.is_multiple_of(taps) && values.len() == n * k, "kernel of {n} x {k}");
        assert_eq!(bias.len(), n, "bias of a convolution");
        let file = File { values, size, channels: k / taps };
        let outputs = match kind {
            ConvKind::DoubleTime => n / 2,
            ConvKind::Causal3 | ConvKind::DoubleSpace => n,
        };
        let side = match kind {
            ConvKind::Causal3 => (NARROW / outputs).max(1),
            ConvKind::DoubleTime | ConvKind::DoubleSpace => 1,
        };
        let kernels = kernels(kind);
        let phases = match class.activation() {
            Dtype::F32 if kind == ConvKind::Causal3 && Winograd::fits(k / taps, n) => {
                Phases::Winograd(Winograd::load(values, k / taps, n, bias)?)
            }
            Dtype::F32 => Phases::F32(file.phases(&kernels, outputs, side, bias)?),
            Dtype::Bf16 => Phases::Bf16(file.phases(&kernels, outputs, side, bias)?),
        };
        Ok(Self { kind, channels: file.channels, n: outputs, side, phases })
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        match &self.phases {
            Phases::Winograd(winograd) => winograd.bytes(),
            Phases::F32(phases) => phases.iter().map(Phase::bytes).sum(),
            Phases::Bf16(phases) => phases.iter().map(Phase::bytes).sum(),
        }
    }
}

impl<E: Element> Phase<E> {
    fn bytes(&self) -> u64 {
        self.panels.bytes() + size_of_val(self.bias.as_slice()) as u64
    }
}

/// Frames, rows and columns of the kernel in the file.
fn full_size(kind: ConvKind) -> [usize; 3] {
    match kind {
        ConvKind::Causal3 => [3, 3, 3],
        ConvKind::DoubleTime => [3, 1, 1],
        ConvKind::DoubleSpace => [1, 3, 3],
    }
}

fn kernels(kind: ConvKind) -> Vec<Kernel> {
    let size = full_size(kind);
    let whole = Kernel { size, first: [0, 0], scale: [1, 1, 1], phase: [0, 0, 0] };
    match kind {
        ConvKind::Causal3 => vec![whole],
        ConvKind::DoubleTime => {
            [0, 1].map(|frame| Kernel { scale: [2, 1, 1], phase: [frame, 0, 0], ..whole }).to_vec()
        }
        ConvKind::DoubleSpace => [[0, 0], [0, 1], [1, 0], [1, 1]]
            .map(|[row, column]| Kernel {
                size: [1, 2, 2],
                first: [row, column],
                scale: [1, 2, 2],
                phase: [0, row, column],
            })
            .to_vec(),
    }
}

/// A kernel as it stands in a file: `[n, channels, frames, rows, columns]`.
struct File<'a> {
    values: &'a [f32],
    size: [usize; 3],
    channels: usize,
}

impl File<'_> {
    fn phases<E: Element>(
        &self,
        kernels: &[Kernel],
        n: usize,
        side: usize,
        bias: &[f32],
    ) -> Result<Vec<Phase<E>>, Error> {
        kernels.iter().map(|kernel| self.phase(*kernel, n, side, bias)).collect()
    }

    /// Packs a kernel. Column `d * n + o` of its panels is output channel `o`
    /// of the pixel `d` places to the right.
    fn phase<E: Element>(
        &self,
        kernel: Kernel,
        n: usize,
        side: usize,
        bias: &[f32],
    ) -> Result<Phase<E>, Error> {
        let pixel = self.channels.next_multiple_of(E::GROUP);
        let [frames, rows, columns] = kernel.size;
        let run = columns + side - 1;
        let first = kernel.phase[0] * n;
        let panels = Panels::pack(side * n, frames * rows * run * pixel, |column, product| {
            let (shift, output) = (column / n, first + column % n);
            let (tap, inside) = (product / (run * pixel), product % (run * pixel));
            let (place, channel) = (inside / pixel, inside % pixel);
            let inside = (shift..shift + columns).contains(&place) && channel < self.channels;
            match inside {
                true => self.sum(&kernel, output, channel, [tap / rows, tap % rows, place - shift]),
                false => 0.0,
            }
        })?;
        let mut padded = vec![0.0; (side * n).next_multiple_of(COLUMNS)];
        for (column, value) in padded[..side * n].iter_mut().enumerate() {
            *value = bias[first + column % n];
        }
        Ok(Phase { kernel, panels, bias: padded })
    }

    /// The sum of all weights that meet the pixel at `place` of the kernel.
    fn sum(&self, kernel: &Kernel, output: usize, channel: usize, place: [usize; 3]) -> f32 {
        let [_, rows, columns] = kernel.scale;
        let mut sum = 0.0;
        for row in meeting(rows, kernel.phase[1], place[1]) {
            for column in meeting(columns, kernel.phase[2], place[2]) {
                let [frames, rows, columns] = self.size;
                let index = (output * self.channels + channel) * frames + place[0];
                sum += f64::from(self.values[(index * rows + row) * columns + column]);
            }
        }
        #[expect(clippy::cast_possible_truncation, reason = "rounded once, after the sum")]
        let rounded = sum as f32;
        rounded
    }
}

/// Which places of a kernel of three meet the `place`-th of its pixels, when
/// `scale` outputs stand on each pixel and this is the `phase`-th of them.
fn meeting(scale: usize, phase: usize, place: usize) -> Range<usize> {
    match (scale, phase, place) {
        (2, 0, 0) => 0..1,
        (2, 0, _) => 1..3,
        (2, _, 0) => 0..2,
        (2, _, _) => 2..3,
        _ => place..place + 1,
    }
}

/// See [`crate::Backend::conv`].
pub(super) fn conv(cpu: &Cpu, volume: &Volume, conv: &Conv, add: bool, out: &mut Matrix) {
    assert_eq!(volume.kind, conv.kind, "a volume is made for one kind of kernel");
    assert_eq!(volume.grid.channels, conv.channels, "channels of a convolution");
    match &conv.phases {
        Phases::Winograd(winograd) => winograd::convolve(cpu, volume, winograd, add, out),
        Phases::F32(phases) => convolve(cpu, volume, conv, phases, add, out),
        Phases::Bf16(phases) => convolve(cpu, volume, conv, phases, add, out),
    }
}

fn convolve<E: Stored>(
    cpu: &Cpu,
    volume: &Volume,
    conv: &Conv,
    phases: &[Phase<E>],
    add: bool,
    out: &mut Matrix,
) {
    let Grid { rows, columns, .. } = volume.grid;
    let scale = phases[0].kernel.scale;
    let pixels = volume.filled * rows * columns * scale.iter().product::<usize>();
    assert_eq!((out.rows(), out.columns()), (pixels, conv.n), "output of a convolution");
    let out = Parts::new(out.f32s_mut());
    let task_rows = TASK_PIXELS.div_ceil(columns).min(rows);
    let tasks = rows.div_ceil(task_rows);
    cpu.pool.run(volume.filled * tasks, &|task| {
        let (frame, first) = (task / tasks, task % tasks * task_rows);
        let rows = first..rows.min(first + task_rows);
        for phase in phases {
            Work { cpu, volume, conv, phase, add, frame, out: &out }.run(rows.clone());
        }
    });
}

/// A phase at one frame.
struct Work<'a, E> {
    cpu: &'a Cpu,
    volume: &'a Volume,
    conv: &'a Conv,
    phase: &'a Phase<E>,
    add: bool,
    frame: usize,
    out: &'a Parts<'a, f32>,
}

/// What the tiles of one panel and one block of taps have in common.
struct Sweep<'a, E> {
    /// Weights of the block.
    b: &'a [E],
    taps: &'a [usize],
    /// Products per tap.
    k: usize,
    /// Padded width of the panel, and its columns in use.
    width: usize,
    columns: Range<usize>,
    /// Whether sums start here, or were left in the output by the block before.
    starts: bool,
}

impl<E: Stored> Work<'_, E> {
    fn run(&self, rows: Range<usize>) {
        let (taps, count) = self.taps();
        let taps = &taps[..count];
        let panels = &self.phase.panels;
        let k = panels.k / count;
        for panel in 0..panels.count() {
            let (b, width, columns) = panels.panel(panel);
            let tap_len = k * width;
            let block = (BLOCK_BYTES / (tap_len * size_of::<E>())).max(1);
            for (index, taps) in taps.chunks(block).enumerate() {
                let b = &b[index * block * tap_len..];
                let columns = columns.clone();
                let sweep = Sweep { b, taps, k, width, columns, starts: index == 0 };
                rows.clone().for_each(|row| self.row(row, &sweep));
            }
        }
    }

    /// Offsets of the kernel's rows from the first pixel of an output row.
    fn taps(&self) -> ([usize; 9], usize) {
        let Kernel { size: [frames, rows, _], first, .. } = self.phase.kernel;
        let mut taps = [0; 9];
        for (index, tap) in taps[..frames * rows].iter_mut().enumerate() {
            let frame = self.volume.frame_at(self.frame, index / rows);
            let row = first[0] + index % rows;
            *tap = frame + row * self.volume.row + first[1] * self.volume.pixel;
        }
        (taps, frames * rows)
    }

    /// All tiles of an input row.
    fn row(&self, row: usize, sweep: &Sweep<'_, E>) {
        let cells = E::of(&self.volume.cells);
        let side = self.conv.side;
        let stride = side * self.volume.pixel;
        let groups = self.volume.grid.columns.div_ceil(side);
        // Tiles of nearly equal height: short ones do not fill the pipeline.
        let height = groups.div_ceil(groups.div_ceil(E::tile_rows(self.cpu.level)));
        for first in (0..groups).step_by(height) {
            let rows = height.min(groups - first);
            let start = row * self.volume.row + first * stride;
            let factors = Factors {
                a: &cells[start..],
                row_stride: stride,
                taps: sweep.taps,
                k: sweep.k,
                b: sweep.b,
                columns: sweep.width,
            };
            let last = self.place(row, first + rows - 1, sweep);
            match last.len() == sweep.width {
                true => self.tile_in_place(row, first..first + rows, sweep, factors),
                false => self.tile_aside(row, first..first + rows, sweep, factors),
            }
        }
    }

    /// A tile whose columns are all there in the output: its sums stay there.
    fn tile_in_place(
        &self,
        row: usize,
        groups: Range<usize>,
        sweep: &Sweep<'_, E>,
        factors: Factors<'_, E>,
    ) {
        for group in groups.clone() {
            // SAFETY: only this task reads or writes this row of the output.
            let sums = unsafe { self.out.part(self.place(row, group, sweep)) };
            assert_eq!(sums.len(), sweep.width, "columns of a row of sums");
            self.start(sweep, sums);
        }
        let stride = self.conv.side * self.phase.kernel.scale[2] * self.conv.n;
        let places =
            self.place(row, groups.start, sweep).start..self.place(row, groups.end - 1, sweep).end;
        // SAFETY: as above. What lies between the rows of the tile belongs to other
        // panels and phases, which are this task's too, and is left alone.
        let values = unsafe { self.out.part(places) };
        multiply(self.cpu.level, factors, Sums { values, stride, rows: groups.len() });
    }

    /// A tile that reaches over a pixel's channels or the end of a row.
    fn tile_aside(
        &self,
        row: usize,
        groups: Range<usize>,
        sweep: &Sweep<'_, E>,
        factors: Factors<'_, E>,
    ) {
        let mut sums = [Line::ZERO; ROWS_MAX];
        let sums = &mut sums[..groups.len()];
        // SAFETY: only this task reads or writes this row of the output.
        let out = |group| unsafe { self.out.part(self.place(row, group, sweep)) };
        for (group, line) in groups.clone().zip(&mut *sums) {
            let out = out(group);
            let line = &mut line.0[..out.len()];
            line.copy_from_slice(out);
            self.start(sweep, line);
        }
        multiply(self.cpu.level, factors, Sums::lines(sums));
        for (group, line) in groups.zip(sums) {
            let out = out(group);
            out.copy_from_slice(&line.0[..out.len()]);
        }
    }

    /// Where a row of a tile stands in the output.
    fn place(&self, row: usize, group: usize, sweep: &Sweep<'_, E>) -> Range<usize> {
        let Kernel { scale, phase, .. } = self.phase.kernel;
        let Grid { rows, columns, .. } = self.volume.grid;
        let n = self.conv.n;
        let row_len = columns * scale[2] * n;
        let frame = self.frame * scale[0] + phase[0];
        let row = frame * rows * scale[1] + row * scale[1] + phase[1];
        let column = group * self.conv.side * scale[2] + phase[2];
        let start = column * n + sweep.columns.start;
        // Pixels side by side may reach over the end of the row.
        let end = row_len.min(start + sweep.columns.len());
        row * row_len + start..row * row_len + end
    }

    /// Makes a row of outputs what the products are added to: the bias, with the
    /// residual that was there, or the sums of the block before.
    #[inline(always)]
    fn start(&self, sweep: &Sweep<'_, E>, sums: &mut [f32]) {
        let bias = &self.phase.bias[sweep.columns.start..][..sums.len()];
        match (sweep.starts, self.add) {
            (false, _) => {}
            (true, false) => lanes::set(sums, bias),
            (true, true) => lanes::add(self.cpu.level, sums, bias),
        }
    }
}

#[cfg(test)]
mod tests;
