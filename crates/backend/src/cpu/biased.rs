//! Attention with an additive bias, as T5's encoders have it.
//!
//! ```text
//! task = one head     keys that are seen -> panels of keys, panels of values
//!   per 12 queries    scores  = bias + q k      12 rows of all keys, 24 KB at 512
//!                     weights = exp(scores - largest)
//!                     out     = weights v / sum of weights
//! ```
//!
//! A prompt has a few hundred tokens at most, so a row of scores is held whole:
//! nothing is gained by a running softmax. Everything is f32 in every class;
//! only the output is rounded.
//!
//! Invariant: a key that is not seen is left out, so a row's result has the
//! same bits whether a prompt was padded or not. If no key is seen, the output
//! is zero. No task shares an output or a sum with another.

use std::ops::Range;

use crate::{
    cpu::{
        Cpu, lanes,
        level::{Usable, multiversion},
        panel::Panels,
        tensor::{Data, Matrix, Parts, Stored},
        tile::{Bf16, COLUMNS, Factors, Line, Sums, VECTOR_ROWS, multiply},
    },
    seam::Tensor,
};

/// Queries that are worked on together: rows of a tile.
const ROWS: usize = VECTOR_ROWS;

/// See [`crate::Backend::attend_biased`].
pub(super) fn attend(
    cpu: &Cpu,
    qkv: &Matrix,
    heads: usize,
    bias: &Matrix,
    mask: &[bool],
    out: &mut Matrix,
) {
    let (tokens, stride) = (qkv.rows(), qkv.columns());
    assert!(stride.is_multiple_of(3 * heads), "queries, keys and values of {heads} heads");
    assert_eq!((bias.rows(), bias.columns()), (heads * tokens, tokens), "bias of every head");
    assert_eq!(mask.len(), tokens, "mask over the keys");
    assert_eq!((out.rows(), out.columns()), (tokens, stride / 3), "attended rows");
    let seen = mask.iter().enumerate().filter(|&(_, &seen)| seen).map(|(key, _)| key).collect();
    let work = Work {
        level: cpu.level,
        qkv: qkv.f32s(),
        bias: bias.f32s(),
        seen,
        tokens,
        stride,
        width: stride / (3 * heads),
    };
    match &mut out.data {
        Data::F32(out) => work.run::<f32>(cpu, heads, out),
        Data::Bf16(out) => work.run::<Bf16>(cpu, heads, out),
    }
}

/// What all heads share.
struct Work<'a> {
    level: Usable,
    qkv: &'a [f32],
    bias: &'a [f32],
    /// Keys that are seen, ascending.
    seen: Vec<usize>,
    tokens: usize,
    /// Columns of `qkv`: queries, keys and values of all heads.
    stride: usize,
    /// Width of a head.
    width: usize,
}

