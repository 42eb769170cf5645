//! The bf16 tile in matrix registers (Intel AMX).
//!
//! A matrix register holds up to 16 rows of 64 bytes. One instruction,
//! `tdpbf16ps`, multiplies 16 rows of 32 bf16 factors by 16 columns of as many
//! and adds the products to 16 x 16 sums: sixteen times what a vector
//! instruction does. Its result comes after 52 cycles, so four sums take turns:
//!
//! ```text
//!                    b: tmm6 | tmm7    16 + 16 columns of a panel
//!  a: tmm4 (upper rows)  tmm0 | tmm1
//!     tmm5 (lower rows)  tmm2 | tmm3    up to 32 x 32 sums
//! ```
//!
//! The registers' shapes are set beforehand, per thread; a tile of the same
//! shape as the one before does not set them again. The instructions are not
//! among the compiler's stable intrinsics yet, hence the assembly.
//!
//! Exactness: the `k` products of a tap are taken in equal steps of at most 32,
//! which depend on `k` alone. Within a step the even and the odd products of an
//! output are summed apart, in ascending order, then
//! `out += even + odd`; subnormals count as zero. `tests::emulated` is this
//! in plain Rust, to the bit. Source: Intel SDM volume 2, `TDPBF16PS`.

use std::{arch::asm, cell::Cell, mem::offset_of};

use super::{Bf16, COLUMNS, RawFactors, RawSums};

/// Rows of a matrix register, and columns of f32 sums in it.
const SIDE: usize = 16;
/// Most products of a step: 64 bytes of bf16.
const STEP_MAX: usize = 32;

/// Whether the processor has matrix registers and the system lets us use them.
pub(crate) fn is_available() -> bool {
    static AVAILABLE: std::sync::OnceLock<bool> = std::sync::OnceLock::new();
    *AVAILABLE.get_or_init(|| processor_has_it() && system_grants_it())
}

fn processor_has_it() -> bool {
    use std::arch::x86_64::{__cpuid, __cpuid_count, _xgetbv};

    const OSXSAVE: u32 = 1 << 27; // leaf 1, ecx
    const BF16_AND_TILE: u32 = 1 << 22 | 1 << 24; // leaf 7, edx
    const SAVED: u64 = 1 << 17 | 1 << 18; // the system saves shapes and contents

    #[target_feature(enable = "xsave")]
    fn saved() -> u64 {
        // SAFETY: register 0 exists wherever XGETBV does.
        unsafe { _xgetbv(0) }
    }

    __cpuid(0).eax >= 7
        && __cpuid(1).ecx & OSXSAVE != 0
        && __cpuid_count(7, 0).edx & BF16_AND_TILE == BF16_AND_TILE
        // SAFETY: OSXSAVE says that XGETBV is there.
        && unsafe { saved() } & SAVED == SAVED
}

/// Linux gives a process the 8 KB of register contents only on request.
#[cfg(target_os = "linux")]
fn system_grants_it() -> bool {
    const ARCH_REQ_XCOMP_PERM: libc::c_int = 0x1023;
    const XFEATURE_XTILEDATA: libc::c_ulong = 18;
    // SAFETY: takes two numbers and touches no memory of ours.
    unsafe { libc::syscall(libc::SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0 }
}

#[cfg(not(target_os = "linux"))]
fn system_grants_it() -> bool {
    false
}

/// Adds a tile's products to up to 32 rows of sums.
///
/// # Safety
///
/// As [`super::Element::tile`]; [`is_available`] is true.
pub(super) unsafe fn bf16(factors: RawFactors<'_, Bf16>, sums: RawSums) {
    assert!((1..=2 * SIDE).contains(&sums.rows), "a tile has 1 to 32 rows, not {}", sums.rows);
    if factors.taps.is_empty() || factors.k == 0 {
        return;
    }
    // SAFETY: passed on from the caller; the shapes are those of this tile.
    unsafe {
        let shape = set_shape(sums.rows, factors.k);
        match (shape.has_lower(), factors.columns == COLUMNS) {
            (true, true) => multiply_2x2(factors, sums, shape),
            (true, false) => multiply_2x1(factors, sums, shape),
            (false, true) => multiply_1x2(factors, sums, shape),
            (false, false) => multiply_1x1(factors, sums, shape),
        }
    }
}

/// How a tile is laid out in matrix registers.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Shape {
    rows: usize,
    k: usize,
    /// Products of a step.
    step: usize,
}

