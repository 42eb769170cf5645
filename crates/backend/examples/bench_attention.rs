//! Speed of attention over cached rows, in every class of this machine.
//!
//! ```text
//! cargo run --release -p filmloom-backend --example bench_attention -- [threads]
//! ```
//!
//! A row is one call: milliseconds of the best of some runs, and GFLOP/s of the
//! scores and the weighted sums alone (two operations per factor), so that what
//! the making of keys and values costs shows as a lower rate. `mini` is the
//! embedded model's window; `wan` are two heads of one frame's queries at 480x832
//! over four frames.

#![expect(clippy::print_stdout, reason = "a benchmark's output")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::{error::Error, time::Instant};

use backend::{Backend, Cpu, Heads, Keys, MlaPath, MlaShape, Weight};
use types::{Axis, Positions, Rope};

/// Name, queries, keys, tokens of a frame (rows and columns), widths, and the
/// path of latent attention (dense without one).
type Case = (&'static str, usize, usize, [usize; 2], MlaShape, Option<MlaPath>);

const MINI: MlaShape = MlaShape { heads: 6, kv_rank: 40, nope: 48, rope: 16, value: 64 };
const WAN: MlaShape = MlaShape { heads: 2, kv_rank: 192, nope: 96, rope: 32, value: 128 };

const CASES: [Case; 6] = [
    ("mini dense", 192, 1536, [8, 8], MINI, None),
    ("mini rebuilt", 192, 1536, [8, 8], MINI, Some(MlaPath::Rebuild)),
    ("mini absorbed", 192, 1536, [8, 8], MINI, Some(MlaPath::Absorb)),
    ("wan dense", 1560, 6240, [30, 52], WAN, None),
    ("wan rebuilt", 1560, 6240, [30, 52], WAN, Some(MlaPath::Rebuild)),
    ("wan absorbed", 1560, 6240, [30, 52], WAN, Some(MlaPath::Absorb)),
];

fn main() -> Result<(), Box<dyn Error>> {
    let threads = std::env::args().nth(1).map_or(Ok(1), |threads| threads.parse())?;
    println!("attention on {threads} threads            ms  GFLOP/s");
    for class in Cpu::classes() {
        let cpu = Cpu::new(class, threads)?;
        for case in &CASES {
            let (seconds, rate) = measure(&cpu, case)?;
            println!("{:16} {:14} {:9.3} {rate:8.0}", class.name(), case.0, seconds * 1e3);
        }
    }
    Ok(())
}

fn measure(cpu: &Cpu, case: &Case) -> Result<(f64, f64), Box<dyn Error>> {
    let &(_, tokens, keys, [rows, columns], shape, path) = case;
    let MlaShape { heads, kv_rank, nope, rope, value } = shape;
    let dtype = cpu.class().activation();
    let head_dim = nope + rope;
    let (row, turned, scored, weighted) = match path {
        None => (heads * (head_dim + value), head_dim, head_dim, value),
        Some(MlaPath::Rebuild) => (kv_rank + rope, rope, head_dim, value),
        Some(MlaPath::Absorb) => (kv_rank + rope, rope, kv_rank + rope, kv_rank),
    };
    let pairs = turned / 2;
    let axes = [pairs - 2 * (pairs / 3), pairs / 3, pairs / 3];
    let rope = Rope { axes: axes.map(|n| Axis::full(n, 1e4)), positions: Positions::Absolute };
    let frames: Vec<f64> = (0..u32::try_from(keys / (rows * columns))?).map(f64::from).collect();
    let rotation = cpu.rotation(&rope, &frames, rows, columns)?;
    let queries = cpu.upload(tokens, heads * head_dim, &wave(tokens * heads * head_dim), dtype)?;
    let cache = cpu.upload(keys, row, &wave(keys * row), dtype)?;
    let (k_up, v_up) = (wave(heads * nope * kv_rank), wave(heads * value * kv_rank));
    let k_up = Weight { n: heads * nope, k: kv_rank, values: &k_up };
    let v_up = Weight { n: heads * value, k: kv_rank, values: &v_up };
    let mla = path.map(|path| cpu.load_mla(shape, path, k_up, v_up)).transpose()?;
    let mut out = cpu.zeros(tokens, heads * value, dtype)?;
    let window = 0..keys;
    let attended =
        Keys { cache: &cache, segments: std::slice::from_ref(&window), rotation: Some(&rotation) };
    let seconds = best(|| {
        let heads = mla.as_ref().map_or(Heads::Dense { heads, head_dim }, Heads::Mla);
        cpu.attend(&queries, heads, &attended, &mut out);
    });
    let operations = 2 * tokens * keys * heads * (scored + weighted);
    Ok((seconds, operations as f64 / seconds / 1e9))
}

/// The shortest of some runs, in seconds.
fn best(mut run: impl FnMut()) -> f64 {
    let start = Instant::now();
    let mut best = f64::INFINITY;
    let mut runs = 0;
    while runs < 3 || (start.elapsed().as_secs_f64() < 0.4 && runs < 200) {
        let start = Instant::now();
        run();
        best = best.min(start.elapsed().as_secs_f64());
        runs += 1;
    }
    best
}

fn wave(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 1013) as f32 / 506.5 - 1.0).collect()
}
