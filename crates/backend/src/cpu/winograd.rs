//! 3x3x3 convolutions with 2.25 times fewer products, in f32.
//!
//! Winograd's F(2x2, 3x3) computes a square of 2 x 2 output pixels from 4 x 4
//! input pixels with 16 products per pair of channels instead of 36:
//!
//! ```text
//!  V = B^T d B    the pixels, transformed: sums and differences only
//!  U = G g G^T    the weights, transformed when they are loaded
//!  Y = A^T M A    the outputs; M[p] = V[p] U[p] at each of 16 positions p
//! ```
//!
//! Time is not transformed: the three frames under the kernel are added up
//! within `M[p]`, which is one product of `[squares, 3 * channels]` by
//! `[3 * channels, n]`. Squares are taken twelve at a time in the picture's
//! order and their positions four at a time, so that four tiles of products stay
//! in the first-level cache until the transform of the outputs has taken them.
//!
//! Exactness: every output is one fixed sequence of operations, so results do not
//! depend on threads, frames at once or instruction sets. They differ from those
//! of [`crate::cpu::conv`], the specification, by rounding: the tests there hold
//! both to the same bound. In bf16 the transformed pixels would have to be
//! rounded once more, so there the plain kernel is used.
//!
//! Source: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
//! arXiv:1509.09308, section 4.1.

use std::cell::RefCell;

use crate::{
    cpu::{
        Cpu,
        level::multiversion,
        panel::Panels,
        tensor::{Matrix, Parts},
        tile::{Factors, Line, Sums, VECTOR_ROWS, multiply},
        volume::Volume,
    },
    seam::{Error, Grid, Tensor},
};

/// Squares that are worked on together: rows of a tile.
const ROWS: usize = VECTOR_ROWS;
/// Channels are transformed in groups of this many.
const LANES: usize = 16;
/// Places of a transformed square, on one side and together.
const SIDE: usize = 4;
const POSITIONS: usize = SIDE * SIDE;
/// Frames under the kernel.
const TIMES: usize = 3;
/// Squares of a task times their channels, at the least.
const TASK_CHANNELS: usize = 64 * ROWS;

/// `B^T`, by which pixels are transformed, applied to four values.
#[inline(always)]
fn spread(d: [Lanes; 4]) -> [Lanes; 4] {
    [sub(d[0], d[2]), add(d[1], d[2]), sub(d[2], d[1]), sub(d[1], d[3])]
}

/// `A^T`, by which outputs are made of sums of products; down the lines, the same
/// is done one line at a time, by [`gather_line`].
#[inline(always)]
fn gather(m: [Lanes; 4]) -> [Lanes; 2] {
    [add(add(m[0], m[1]), m[2]), sub(sub(m[1], m[2]), m[3])]
}

/// `G`, by which weights are transformed.
fn weigh(g: [f64; 3]) -> [f64; 4] {
    [g[0], (g[0] + g[1] + g[2]) / 2.0, (g[0] - g[1] + g[2]) / 2.0, g[2]]
}

/// Transformed weights and bias.
#[derive(Debug)]
pub(super) struct Winograd {
    channels: usize,
    n: usize,
    /// `[3 * channels, n]` for every position.
    weights: Vec<Panels<f32>>,
    /// For two neighbouring pixels.
    bias: Vec<f32>,
}

impl Winograd {
    /// Whether a kernel of this size can be transformed.
    pub(super) fn fits(channels: usize, n: usize) -> bool {
        channels.is_multiple_of(LANES) && n.is_multiple_of(LANES)
    }

    /// Transforms a kernel `[n, channels, 3, 3, 3]`.
    pub(super) fn load(
        values: &[f32],
        channels: usize,
        n: usize,
        bias: &[f32],
    ) -> Result<Self, Error> {
        let mut transformed = vec![0.0; POSITIONS * n * channels * TIMES];
        let (kernels, _) = values.as_chunks::<9>();
        for (kernel, g) in kernels.iter().enumerate() {
            for (position, value) in transform(g).into_iter().enumerate() {
                transformed[position * kernels.len() + kernel] = value;
            }
        }
        let weights = transformed
            .chunks_exact(kernels.len())
            .map(|values| {
                Panels::pack(n, TIMES * channels, |column, product| {
                    let (time, channel) = (product / channels, product % channels);
                    values[(column * channels + channel) * TIMES + time]
                })
            })
            .collect::<Result<_, _>>()?;
        Ok(Self { channels, n, weights, bias: [bias, bias].concat() })
    }

    /// Bytes held.
    pub(super) fn bytes(&self) -> u64 {
        let weights: u64 = self.weights.iter().map(Panels::bytes).sum();
        weights + size_of_val(self.bias.as_slice()) as u64
    }
}

