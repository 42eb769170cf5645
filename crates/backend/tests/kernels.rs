//! Products and attention against plain f64 versions, and against themselves on
//! other instruction sets and thread counts. Row-wise operations and frames are
//! in `rows.rs`, convolutions in `src/cpu/conv/tests.rs`.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use backend::{
    Backend, ConvKind, Cpu, Dtype, Epilogue, Error, FinishQueries, Heads, Keys, MlaPath, MlaShape,
    Weight,
};
use types::{Axis, Positions, Rope};

use support::{check, wave, wide};

#[test]
fn linear_layers_match_for_every_epilogue() {
    for (m, n, k) in [(1, 1, 2), (25, 70, 34), (13, 48, 64), (250, 33, 6)] {
        let (x, w, b) = (wave(m * k, 1), wave(n * k, 2), wave(n, 3));
        let (old, factor) = (wave(m * n, 4), wave(m * n, 5));
        let frames = if m % 5 == 0 { 5 } else { 1 };
        let gates = wave(frames * 2 * n, 6);
        let sum = |i: usize| -> f64 {
            let (r, c) = (i / n, i % n);
            wide(b[c]) + (0..k).map(|p| wide(x[r * k + p]) * wide(w[c * k + p])).sum::<f64>()
        };
        let all =
            |f: &dyn Fn(usize, f64) -> f64| (0..m * n).map(|i| f(i, sum(i))).collect::<Vec<_>>();
        let run = |cpu: &Cpu, which: usize| {
            let input = cpu.upload(m, k, &x, cpu.class().activation()).unwrap();
            let layer = cpu
                .load_linear(Weight { n, k, values: &w }, Some(&b), cpu.class().activation())
                .unwrap();
            let mut out = cpu.upload(m, n, &old, Dtype::F32).unwrap();
            let factor = cpu.upload(m, n, &factor, Dtype::F32).unwrap();
            let table = cpu.upload(frames, 2 * n, &gates, Dtype::F32).unwrap();
            let epilogue = match which {
                0 => Epilogue::Store,
                1 => Epilogue::Gelu,
                2 => Epilogue::Silu,
                3 => Epilogue::Mul(&factor),
                4 => Epilogue::Add,
                _ => Epilogue::AddGated { table: &table, slot: 1 },
            };
            cpu.linear(&input, &layer, epilogue, &mut out);
            out
        };
        let gelu = |x: f64| {
            0.5 * x * (1.0 + (0.797_884_560_802_865_4 * (x + 0.044_715 * x.powi(3))).tanh())
        };
        check(&all(&|_, y| y), |cpu| run(cpu, 0));
        check(&all(&|_, y| gelu(y)), |cpu| run(cpu, 1));
        check(&all(&|_, y| y / (1.0 + (-y).exp())), |cpu| run(cpu, 2));
        check(&all(&|i, y| y * wide(factor[i])), |cpu| run(cpu, 3));
        check(&all(&|i, y| y + wide(old[i])), |cpu| run(cpu, 4));
        let gate = |i: usize| wide(gates[i / n / (m / frames) * 2 * n + n + i % n]);
        check(&all(&|i, y| y * gate(i) + wide(old[i])), |cpu| run(cpu, 5));
    }
}

#[test]
fn linear_layers_round_into_the_activation_dtype() {
    let (m, n, k) = (40, 45, 50);
    let (x, w) = (wave(m * k, 1), wave(n * k, 2));
    let exact: Vec<f64> = (0..m * n)
        .map(|i| (0..k).map(|p| wide(x[i / n * k + p]) * wide(w[i % n * k + p])).sum())
        .collect();
    check(&exact, |cpu| {
        let activation = cpu.class().activation();
        let input = cpu.upload(m, k, &x, activation).unwrap();
        let layer = cpu.load_linear(Weight { n, k, values: &w }, None, activation).unwrap();
        let mut out = cpu.zeros(m, n, activation).unwrap();
        cpu.linear(&input, &layer, Epilogue::Store, &mut out);
        out
    });
}

