//! The tiles in vector registers. Each function is compiled once per number
//! of rows, so that all accumulators are registers.

#![expect(clippy::needless_range_loop, reason = "indices name registers")]

use std::arch::x86_64::*;

use super::{Bf16, COLUMNS, RawFactors, RawSums};

/// Calls `$kernel::<ROWS, VECTORS>` for the number of rows.
macro_rules! by_rows {
    ($kernel:ident, $vectors:literal, ($factors:expr, $sums:expr), $($rows:literal)*) => {
        match $sums.rows {
            $($rows => $kernel::<$rows, $vectors>($factors, $sums),)*
            rows => unreachable!("a tile has 1 to 12 rows, not {rows}"),
        }
    };
}

#[target_feature(enable = "avx512f")]
pub(super) unsafe fn f32_avx512(factors: RawFactors<'_, f32>, sums: RawSums) {
    // SAFETY: passed on from the caller.
    unsafe {
        if factors.columns == COLUMNS {
            by_rows!(f32_rows, 2, (factors, sums), 1 2 3 4 5 6 7 8 9 10 11 12);
        } else {
            by_rows!(f32_rows, 1, (factors, sums), 1 2 3 4 5 6 7 8 9 10 11 12);
        }
    }
}

#[target_feature(enable = "avx512f")]
unsafe fn f32_rows<const R: usize, const V: usize>(factors: RawFactors<'_, f32>, out: RawSums) {
    // SAFETY: within the factors and the sums, by the caller's promise:
    // the panel has 16 V columns.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        for r in 0..R {
            for v in 0..V {
                sums[r][v] = _mm512_loadu_ps(out.first.add(r * out.stride + 16 * v));
            }
        }
        let mut b = factors.b;
        for &tap in factors.taps {
            let a = factors.a.add(tap);
            for i in 0..factors.k {
                let mut columns = [_mm512_setzero_ps(); V];
                for v in 0..V {
                    columns[v] = _mm512_loadu_ps(b.add(16 * v));
                }
                for r in 0..R {
                    let factor = _mm512_set1_ps(*a.add(r * factors.row_stride + i));
                    for v in 0..V {
                        sums[r][v] = _mm512_fmadd_ps(factor, columns[v], sums[r][v]);
                    }
                }
                b = b.add(16 * V);
            }
        }
        for r in 0..R {
            for v in 0..V {
                _mm512_storeu_ps(out.first.add(r * out.stride + 16 * v), sums[r][v]);
            }
        }
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
pub(super) unsafe fn bf16_avx512(factors: RawFactors<'_, Bf16>, sums: RawSums) {
    // SAFETY: passed on from the caller.
    unsafe {
        if factors.columns == COLUMNS {
            by_rows!(bf16_rows, 2, (factors, sums), 1 2 3 4 5 6 7 8 9 10 11 12);
        } else {
            by_rows!(bf16_rows, 1, (factors, sums), 1 2 3 4 5 6 7 8 9 10 11 12);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bf16")]
unsafe fn bf16_rows<const R: usize, const V: usize>(factors: RawFactors<'_, Bf16>, out: RawSums) {
    // SAFETY: as in `f32_rows`; pairs are read unaligned.
    unsafe {
        let mut sums = [[_mm512_setzero_ps(); V]; R];
        for r in 0..R {
            for v in 0..V {
                sums[r][v] = _mm512_loadu_ps(out.first.add(r * out.stride + 16 * v));
            }
        }
        let mut b = factors.b.cast::<i32>();
        for &tap in factors.taps {
            let a = factors.a.add(tap);
            for i in 0..factors.k / 2 {
                let mut columns = [_mm512_setzero_si512(); V];
                for v in 0..V {
                    columns[v] = _mm512_loadu_si512(b.add(16 * v).cast());
                }
                for r in 0..R {
                    let pair = a.add(r * factors.row_stride + 2 * i).cast::<i32>();
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
                _mm512_storeu_ps(out.first.add(r * out.stride + 16 * v), sums[r][v]);
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
pub(super) unsafe fn f32_avx2(factors: RawFactors<'_, f32>, sums: RawSums) {
    for first_column in (0..factors.columns).step_by(16) {
        for first_row in (0..sums.rows).step_by(6) {
            // SAFETY: a part of what the caller promised.
            unsafe {
                let factors = RawFactors {
                    a: factors.a.add(first_row * factors.row_stride),
                    b: factors.b.add(first_column),
                    ..factors
                };
                let sums = RawSums {
                    first: sums.first.add(first_row * sums.stride + first_column),
                    rows: (sums.rows - first_row).min(6),
                    ..sums
                };
                by_rows!(f32_rows_avx2, 2, (factors, sums), 1 2 3 4 5 6);
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn f32_rows_avx2<const R: usize, const V: usize>(
    factors: RawFactors<'_, f32>,
    out: RawSums,
) {
    // SAFETY: as in `f32_rows`, with 8 V = 16 columns of a panel `columns` wide.
    unsafe {
        let mut sums = [[_mm256_setzero_ps(); V]; R];
        for r in 0..R {
            for v in 0..V {
                sums[r][v] = _mm256_loadu_ps(out.first.add(r * out.stride + 8 * v));
            }
        }
        let mut b = factors.b;
        for &tap in factors.taps {
            let a = factors.a.add(tap);
            for i in 0..factors.k {
                let mut columns = [_mm256_setzero_ps(); V];
                for v in 0..V {
                    columns[v] = _mm256_loadu_ps(b.add(8 * v));
                }
                for r in 0..R {
                    let factor = _mm256_set1_ps(*a.add(r * factors.row_stride + i));
                    for v in 0..V {
                        sums[r][v] = _mm256_fmadd_ps(factor, columns[v], sums[r][v]);
                    }
                }
                b = b.add(factors.columns);
            }
        }
        for r in 0..R {
            for v in 0..V {
                _mm256_storeu_ps(out.first.add(r * out.stride + 8 * v), sums[r][v]);
            }
        }
    }
}
