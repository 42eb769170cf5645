//! Relative positions of T5: buckets, and the bias they stand for.
//!
//! A key's offset from its query falls into one of `buckets` buckets: half of
//! them for keys after the query. Of each half, the first half are one position
//! wide, the others grow with the logarithm of the distance up to
//! `distance_max`, and everything farther shares the last one.
//!
//! ```text
//!  32 buckets, distances to 128:  0 1 2 ... 7 | 8-11 | 12-15 | 16-22 | 23-31 | 32-45 | 46-63 | 64-90 | 91 and more
//! ```
//!
//! Distances on the border of two buckets are decided by f32 rounding of the
//! logarithm, so it is rounded here where PyTorch rounds it.
//!
//! Source: arXiv:1910.10683, section 2.1, as transformers 5.17 computes it.

/// The bias `[heads * tokens, tokens]` from a layer's table `[buckets, heads]`;
/// `offsets` as [`offsets`] gives them.
pub(super) fn bias(table: &[f32], heads: usize, offsets: &[usize], tokens: usize) -> Vec<f32> {
    let mut bias = Vec::with_capacity(heads * tokens * tokens);
    for head in 0..heads {
        let by_offset: Vec<f32> =
            offsets.iter().map(|bucket| table[bucket * heads + head]).collect();
        for query in 0..tokens {
            // Offset `key - query` stands at `key - query + tokens - 1`.
            bias.extend_from_slice(&by_offset[tokens - 1 - query..][..tokens]);
        }
    }
    bias
}

/// Bucket of every offset `key - query` from `1 - tokens` to `tokens - 1`.
pub(super) fn offsets(tokens: usize, buckets: usize, distance_max: usize) -> Vec<usize> {
    let half = buckets / 2;
    let before = (1..tokens).rev().map(|distance| bucket(distance, half, distance_max));
    let after = (1..tokens).map(|distance| half + bucket(distance, half, distance_max));
    before.chain((0..tokens.min(1)).map(|_| 0)).chain(after).collect()
}

/// Bucket of a distance within one of the halves.
fn bucket(distance: usize, half: usize, distance_max: usize) -> usize {
    let exact = half / 2;
    if distance < exact {
        return distance;
    }
    #[expect(clippy::cast_precision_loss, reason = "token counts are far below 2^24")]
    let (distance, exact_wide, distance_max) = (distance as f32, exact as f32, distance_max as f64);
    let range = libm::log(distance_max / f64::from(exact_wide));
    let ratio = round(libm::log(f64::from(distance / exact_wide))) / round(range);
    #[expect(clippy::cast_precision_loss, reason = "buckets are few")]
    let steps = ratio * (half - exact) as f32;
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "truncation is meant, distances are not below `exact`"
    )]
    let wide = exact + steps as usize;
    wide.min(half.saturating_sub(1))
}

#[expect(clippy::cast_possible_truncation, reason = "PyTorch's logarithm is f32")]
fn round(x: f64) -> f32 {
    x as f32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_those_of_transformers() {
        // First distance of every bucket, from UMT5Attention._relative_position_bucket
        // of transformers 5.17 over distances 0 to 2047.
        let first_distances: [(usize, usize, &[usize]); 4] = [
            (32, 128, &[0, 1, 2, 3, 4, 5, 6, 7, 8, 12, 16, 23, 32, 46, 64, 91]),
            (8, 20, &[0, 1, 2, 7]),
            (
                64,
                512,
                &[
                    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 20, 25, 31, 39, 48,
                    59, 73, 91, 113, 140, 174, 216, 268, 332, 413,
                ],
            ),
            (6, 40, &[0, 1, 7]),
        ];
        for (buckets, distance_max, firsts) in first_distances {
            let offsets = offsets(2048, buckets, distance_max);
            let (before, after) = offsets.split_at(2047);
            let before: Vec<usize> = before.iter().rev().copied().collect();
            for (distance, &bucket) in before.iter().enumerate().map(|(i, b)| (i + 1, b)) {
                let want = firsts.iter().filter(|&&first| first <= distance).count() - 1;
                assert_eq!(bucket, want, "distance {distance} of {buckets} buckets");
                assert_eq!(after[distance], buckets / 2 + bucket);
            }
            assert_eq!(after[0], 0);
        }
    }

    #[test]
    fn bias_is_the_tables_value_for_head_query_and_key() {
        let (heads, tokens) = (3, 5);
        let offsets = offsets(tokens, 8, 20);
        let table: Vec<f32> = (0..8 * 3).map(|i| i as f32).collect();

        let bias = bias(&table, heads, &offsets, tokens);

        for (index, &value) in bias.iter().enumerate() {
            let (head, query, key) =
                (index / tokens / tokens, index / tokens % tokens, index % tokens);
            let bucket = offsets[key + tokens - 1 - query];
            assert_eq!(value, (bucket * heads + head) as f32);
        }
    }

    #[test]
    fn empty_text_and_two_buckets_are_no_fault() {
        assert_eq!(offsets(0, 32, 128), [0; 0]);
        assert_eq!(offsets(3, 2, 128), [0, 0, 0, 1, 1]);
        assert!(bias(&[], 2, &[], 0).is_empty());
    }
}
