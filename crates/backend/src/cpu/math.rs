//! Transcendental functions with the same bits on every machine.
//!
//! The system's `libm` differs between distributions and processors, and a
//! compiler may pick a vector library, so none of it is used. Each function is
//! a range reduction and a polynomial in fused multiply-adds, written branch
//! free so that the compiler vectorises it; the order of operations is fixed,
//! so every instruction set agrees to the last bit. Maximal errors, measured
//! over dense sweeps against f64 in the tests below, are in each function's
//! doc; they are far under the model's own rounding.

use std::f32::consts::{LN_2, LOG2_E};

/// `2^x` for `x` in `[-126, 127]`; smaller arguments give `2^-126`, larger `2^127`.
/// Relative error under 2e-7.
#[inline(always)]
pub(crate) fn exp2(x: f32) -> f32 {
    // Adding 1.5 * 2^23 rounds to the nearest integer and leaves it in the low bits.
    const ROUNDER: f32 = 12_582_912.0;
    let x = x.clamp(-126.0, 127.0);
    let shifted = x + ROUNDER;
    let fraction = x - (shifted - ROUNDER);
    let exponent = shifted.to_bits() << 23;
    // Coefficients ln(2)^k / k!, which are within 1 ulp of the minimax ones on [-0.5, 0.5].
    let mut sum = 1.525_273_4e-5_f32;
    sum = sum.mul_add(fraction, 1.540_353e-4);
    sum = sum.mul_add(fraction, 1.333_355_8e-3);
    sum = sum.mul_add(fraction, 9.618_129e-3);
    sum = sum.mul_add(fraction, 5.550_411e-2);
    sum = sum.mul_add(fraction, 2.402_265e-1);
    sum = sum.mul_add(fraction, LN_2);
    sum = sum.mul_add(fraction, 1.0);
    f32::from_bits(sum.to_bits().wrapping_add(exponent))
}

/// `e^x`, saturating as [`exp2`] does. Relative error under 2e-6 for `|x| < 20`.
#[inline(always)]
pub(crate) fn exp(x: f32) -> f32 {
    exp2(x * LOG2_E)
}

/// `x / (1 + e^-x)`.
#[inline(always)]
pub(crate) fn silu(x: f32) -> f32 {
    x / (1.0 + exp(-x))
}

/// The tanh form of GELU: `x / (1 + e^(-2 sqrt(2/pi) (x + 0.044715 x^3)))`,
/// which is `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
#[inline(always)]
pub(crate) fn gelu(x: f32) -> f32 {
    const SCALE: f32 = 2.0 * 0.797_884_6;
    let inner = (0.044_715 * x * x).mul_add(x, x);
    x / (1.0 + exp(-SCALE * inner))
}

/// Natural logarithm for normal positive `x`. Absolute error under 2e-7 near 1,
/// relative under 2e-7 elsewhere.
#[inline(always)]
pub(crate) fn ln(x: f32) -> f32 {
    // x = 2^e * m with m in [sqrt(1/2), sqrt(2)).
    let bits = x.to_bits().wrapping_sub(0x3f35_04f3);
    #[expect(clippy::cast_possible_wrap, reason = "the exponent field is signed here")]
    #[expect(clippy::cast_precision_loss, reason = "an exponent has 8 bits")]
    let exponent = ((bits as i32) >> 23) as f32;
    let mantissa = f32::from_bits((bits & 0x007f_ffff).wrapping_add(0x3f35_04f3));
    // ln(m) = 2 atanh(s), s = (m - 1) / (m + 1), |s| < 0.172.
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    let square = s * s;
    let mut sum = 2.0_f32 / 9.0;
    sum = sum.mul_add(square, 2.0 / 7.0);
    sum = sum.mul_add(square, 2.0 / 5.0);
    sum = sum.mul_add(square, 2.0 / 3.0);
    sum = (sum * square).mul_add(s, 2.0 * s);
    exponent.mul_add(LN_2, sum)
}