impl Shape {
    fn new(rows: usize, k: usize) -> Self {
        // Equal steps need no second set of shapes for a remainder. Widths of
        // models are multiples of 8 and more, so few products are wasted.
        let steps = (2..=STEP_MAX).rev().step_by(2);
        let step = steps.into_iter().find(|&step| k.is_multiple_of(step));
        Self { rows, k, step: step.expect("bf16 products come in pairs") }
    }

    /// Whether there are more rows than a register holds.
    fn has_lower(self) -> bool {
        self.rows > SIDE
    }

    /// Rows in the upper registers.
    fn upper(self) -> usize {
        if self.has_lower() { self.rows.div_ceil(2) } else { self.rows }
    }
}

/// The operand of `ldtilecfg`.
#[repr(C, align(64))]
struct Config {
    palette: u8,
    start_row: u8,
    reserved: [u8; 14],
    row_bytes: [u16; 16],
    rows: [u8; 16],
}

impl Config {
    fn new(shape: Shape) -> Self {
        let [upper, rows, step] =
            [shape.upper(), shape.rows, shape.step].map(|n| u8::try_from(n).expect("at most 32"));
        let lower = rows - upper;
        let of_a = 2 * u16::from(step);
        let mut config =
            Self { palette: 1, start_row: 0, reserved: [0; 14], row_bytes: [0; 16], rows: [0; 16] };
        config.rows[..8].copy_from_slice(&[
            upper,
            upper,
            lower,
            lower,
            upper,
            lower,
            step / 2,
            step / 2,
        ]);
        config.row_bytes[..8].copy_from_slice(&[64, 64, 64, 64, of_a, of_a, 64, 64]);
        for (row_bytes, &rows) in config.row_bytes.iter_mut().zip(&config.rows) {
            *row_bytes = if rows == 0 { 0 } else { *row_bytes };
        }
        config
    }
}

/// Sets this thread's register shapes, unless they are set so already.
///
/// # Safety
///
/// [`is_available`] is true.
unsafe fn set_shape(rows: usize, k: usize) -> Shape {
    thread_local! {
        static SHAPE: Cell<Option<Shape>> = const { Cell::new(None) };
    }
    if let Some(shape) = SHAPE.get()
        && (shape.rows, shape.k) == (rows, k)
    {
        return shape;
    }
    let shape = Shape::new(rows, k);
    let config = Config::new(shape);
    // SAFETY: reads the 64 bytes of `config`. Nothing else in this process sets
    // shapes, so the thread's record of them stays true.
    unsafe {
        asm!("ldtilecfg [{}]", in(reg) &raw const config, options(nostack, readonly, preserves_flags));
    }
    SHAPE.set(Some(shape));
    shape
}

/// What a walk over the taps needs and has no register for.
#[repr(C)]
struct Walk {
    a: *const Bf16,
    taps_end: *const usize,
    steps: usize,
    /// Bytes from the upper rows of `a` to the lower ones.
    a_lower: usize,
    sums: *mut f32,
    sums_lower: *mut f32,
}

impl Walk {
    fn new(factors: &RawFactors<'_, Bf16>, sums: &RawSums, shape: Shape) -> Self {
        let upper = shape.upper();
        Self {
            a: factors.a,
            taps_end: factors.taps.as_ptr_range().end,
            steps: factors.k / shape.step,
            a_lower: 2 * upper * factors.row_stride,
            sums: sums.first,
            sums_lower: sums.first.wrapping_add(upper * sums.stride),
        }
    }
}