#[test]
fn odd_widths_are_an_error_in_bf16_and_none_in_f32() {
    let (n, k) = (6, 7);
    let weight = wave(n * k, 1);
    let weight = Weight { n, k, values: &weight };
    let shape = MlaShape { heads: 2, kv_rank: k, nope: 3, rope: 2, value: 3 };
    for cpu in Cpu::classes().map(|class| Cpu::new(class, 1).unwrap()) {
        let activation = cpu.class().activation();
        let layer = cpu.load_linear(weight, None, activation).map(|_| ());
        let mla = cpu.load_mla(shape, MlaPath::Rebuild, weight, weight).map(|_| ());
        let expected = match activation {
            Dtype::F32 => Ok(()),
            Dtype::Bf16 => Err(Error::OddWidth { width: k }),
        };
        assert_eq!((layer, mla), (expected.clone(), expected), "{}", cpu.class().name());
        assert!(cpu.load_linear(weight, None, Dtype::F32).is_ok());
    }
}

#[test]
fn loaded_weights_hold_at_least_their_own_values() {
    let (n, k) = (40, 54);
    let weight = wave(n * k, 1);
    let weight = Weight { n, k, values: &weight };
    let shape = MlaShape { heads: 2, kv_rank: k, nope: 20, rope: 4, value: 20 };
    for cpu in Cpu::classes().map(|class| Cpu::new(class, 1).unwrap()) {
        let activation = cpu.class().activation();
        let least = (n * k * activation.bytes()) as u64;
        let layer = cpu.load_linear(weight, None, activation).unwrap();
        let mla = cpu.load_mla(shape, MlaPath::Absorb, weight, weight).unwrap();
        let conv = cpu.load_conv(ConvKind::Causal3, weight, &wave(n, 2)).unwrap();
        assert!((least..4 * least).contains(&cpu.linear_bytes(&layer)));
        assert!((2 * least..8 * least).contains(&cpu.mla_bytes(&mla)));
        assert!((least..4 * least).contains(&cpu.conv_bytes(&conv)));
    }
}

#[test]
fn queries_are_normed_turned_and_scaled_whichever_axes_have_pairs() {
    let (tokens, heads, head_dim) = (12, 3, 10);
    let n = heads * head_dim;
    let (x, weight) = (wave(tokens * n, 1), wave(n, 2));
    for (pairs, normed) in [([0, 2, 2], false), ([2, 0, 2], true), ([2, 2, 0], true)] {
        let rope = rope(pairs);
        let frames = [2.0, 5.0, 6.0];
        let exact: Vec<f64> = (0..tokens * heads)
            .flat_map(|vector| {
                let (token, head) = (vector / heads, vector % heads);
                let row = &x[token * n..][..n];
                let square = row.iter().map(|&x| wide(x).powi(2)).sum::<f64>() / n as f64;
                let scaled = (head * head_dim..(head + 1) * head_dim).map(|i| match normed {
                    true => wide(row[i]) / (square + 1e-6).sqrt() * wide(weight[i]),
                    false => wide(row[i]),
                });
                let scaled: Vec<f64> = scaled.collect();
                let turned = turn(&rope, &frames, token + 6, &scaled[2..]);
                scaled[..2].iter().copied().chain(turned).map(|x| x * 0.5).collect::<Vec<_>>()
            })
            .collect();
        check(&exact, |cpu| {
            let x = cpu.upload(tokens, n, &x, Dtype::F32).unwrap();
            let weight = cpu.upload(1, n, &weight, Dtype::F32).unwrap();
            let rotation = cpu.rotation(&rope, &frames, 2, 3).unwrap();
            let mut out = cpu.zeros(tokens, n, cpu.class().activation()).unwrap();
            let finish = FinishQueries {
                norm: normed.then_some((&weight, 1e-6)),
                head_dim,
                rotation: Some((&rotation, 6, 8)),
                scale: 0.5,
            };
            cpu.finish_queries(&x, &finish, &mut out);
            out
        });
    }
}