/// `G g G^T`, rounded once.
fn transform(g: &[f32; 9]) -> [f32; POSITIONS] {
    let wide = g.map(f64::from);
    let rows = [0, 3, 6].map(|row| weigh([wide[row], wide[row + 1], wide[row + 2]]));
    let columns = [0, 1, 2, 3].map(|column| weigh(rows.map(|row| row[column])));
    #[expect(clippy::cast_possible_truncation, reason = "rounded once, after all sums")]
    std::array::from_fn(|position| columns[position % 4][position / 4] as f32)
}

/// See [`crate::Backend::conv`].
pub(super) fn convolve(
    cpu: &Cpu,
    volume: &Volume,
    winograd: &Winograd,
    add: bool,
    out: &mut Matrix,
) {
    let Grid { rows, columns, .. } = volume.grid;
    assert_eq!(out.rows(), volume.filled * rows * columns, "pixels of a convolution");
    assert_eq!(out.columns(), winograd.n, "outputs of a convolution");
    let squares = rows.div_ceil(2) * columns.div_ceil(2);
    let task_squares = TASK_CHANNELS.div_ceil(winograd.channels).next_multiple_of(ROWS);
    let tasks = squares.div_ceil(task_squares);
    let out = Parts::new(out.f32s_mut());
    cpu.pool.run(volume.filled * tasks, &|task| {
        let (frame, first) = (task / tasks, task % tasks * task_squares);
        let work = Work { cpu, volume, winograd, frame, add, out: &out };
        let last = squares.min(first + task_squares);
        SCRATCH.with_borrow_mut(|scratch| {
            for first in (first..last).step_by(ROWS) {
                work.run(first, ROWS.min(last - first), scratch);
            }
        });
    });
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = const { RefCell::new(Scratch::new()) };
}

/// Memory for twelve squares.
struct Scratch {
    /// One line of the transformed pixels, `[4, squares, 3 * channels]`.
    spread: Vec<f32>,
    /// Outputs without bias, `[squares, 2, 2, n]`.
    gathered: Vec<f32>,
}

/// Products of a line of positions. Aligned to cache lines, as all scratch is:
/// vectors of 64 bytes that straddle two of them take twice the time.
#[repr(align(64))]
struct Products([[Line; ROWS]; SIDE]);

/// The first `len` values that begin at a cache line; grows the memory if needed.
fn aligned(memory: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if memory.len() < len + LANES {
        memory.resize(len + LANES, 0.0);
    }
    let skip = memory.as_ptr().align_offset(64).min(LANES);
    &mut memory[skip..skip + len]
}

impl Scratch {
    const fn new() -> Self {
        Self { spread: Vec::new(), gathered: Vec::new() }
    }
}

/// One frame of one convolution.
struct Work<'a> {
    cpu: &'a Cpu,
    volume: &'a Volume,
    winograd: &'a Winograd,
    frame: usize,
    add: bool,
    out: &'a Parts<'a, f32>,
}

impl Work<'_> {
    /// Convolves `count` squares from `first` on.
    ///
    /// The transformed square is worked through line by line, so that its four
    /// positions, their products and the outputs fit the first-level cache.
    fn run(&self, first: usize, count: usize, scratch: &mut Scratch) {
        let (level, channels, n) = (self.cpu.level, self.winograd.channels, self.winograd.n);
        let k = TIMES * channels;
        let pixels = aligned(&mut scratch.spread, SIDE * ROWS * k);
        let outputs = aligned(&mut scratch.gathered, ROWS * 4 * n);
        let starts = self.starts(first, count);
        for line in 0..SIDE {
            let cells = self.volume.cells.f32s();
            let row = self.volume.row;
            spread_line(level, cells, &starts[..count], row, channels, line, pixels);
            for panel in 0..self.winograd.weights[0].count() {
                let mut products = Products([[Line::ZERO; ROWS]; SIDE]);
                let (_, width, columns) = self.winograd.weights[0].panel(panel);
                for (place, sums) in products.0.iter_mut().enumerate() {
                    let (b, ..) = self.winograd.weights[SIDE * line + place].panel(panel);
                    let a = &pixels[place * ROWS * k..(place + 1) * ROWS * k];
                    let factors = Factors { a, row_stride: k, taps: &[0], k, b, columns: width };
                    multiply(level, factors, Sums::lines(&mut sums[..count]));
                }
                let outputs = &mut outputs[columns.start..];
                gather_line(level, &products.0, count, columns.len(), line, n, outputs);
            }
        }
        for (square, pixels) in outputs.chunks_exact(4 * n).take(count).enumerate() {
            self.store(first + square, pixels);
        }
    }

    /// First elements of the squares' pixels in the three frames.
    fn starts(&self, first: usize, count: usize) -> [[usize; TIMES]; ROWS] {
        let frames: [usize; TIMES] =
            std::array::from_fn(|time| self.volume.frame_at(self.frame, time));
        let mut starts = [[0; TIMES]; ROWS];
        for (square, starts) in starts[..count].iter_mut().enumerate() {
            let (row, column) = self.place(first + square);
            let start = row * self.volume.row + column * self.volume.pixel;
            *starts = frames.map(|frame| frame + start);
        }
        starts
    }

    /// Writes a square's outputs `[2, 2, n]`.
    fn store(&self, square: usize, pixels: &[f32]) {
        let (row, column) = self.place(square);
        let Grid { rows, columns, .. } = self.volume.grid;
        let n = self.winograd.n;
        // A square at an odd edge reaches over it.
        let len = (columns - column).min(2) * n;
        for (row, pixels) in (row..rows).zip(pixels.chunks_exact(2 * n)) {
            let start = ((self.frame * rows + row) * columns + column) * n;
            // SAFETY: every square belongs to one task.
            let out = unsafe { self.out.part(start..start + len) };
            let bias = &self.winograd.bias[..len];
            store_row(self.cpu.level, &pixels[..len], bias, self.add, out);
        }
    }

    /// Row and column of a square's first pixel.
    fn place(&self, square: usize) -> (usize, usize) {
        let squares = self.volume.grid.columns.div_ceil(2);
        (square / squares * 2, square % squares * 2)
    }
}

