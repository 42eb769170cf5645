//! The register tile: some rows by 32 columns of a matrix product.
//!
//! Every product of the engine (linear layers, convolutions, attention scores
//! and attention outputs) ends here. A tile adds products to sums that are
//! there already (a bias, or a running sum):
//!
//! ```text
//!  out[r][n] += sum over taps, then k of  a[r * row_stride + tap + k] * b[tap][k][n]
//! ```
//!
//! The taps make a convolution out of the same loop: a tap is the offset of one
//! kernel position from the output pixel's own place, so no patch matrix is
//! ever built. A plain product has the single tap 0.
//!
//! `b` is packed in panels of 32 columns (or 16, for the last one), `k` major,
//! so that the loop reads it front to back; bf16 panels hold pairs of
//! neighbouring `k` side by side, as both kinds of dot product take them.
//!
//! Three kernel families, each a numeric class of its own:
//!
//! | family | rows | adds |
//! | --- | --- | --- |
//! | f32 ([`avx`]) | 12 | one chain of fused multiply-adds per output, ascending `k` |
//! | bf16 vectors ([`avx`]) | 12 | pairs, by `vdpbf16ps` |
//! | bf16 matrices ([`amx`]) | 32 | steps of up to 32 products, by `tdpbf16ps` |
//!
//! Exactness: the order does not depend on thread count or tile position, nor,
//! in f32, on the instruction set: all levels agree to the last bit.

#[cfg(target_arch = "x86_64")]
pub(crate) mod amx;
#[cfg(target_arch = "x86_64")]
mod avx;

use crate::cpu::level::{Level, Usable};

/// Columns of a full panel.
pub(crate) const COLUMNS: usize = 32;
/// Rows of the tallest tile of any family.
pub(crate) const ROWS_MAX: usize = 32;
/// Rows of a tile that keeps its sums in vector registers: 24 of 32, with room
/// for a line of the panel and a factor.
pub(crate) const VECTOR_ROWS: usize = 12;
/// Sums of one row of a tile, also when the panel is only 16 wide. Aligned to
/// cache lines: vectors that straddle two of them take twice the time.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(align(64))]
pub(crate) struct Line(pub(crate) [f32; COLUMNS]);

impl Line {
    /// No sums yet.
    pub(crate) const ZERO: Self = Self([0.0; COLUMNS]);

    /// The sums of all lines, one after the other.
    pub(crate) fn flat(lines: &mut [Self]) -> &mut [f32] {
        // SAFETY: a line is `COLUMNS` floats and, being a multiple of its alignment, no more.
        unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * COLUMNS) }
    }
}

/// The type of a product's factors.
///
/// # Safety
///
/// Zero bytes are a value of the type: memory is made of them.
pub(crate) unsafe trait Element: Copy + Default + Send + Sync + 'static {
    /// Neighbouring `k` that stand side by side in a panel.
    const GROUP: usize;

    /// Rounds to this type.
    fn from_f32(x: f32) -> Self;

    /// The exact value.
    fn to_f32(self) -> f32;

    /// Rows of a full tile, at most [`ROWS_MAX`]. Lower ones take as long.
    fn tile_rows(level: Usable) -> usize;

    /// Adds a tile's products to its sums; [`multiply`] is the checked form.
    ///
    /// # Safety
    ///
    /// `sums` has 1 to [`Element::tile_rows`] rows, each readable and writable for
    /// `columns` elements (16 or 32); `a + tap + r * row_stride` is readable for
    /// `k` elements for every tap and row `r`; `b` is readable for
    /// `taps.len() * k * columns` elements; `k` is a multiple of the group.
    unsafe fn tile(level: Usable, factors: RawFactors<'_, Self>, sums: RawSums);
}

/// What a tile multiplies.
#[derive(Clone, Copy)]
pub(crate) struct Factors<'a, E> {
    /// The rows, from the first one at tap offset zero on.
    pub(crate) a: &'a [E],
    /// Elements from one row to the next.
    pub(crate) row_stride: usize,
    /// Offsets added to every row, one after the other.
    pub(crate) taps: &'a [usize],
    /// Products per tap, a multiple of [`Element::GROUP`].
    pub(crate) k: usize,
    /// The panel: all taps' products, one after the other.
    pub(crate) b: &'a [E],
    /// Columns of the panel: 16 or 32.
    pub(crate) columns: usize,
}

/// Where a tile's sums stand. What lies between two rows is left alone.
pub(crate) struct Sums<'a> {
    /// From the first row's first sum on.
    pub(crate) values: &'a mut [f32],
    /// Elements from one row to the next.
    pub(crate) stride: usize,
    /// Rows of the tile, 1 to [`Element::tile_rows`].
    pub(crate) rows: usize,
}

impl<'a> Sums<'a> {
    /// A row of sums for each line.
    pub(crate) fn lines(lines: &'a mut [Line]) -> Self {
        Self { rows: lines.len(), values: Line::flat(lines), stride: COLUMNS }
    }
}