#[test]
fn dense_attention_matches_over_a_window_with_gaps() {
    for (tokens, heads, head_dim, segments) in [
        (30, 2, 16, vec![0..6, 30..54, 60..90]),
        (6, 1, 6, std::iter::once(0..6).collect()),
        (18, 3, 12, vec![6..12, 12..300]),
        (9, 2, 7, vec![0..1, 18..47]),
    ] {
        let cache_rows = 300;
        let n = heads * head_dim;
        let (q, cache) = (wave(tokens * n, 1), wave(cache_rows * 2 * n, 2));
        let keys: Vec<usize> = segments.iter().cloned().flatten().collect();
        // A head of odd width has no pairs to turn.
        let is_turned = head_dim % 2 == 0;
        let rope = rope([head_dim / 2 - 2, 1, 1]);
        let frames: Vec<f64> = (0..keys.len() / 6).map(|f| 3.0 + f as f64).collect();
        let turn = |token: usize, x: &[f32]| match is_turned {
            true => turn(&rope, &frames, token, &all_wide(x)),
            false => all_wide(x),
        };
        let first = keys.len() - tokens.min(keys.len());
        let exact = attention(
            tokens,
            heads,
            head_dim,
            keys.len(),
            &|t, h| turn(first + t, &q[t * n + h * head_dim..][..head_dim]),
            &|key, h| {
                let row = &cache[keys[key] * 2 * n..][..2 * n];
                let value = all_wide(&row[n + h * head_dim..][..head_dim]);
                (turn(key, &row[h * head_dim..][..head_dim]), value)
            },
        );
        check(&exact, |cpu| {
            let activation = cpu.class().activation();
            let rotation = cpu.rotation(&rope, &frames, 2, 3).unwrap();
            let queries = cpu.upload(tokens, n, &q, Dtype::F32).unwrap();
            let mut finished = cpu.zeros(tokens, n, activation).unwrap();
            let finish = FinishQueries {
                norm: None,
                head_dim,
                rotation: is_turned.then_some((&rotation, first, head_dim)),
                scale: 1.0 / (head_dim as f32).sqrt(),
            };
            cpu.finish_queries(&queries, &finish, &mut finished);
            let cache = cpu.upload(cache_rows, 2 * n, &cache, activation).unwrap();
            let keys = Keys {
                cache: &cache,
                segments: &segments,
                rotation: is_turned.then_some(&rotation),
            };
            let mut out = cpu.zeros(tokens, n, activation).unwrap();
            cpu.attend(&finished, Heads::Dense { heads, head_dim }, &keys, &mut out);
            out
        });
    }
}