macro_rules! multiply {
    ($name:ident, $lower:ident, $right:ident) => {
        /// # Safety
        ///
        /// As [`bf16`], with registers of this shape.
        unsafe fn $name(
            factors: RawFactors<'_, Bf16>,
            sums: RawSums,
            shape: Shape,
        ) {
            let walk = Walk::new(&factors, &sums, shape);
            // SAFETY: reads what the caller promised: rows of `step` factors at every
            // tap, and the panel front to back; reads and writes the rows of `sums`.
            // Only the tile registers named below hold anything in between.
            unsafe {
                asm!(
                    "mov {at}, [{walk} + {WALK_SUMS}]",
                    "tileloadd tmm0, [{at} + {line}]",
                    when!($right, "tileloadd tmm1, [{at} + {line} + 64]"),
                    when!($lower, "mov {at}, [{walk} + {WALK_SUMS_LOWER}]"),
                    when!($lower, "tileloadd tmm2, [{at} + {line}]"),
                    when!($lower $right, "tileloadd tmm3, [{at} + {line} + 64]"),
                    "2:", // a tap
                    "mov {at}, [{taps}]",
                    "shl {at}, 1",
                    "add {at}, [{walk} + {WALK_A}]",
                    when!($lower, "mov {low}, [{walk} + {WALK_A_LOWER}]"),
                    when!($lower, "add {low}, {at}"),
                    "mov {left}, [{walk} + {WALK_STEPS}]",
                    "3:", // a step
                    "tileloadd tmm4, [{at} + {stride}]",
                    "tileloadd tmm6, [{b} + {b_stride}]",
                    when!($right, "tileloadd tmm7, [{b} + {b_stride} + 64]"),
                    "tdpbf16ps tmm0, tmm4, tmm6",
                    when!($right, "tdpbf16ps tmm1, tmm4, tmm7"),
                    when!($lower, "tileloadd tmm5, [{low} + {stride}]"),
                    when!($lower, "tdpbf16ps tmm2, tmm5, tmm6"),
                    when!($lower $right, "tdpbf16ps tmm3, tmm5, tmm7"),
                    "add {at}, {a_step}",
                    when!($lower, "add {low}, {a_step}"),
                    "add {b}, {b_step}",
                    "dec {left}",
                    "jnz 3b",
                    "add {taps}, 8",
                    "cmp {taps}, [{walk} + {WALK_TAPS_END}]",
                    "jne 2b",
                    "mov {at}, [{walk} + {WALK_SUMS}]",
                    "tilestored [{at} + {line}], tmm0",
                    when!($right, "tilestored [{at} + {line} + 64], tmm1"),
                    when!($lower, "mov {at}, [{walk} + {WALK_SUMS_LOWER}]"),
                    when!($lower, "tilestored [{at} + {line}], tmm2"),
                    when!($lower $right, "tilestored [{at} + {line} + 64], tmm3"),
                    "# only with lower rows: {WALK_A_LOWER} {WALK_SUMS_LOWER} {low}",
                    WALK_A = const offset_of!(Walk, a),
                    WALK_TAPS_END = const offset_of!(Walk, taps_end),
                    WALK_STEPS = const offset_of!(Walk, steps),
                    WALK_A_LOWER = const offset_of!(Walk, a_lower),
                    WALK_SUMS = const offset_of!(Walk, sums),
                    WALK_SUMS_LOWER = const offset_of!(Walk, sums_lower),
                    walk = in(reg) &raw const walk,
                    taps = inout(reg) factors.taps.as_ptr() => _,
                    b = inout(reg) factors.b => _,
                    line = in(reg) 4 * sums.stride,
                    stride = in(reg) 2 * factors.row_stride,
                    b_stride = in(reg) 4 * factors.columns,
                    a_step = in(reg) 2 * shape.step,
                    b_step = in(reg) 2 * shape.step * factors.columns,
                    at = out(reg) _,
                    low = out(reg) _,
                    left = out(reg) _,
                    out("tmm0") _, out("tmm1") _, out("tmm2") _, out("tmm3") _,
                    out("tmm4") _, out("tmm5") _, out("tmm6") _, out("tmm7") _,
                    options(nostack),
                );
            }
        }
    };
}

