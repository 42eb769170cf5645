//! Noise as a pure function of what it is for.
//!
//! A draw is named by seed, chunk, step and domain; every element of it has its
//! own counter. There is no generator state, so nothing migrates with a job and
//! a chunk that is made again is the same chunk. The generator is Philox4x32-10
//! (Salmon et al., SC'11), checked against the known answers published with
//! Random123; normal variates come from the Box-Muller transform in f32 with
//! this crate's own logarithm, cosine and sine, so that every device can
//! compute the same bits.
//!
//! ```text
//! key     = seed (low, high)
//! counter = (element / 4, step, chunk, domain)
//! r0 r1 r2 r3 -> u = (r >> 8) 2^-24 + 2^-25 in (0, 1], ties rounded to even
//! elements 4i, 4i+1 = sqrt(-2 ln u0) * (cos, sin)(2 pi u1); 4i+2, 4i+3 from u2, u3
//! ```

use crate::cpu::math;

/// What a tensor of noise is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Draw {
    /// The job's seed.
    pub seed: u64,
    /// The chunk.
    pub chunk: u32,
    /// The step: 0 for a chunk's first noise, `k` for the noise before step `k`.
    pub step: u32,
    /// The use: 0 for frame tensors.
    pub domain: u32,
}

impl Draw {
    /// The generator's words for elements `4 group` to `4 group + 3`.
    #[inline(always)]
    pub fn words(&self, group: u32) -> [u32; 4] {
        #[expect(clippy::cast_possible_truncation, reason = "the two halves of the seed")]
        let key = [self.seed as u32, (self.seed >> 32) as u32];
        philox4x32_10([group, self.step, self.chunk, self.domain], key)
    }

    /// The noise of elements `4 group` to `4 group + 3`.
    #[inline(always)]
    pub fn normals(&self, group: u32) -> [f32; 4] {
        let uniform = self.words(group).map(uniform);
        let [a, b] = box_muller(uniform[0], uniform[1]);
        let [c, d] = box_muller(uniform[2], uniform[3]);
        [a, b, c, d]
    }
}

#[inline(always)]
fn uniform(r: u32) -> f32 {
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit an f32 exactly")]
    let high = (r >> 8) as f32;
    high.mul_add(1.0 / 16_777_216.0, 1.0 / 33_554_432.0)
}

#[inline(always)]
fn box_muller(u0: f32, u1: f32) -> [f32; 2] {
    let radius = (-2.0 * math::ln(u0)).sqrt();
    let (cosine, sine) = math::cos_sin_turn(u1);
    [radius * cosine, radius * sine]
}

/// Ten rounds of Philox on a 4x32-bit counter.
#[inline(always)]
fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    for _ in 0..10 {
        let left = u64::from(counter[0]) * 0xD251_1F53;
        let right = u64::from(counter[2]) * 0xCD9E_8D57;
        #[expect(clippy::cast_possible_truncation, reason = "low and high words")]
        let words = [(right >> 32) as u32, right as u32, (left >> 32) as u32, left as u32];
        counter =
            [words[0] ^ counter[1] ^ key[0], words[1], words[2] ^ counter[3] ^ key[1], words[3]];
        key = [key[0].wrapping_add(0x9E37_79B9), key[1].wrapping_add(0xBB67_AE85)];
    }
    counter
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generator_gives_the_published_known_answers() {
        let ones = u32::MAX;
        assert_eq!(
            philox4x32_10([0; 4], [0; 2]),
            [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]
        );
        assert_eq!(
            philox4x32_10([ones; 4], [ones; 2]),
            [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]
        );
        assert_eq!(
            philox4x32_10(
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0]
            ),
            [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1]
        );
    }

    #[test]
    fn the_ends_of_the_uniform_range_give_finite_noise() {
        assert_eq!(uniform(0), 1.0 / 33_554_432.0);
        assert_eq!(uniform(u32::MAX), 1.0);
        for ends in [[0.0_f32; 2], [1.0, 1.0], [1.0, 0.0], [0.0, 1.0]] {
            let [u0, u1] = ends.map(|end| if end == 0.0 { uniform(0) } else { uniform(u32::MAX) });
            assert!(box_muller(u0, u1).iter().all(|x| x.is_finite()), "{u0} {u1}");
        }
        assert_eq!(box_muller(uniform(u32::MAX), 0.25).map(f32::abs), [0.0; 2]);
    }

    #[test]
    fn noise_is_standard_normal() {
        let draw = Draw { seed: 7, chunk: 3, step: 1, domain: 0 };
        let values: Vec<f64> = (0..50_000).flat_map(|i| draw.normals(i)).map(f64::from).collect();
        let count = values.len() as f64;
        let moment = |power| values.iter().map(|x| x.powi(power)).sum::<f64>() / count;
        assert!(moment(1).abs() < 0.01, "mean {}", moment(1));
        assert!((moment(2) - 1.0).abs() < 0.02, "variance {}", moment(2));
        assert!((moment(4) - 3.0).abs() < 0.1, "kurtosis {}", moment(4));
    }

    #[test]
    fn every_name_of_a_draw_matters() {
        let draw = Draw { seed: 1, chunk: 1, step: 1, domain: 0 };
        let base = draw.normals(0);
        assert_ne!(base, draw.normals(1));
        assert_ne!(base, Draw { seed: 1 << 32 | 1, ..draw }.normals(0));
        assert_ne!(base, Draw { chunk: 2, ..draw }.normals(0));
        assert_ne!(base, Draw { step: 2, ..draw }.normals(0));
        assert_ne!(base, Draw { domain: 1, ..draw }.normals(0));
    }
}