#[test]
fn latent_attention_matches_rebuilt_and_absorbed() {
    for shape in [
        MlaShape { heads: 3, kv_rank: 10, nope: 6, rope: 8, value: 12 },
        MlaShape { heads: 1, kv_rank: 40, nope: 48, rope: 16, value: 64 },
        MlaShape { heads: 2, kv_rank: 36, nope: 4, rope: 6, value: 34 },
    ] {
        let MlaShape { heads, kv_rank, nope, rope: rope_dim, value } = shape;
        let (tokens, cache_rows, row) = (18, 200, kv_rank + rope_dim);
        let segments = [0..12, 24..186];
        let keys: Vec<usize> = segments.iter().cloned().flatten().collect();
        let head_dim = nope + rope_dim;
        let (q, cache) = (wave(tokens * heads * head_dim, 1), wave(cache_rows * row, 2));
        let (k_up, v_up) = (wave(heads * nope * kv_rank, 3), wave(heads * value * kv_rank, 4));
        let rope = rope([rope_dim / 2 - 2, 1, 1]);
        let frames: Vec<f64> = (0..keys.len() / 6).map(|f| f as f64).collect();
        let first = keys.len() - tokens;
        let project = |matrix: &[f32], row: usize, content: &[f32]| -> f64 {
            let weights = &matrix[row * kv_rank..][..kv_rank];
            weights.iter().zip(content).map(|(&w, &c)| wide(w) * wide(c)).sum()
        };
        let exact = attention(
            tokens,
            heads,
            value,
            keys.len(),
            &|t, h| {
                let query = &q[(t * heads + h) * head_dim..][..head_dim];
                let (plain, turned) = query.split_at(nope);
                [all_wide(plain), turn(&rope, &frames, first + t, &all_wide(turned))].concat()
            },
            &|key, h| {
                let (content, shared) = cache[keys[key] * row..][..row].split_at(kv_rank);
                let plain = (0..nope).map(|i| project(&k_up, h * nope + i, content));
                let key_row = plain.chain(turn(&rope, &frames, key, &all_wide(shared))).collect();
                (key_row, (0..value).map(|i| project(&v_up, h * value + i, content)).collect())
            },
        );
        for path in [MlaPath::Rebuild, MlaPath::Absorb] {
            check(&exact, |cpu| {
                let activation = cpu.class().activation();
                let rotation = cpu.rotation(&rope, &frames, 2, 3).unwrap();
                let queries = cpu.upload(tokens, heads * head_dim, &q, Dtype::F32).unwrap();
                let mut finished = cpu.zeros(tokens, heads * head_dim, activation).unwrap();
                let finish = FinishQueries {
                    norm: None,
                    head_dim,
                    rotation: Some((&rotation, first, rope_dim)),
                    scale: 1.0 / (head_dim as f32).sqrt(),
                };
                cpu.finish_queries(&queries, &finish, &mut finished);
                let cache = cpu.upload(cache_rows, row, &cache, activation).unwrap();
                let k_up = Weight { n: heads * nope, k: kv_rank, values: &k_up };
                let v_up = Weight { n: heads * value, k: kv_rank, values: &v_up };
                let mla = cpu.load_mla(shape, path, k_up, v_up).unwrap();
                let keys = Keys { cache: &cache, segments: &segments, rotation: Some(&rotation) };
                let mut out = cpu.zeros(tokens, heads * value, activation).unwrap();
                cpu.attend(&finished, Heads::Mla(&mla), &keys, &mut out);
                out
            });
        }
    }
}

/// Softmax attention in f64; `[tokens, heads * value]`.
fn attention(
    tokens: usize,
    heads: usize,
    value: usize,
    keys: usize,
    query: &dyn Fn(usize, usize) -> Vec<f64>,
    key: &dyn Fn(usize, usize) -> (Vec<f64>, Vec<f64>),
) -> Vec<f64> {
    let mut out = vec![0.0; tokens * heads * value];
    for h in 0..heads {
        let rows: Vec<_> = (0..keys).map(|k| key(k, h)).collect();
        for t in 0..tokens {
            let q = query(t, h);
            let scale = 1.0 / (q.len() as f64).sqrt();
            let scores: Vec<f64> = rows
                .iter()
                .map(|(k, _)| (scale * q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>()).exp())
                .collect();
            let total: f64 = scores.iter().sum();
            for (score, (_, v)) in scores.iter().zip(&rows) {
                for (i, v) in v.iter().enumerate() {
                    out[(t * heads + h) * value + i] += score / total * v;
                }
            }
        }
    }
    out
}

/// Rotates pairs for a token of frames with 2 x 3 tokens.
fn turn(rope: &Rope, frames: &[f64], token: usize, x: &[f64]) -> Vec<f64> {
    let places = [frames[token / 6], (token / 3 % 2) as f64, (token % 3) as f64];
    let mut out = Vec::new();
    for (axis, place) in rope.axes.iter().zip(places) {
        for pair in 0..axis.pairs {
            let angle = place * axis.theta.powf(-2.0 * pair as f64 / axis.denominator);
            let (a, b) = (x[out.len()], x[out.len() + 1]);
            out.push(a * angle.cos() - b * angle.sin());
            out.push(a * angle.sin() + b * angle.cos());
        }
    }
    out
}

fn rope(pairs: [usize; 3]) -> Rope {
    let axes = pairs.map(|pairs| Axis { pairs, theta: 100.0, denominator: 9.0 });
    Rope { axes, positions: Positions::Absolute }
}

fn all_wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| wide(x)).collect()
}