/// A vector register, by name of a plain array. No closures near it: one that is
/// not inlined is compiled without the vector instructions of its caller.
type Lanes = [f32; LANES];

#[inline(always)]
fn add(a: Lanes, b: Lanes) -> Lanes {
    let mut sum = a;
    for lane in 0..LANES {
        sum[lane] += b[lane];
    }
    sum
}

#[inline(always)]
fn sub(a: Lanes, b: Lanes) -> Lanes {
    let mut difference = a;
    for lane in 0..LANES {
        difference[lane] -= b[lane];
    }
    difference
}

#[inline(always)]
fn load(x: &[f32], start: usize) -> Lanes {
    let mut lanes = [0.0; LANES];
    lanes.copy_from_slice(&x[start..start + LANES]);
    lanes
}

#[inline(always)]
fn save(x: &mut [f32], start: usize, lanes: Lanes) {
    x[start..start + LANES].copy_from_slice(&lanes);
}

multiversion! {
    /// Line `line` of `B^T d B` for the squares of pixels at `starts`, to
    /// `out[place][square][time][channel]`.
    fn spread_line(
        x: &[f32],
        starts: &[[usize; TIMES]],
        row: usize,
        channels: usize,
        line: usize,
        out: &mut [f32],
    ) {
        // Row `line` of `B^T` has two entries: one of these rows, plus or minus another.
        let (one, other) = [(0, 2), (1, 2), (2, 1), (1, 3)][line];
        let position = ROWS * TIMES * channels;
        for (index, &start) in starts.as_flattened().iter().enumerate() {
            let one = &x[start + one * row..][..SIDE * channels];
            let other = &x[start + other * row..][..SIDE * channels];
            for channel in (0..channels).step_by(LANES) {
                let mut columns = [[0.0; LANES]; SIDE];
                for (column, sum) in columns.iter_mut().enumerate() {
                    let place = column * channels + channel;
                    let (one, other) = (load(one, place), load(other, place));
                    *sum = if line == 1 { add(one, other) } else { sub(one, other) };
                }
                let places = spread(columns);
                for (place, lanes) in places.into_iter().enumerate() {
                    save(out, place * position + index * channels + channel, lanes);
                }
            }
        }
    }
}

multiversion! {
    /// Adds line `line` of the products to `A^T M A` of every square, `[2, 2, n]`.
    fn gather_line(
        products: &[[Line; ROWS]; SIDE],
        squares: usize,
        columns: usize,
        line: usize,
        n: usize,
        out: &mut [f32],
    ) {
        for square in 0..squares {
            for column in (0..columns).step_by(LANES) {
                let mut line_products = [[0.0; LANES]; SIDE];
                for (product, out) in line_products.iter_mut().zip(products) {
                    *product = load(&out[square].0, column);
                }
                let pair = gather(line_products);
                for (place, lanes) in pair.into_iter().enumerate() {
                    let upper = (4 * square + place) * n + column;
                    let lower = upper + 2 * n;
                    match line {
                        0 => save(out, upper, lanes),
                        1 => {
                            save(out, upper, add(load(out, upper), lanes));
                            save(out, lower, lanes);
                        }
                        2 => {
                            save(out, upper, add(load(out, upper), lanes));
                            save(out, lower, sub(load(out, lower), lanes));
                        }
                        _ => save(out, lower, sub(load(out, lower), lanes)),
                    }
                }
            }
        }
    }
}

multiversion! {
    fn store_row(x: &[f32], bias: &[f32], add: bool, out: &mut [f32]) {
        let (x, _) = x.as_chunks::<LANES>();
        let (bias, _) = bias.as_chunks::<LANES>();
        let (out, _) = out.as_chunks_mut::<LANES>();
        for ((out, x), bias) in out.iter_mut().zip(x).zip(bias) {
            for lane in 0..LANES {
                let value = x[lane] + bias[lane];
                out[lane] = if add { out[lane] + value } else { value };
            }
        }
    }
}
