//! The register tile: 12 rows by 32 columns of a matrix product.
//!
//! Every product of the engine (linear layers, convolutions, attention scores
//! and attention outputs) ends here. A tile adds to each of its outputs one
//! chain of fused multiply-adds, in ascending `k`, starting from the value that
//! was there (a bias, or a running sum):
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
//! neighbouring `k` side by side, as the dot-product instruction takes them.
//!
//! Exactness: the chain's order does not depend on instruction set, thread
//! count or tile position. In f32 all levels agree to the last bit. The bf16
//! tile adds pairs by `vdpbf16ps`, whose internal rounding only that
//! instruction has; it is a numeric class of its own.

use crate::cpu::level::Level;

/// Rows of a full tile.
pub(crate) const ROWS: usize = 12;
/// Columns of a full tile.
pub(crate) const COLUMNS: usize = 32;
/// Outputs of one tile, row-major with a row stride of [`COLUMNS`], also when
/// the panel is only 16 wide.
pub(crate) type Out = [f32; ROWS * COLUMNS];

/// The type of a product's factors.
pub(crate) trait Element: Copy + Default + Send + Sync + 'static {
    /// Neighbouring `k` that stand side by side in a panel.
    const GROUP: usize;

    /// Rounds to this type.
    fn from_f32(x: f32) -> Self;

    /// The exact value.
    fn to_f32(self) -> f32;

    /// Adds a tile's products to `out`.
    ///
    /// - `rows`: 1 to [`ROWS`] rows; `columns`: 16 or 32.
    /// - `k`: products per tap, a multiple of [`Element::GROUP`].
    ///
    /// # Safety
    ///
    /// `a + tap + r * row_stride` is readable for `k` elements for every tap and
    /// `r < rows`; `b` is readable for `taps.len() * k * columns` elements; the
    /// processor has the features of `level`.
    unsafe fn tile(level: Level, operand: Operand<'_, Self>, b: *const Self, out: &mut Out);
}

/// The rows that a tile multiplies, and the panel's shape.
#[derive(Clone, Copy)]
pub(crate) struct Operand<'a, E> {
    /// First row at tap offset zero.
    pub(crate) a: *const E,
    /// Elements from one row to the next.
    pub(crate) row_stride: usize,
    /// Offsets added to every row, one after the other.
    pub(crate) taps: &'a [usize],
    /// Products per tap.
    pub(crate) k: usize,
    /// Rows in use.
    pub(crate) rows: usize,
    /// Columns of the panel: 16 or 32.
    pub(crate) columns: usize,
}

impl Element for f32 {
    const GROUP: usize = 1;

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        x
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }

    #[inline]
    unsafe fn tile(level: Level, operand: Operand<'_, f32>, b: *const f32, out: &mut Out) {
        #[cfg(target_arch = "x86_64")]
        match level {
            Level::Avx512 | Level::Avx512Bf16 => {
                // SAFETY: passed on from the caller.
                return unsafe { x86::f32_avx512(operand, b, out) };
            }
            // SAFETY: passed on from the caller.
            Level::Avx2 => return unsafe { x86::f32_avx2(operand, b, out) },
            Level::Portable => {}
        }
        let _ = level;
        // SAFETY: passed on from the caller.
        unsafe { portable(operand, b, out) }
    }
}

/// A bf16 value as its bits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Bf16(pub(crate) u16);

impl Element for Bf16 {
    const GROUP: usize = 2;

    #[inline(always)]
    fn from_f32(x: f32) -> Self {
        Self(crate::cpu::math::to_bf16(x))
    }

    #[inline(always)]
    fn to_f32(self) -> f32 {
        crate::cpu::math::from_bf16(self.0)
    }

    #[inline]
    unsafe fn tile(level: Level, operand: Operand<'_, Bf16>, b: *const Bf16, out: &mut Out) {
        assert!(level == Level::Avx512Bf16, "the bf16 class is only offered with AVX512-BF16");
        #[cfg(target_arch = "x86_64")]
        // SAFETY: passed on from the caller; the level was just checked.
        unsafe {
            x86::bf16_avx512(operand, b, out);
        }
        #[cfg(not(target_arch = "x86_64"))]
        let _ = (operand, b, out);
    }
}

