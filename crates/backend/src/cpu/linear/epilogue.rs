//! What becomes of a tile's sums on their way to the output.

use std::ops::Range;

use crate::{
    cpu::{
        lanes,
        level::{Usable, multiversion},
        math,
        rounding::round,
        tensor::{Data, Matrix, Parts},
        tile::{Bf16, Line},
    },
    seam::{Epilogue, Tensor},
};

/// An epilogue and its output, their shapes checked once.
pub(super) struct Finish<'a> {
    level: Usable,
    factor: Factor<'a>,
    target: Target<'a>,
    /// Columns of the output.
    n: usize,
}

/// What is done to a sum.
enum Factor<'a> {
    None,
    Gelu,
    Silu,
    /// One factor for each output.
    Rows(&'a [f32]),
    /// One factor for each column and frame.
    Frames {
        gates: &'a [f32],
        stride: usize,
        rows_per_frame: usize,
    },
}

/// An output matrix that tasks write in disjoint tiles.
enum Target<'a> {
    Set(Parts<'a, f32>),
    Add(Parts<'a, f32>),
    Round(Parts<'a, Bf16>),
}

impl<'a> Finish<'a> {
    /// # Panics
    ///
    /// If the epilogue's tensors do not fit the output, or a residual is not f32.
    pub(super) fn new(level: Usable, epilogue: &Epilogue<'a, Matrix>, out: &'a mut Matrix) -> Self {
        let (rows, n) = (out.rows(), out.columns());
        let factor = match *epilogue {
            Epilogue::Store | Epilogue::Add => Factor::None,
            Epilogue::Gelu => Factor::Gelu,
            Epilogue::Silu => Factor::Silu,
            Epilogue::Mul(factor) => {
                assert_eq!((factor.rows(), factor.columns()), (rows, n), "factor of a product");
                Factor::Rows(factor.f32s())
            }
            Epilogue::AddGated { table, slot } => {
                assert!(rows.is_multiple_of(table.rows()), "rows divide into frames");
                assert!((slot + 1) * n <= table.columns(), "gate {slot} of the frame table");
                Factor::Frames {
                    gates: &table.f32s()[slot * n..],
                    stride: table.columns(),
                    rows_per_frame: rows / table.rows(),
                }
            }
        };
        let adds = matches!(epilogue, Epilogue::Add | Epilogue::AddGated { .. });
        let target = match &mut out.data {
            Data::F32(out) => match adds {
                true => Target::Add(Parts::new(out)),
                false => Target::Set(Parts::new(out)),
            },
            Data::Bf16(out) => {
                assert!(!adds, "residuals are f32");
                Target::Round(Parts::new(out))
            }
        };
        Self { level, factor, target, n }
    }

    /// Finishes the sums of the rows from `first_row` on.
    ///
    /// # Safety
    ///
    /// No other task touches these rows and columns of the output.
    pub(super) unsafe fn store(&self, sums: &mut [Line], first_row: usize, columns: &Range<usize>) {
        match self.factor {
            Factor::None => {}
            Factor::Gelu => gelu(self.level, Line::flat(sums)),
            Factor::Silu => silu(self.level, Line::flat(sums)),
            Factor::Rows(factors) => {
                for (row, sums) in (first_row..).zip(&mut *sums) {
                    multiply(self.level, &factors[row * self.n..][columns.clone()], &mut sums.0);
                }
            }
            Factor::Frames { gates, stride, rows_per_frame } => {
                for (row, sums) in (first_row..).zip(&mut *sums) {
                    let gates = &gates[row / rows_per_frame * stride..][columns.clone()];
                    multiply(self.level, gates, &mut sums.0);
                }
            }
        }
        for (row, sums) in (first_row..).zip(sums) {
            let place = row * self.n + columns.start..row * self.n + columns.end;
            let sums = &sums.0[..columns.len()];
            // SAFETY: passed on from the caller.
            unsafe {
                match &self.target {
                    Target::Set(out) => lanes::set(out.part(place), sums),
                    Target::Add(out) => lanes::add(self.level, out.part(place), sums),
                    Target::Round(out) => round(self.level, sums, out.part(place)),
                }
            }
        }
    }
}

multiversion! {
    fn gelu(x: &mut [f32]) {
        x.iter_mut().for_each(|x| *x = math::gelu(*x));
    }
}

multiversion! {
    fn silu(x: &mut [f32]) {
        x.iter_mut().for_each(|x| *x = math::silu(*x));
    }
}

multiversion! {
    fn multiply(factors: &[f32], x: &mut [f32]) {
        x.iter_mut().zip(factors).for_each(|(x, factor)| *x *= factor);
    }
}
