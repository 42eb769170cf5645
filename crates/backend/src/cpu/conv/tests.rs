//! Both kinds of kernel against the definition in f64, and against themselves.

use super::*;
use crate::{
    Activation, Backend, Dtype,
    cpu::{level::Level, math},
};

const KINDS: [ConvKind; 3] = [ConvKind::Causal3, ConvKind::DoubleTime, ConvKind::DoubleSpace];

/// Frames, rows, columns, channels and outputs: narrow and wide panels, several
/// panels, blocks of taps (the last in bf16 too), one pixel, odd everything.
const SIZES: [[usize; 5]; 10] = [
    [4, 5, 7, 6, 10],
    [3, 1, 1, 1, 1],
    [2, 3, 13, 5, 3],
    [3, 4, 25, 16, 16],
    [2, 2, 31, 12, 80],
    [1, 3, 12, 200, 33],
    [5, 9, 2, 3, 8],
    [2, 9, 5, 48, 48],
    [3, 4, 7, 16, 64],
    [1, 2, 3, 344, 33],
];

#[test]
fn every_kind_equals_its_definition() {
    for kind in KINDS {
        for size in SIZES {
            for add in [false, true] {
                let case = Case::new(kind, size, add);
                let found = case.run(&Cpu::f32(2), 1);
                case.check(&found, &case.exact(|x| x), 1e-5);
            }
        }
    }
}

#[test]
fn bf16_multiplies_what_bf16_holds() {
    for cpu in bf16_family(2) {
        for kind in [ConvKind::Causal3, ConvKind::DoubleTime] {
            for size in SIZES {
                let case = Case::new(kind, size, true);
                let round = |x| math::from_bf16(math::to_bf16(x));
                case.check(&case.run(&cpu, 1), &case.exact(round), 1e-4);
            }
        }
        for size in SIZES {
            // Here sums of weights are rounded, so the definition is met only roughly.
            let case = Case::new(ConvKind::DoubleSpace, size, true);
            case.check(&case.run(&cpu, 1), &case.exact(|x| x), 1e-2);
        }
    }
}

#[test]
fn bits_do_not_depend_on_threads_levels_or_frames_at_once() {
    for kind in KINDS {
        for size in SIZES {
            let case = Case::new(kind, size, true);
            let expected = case.run(&Cpu::f32(1), 1);
            for together in 1..=size[0] {
                assert_eq!(case.run(&Cpu::f32(3), together), expected, "{kind:?} {size:?}");
            }
            assert_eq!(case.run(&Cpu::f32_at(2, Level::Portable), 1), expected);
            for (alone, two) in bf16_family(1).into_iter().zip(bf16_family(2)) {
                let expected = case.run(&alone, 1);
                assert_eq!(case.run(&two, size[0]), expected, "{kind:?} {size:?}");
            }
        }
    }
}

/// One backend for each bf16 class of this machine.
fn bf16_family(threads: usize) -> Vec<Cpu> {
    let classes = Cpu::classes().filter(|class| class.activation() == Dtype::Bf16);
    classes.map(|class| Cpu::new(class, threads).unwrap()).collect()
}

struct Case {
    kind: ConvKind,
    grid: Grid,
    /// Outputs as the file counts them.
    n: usize,
    add: bool,
    x: Vec<f32>,
    weights: Vec<f32>,
    bias: Vec<f32>,
    residual: Vec<f32>,
}

impl Case {
    fn new(kind: ConvKind, size: [usize; 5], add: bool) -> Self {
        let [frames, rows, columns, channels, n] = size;
        let grid = Grid { frames, rows, columns, channels };
        let n = if kind == ConvKind::DoubleTime { 2 * n } else { n };
        let taps: usize = full_size(kind).iter().product();
        let pixels = frames * rows * columns;
        Self {
            kind,
            grid,
            n,
            add,
            x: wave(pixels * channels, 7919),
            weights: wave(n * channels * taps, 104_729),
            bias: wave(n, 31),
            residual: wave(4 * pixels * n, 613),
        }
    }

    fn volume(&self, cpu: &Cpu, frames: usize) -> Volume {
        cpu.volume(Grid { frames, ..self.grid }, self.kind).unwrap()
    }

