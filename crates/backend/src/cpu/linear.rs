//! Linear layers: which tiles to compute, and what becomes of their sums.
//!
//! A task is one panel of 32 output columns for a block of rows. Within it the
//! panel (48 KB at 384 inputs in f32) stays in the second-level cache while the
//! rows pass by, and the sums of a tile never leave registers and a 1.5 KB
//! buffer before the epilogue has run. No blocking over `k` is needed for the
//! widths of these models: the tile reads its panel front to back, at a
//! hundredth of what the cache delivers.

use std::ops::Range;

use crate::{
    cpu::{
        Cpu,
        level::multiversion,
        math,
        panel::Panels,
        tensor::{Data, Matrix, Parts},
        tile::{Bf16, COLUMNS, Element, Operand, Out, ROWS},
    },
    seam::{Dtype, Epilogue, Error, Tensor, Weight},
};

/// Rows of a task: a multiple of the tile's, so that blocks leave no short tiles between them.
const BLOCK_ROWS: usize = 20 * ROWS;

/// Packed weights and bias.
#[derive(Debug)]
pub struct Linear {
    weights: Weights,
    /// One value per output, padded to whole panels.
    bias: Vec<f32>,
}

/// Weights in the class' factor type.
#[derive(Debug)]
pub(crate) enum Weights {
    F32(Panels<f32>),
    Bf16(Panels<Bf16>),
}

impl Linear {
    pub(crate) fn load(
        dtype: Dtype,
        weight: Weight<'_>,
        bias: Option<&[f32]>,
    ) -> Result<Self, Error> {
        let Weight { n, k, values } = weight;
        assert_eq!(values.len(), n * k, "weight of {n} x {k}");
        let weights = Weights::pack(dtype, n, k, |column, product| values[column * k + product])?;
        let mut padded = vec![0.0; n.next_multiple_of(COLUMNS)];
        if let Some(bias) = bias {
            padded[..n].copy_from_slice(bias);
        }
        Ok(Self { weights, bias: padded })
    }

    /// Bytes held.
    pub fn bytes(&self) -> u64 {
        let weights = match &self.weights {
            Weights::F32(panels) => panels.bytes(),
            Weights::Bf16(panels) => panels.bytes(),
        };
        weights + size_of_val(self.bias.as_slice()) as u64
    }
}

impl Weights {
    /// Packs; in bf16, `k` must be even.
    pub(crate) fn pack(
        dtype: Dtype,
        n: usize,
        k: usize,
        at: impl Fn(usize, usize) -> f32,
    ) -> Result<Self, Error> {
        match dtype {
            Dtype::F32 => Ok(Self::F32(Panels::pack(n, k, at))),
            Dtype::Bf16 if k.is_multiple_of(2) => Ok(Self::Bf16(Panels::pack(n, k, at))),
            Dtype::Bf16 => Err(Error::OddWidth { width: k }),
        }
    }
}

/// See [`crate::Backend::linear`].
pub(super) fn linear(
    cpu: &Cpu,
    x: &Matrix,
    layer: &Linear,
    epilogue: &Epilogue<'_, Matrix>,
    out: &mut Matrix,
) {
    match (&x.data, &layer.weights) {
        (Data::F32(a), Weights::F32(panels)) => product(cpu, x, a, panels, layer, epilogue, out),
        (Data::Bf16(a), Weights::Bf16(panels)) => product(cpu, x, a, panels, layer, epilogue, out),
        (Data::F32(_), Weights::Bf16(_)) | (Data::Bf16(_), Weights::F32(_)) => {
            panic!("factors of a product are of one type, the class' activation dtype")
        }
    }
}

fn product<E: Element>(
    cpu: &Cpu,
    x: &Matrix,
    a: &[E],
    panels: &Panels<E>,
    layer: &Linear,
    epilogue: &Epilogue<'_, Matrix>,
    out: &mut Matrix,
) {
    let (rows, k, n) = (x.rows(), panels.k, panels.n);
    assert_eq!(x.columns(), k, "input width of a linear layer");
    assert_eq!((out.rows(), out.columns()), (rows, n), "output of a linear layer");
    let finish = Finish::new(epilogue, rows, n);
    let target = Target::new(out);
    let blocks = rows.div_ceil(BLOCK_ROWS);
    cpu.pool.run(blocks * panels.count(), &|task| {
        let (block, panel) = (task / panels.count(), task % panels.count());
        let (b, columns, range) = panels.panel(panel);
        let last = rows.min((block + 1) * BLOCK_ROWS);
        for first in (block * BLOCK_ROWS..last).step_by(ROWS) {
            let count = ROWS.min(last - first);
            let mut sums = start(&layer.bias[panel * COLUMNS..], count, columns);
            let operand = Operand {
                a: a[first * k..].as_ptr(),
                row_stride: k,
                taps: &[0],
                k,
                rows: count,
                columns,
            };
            // SAFETY: `count` rows of `k` elements exist from `first` on; the panel is whole.
            unsafe { E::tile(cpu.level, operand, b.as_ptr(), &mut sums) };
            // SAFETY: this task alone writes these rows and columns.
            unsafe { finish.store(cpu, &sums, first..first + count, range.clone(), &target) };
        }
    });
}

