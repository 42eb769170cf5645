//! Random weights: for benchmarks at shapes nobody has weights for.
//!
//! A tensor's values depend on the seed and its name only, so tensors can be
//! made one by one, in any order, on any thread. Matrices and kernels are
//! uniform with variance 1 / fan-in, norm weights lie around 1, biases around
//! 0. Values are BF16, as released weights are.

use half::bf16;

use crate::{Dtype, Tensor};

/// Spread of norm weights around 1 and of biases around 0.
const SMALL: f32 = 0.02;

/// The tensor called `name` under `seed`.
pub(crate) fn tensor(name: &str, shape: &[usize], seed: u64) -> Tensor {
    let elements: usize = shape.iter().product();
    let (centre, radius) = distribution(name, shape);
    let mut state = seed ^ fnv1a(name.as_bytes());
    let mut bytes = vec![0; 2 * elements];
    let (values, _) = bytes.as_chunks_mut::<2>();
    for value in values {
        *value = bf16::from_f32(centre + radius * uniform(&mut state)).to_le_bytes();
    }
    Tensor { dtype: Dtype::Bf16, shape: shape.to_vec(), bytes: bytes.into() }
}

/// Centre and half width of a tensor's values.
fn distribution(name: &str, shape: &[usize]) -> (f32, f32) {
    let is_norm = name.ends_with("gamma") || (name.ends_with("weight") && shape.len() == 1);
    if is_norm {
        return (1.0, SMALL);
    }
    if shape.len() < 2 {
        return (0.0, SMALL);
    }
    // An embedding row is a sum of one term, whatever its width.
    let fan_in = if name == "shared.weight" { 1 } else { shape[1..].iter().product() };
    #[expect(clippy::cast_precision_loss, reason = "a scale need not be exact")]
    let variance = 1.0 / (fan_in as f32).max(1.0);
    // A uniform value in [-r, r) has variance r^2 / 3.
    (0.0, (3.0 * variance).sqrt())
}

/// The next number in [-1, 1), from 24 bits of SplitMix64 (Steele, Lea and
/// Flood, OOPSLA 2014).
fn uniform(state: &mut u64) -> f32 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut mixed = *state;
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^= mixed >> 31;
    let [a, b, c, ..] = mixed.to_le_bytes();
    let bits = u32::from_le_bytes([a, b, c, 0]);
    #[expect(clippy::cast_precision_loss, reason = "24 bits fit an f32")]
    let unit = bits as f32 / (1u32 << 23) as f32;
    unit - 1.0
}

/// The 64-bit FNV-1a hash.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tensor_depends_on_seed_and_name_only() {
        let bits = |name, seed| tensor(name, &[4, 8], seed).to_bf16_bits();
        assert_eq!(bits("a.weight", 1), bits("a.weight", 1));
        assert_ne!(bits("a.weight", 1), bits("a.weight", 2));
        assert_ne!(bits("a.weight", 1), bits("b.weight", 1));
    }

    #[test]
    fn a_product_keeps_the_size_of_its_input() {
        let weight = tensor("blocks.0.ffn.0.weight", &[200, 500], 7).to_f32();
        let mean: f32 = weight.iter().sum::<f32>() / 1e5;
        let variance: f32 = weight.iter().map(|value| value * value).sum::<f32>() / 1e5;
        assert!(mean.abs() < 1e-3, "{mean}");
        // Of 100,000 uniform values the variance is known to about 0.3 %.
        assert!((variance * 500.0 - 1.0).abs() < 0.02, "{variance}");
    }

    #[test]
    fn norms_lie_around_one_and_biases_around_zero() {
        for (name, shape, centre) in [
            ("norm_q.weight", vec![64], 1.0),
            ("decoder.norm_out.gamma", vec![64, 1, 1, 1], 1.0),
            ("head.head.bias", vec![64], 0.0),
        ] {
            let values = tensor(name, &shape, 3).to_f32();
            // BF16 near 1 rounds by up to 2^-9.
            assert!(values.iter().all(|value| (value - centre).abs() < SMALL + 2e-3), "{name}");
            assert!(values.iter().any(|value| *value != centre), "{name}");
        }
    }
}
