//! f32 to bf16.

use crate::cpu::{
    level::{Level, Usable, multiversion},
    math,
    tile::Bf16,
};

/// Rounds to bf16 as [`math::to_bf16`] does. Where the processor has an
/// instruction for it, that is used.
pub(crate) fn round(level: Usable, from: &[f32], to: &mut [Bf16]) {
    assert_eq!(from.len(), to.len(), "a value for every place");
    #[cfg(target_arch = "x86_64")]
    if Level::Avx512Bf16 <= level.get() {
        // SAFETY: the level is usable, so the processor has these features.
        return unsafe { round_avx512(from, to) };
    }
    round_plain(level, from, to);
}

multiversion! {
    fn round_plain(from: &[f32], to: &mut [Bf16]) {
        for (to, &from) in to.iter_mut().zip(from) {
            *to = Bf16(math::to_bf16(from));
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn round_avx512(from: &[f32], to: &mut [Bf16]) {
    use std::arch::x86_64::*;
    assert_eq!(from.len(), to.len(), "a value for every place");
    for first in (0..from.len()).step_by(16) {
        let count = (from.len() - first).min(16);
        let mask = u16::MAX >> (16 - count);
        // SAFETY: the mask keeps to the `count` elements that both slices have here;
        // `Bf16` is the 16 bits of a bf16.
        unsafe {
            let wide = _mm512_maskz_loadu_ps(mask, from.as_ptr().add(first));
            let narrow = std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(wide));
            _mm256_mask_storeu_epi16(to.as_mut_ptr().add(first).cast(), mask, narrow);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::tile::Element;

    #[test]
    fn the_instruction_rounds_as_the_plain_code_does() {
        let mut bits = 1_u32;
        let values: Vec<f32> = std::iter::repeat_with(|| {
            bits = bits.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            f32::from_bits(bits)
        })
        .take(10_007)
        .chain([0.0, -0.0, f32::INFINITY, f32::NAN, -f32::NAN, 1.003_906_3, 1.011_718_8])
        .chain([f32::MAX, f32::MIN_POSITIVE, -1e-39, f32::from_bits(0x7f80_0001)])
        .collect();
        let mut rounded = vec![Bf16::default(); values.len()];
        round(Usable::best(), &values, &mut rounded);
        for (x, rounded) in values.iter().zip(rounded) {
            assert_eq!(rounded, Bf16::from_f32(*x), "{x} {:x}", x.to_bits());
        }
    }
}
