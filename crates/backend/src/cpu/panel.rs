//! Matrices packed into column panels for the register tile.
//!
//! ```text
//!  W [n, k]  ->  panel 0: columns 0..32    as [k][32]
//!                panel 1: columns 32..64   as [k][32]
//!                last:    up to 16 columns as [k][16], the rest filled with zeros
//! ```
//!
//! Packing happens once, when weights are loaded.

use std::ops::Range;

use crate::{
    cpu::{
        memory::Aligned,
        tile::{COLUMNS, Element},
    },
    seam::Error,
};

/// A matrix of `n` columns and `k` products per column, in panels.
#[derive(Debug)]
pub(crate) struct Panels<E> {
    data: Aligned<E>,
    /// Columns.
    pub(crate) n: usize,
    /// Products per column, all taps together.
    pub(crate) k: usize,
}

impl<E: Element> Panels<E> {
    /// Packs the matrix whose element for column `n` and product `k` is `at(n, k)`.
    /// `k` must be a multiple of the element's group.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] if the system has no room.
    pub(crate) fn pack(
        n: usize,
        k: usize,
        at: impl Fn(usize, usize) -> f32,
    ) -> Result<Self, Error> {
        assert!(k.is_multiple_of(E::GROUP), "{k} products cannot be grouped by {}", E::GROUP);
        let mut data = Aligned::<E>::zeroed(panel_offset(n.div_ceil(16) * 16, k))?;
        for panel in 0..panel_count(n) {
            let columns = panel_columns(n, panel);
            let out = &mut data[panel_offset(panel * COLUMNS, k)..];
            for column in (panel * COLUMNS)..(panel * COLUMNS + columns).min(n) {
                for product in 0..k {
                    let group = product / E::GROUP * columns + (column - panel * COLUMNS);
                    out[group * E::GROUP + product % E::GROUP] = E::from_f32(at(column, product));
                }
            }
        }
        Ok(Self { data, n, k })
    }

    /// Number of panels.
    pub(crate) fn count(&self) -> usize {
        panel_count(self.n)
    }

    /// The panel's data, its padded width (16 or 32), and the columns it holds.
    pub(crate) fn panel(&self, index: usize) -> (&[E], usize, Range<usize>) {
        let columns = panel_columns(self.n, index);
        let start = panel_offset(index * COLUMNS, self.k);
        let first = index * COLUMNS;
        (&self.data[start..start + columns * self.k], columns, first..(first + columns).min(self.n))
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> u64 {
        size_of_val(&*self.data) as u64
    }
}

fn panel_count(n: usize) -> usize {
    n.div_ceil(COLUMNS)
}

/// Padded width of a panel: 16 for a last panel of at most 16 columns, else 32.
pub(crate) fn panel_columns(n: usize, panel: usize) -> usize {
    if n - panel * COLUMNS <= 16 { 16 } else { COLUMNS }
}

fn panel_offset(first_column: usize, k: usize) -> usize {
    first_column * k
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{
        level::{Level, Usable},
        tile::{Bf16, Factors, Line, Sums, multiply},
    };

    #[test]
    fn all_levels_agree_to_the_bit_with_the_portable_tile() {
        for (rows, n, k, taps) in [(12, 32, 64, 1), (7, 48, 30, 3), (1, 5, 2, 27), (11, 100, 18, 9)]
        {
            let row_stride = k + 6;
            let offsets: Vec<usize> = (0..taps).map(|tap| tap * 2).collect();
            let a: Vec<f32> = wave(rows * row_stride + 2 * taps);
            let b = wave(n * taps * k);
            let panels =
                Panels::<f32>::pack(n, taps * k, |column, i| b[column * taps * k + i]).unwrap();

            let run =
                |level| product(Usable::at_most(level), &a, row_stride, &offsets, k, rows, &panels);
            let expected = run(Level::Portable);
            for level in [Level::Avx2, Level::Avx512, Level::Avx512Bf16, Level::Amx] {
                assert_eq!(run(level), expected, "{level:?} {rows}x{n}x{k}x{taps}");
            }
            let exact: f64 =
                (0..taps * k).map(|i| f64::from(a[offsets[i / k] + i % k]) * f64::from(b[i])).sum();
            assert!((f64::from(expected[0]) - exact).abs() < 1e-4, "{} {exact}", expected[0]);
        }
    }

    #[test]
    fn bf16_tile_multiplies_what_bf16_holds() {
        if Level::detect() < Level::Avx512Bf16 {
            return;
        }
        let (rows, n, k) = (5, 40, 64);
        let exact: Vec<f32> =
            wave(rows * k).into_iter().map(|x| Bf16::from_f32(x).to_f32()).collect();
        let a: Vec<Bf16> = exact.iter().map(|&x| Bf16::from_f32(x)).collect();
        let b = wave(n * k);
        let panels = Panels::<Bf16>::pack(n, k, |column, i| b[column * k + i]).unwrap();
        let out = product(Usable::at_most(Level::Avx512Bf16), &a, k, &[0], k, rows, &panels);
        for r in 0..rows {
            for column in 0..n {
                let sum: f64 = (0..k)
                    .map(|i| {
                        f64::from(exact[r * k + i])
                            * f64::from(Bf16::from_f32(b[column * k + i]).to_f32())
                    })
                    .sum();
                assert!((f64::from(out[r * n + column]) - sum).abs() < 1e-4);
            }
        }
    }

    fn product<E: Element>(
        level: Usable,
        a: &[E],
        row_stride: usize,
        taps: &[usize],
        k: usize,
        rows: usize,
        panels: &Panels<E>,
    ) -> Vec<f32> {
        let mut result = vec![0.0; rows * panels.n];
        for index in 0..panels.count() {
            let (b, columns, range) = panels.panel(index);
            let mut out = vec![Line::ZERO; rows];
            let factors = Factors { a, row_stride, taps, k, b, columns };
            multiply(level, factors, Sums::lines(&mut out));
            for r in 0..rows {
                for column in range.clone() {
                    result[r * panels.n + column] = out[r].0[column - range.start];
                }
            }
        }
        result
    }

    fn wave(len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919 % 1013) as f32 / 506.5 - 1.0) * 0.7).collect()
    }
}
