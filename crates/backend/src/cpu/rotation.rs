//! Rotary positions: small tables per axis, applied when a row is used.
//!
//! A window's tokens differ in frame, row and column, and every pair of
//! channels belongs to one of the three axes. So three tables of a few rows
//! replace one with a row per token. Angles are computed in f64 by a portable
//! `libm`, so that the tables have the same bits on every machine.

use std::cell::RefCell;

use types::Rope;

use crate::{
    cpu::{Cpu, lanes, level::multiversion, rows, tensor::Matrix},
    seam::{FinishQueries, Tensor},
};

/// Cosines and sines for the tokens of a window.
#[derive(Debug)]
pub struct Rotation {
    /// Per axis: its positions' `(cos, sin)` rows of `pairs` each.
    axes: [Table; 3],
    frames: usize,
    rows: usize,
    columns: usize,
}

#[derive(Debug)]
struct Table {
    pairs: usize,
    cosines: Vec<f32>,
    sines: Vec<f32>,
}

impl Rotation {
    pub(crate) fn new(rope: &Rope, positions: &[f64], rows: usize, columns: usize) -> Self {
        let counted = |count: usize| -> Vec<f64> {
            (0..u32::try_from(count).expect("a frame has fewer than 2^32 rows"))
                .map(f64::from)
                .collect()
        };
        let places = [positions.to_vec(), counted(rows), counted(columns)];
        let axes = std::array::from_fn(|axis| Table::new(rope, axis, &places[axis]));
        Self { axes, frames: positions.len(), rows, columns }
    }

    /// Pairs of all axes.
    pub(crate) fn pairs(&self) -> usize {
        self.axes.iter().map(|table| table.pairs).sum()
    }

    /// Tokens with a position.
    pub(crate) fn tokens(&self) -> usize {
        self.frames * self.rows * self.columns
    }

    /// Writes the cosines and sines of a token's pairs.
    #[inline]
    pub(crate) fn token(&self, token: usize, cosines: &mut [f32], sines: &mut [f32]) {
        let column = token % self.columns;
        let row = token / self.columns % self.rows;
        let frame = token / (self.columns * self.rows);
        let mut first = 0;
        for (table, place) in self.axes.iter().zip([frame, row, column]) {
            let range = place * table.pairs..(place + 1) * table.pairs;
            cosines[first..first + table.pairs].copy_from_slice(&table.cosines[range.clone()]);
            sines[first..first + table.pairs].copy_from_slice(&table.sines[range]);
            first += table.pairs;
        }
    }
}

impl Table {
    fn new(rope: &Rope, axis: usize, positions: &[f64]) -> Self {
        let axis = rope.axes[axis];
        let mut table = Self { pairs: axis.pairs, cosines: Vec::new(), sines: Vec::new() };
        for position in positions {
            for pair in 0..axis.pairs {
                #[expect(clippy::cast_precision_loss, reason = "a head has few pairs")]
                let exponent = -2.0 * pair as f64 / axis.denominator;
                let angle = position * libm::pow(axis.theta, exponent);
                #[expect(clippy::cast_possible_truncation, reason = "tables are f32")]
                let (sine, cosine) = (libm::sin(angle) as f32, libm::cos(angle) as f32);
                table.cosines.push(cosine);
                table.sines.push(sine);
            }
        }
        table
    }
}

/// See [`crate::Backend::finish_queries`].
pub(super) fn finish_queries(
    cpu: &Cpu,
    x: &Matrix,
    finish: &FinishQueries<'_, Cpu>,
    out: &mut Matrix,
) {
    let n = x.columns();
    assert!(n.is_multiple_of(finish.head_dim), "whole heads");
    if let Some((weight, _)) = finish.norm {
        assert_eq!(weight.f32s().len(), n, "a norm weight of {n} columns");
    }
    if let Some((rotation, first, rotated)) = finish.rotation {
        assert!(rotated <= finish.head_dim, "rotated channels inside a head");
        assert_eq!(rotation.pairs() * 2, rotated, "rotated channels of a head");
        assert!(first + x.rows() <= rotation.tokens(), "every query has a position");
    }
    rows::each_row(cpu, x, out, &|row, x, line| {
        match finish.norm {
            Some((weight, eps)) => rows::rms_norm_row(cpu.level, x, weight.f32s(), eps, line),
            None => line.copy_from_slice(x),
        }
        if let Some((rotation, first, rotated)) = finish.rotation {
            ANGLES.with_borrow_mut(|angles| {
                angles.resize(rotated, 0.0);
                let (cosines, sines) = angles.split_at_mut(rotated / 2);
                rotation.token(first + row, cosines, sines);
                for head in line.chunks_exact_mut(finish.head_dim) {
                    rotate(cpu.level, &mut head[finish.head_dim - rotated..], cosines, sines);
                }
            });
        }
        lanes::scale(cpu.level, line, finish.scale);
    });
}

thread_local! {
    /// A token's cosines and sines; kept, since a row takes less than its allocation.
    static ANGLES: RefCell<Vec<f32>> = const { RefCell::new(Vec::new()) };
}

multiversion! {
    /// Turns adjacent pairs.
    pub(super) fn rotate(x: &mut [f32], cosines: &[f32], sines: &[f32]) {
        let (pairs, _) = x.as_chunks_mut::<2>();
        for ((pair, cosine), sine) in pairs.iter_mut().zip(cosines).zip(sines) {
            let [a, b] = *pair;
            *pair = [a * cosine - b * sine, a * sine + b * cosine];
        }
    }
}
