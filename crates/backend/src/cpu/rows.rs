//! Row-wise operations: norms, modulation, copies.
//!
//! A row is widened to f32, worked on, and rounded once. Sums over a row are
//! those of [`lanes`].

use crate::{
    cpu::{
        Cpu,
        lanes::{self, sum},
        level::{Usable, multiversion},
        math,
        rounding::round,
        tensor::{Data, Matrix, Parts},
        tile::{Bf16, Element},
    },
    seam::{ScaleShift, Tensor},
};

/// Rows of a task; a row is a few hundred nanoseconds of work.
const BLOCK_ROWS: usize = 16;

/// See [`crate::Backend::layer_norm`].
pub(super) fn layer_norm(
    cpu: &Cpu,
    x: &Matrix,
    scale_shift: &ScaleShift<'_, Matrix>,
    eps: f32,
    out: &mut Matrix,
) {
    let n = x.columns();
    let level = cpu.level;
    match *scale_shift {
        ScaleShift::Affine { weight, bias } => {
            let (weight, bias) = (weight.f32s(), bias.f32s());
            assert_eq!((weight.len(), bias.len()), (n, n), "scale and shift of {n} columns");
            each_row(cpu, x, out, &|_, x, line| {
                layer_norm_row(level, x, weight, bias, 0.0, eps, line);
            });
        }
        ScaleShift::Modulated { table, shift, scale } => {
            assert!(x.rows().is_multiple_of(table.rows()), "rows divide into frames");
            let slots = table.columns() / n;
            assert!(shift < slots && scale < slots, "vectors {shift} and {scale} of {slots}");
            let rows_per_frame = x.rows() / table.rows();
            each_row(cpu, x, out, &|row, x, line| {
                let slots = &table.f32s()[row / rows_per_frame * table.columns()..];
                let (scale, shift) = (&slots[scale * n..][..n], &slots[shift * n..][..n]);
                layer_norm_row(level, x, scale, shift, 1.0, eps, line);
            });
        }
    }
}

multiversion! {
    /// `out = (x - mean) / sqrt(var + eps) * (plus + scale) + shift`.
    fn layer_norm_row(x: &[f32], scale: &[f32], shift: &[f32], plus: f32, eps: f32, out: &mut [f32]) {
        #[expect(clippy::cast_precision_loss, reason = "a row has far fewer than 2^24 columns")]
        let count = x.len() as f32;
        let mean = sum(x, |x| x) / count;
        let variance = sum(x, |x| (x - mean) * (x - mean)) / count;
        let inverse = 1.0 / (variance + eps).sqrt();
        for (((out, x), scale), shift) in out.iter_mut().zip(x).zip(scale).zip(shift) {
            *out = ((x - mean) * inverse).mul_add(plus + scale, *shift);
        }
    }
}

/// See [`crate::Backend::rms_norm`].
pub(super) fn rms_norm(
    cpu: &Cpu,
    x: &Matrix,
    weight: &Matrix,
    eps: f32,
    out: &mut Matrix,
    first_row: usize,
) {
    let (rows, n, normed) = (x.rows(), x.columns(), weight.columns());
    assert!(normed <= n, "a norm of {normed} columns in rows of {n}");
    assert_eq!(weight.rows(), 1, "one weight for every row");
    assert!(first_row + rows <= out.rows() && n == out.columns(), "rows fit the output");
    let (x, weight) = (x.f32s(), weight.f32s());
    rows_from(cpu, out, n, first_row, rows, &|row, line| {
        let x = &x[row * n..][..n];
        rms_norm_row(cpu.level, &x[..normed], weight, eps, &mut line[..normed]);
        line[normed..].copy_from_slice(&x[normed..]);
    });
}

multiversion! {
    /// `out = x / sqrt(mean(x^2) + eps) * weight`.
    pub(super) fn rms_norm_row(x: &[f32], weight: &[f32], eps: f32, out: &mut [f32]) {
        #[expect(clippy::cast_precision_loss, reason = "a row has far fewer than 2^24 columns")]
        let count = x.len() as f32;
        let inverse = 1.0 / (sum(x, |x| x * x) / count + eps).sqrt();
        for ((out, x), weight) in out.iter_mut().zip(x).zip(weight) {
            *out = x * inverse * weight;
        }
    }
}

/// See [`crate::Backend::silu`].
pub(super) fn silu(cpu: &Cpu, x: &Matrix, out: &mut Matrix) {
    each_row(cpu, x, out, &|_, x, line| silu_row(cpu.level, x, line));
}

