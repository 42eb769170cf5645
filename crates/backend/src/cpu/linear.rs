//! Linear layers: which tiles to compute, and what becomes of their sums.
//!
//! A task is one panel of 32 output columns for a block of rows. Within it the
//! panel (48 KB at 384 inputs in f32) stays in the second-level cache while the
//! rows pass by, and the sums of a tile never leave registers and a 4 KB
//! buffer before the epilogue has run. No blocking over `k` is needed for the
//! widths of these models: the tile reads its panel front to back, and at 1536
//! inputs it is no slower than at 384 (`examples/bench_linear.rs`).

mod epilogue;

use crate::{
    cpu::{
        Cpu,
        linear::epilogue::Finish,
        panel::Panels,
        tensor::{Data, Matrix},
        tile::{Bf16, COLUMNS, Element, Factors, Line, ROWS_MAX, Sums, multiply},
    },
    seam::{Dtype, Epilogue, Error, Tensor, Weight},
};

/// Tiles of a task, one under the other, at the most.
const BLOCK_TILES_MAX: usize = 20;
/// Tasks per thread, at the least, if there are tiles enough.
const THREAD_TASKS: usize = 2;

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
    pub(crate) fn bytes(&self) -> u64 {
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
            Dtype::F32 => Panels::pack(n, k, at).map(Self::F32),
            Dtype::Bf16 if k.is_multiple_of(2) => Panels::pack(n, k, at).map(Self::Bf16),
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
    let finish = Finish::new(cpu.level, epilogue, out);
    let height = E::tile_rows(cpu.level);
    let tiles = rows.div_ceil(height);
    let blocks = (THREAD_TASKS * cpu.threads()).div_ceil(panels.count());
    let block_rows = tiles.div_ceil(blocks).clamp(1, BLOCK_TILES_MAX) * height;
    let blocks = rows.div_ceil(block_rows);
    cpu.pool.run(blocks * panels.count(), &|task| {
        let (block, panel) = (task / panels.count(), task % panels.count());
        let (b, columns, range) = panels.panel(panel);
        let last = rows.min((block + 1) * block_rows);
        let bias = line(&layer.bias[panel * COLUMNS..], columns);
        let mut sums = [Line::ZERO; ROWS_MAX];
        for first in (block * block_rows..last).step_by(height) {
            let sums = &mut sums[..height.min(last - first)];
            sums.fill(bias);
            let a = &a[first * k..];
            let factors = Factors { a, row_stride: k, taps: &[0], k, b, columns };
            multiply(cpu.level, factors, Sums::lines(sums));
            // SAFETY: this task alone writes these rows and columns.
            unsafe { finish.store(sums, first, &range) };
        }
    });
}

/// A row's sums before the first product: the bias of a panel's columns.
fn line(bias: &[f32], columns: usize) -> Line {
    let mut line = Line::ZERO;
    line.0[..columns].copy_from_slice(&bias[..columns]);
    line
}