/// A tile's sums before the first product: the bias.
#[inline(always)]
pub(super) fn start(bias: &[f32], rows: usize, columns: usize) -> Out {
    let mut sums: Out = [0.0; ROWS * COLUMNS];
    for row in sums.chunks_exact_mut(COLUMNS).take(rows) {
        row[..columns].copy_from_slice(&bias[..columns]);
    }
    sums
}

/// An output matrix that tasks write in disjoint tiles.
enum Target<'a> {
    F32(Parts<'a, f32>, usize),
    Bf16(Parts<'a, Bf16>, usize),
}

impl<'a> Target<'a> {
    fn new(out: &'a mut Matrix) -> Self {
        let columns = out.columns();
        match &mut out.data {
            Data::F32(data) => Self::F32(Parts::new(data), columns),
            Data::Bf16(data) => Self::Bf16(Parts::new(data), columns),
        }
    }
}

/// An epilogue with its shapes checked once.
enum Finish<'a> {
    Store,
    Gelu,
    Silu,
    Mul(&'a [f32], usize),
    Add,
    AddGated { gates: &'a [f32], stride: usize, rows_per_frame: usize },
}

impl<'a> Finish<'a> {
    fn new(epilogue: &Epilogue<'a, Matrix>, rows: usize, n: usize) -> Self {
        match *epilogue {
            Epilogue::Store => Self::Store,
            Epilogue::Gelu => Self::Gelu,
            Epilogue::Silu => Self::Silu,
            Epilogue::Add => Self::Add,
            Epilogue::Mul(factor) => {
                assert_eq!((factor.rows(), factor.columns()), (rows, n), "factor of a product");
                Self::Mul(factor.f32s(), n)
            }
            Epilogue::AddGated { table, slot } => {
                assert!(rows.is_multiple_of(table.rows()), "rows divide into frames");
                assert!((slot + 1) * n <= table.columns(), "gate {slot} of the frame table");
                Self::AddGated {
                    gates: &table.f32s()[slot * n..],
                    stride: table.columns(),
                    rows_per_frame: rows / table.rows(),
                }
            }
        }
    }

    /// # Safety
    ///
    /// No other task touches these rows and columns of the target.
    unsafe fn store(
        &self,
        cpu: &Cpu,
        sums: &Out,
        rows: Range<usize>,
        columns: Range<usize>,
        target: &Target<'_>,
    ) {
        let width = columns.len();
        for (row, sums) in rows.zip(sums.chunks_exact(COLUMNS)) {
            let mut sums: [f32; COLUMNS] = std::array::from_fn(|i| sums[i]);
            match *self {
                Self::Store | Self::Add => {}
                Self::Gelu => gelu(cpu.level, &mut sums),
                Self::Silu => silu(cpu.level, &mut sums),
                Self::Mul(factor, n) => {
                    let factor = &factor[row * n + columns.start..][..width];
                    sums.iter_mut().zip(factor).for_each(|(sum, factor)| *sum *= factor);
                }
                Self::AddGated { gates, stride, rows_per_frame } => {
                    let gates = &gates[row / rows_per_frame * stride + columns.start..][..width];
                    sums.iter_mut().zip(gates).for_each(|(sum, gate)| *sum *= gate);
                }
            }
            match target {
                Target::F32(out, stride) => {
                    let first = row * stride + columns.start;
                    // SAFETY: passed on from the caller.
                    let out = unsafe { out.part(first..first + width) };
                    if matches!(self, Self::Add | Self::AddGated { .. }) {
                        out.iter_mut().zip(&sums).for_each(|(out, sum)| *out += sum);
                    } else {
                        out.copy_from_slice(&sums[..width]);
                    }
                }
                Target::Bf16(out, stride) => {
                    assert!(
                        !matches!(self, Self::Add | Self::AddGated { .. }),
                        "residuals are f32"
                    );
                    let first = row * stride + columns.start;
                    // SAFETY: passed on from the caller.
                    let out = unsafe { out.part(first..first + width) };
                    round(cpu.level, &sums[..width], out);
                }
            }
        }
    }
}

multiversion! {
    fn gelu(x: &mut [f32; COLUMNS]) {
        x.iter_mut().for_each(|x| *x = math::gelu(*x));
    }
}

multiversion! {
    fn silu(x: &mut [f32; COLUMNS]) {
        x.iter_mut().for_each(|x| *x = math::silu(*x));
    }
}

multiversion! {
    /// Rounds to bf16.
    pub(super) fn round(from: &[f32], to: &mut [Bf16]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = Bf16(math::to_bf16(from));
        }
    }
}