multiversion! {
    fn silu_row(x: &[f32], out: &mut [f32]) {
        for (out, &x) in out.iter_mut().zip(x) {
            *out = math::silu(x);
        }
    }
}

/// See [`crate::Backend::copy_rows`].
pub(super) fn copy(cpu: &Cpu, from: &Matrix, to: &mut Matrix, first_row: usize) {
    let (rows, n) = (from.rows(), from.columns());
    assert!(first_row + rows <= to.rows() && n == to.columns(), "rows fit the output");
    rows_from(cpu, to, n, first_row, rows, &|row, line| widen(cpu.level, from, row * n, line));
}

/// See [`crate::Backend::add_row`].
pub(super) fn add_row(cpu: &Cpu, table: &Matrix, base: &Matrix, out: &mut Matrix) {
    let (narrow, n) = (table.columns(), base.columns());
    assert!(base.rows() == 1 && n.is_multiple_of(narrow), "base row of a frame table");
    assert_eq!((out.rows(), out.columns()), (table.rows(), n), "frame table");
    let (table, base) = (table.f32s(), base.f32s());
    let out = out.f32s_mut();
    for (out, row) in out.chunks_exact_mut(n).zip(table.chunks_exact(narrow)) {
        out.copy_from_slice(base);
        out.chunks_exact_mut(narrow).for_each(|out| lanes::add(cpu.level, out, row));
    }
}

/// Rounds f32 values to bf16 in place.
pub(super) fn round_to_bf16(cpu: &Cpu, x: &mut Matrix) {
    let n = x.columns();
    let blocks = x.rows().div_ceil(BLOCK_ROWS);
    let rows = x.rows();
    let parts = Parts::new(x.f32s_mut());
    cpu.pool.run(blocks, &|block| {
        let range = block * BLOCK_ROWS * n..rows.min((block + 1) * BLOCK_ROWS) * n;
        // SAFETY: blocks of rows are disjoint.
        round_in_place(cpu.level, unsafe { parts.part(range) });
    });
}

multiversion! {
    fn round_in_place(x: &mut [f32]) {
        for x in x {
            *x = math::from_bf16(math::to_bf16(*x));
        }
    }
}

/// What is done to a row: its index, the input's row, and the output's.
type RowWork<'a> = dyn Fn(usize, &[f32], &mut [f32]) + Sync + 'a;

/// Runs `line(index, row of x, row of out)` for every row, in parallel. `x` is
/// f32, and of the shape of `out`.
pub(super) fn each_row(cpu: &Cpu, x: &Matrix, out: &mut Matrix, line: &RowWork<'_>) {
    let (rows, n) = (x.rows(), x.columns());
    assert_eq!((out.rows(), out.columns()), (rows, n), "output of the input's shape");
    let x = x.f32s();
    rows_from(cpu, out, n, 0, rows, &|row, out| line(row, &x[row * n..][..n], out));
}

/// Runs `line(index, row of out)` for `rows` rows of `n` columns from `first_row` on.
pub(super) fn rows_from(
    cpu: &Cpu,
    out: &mut Matrix,
    n: usize,
    first_row: usize,
    rows: usize,
    line: &(dyn Fn(usize, &mut [f32]) + Sync),
) {
    let blocks = rows.div_ceil(BLOCK_ROWS);
    let block_rows = |block| block * BLOCK_ROWS..rows.min((block + 1) * BLOCK_ROWS);
    let place = |row: usize| (first_row + row) * n..(first_row + row + 1) * n;
    match &mut out.data {
        Data::F32(out) => {
            let parts = Parts::new(out);
            cpu.pool.run(blocks, &|block| {
                for row in block_rows(block) {
                    // SAFETY: every row belongs to one block.
                    line(row, unsafe { parts.part(place(row)) });
                }
            });
        }
        Data::Bf16(out) => {
            let parts = Parts::new(out);
            cpu.pool.run(blocks, &|block| {
                let mut wide = vec![0.0; n];
                for row in block_rows(block) {
                    line(row, &mut wide);
                    // SAFETY: every row belongs to one block.
                    round(cpu.level, &wide, unsafe { parts.part(place(row)) });
                }
            });
        }
    }
}

/// Widens `to.len()` elements from `first` on.
#[inline]
fn widen(level: Usable, from: &Matrix, first: usize, to: &mut [f32]) {
    match &from.data {
        Data::F32(from) => to.copy_from_slice(&from[first..first + to.len()]),
        Data::Bf16(from) => widen_bf16(level, &from[first..first + to.len()], to),
    }
}

multiversion! {
    fn widen_bf16(from: &[Bf16], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.to_f32();
        }
    }
}