/// The specification of the f32 tile.
///
/// # Safety
///
/// As [`Element::tile`].
unsafe fn portable(operand: Operand<'_, f32>, mut b: *const f32, out: &mut Out) {
    let Operand { a, row_stride, taps, k, rows, columns } = operand;
    for &tap in taps {
        for i in 0..k {
            for r in 0..rows {
                // SAFETY: in bounds by the caller's promise.
                let factor = unsafe { *a.add(tap + r * row_stride + i) };
                for n in 0..columns {
                    let sum = &mut out[r * COLUMNS + n];
                    // SAFETY: in bounds by the caller's promise.
                    *sum = factor.mul_add(unsafe { *b.add(n) }, *sum);
                }
            }
            // SAFETY: at most one past the panel's end.
            b = unsafe { b.add(columns) };
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    //! The tiles in vector registers. Each function is compiled once per number
    //! of rows, so that all accumulators are registers.

    #![expect(clippy::needless_range_loop, reason = "indices name registers")]

    use std::arch::x86_64::*;

    use super::{Bf16, COLUMNS, Operand, Out};

    /// Calls `$kernel::<ROWS, VECTORS>` for the operand's number of rows.
    macro_rules! by_rows {
        ($operand:expr, $vectors:literal, $kernel:ident, $args:tt, $($rows:literal)*) => {
            match $operand.rows {
                $($rows => $kernel::<$rows, $vectors> $args,)*
                rows => unreachable!("a tile has 1 to 12 rows, not {rows}"),
            }
        };
    }

    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn f32_avx512(operand: Operand<'_, f32>, b: *const f32, out: &mut Out) {
        // SAFETY: passed on from the caller.
        unsafe {
            if operand.columns == COLUMNS {
                by_rows!(operand, 2, f32_rows, (operand, b, out), 1 2 3 4 5 6 7 8 9 10 11 12);
            } else {
                by_rows!(operand, 1, f32_rows, (operand, b, out), 1 2 3 4 5 6 7 8 9 10 11 12);
            }
        }
    }

    #[target_feature(enable = "avx512f")]
    unsafe fn f32_rows<const R: usize, const V: usize>(
        operand: Operand<'_, f32>,
        mut b: *const f32,
        out: &mut Out,
    ) {
        // SAFETY: all reads are within the operand and panel, by the caller's promise;
        // `out` has COLUMNS per row and 16 V <= COLUMNS.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); V]; R];
            for r in 0..R {
                for v in 0..V {
                    sums[r][v] = _mm512_loadu_ps(out.as_ptr().add(r * COLUMNS + 16 * v));
                }
            }
            for &tap in operand.taps {
                let a = operand.a.add(tap);
                for i in 0..operand.k {
                    let mut columns = [_mm512_setzero_ps(); V];
                    for v in 0..V {
                        columns[v] = _mm512_loadu_ps(b.add(16 * v));
                    }
                    for r in 0..R {
                        let factor = _mm512_set1_ps(*a.add(r * operand.row_stride + i));
                        for v in 0..V {
                            sums[r][v] = _mm512_fmadd_ps(factor, columns[v], sums[r][v]);
                        }
                    }
                    b = b.add(16 * V);
                }
            }
            for r in 0..R {
                for v in 0..V {
                    _mm512_storeu_ps(out.as_mut_ptr().add(r * COLUMNS + 16 * v), sums[r][v]);
                }
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    pub(super) unsafe fn bf16_avx512(operand: Operand<'_, Bf16>, b: *const Bf16, out: &mut Out) {
        // SAFETY: passed on from the caller.
        unsafe {
            if operand.columns == COLUMNS {
                by_rows!(operand, 2, bf16_rows, (operand, b, out), 1 2 3 4 5 6 7 8 9 10 11 12);
            } else {
                by_rows!(operand, 1, bf16_rows, (operand, b, out), 1 2 3 4 5 6 7 8 9 10 11 12);
            }
        }
    }

    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn bf16_rows<const R: usize, const V: usize>(
        operand: Operand<'_, Bf16>,
        b: *const Bf16,
        out: &mut Out,
    ) {
        // SAFETY: as in `f32_rows`; pairs are read unaligned.
        unsafe {
            let mut sums = [[_mm512_setzero_ps(); V]; R];
            for r in 0..R {
                for v in 0..V {
                    sums[r][v] = _mm512_loadu_ps(out.as_ptr().add(r * COLUMNS + 16 * v));
                }
            }
            let mut b = b.cast::<i32>();
            for &tap in operand.taps {
                let a = operand.a.add(tap);
                for i in 0..operand.k / 2 {
                    let mut columns = [_mm512_setzero_si512(); V];
                    for v in 0..V {
                        columns[v] = _mm512_loadu_si512(b.add(16 * v).cast());
                    }
                    for r in 0..R {
                        let pair = a.add(r * operand.row_stride + 2 * i).cast::<i32>();
                        if V == 1 {
                            add_pair(&mut sums[r][0], pair, columns[0]);
                            continue;
                        }
                        let factor = _mm512_set1_epi32(pair.read_unaligned());
                        for v in 0..V {
                            sums[r][v] = _mm512_dpbf16_ps(
                                sums[r][v],
                                std::mem::transmute::<__m512i, __m512bh>(factor),
                                std::mem::transmute::<__m512i, __m512bh>(columns[v]),
                            );
                        }
                    }
                    b = b.add(16 * V);
                }
            }
            for r in 0..R {
                for v in 0..V {
                    _mm512_storeu_ps(out.as_mut_ptr().add(r * COLUMNS + 16 * v), sums[r][v]);
                }
            }
        }
    }

    /// One dot product that broadcasts its factor from memory. The compiler loads
    /// and broadcasts apart, which a tile of one vector cannot hide: on Zen 4 that
    /// costs a quarter of the speed.
    ///
    /// # Safety
    ///
    /// `pair` is readable.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bf16")]
    unsafe fn add_pair(sum: &mut __m512, pair: *const i32, column: __m512i) {
        // SAFETY: reads the four bytes of `pair` (no alignment is asked for) and
        // writes one register.
        unsafe {
            std::arch::asm!(
                "vdpbf16ps {sum}, {column}, dword ptr [{pair}]{{1to16}}",
                sum = inout(zmm_reg) *sum,
                column = in(zmm_reg) column,
                pair = in(reg) pair,
                options(nostack, readonly, preserves_flags, pure),
            );
        }
    }

    /// 16 registers hold 6 rows of 16 columns, so a tile is done in parts.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn f32_avx2(operand: Operand<'_, f32>, b: *const f32, out: &mut Out) {
        for first_column in (0..operand.columns).step_by(16) {
            for first_row in (0..operand.rows).step_by(6) {
                let part = Operand {
                    // SAFETY: the row exists.
                    a: unsafe { operand.a.add(first_row * operand.row_stride) },
                    rows: (operand.rows - first_row).min(6),
                    ..operand
                };
                // SAFETY: a part of what the caller promised.
                unsafe {
                    let b = b.add(first_column);
                    let out = out.as_mut_ptr().add(first_row * COLUMNS + first_column);
                    by_rows!(part, 2, f32_rows_avx2, (part, b, out), 1 2 3 4 5 6);
                }
            }
        }
    }

    #[target_feature(enable = "avx2,fma")]
    unsafe fn f32_rows_avx2<const R: usize, const V: usize>(
        operand: Operand<'_, f32>,
        mut b: *const f32,
        out: *mut f32,
    ) {
        // SAFETY: as in `f32_rows`, with 8 V = 16 columns of a panel `columns` wide.
        unsafe {
            let mut sums = [[_mm256_setzero_ps(); V]; R];
            for r in 0..R {
                for v in 0..V {
                    sums[r][v] = _mm256_loadu_ps(out.add(r * COLUMNS + 8 * v));
                }
            }
            for &tap in operand.taps {
                let a = operand.a.add(tap);
                for i in 0..operand.k {
                    let mut columns = [_mm256_setzero_ps(); V];
                    for v in 0..V {
                        columns[v] = _mm256_loadu_ps(b.add(8 * v));
                    }
                    for r in 0..R {
                        let factor = _mm256_set1_ps(*a.add(r * operand.row_stride + i));
                        for v in 0..V {
                            sums[r][v] = _mm256_fmadd_ps(factor, columns[v], sums[r][v]);
                        }
                    }
                    b = b.add(operand.columns);
                }
            }
            for r in 0..R {
                for v in 0..V {
                    _mm256_storeu_ps(out.add(r * COLUMNS + 8 * v), sums[r][v]);
                }
            }
        }
    }
}