/// An instruction that is only there if all of these are `yes`.
macro_rules! when {
    (yes, $instruction:literal) => {
        $instruction
    };
    (yes yes, $instruction:literal) => {
        $instruction
    };
    ($($condition:ident)+, $instruction:literal) => {
        ""
    };
}

multiply!(multiply_2x2, yes, yes);
multiply!(multiply_2x1, yes, no);
multiply!(multiply_1x2, no, yes);
multiply!(multiply_1x1, no, no);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::{
        level::{Level, Usable},
        tile::{Element, Factors, Line, Sums, multiply},
    };

    #[test]
    fn steps_are_equal_and_as_long_as_can_be() {
        for (k, step) in [(2, 2), (16, 16), (40, 20), (48, 24), (56, 28), (384, 32), (34, 2)] {
            assert_eq!(Shape::new(1, k).step, step, "{k} products");
        }
    }

    #[test]
    fn every_shape_gives_the_bits_of_the_instructions_definition() {
        if !is_available() {
            return;
        }
        for rows in [1, 2, 7, 16, 17, 22, 31, 32] {
            for (k, columns, taps) in
                [(2, 16, 1), (16, 32, 1), (40, 32, 1), (48, 16, 9), (192, 32, 9), (384, 32, 1)]
            {
                let stride = k + 6;
                let taps: Vec<usize> = (0..taps).map(|tap| tap * 2).collect();
                let a = wave(rows * stride + 2 * taps.len(), 0.7);
                let b = wave(taps.len() * k * columns, 1.3);
                let factors = Factors { a: &a, row_stride: stride, taps: &taps, k, b: &b, columns };
                let mut out: Vec<Line> =
                    (0..rows).map(|row| Line([row as f32 - 3.5; COLUMNS])).collect();
                let mut want = out.clone();

                multiply(Usable::at_most(Level::Amx), factors, Sums::lines(&mut out));

                emulated(factors, &mut want);
                assert!(out == want, "{rows} rows, {k} products, {columns} columns, {taps:?}");
            }
        }
    }

    #[test]
    fn subnormals_count_as_zero() {
        if !is_available() {
            return;
        }
        let tiny = Bf16(1);
        let large = Bf16::from_f32(2.0_f32.powi(100));
        let (a, b) = (vec![tiny; 2], vec![large; 32]);
        let factors = Factors { a: &a, row_stride: 2, taps: &[0], k: 2, b: &b, columns: 16 };
        let mut out = [Line::ZERO];
        multiply(Usable::at_most(Level::Amx), factors, Sums::lines(&mut out));
        assert_eq!(out[0], Line::ZERO);
    }

    /// The instruction's definition.
    fn emulated(factors: Factors<'_, Bf16>, out: &mut [Line]) {
        let Factors { a, row_stride, taps, k, b, columns } = factors;
        let step = Shape::new(out.len(), k).step;
        let flush = |x: f32| if x.is_subnormal() { 0.0_f32.copysign(x) } else { x };
        for (row, line) in out.iter_mut().enumerate() {
            for (n, sum) in line.0[..columns].iter_mut().enumerate() {
                for (tap, &offset) in taps.iter().enumerate() {
                    for first in (0..k).step_by(step) {
                        let mut halves = [0.0_f32; 2];
                        for i in first..first + step {
                            let factor = flush(a[offset + row * row_stride + i].to_f32());
                            let pair = (tap * k + i) / 2;
                            let weight = flush(b[(pair * columns + n) * 2 + i % 2].to_f32());
                            let half = &mut halves[i % 2];
                            *half = flush(factor.mul_add(weight, *half));
                        }
                        *sum = flush(*sum + flush(halves[0] + halves[1]));
                    }
                }
            }
        }
    }

    fn wave(len: usize, size: f32) -> Vec<Bf16> {
        let at = |i: usize| ((i * 7919 % 1013) as f32 / 506.5 - 1.0) * size;
        (0..len).map(|i| Bf16::from_f32(at(i))).collect()
    }
}