/// Adds a tile's products to its sums.
///
/// # Panics
///
/// If the rows, the panel or the sums reach past the end of their slices.
#[inline]
pub(crate) fn multiply<E: Element>(level: Usable, factors: Factors<'_, E>, sums: Sums<'_>) {
    let Factors { a, row_stride, taps, k, b, columns } = factors;
    let Sums { values, stride, rows } = sums;
    assert!((1..=E::tile_rows(level)).contains(&rows), "a tile of {rows} rows");
    assert!(columns == 16 || columns == COLUMNS, "a panel of {columns} columns");
    assert!(k.is_multiple_of(E::GROUP), "{k} products cannot be grouped by {}", E::GROUP);
    let last_tap = taps.iter().max().copied().unwrap_or(0);
    assert!(end(rows, row_stride, last_tap.saturating_add(k)) <= a.len(), "rows of factors");
    assert!(end(taps.len() + 1, k.saturating_mul(columns), 0) <= b.len(), "whole taps");
    assert!(end(rows, stride, columns) <= values.len(), "rows of sums");
    let factors = RawFactors { a: a.as_ptr(), row_stride, taps, k, b: b.as_ptr(), columns };
    let sums = RawSums { first: values.as_mut_ptr(), stride, rows };
    // SAFETY: checked above, and the slices are borrowed until the tile is done.
    unsafe { E::tile(level, factors, sums) }
}

/// Where the last of some rows ends; the largest number if that exceeds it.
#[inline(always)]
fn end(rows: usize, stride: usize, len: usize) -> usize {
    (rows - 1).saturating_mul(stride).saturating_add(len)
}

/// [`Factors`] whose extent was checked.
#[derive(Clone, Copy)]
pub(crate) struct RawFactors<'a, E> {
    a: *const E,
    row_stride: usize,
    taps: &'a [usize],
    k: usize,
    b: *const E,
    columns: usize,
}

/// [`Sums`] whose extent was checked.
#[derive(Clone, Copy)]
pub(crate) struct RawSums {
    first: *mut f32,
    stride: usize,
    rows: usize,
}

// SAFETY: zero bytes are 0.0.
unsafe impl Element for f32 {
    const GROUP: usize = 1;

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline(always)]
    fn tile_rows(_: Usable) -> usize {
        VECTOR_ROWS
    }

    #[inline]
    unsafe fn tile(level: Usable, factors: RawFactors<'_, f32>, sums: RawSums) {
        #[cfg(target_arch = "x86_64")]
        match level.get() {
            Level::Avx512 | Level::Avx512Bf16 | Level::Amx => {
                // SAFETY: passed on from the caller.
                return unsafe { avx::f32_avx512(factors, sums) };
            }
            // SAFETY: passed on from the caller.
            Level::Avx2 => return unsafe { avx::f32_avx2(factors, sums) },
            Level::Portable => {}
        }
        let _ = level;
        // SAFETY: passed on from the caller.
        unsafe { portable(factors, sums) }
    }
}

/// A bf16 value as its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Bf16(pub(crate) u16);

// SAFETY: zero bytes are 0.0.
unsafe impl Element for Bf16 {
    const GROUP: usize = 2;

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        Self(crate::cpu::math::to_bf16(x))
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        crate::cpu::math::from_bf16(self.0)
    }

    #[inline(always)]
    fn tile_rows(level: Usable) -> usize {
        if level.get() == Level::Amx { ROWS_MAX } else { VECTOR_ROWS }
    }

    #[inline]
    unsafe fn tile(level: Usable, factors: RawFactors<'_, Bf16>, sums: RawSums) {
        #[cfg(target_arch = "x86_64")]
        match level.get() {
            // SAFETY: passed on from the caller.
            Level::Amx => return unsafe { amx::bf16(factors, sums) },
            // SAFETY: passed on from the caller.
            Level::Avx512Bf16 => return unsafe { avx::bf16_avx512(factors, sums) },
            Level::Portable | Level::Avx2 | Level::Avx512 => {}
        }
        let _ = (factors, sums);
        panic!("{:?} has no bf16 products, so no bf16 class is offered with it", level.get());
    }
}

/// The specification of the f32 tile.
///
/// # Safety
///
/// As [`Element::tile`].
unsafe fn portable(factors: RawFactors<'_, f32>, sums: RawSums) {
    let RawFactors { a, row_stride, taps, k, mut b, columns } = factors;
    for &tap in taps {
        for i in 0..k {
            for r in 0..sums.rows {
                for n in 0..columns {
                    // SAFETY: in bounds by the caller's promise.
                    unsafe {
                        let sum = sums.first.add(r * sums.stride + n);
                        *sum = (*a.add(tap + r * row_stride + i)).mul_add(*b.add(n), *sum);
                    }
                }
            }
            // SAFETY: at most one past the panel's end.
            b = unsafe { b.add(columns) };
        }
    }
}