impl Work<'_> {
    fn run<E: Stored>(&self, cpu: &Cpu, heads: usize, out: &mut [E]) {
        let parts = Parts::new(out);
        cpu.pool.run(heads, &|head| {
            self.head(head, |row, columns, line| {
                let first = row * self.stride / 3 + head * self.width;
                // SAFETY: the head's own columns belong to this task alone.
                let out = unsafe { parts.part(first + columns.start..first + columns.end) };
                E::round(self.level, line, out);
            });
        });
    }

    /// Attends one head; `store` takes a row, some columns of the head, and their values.
    fn head(&self, head: usize, store: impl Fn(usize, Range<usize>, &[f32])) {
        let keys = self.seen.len();
        let at = |part: usize, token: usize, channel: usize| {
            self.qkv[token * self.stride + part * self.stride / 3 + head * self.width + channel]
        };
        let room = "memory for a prompt's keys";
        let key_panels = Panels::<f32>::pack(keys, self.width, |key, i| at(1, self.seen[key], i));
        let key_panels = key_panels.expect(room);
        let value_panels = Panels::<f32>::pack(self.width, keys, |i, key| at(2, self.seen[key], i));
        let value_panels = value_panels.expect(room);
        let padded = keys.next_multiple_of(COLUMNS);
        let mut scores = vec![0.0; ROWS * padded];
        for first in (0..self.tokens).step_by(ROWS) {
            let rows = first..self.tokens.min(first + ROWS);
            self.score(head, rows.clone(), &key_panels, padded, &mut scores);
            let mut inverses = [0.0; ROWS];
            for (row, inverse) in inverses.iter_mut().enumerate().take(rows.len()) {
                let total = soften(self.level, &mut scores[row * padded..][..keys]);
                *inverse = if keys == 0 { 0.0 } else { 1.0 / total };
            }
            for panel in 0..value_panels.count() {
                let (values, columns, range) = value_panels.panel(panel);
                let mut sums = [Line::ZERO; ROWS];
                let sums = &mut sums[..rows.len()];
                let (a, k, b) = (&scores[..], keys, values);
                let factors = Factors { a, row_stride: padded, taps: &[0], k, b, columns };
                multiply(self.level, factors, Sums::lines(sums));
                for (row, (sums, inverse)) in rows.clone().zip(sums.iter_mut().zip(inverses)) {
                    let line = &mut sums.0[..range.len()];
                    lanes::scale(self.level, line, inverse);
                    store(row, range.clone(), line);
                }
            }
        }
    }

    /// Scores of some queries: the bias, then the products on top of it.
    fn score(
        &self,
        head: usize,
        rows: Range<usize>,
        key_panels: &Panels<f32>,
        padded: usize,
        scores: &mut [f32],
    ) {
        for panel in 0..key_panels.count() {
            let (keys, columns, range) = key_panels.panel(panel);
            let mut sums = [Line::ZERO; ROWS];
            let sums = &mut sums[..rows.len()];
            for (row, sums) in rows.clone().zip(&mut *sums) {
                let bias = &self.bias[(head * self.tokens + row) * self.tokens..][..self.tokens];
                for (sum, &key) in sums.0.iter_mut().zip(&self.seen[range.clone()]) {
                    *sum = bias[key];
                }
            }
            let factors = Factors {
                a: &self.qkv[rows.start * self.stride + head * self.width..],
                row_stride: self.stride,
                taps: &[0],
                k: self.width,
                b: keys,
                columns,
            };
            multiply(self.level, factors, Sums::lines(sums));
            for (row, sums) in sums.iter().enumerate() {
                let line = &mut scores[row * padded + range.start..][..range.len()];
                line.copy_from_slice(&sums.0[..range.len()]);
            }
        }
    }
}