/// Cosine and sine of `turn` full turns, for `turn` in `[0, 1]`. Absolute error under 2e-7.
#[inline(always)]
pub(crate) fn cos_sin_turn(turn: f32) -> (f32, f32) {
    use std::f32::consts::TAU;
    // Reduce to an angle within an eighth of a turn around a quarter.
    let quarter = (turn * 4.0 + 0.5).floor();
    let angle = quarter.mul_add(-0.25, turn) * TAU;
    let square = angle * angle;
    let mut sine = -1.951_529_6e-4_f32;
    sine = sine.mul_add(square, 8.332_161e-3);
    sine = sine.mul_add(square, -1.666_665_5e-1);
    let sine = (sine * square).mul_add(angle, angle);
    let mut cosine = 2.443_315_7e-5_f32;
    cosine = cosine.mul_add(square, -1.388_731_6e-3);
    cosine = cosine.mul_add(square, 4.166_664_6e-2);
    let cosine = (cosine * square).mul_add(square, (-0.5_f32).mul_add(square, 1.0));
    if quarter == 1.0 {
        (-sine, cosine)
    } else if quarter == 2.0 {
        (-cosine, -sine)
    } else if quarter == 3.0 {
        (sine, -cosine)
    } else {
        (cosine, sine)
    }
}

/// Rounds to bf16, to nearest even. NaN stays NaN, and subnormals become zeros
/// of their sign: that is what the processor's instruction does (Intel SDM
/// volume 2, `VCVTNEPS2BF16`), and a class has one rounding.
#[inline(always)]
pub(crate) fn to_bf16(x: f32) -> u16 {
    let bits = x.to_bits();
    let rounded = bits.wrapping_add(0x7fff + ((bits >> 16) & 1));
    let bits = if x.is_nan() { bits | 0x0040_0000 } else { rounded };
    let bits = if x.is_subnormal() { x.to_bits() & 0x8000_0000 } else { bits };
    (bits >> 16) as u16
}

/// The value of bf16 bits.
#[inline(always)]
pub(crate) fn from_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[cfg(test)]
mod tests {
    #![expect(clippy::cast_possible_truncation, reason = "f32 arguments are what is tested")]

    use super::*;

    #[test]
    fn functions_stay_within_their_documented_errors() {
        let sweep = |from: f64, to: f64| {
            (0..=200_000).map(move |i| from + (to - from) * f64::from(i) / 200_000.0)
        };
        for x in sweep(-125.0, 125.0) {
            let x = x as f32;
            let exact = f64::from(x).exp2();
            assert!((f64::from(exp2(x)) / exact - 1.0).abs() < 2e-7, "exp2({x})");
        }
        for x in sweep(-20.0, 20.0) {
            let x = x as f32;
            assert!((f64::from(exp(x)) / f64::from(x).exp() - 1.0).abs() < 2e-6, "exp({x})");
            let wide = f64::from(x);
            let exact = 0.5
                * wide
                * (1.0 + (0.797_884_560_802_865_4 * (wide + 0.044_715 * wide.powi(3))).tanh());
            assert!((f64::from(gelu(x)) - exact).abs() < 2e-6 * (1.0 + exact.abs()), "gelu({x})");
        }
        for x in sweep(1e-7, 1.0).chain(sweep(1.0, 1e4)) {
            let x = x as f32;
            let exact = f64::from(x).ln();
            assert!((f64::from(ln(x)) - exact).abs() < 2e-7 * exact.abs().max(1.0), "ln({x})");
        }
        for x in sweep(0.0, 1.0) {
            let x = x as f32;
            let angle = f64::from(x) * std::f64::consts::TAU;
            let (cosine, sine) = cos_sin_turn(x);
            assert!((f64::from(cosine) - angle.cos()).abs() < 2e-7, "cos({x})");
            assert!((f64::from(sine) - angle.sin()).abs() < 2e-7, "sin({x})");
        }
    }

    #[test]
    fn bf16_rounds_to_nearest_even_keeps_nan_and_flushes_subnormals() {
        assert_eq!(to_bf16(1.0), 0x3f80);
        assert_eq!(to_bf16(f32::from_bits(0x3f80_8000)), 0x3f80);
        assert_eq!(to_bf16(f32::from_bits(0x3f81_8000)), 0x3f82);
        assert!(from_bf16(to_bf16(f32::NAN)).is_nan());
        assert_eq!(from_bf16(to_bf16(f32::NEG_INFINITY)), f32::NEG_INFINITY);
        assert_eq!(to_bf16(f32::from_bits(0x007f_ffff)), 0);
        assert_eq!(to_bf16(f32::from_bits(0x807f_ffff)), 0x8000);
        assert_eq!(to_bf16(f32::MIN_POSITIVE), 0x0080);
    }
}
