//! Every CPU kernel against a plain f64 version, and against itself on other
//! instruction sets and thread counts.

#![expect(clippy::unwrap_used, reason = "a test may panic")]

use backend::{
    Backend, Cpu, Dtype, Epilogue, FinishQueries, Heads, Keys, MlaPath, MlaShape, PatchGrid,
    ScaleShift, Weight,
    cpu::{Matrix, level::Level},
};
use types::{Axis, Positions, Rope};

/// Backends whose results must be the same to the bit.
fn f32_family() -> Vec<Cpu> {
    let levels = [Level::Avx2, Level::Avx512, Level::Avx512Bf16, Level::Amx];
    let others = levels.into_iter().map(|level| Cpu::f32_at(1, level));
    [Cpu::f32_at(1, Level::Portable), Cpu::f32(3)].into_iter().chain(others).collect()
}

/// Runs `f` on every backend of the f32 class; all must agree exactly with the
/// first, which must be close to `exact`. Then in bf16, within its precision.
fn check(exact: &[f64], f: impl Fn(&Cpu) -> Matrix) {
    let family = f32_family();
    let first = family[0].download(&f(&family[0])).unwrap();
    for cpu in &family[1..] {
        assert_eq!(cpu.download(&f(cpu)).unwrap(), first, "{:?} x{}", cpu.level(), cpu.threads());
    }
    assert!(distance(&first, exact) < 2e-6, "f32 is off by {}", distance(&first, exact));
    for class in Cpu::classes().filter(|class| class.activation() == Dtype::Bf16) {
        let cpu = Cpu::new(class, 2).unwrap();
        let rounded = cpu.download(&f(&cpu)).unwrap();
        let distance = distance(&rounded, exact);
        assert!(distance < 1.5e-2, "{} is off by {distance}", class.name());
        let alone = Cpu::new(class, 1).unwrap();
        assert_eq!(alone.download(&f(&alone)).unwrap(), rounded, "{} alone", class.name());
    }
}

fn distance(x: &[f32], exact: &[f64]) -> f64 {
    assert_eq!(x.len(), exact.len());
    let error: f64 = x.iter().zip(exact).map(|(&x, e)| (f64::from(x) - e).powi(2)).sum();
    (error / exact.iter().map(|e| e * e).sum::<f64>()).sqrt()
}

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
fn norms_match() {
    let (rows, n, frames) = (15, 50, 3);
    let (x, table, weight) = (wave(rows * n, 1), wave(frames * 4 * n, 2), wave(n, 3));
    let row = |i: usize| &x[i / n * n..][..n];
    let normal = |i: usize| {
        let mean = row(i).iter().map(|&x| wide(x)).sum::<f64>() / n as f64;
        let variance = row(i).iter().map(|&x| (wide(x) - mean).powi(2)).sum::<f64>() / n as f64;
        (wide(x[i]) - mean) / (variance + 1e-6).sqrt()
    };
    let slot = |i: usize, slot: usize| wide(table[i / n / 5 * 4 * n + slot * n + i % n]);
    let exact: Vec<f64> =
        (0..rows * n).map(|i| normal(i) * (1.0 + slot(i, 3)) + slot(i, 1)).collect();
    check(&exact, |cpu| {
        let input = cpu.upload(rows, n, &x, Dtype::F32).unwrap();
        let table = cpu.upload(frames, 4 * n, &table, Dtype::F32).unwrap();
        let mut out = cpu.zeros(rows, n, cpu.class().activation()).unwrap();
        let modulated = ScaleShift::Modulated { table: &table, shift: 1, scale: 3 };
        cpu.layer_norm(&input, modulated, 1e-6, &mut out);
        out
    });
    // The first 40 columns are normed, the rest copied, three rows down.
    let mut exact = vec![0.0; (rows + 3) * n];
    for i in 0..rows * n {
        let square = row(i)[..40].iter().map(|&x| wide(x).powi(2)).sum::<f64>() / 40.0;
        let scale = wide(weight[i % n]) / (square + 1e-6).sqrt();
        exact[i + 3 * n] = wide(x[i]) * if i % n < 40 { scale } else { 1.0 };
    }
    check(&exact, |cpu| {
        let input = cpu.upload(rows, n, &x, Dtype::F32).unwrap();
        let weight = cpu.upload(1, 40, &weight[..40], Dtype::F32).unwrap();
        let mut out = cpu.zeros(rows + 3, n, cpu.class().activation()).unwrap();
        cpu.rms_norm(&input, &weight, 1e-6, &mut out, 3);
        out
    });
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

#[test]
fn patches_come_back_and_stand_in_the_documented_order() {
    let cpu = Cpu::f32(1);
    let grid =
        PatchGrid { channels: 2, frames: 2, rows: 2, columns: 3, patch_rows: 2, patch_columns: 2 };
    let values: Vec<f32> = (0..96).map(|i| i as f32).collect();
    let frames = cpu.upload(2, 48, &values, Dtype::F32).unwrap();
    let mut patches = cpu.zeros(12, 8, Dtype::F32).unwrap();
    cpu.patchify(&frames, grid, &mut patches);
    let patched = cpu.download(&patches).unwrap();
    // Token 1 of frame 0 starts at column 2; channel 1 follows channel 0.
    assert_eq!(patched[8..16], [2.0, 3.0, 8.0, 9.0, 50.0, 51.0, 56.0, 57.0]);

    // The head's order is (row, column, channel).
    let head: Vec<f32> = patched
        .chunks_exact(8)
        .flat_map(|patch| (0..8).map(|i| patch[i % 2 * 4 + i / 2]))
        .collect();
    let head = cpu.upload(12, 8, &head, Dtype::F32).unwrap();
    let mut back = cpu.zeros(2, 48, Dtype::F32).unwrap();
    cpu.unpatchify(&head, grid, &mut back);
    assert_eq!(cpu.download(&back).unwrap(), values);
}

#[test]
fn rows_come_back_byte_for_byte() {
    for dtype in [Dtype::F32, Dtype::Bf16] {
        let cpu = Cpu::f32(1);
        let from = cpu.upload(9, 5, &wave(45, 1), dtype).unwrap();
        let bytes = cpu.read_rows(&from, 2..7).unwrap();
        assert_eq!(bytes.len(), 5 * 5 * dtype.bytes());
        let mut to = cpu.zeros(9, 5, dtype).unwrap();
        cpu.write_rows(&mut to, 4, &bytes);
        assert_eq!(cpu.read_rows(&to, 4..9).unwrap(), bytes);
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

/// Values in [-1, 1] that bf16 holds exactly, so that both classes start alike.
fn wave(len: usize, seed: usize) -> Vec<f32> {
    (0..len).map(|i| ((i * 7919 + seed * 104_729) % 251) as f32 / 128.0 - 0.976_562_5).collect()
}

fn wide(x: f32) -> f64 {
    f64::from(x)
}

fn all_wide(x: &[f32]) -> Vec<f64> {
    x.iter().map(|&x| wide(x)).collect()
}