    /// All frames, `together` of them at a time.
    fn run(&self, cpu: &Cpu, together: usize) -> Vec<f32> {
        let mut volume = self.volume(cpu, together);
        let last = |first: usize| self.grid.frames.min(first + together);
        let starts = (0..self.grid.frames).step_by(together);
        starts.flat_map(|first| self.frames(cpu, &mut volume, first..last(first))).collect()
    }

    fn frames(&self, cpu: &Cpu, volume: &mut Volume, frames: Range<usize>) -> Vec<f32> {
        let Grid { rows, columns, channels, .. } = self.grid;
        let pixels = self.grid.frames * rows * columns;
        let x = cpu.upload(pixels, channels, &self.x, Dtype::F32).unwrap();
        let weight = Weight { n: self.n, k: self.weights.len() / self.n, values: &self.weights };
        let conv = cpu.load_conv(self.kind, weight, &self.bias).unwrap();
        let (n, scale) = self.outputs();
        let each = rows * columns * scale.iter().product::<usize>();
        let residual = &self.residual[frames.start * each * n..frames.end * each * n];
        let mut out = cpu.upload(frames.len() * each, n, residual, Dtype::F32).unwrap();
        cpu.fill(&x, frames, Activation::None, volume);
        cpu.conv(volume, &conv, self.add, &mut out);
        cpu.download(&out).unwrap()
    }

    /// Output channels, and outputs per frame, row and column.
    fn outputs(&self) -> (usize, [usize; 3]) {
        match self.kind {
            ConvKind::Causal3 => (self.n, [1, 1, 1]),
            ConvKind::DoubleTime => (self.n / 2, [2, 1, 1]),
            ConvKind::DoubleSpace => (self.n, [1, 2, 2]),
        }
    }

    /// The definition, in f64, of factors rounded by `round`.
    fn exact(&self, round: impl Fn(f32) -> f32) -> Vec<f64> {
        let (n, scale) = self.outputs();
        let Grid { frames, rows, columns, .. } = self.grid;
        let mut out = Vec::new();
        for frame in 0..frames * scale[0] {
            for row in 0..rows * scale[1] {
                for column in 0..columns * scale[2] {
                    for o in 0..n {
                        let o = o + frame % scale[0] * n;
                        let at = [frame / scale[0], row, column];
                        out.push(self.output(o, at, &round));
                    }
                }
            }
        }
        for (out, residual) in out.iter_mut().zip(&self.residual) {
            *out += if self.add { f64::from(*residual) } else { 0.0 };
        }
        out
    }

    fn output(&self, o: usize, at: [usize; 3], round: &impl Fn(f32) -> f32) -> f64 {
        let Grid { rows, columns, channels, .. } = self.grid;
        let size = full_size(self.kind);
        let (_, scale) = self.outputs();
        let mut sum = f64::from(self.bias[o]);
        for channel in 0..channels {
            for t in 0..size[0] {
                for y in 0..size[1] {
                    for x in 0..size[2] {
                        // The kernel ends at this frame and is centred in space.
                        let frame = (at[0] + t + 1).checked_sub(size[0]);
                        let row = (at[1] + y).checked_sub(size[1] / 2);
                        let column = (at[2] + x).checked_sub(size[2] / 2);
                        let (Some(frame), Some(row), Some(column)) = (frame, row, column) else {
                            continue;
                        };
                        let (row, column) = (row / scale[1], column / scale[2]);
                        if rows <= row || columns <= column {
                            continue;
                        }
                        let pixel = (frame * rows + row) * columns + column;
                        let place = (o * channels + channel) * size[0] + t;
                        let weight = self.weights[(place * size[1] + y) * size[2] + x];
                        let value = self.x[pixel * channels + channel];
                        sum += f64::from(round(weight)) * f64::from(round(value));
                    }
                }
            }
        }
        sum
    }

    fn check(&self, found: &[f32], exact: &[f64], tolerance: f64) {
        assert_eq!(found.len(), exact.len());
        // Relative to the size of a whole chain of products.
        let size = (self.weights.len() as f64 / self.n as f64).sqrt().max(1.0);
        for (index, (&found, exact)) in found.iter().zip(exact).enumerate() {
            let error = (f64::from(found) - exact).abs();
            assert!(
                error < tolerance * size,
                "{:?} {:?} {}: {index}: {found} {exact}",
                self.kind,
                self.grid,
                self.n
            );
        }
    }
}

fn wave(len: usize, step: usize) -> Vec<f32> {
    (0..len).map(|i| (i * step % 1013) as f32 / 506.5 - 1.0).collect()
}