multiversion! {
    /// Scores become weights, the largest of them 1; returns their sum.
    fn soften(scores: &mut [f32]) -> f32 {
        lanes::soften(scores, lanes::largest(scores, f32::NEG_INFINITY))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        cpu::{level::Level, math},
        seam::Dtype,
    };

    #[test]
    fn result_is_the_softmax_over_the_keys_that_are_seen() {
        for (tokens, heads, width) in [(1, 1, 3), (13, 2, 16), (40, 3, 20), (70, 1, 64)] {
            let case = Case::new(tokens, heads, width);

            let got = case.attend(2, Level::detect());

            let want = case.expected();
            let error = got.iter().zip(&want).map(|(&a, b)| (f64::from(a) - b).abs());
            let worst = error.fold(0.0, f64::max);
            assert!(worst < 1e-5, "{tokens} tokens, {heads} heads of {width}: off by {worst}");
        }
    }

    #[test]
    fn bits_do_not_depend_on_threads_or_instruction_set() {
        let case = Case::new(45, 5, 24);
        let want = case.attend(1, Level::Portable);
        for threads in [1, 3] {
            assert_eq!(case.attend(threads, Level::detect()), want);
        }
    }

    #[test]
    fn padding_changes_no_bit_of_the_rows_before_it() {
        let mut long = Case::new(30, 2, 8);
        long.mask = (0..30).map(|key| key < 17).collect();
        let short = long.first_tokens(17);

        let (long, short) = (long.attend(2, Level::detect()), short.attend(2, Level::detect()));

        assert_eq!(long[..short.len()], short);
    }

    #[test]
    fn nothing_seen_gives_zeros_and_bf16_is_the_rounded_result() {
        let mut case = Case::new(9, 2, 6);
        let exact = case.attend(1, Level::detect());
        let rounded = case.attend_into(1, Level::detect(), Dtype::Bf16);
        for (exact, rounded) in exact.iter().zip(rounded) {
            assert_eq!(math::from_bf16(math::to_bf16(*exact)), rounded);
        }

        case.mask.fill(false);
        assert!(case.attend(1, Level::detect()).iter().all(|&x| x == 0.0));
    }

    struct Case {
        tokens: usize,
        heads: usize,
        width: usize,
        qkv: Vec<f32>,
        bias: Vec<f32>,
        mask: Vec<bool>,
    }

    impl Case {
        fn new(tokens: usize, heads: usize, width: usize) -> Self {
            let wave = |len: usize, step: usize| -> Vec<f32> {
                (0..len).map(|i| (i * step % 1013) as f32 / 506.5 - 1.0).collect()
            };
            let qkv = wave(tokens * 3 * heads * width, 7919);
            let bias = wave(heads * tokens * tokens, 6151).iter().map(|x| 3.0 * x).collect();
            let mask = (0..tokens).map(|key| key % 5 != 3).collect();
            Self { tokens, heads, width, qkv, bias, mask }
        }

        fn attend(&self, threads: usize, level: Level) -> Vec<f32> {
            self.attend_into(threads, level, Dtype::F32)
        }

        fn attend_into(&self, threads: usize, level: Level, dtype: Dtype) -> Vec<f32> {
            let Self { tokens, heads, width, .. } = *self;
            let qkv = Matrix::from_f32(tokens, 3 * heads * width, &self.qkv, Dtype::F32).unwrap();
            let bias = Matrix::from_f32(heads * tokens, tokens, &self.bias, Dtype::F32).unwrap();
            let stale = vec![7.0; tokens * heads * width];
            let mut out = Matrix::from_f32(tokens, heads * width, &stale, dtype).unwrap();
            attend(&Cpu::f32_at(threads, level), &qkv, heads, &bias, &self.mask, &mut out);
            out.to_f32()
        }

        /// The same, of the first tokens only.
        fn first_tokens(&self, tokens: usize) -> Self {
            let rows = 0..self.heads * self.tokens;
            let bias = rows
                .filter(|row| row % self.tokens < tokens)
                .flat_map(|row| self.bias[row * self.tokens..][..tokens].to_vec());
            Self {
                tokens,
                heads: self.heads,
                width: self.width,
                qkv: self.qkv[..tokens * 3 * self.heads * self.width].to_vec(),
                bias: bias.collect(),
                mask: self.mask[..tokens].to_vec(),
            }
        }

        /// The formula in f64.
        fn expected(&self) -> Vec<f64> {
            let (tokens, inner) = (self.tokens, self.heads * self.width);
            let at = |part: usize, token: usize, channel: usize| {
                f64::from(self.qkv[token * 3 * inner + part * inner + channel])
            };
            let mut out = vec![0.0; tokens * inner];
            for head in 0..self.heads {
                let channels = head * self.width..(head + 1) * self.width;
                for row in 0..tokens {
                    let weights: Vec<f64> = (0..tokens)
                        .map(|key| {
                            let bias = self.bias[(head * tokens + row) * tokens + key];
                            let product = |i| at(0, row, i) * at(1, key, i);
                            let score = channels.clone().map(product).sum::<f64>();
                            if self.mask[key] { (score + f64::from(bias)).exp() } else { 0.0 }
                        })
                        .collect();
                    let total: f64 = weights.iter().sum();
                    for i in channels.clone() {
                        let weighted = weights.iter().enumerate().map(|(key, w)| w * at(2, key, i));
                        out[row * inner + i] = weighted.sum::<f64>() / total;
                    }
                }
            }
            out
        }
    }
}
