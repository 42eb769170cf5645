//! Speed of linear layers with their epilogues, in every class of this machine.
//!
//! ```text
//! cargo run --release -p filmloom-backend --example bench_linear -- [threads]
//! ```
//!
//! A row is one shape of the embedded model (192 tokens of a chunk) or one that
//! shows where the rate breaks down: GFLOP/s of the best of 200 runs when sums
//! are stored, go through GELU and are rounded, or are added to a residual.

#![expect(clippy::print_stdout, reason = "a benchmark's output")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::{error::Error, time::Instant};

use backend::{Backend, Cpu, Dtype, Epilogue, Weight};

/// Rows, inputs and outputs.
const SHAPES: [[usize; 3]; 7] = [
    [192, 64, 256],
    [192, 384, 56],
    [192, 384, 384],
    [192, 384, 1536],
    [192, 1536, 384],
    [960, 384, 256],
    [12, 384, 384],
];

fn main() -> Result<(), Box<dyn Error>> {
    let threads = std::env::args().nth(1).map_or(Ok(1), |threads| threads.parse())?;
    println!("GFLOP/s on {threads} threads         store    gelu     add");
    for class in Cpu::classes() {
        let cpu = Cpu::new(class, threads)?;
        for [m, k, n] in SHAPES {
            let values = wave(n * k);
            let dtype = class.activation();
            let layer = cpu.load_linear(Weight { n, k, values: &values }, None, dtype)?;
            let x = cpu.upload(m, k, &wave(m * k), dtype)?;
            let mut sums = cpu.zeros(m, n, Dtype::F32)?;
            let mut rounded = cpu.zeros(m, n, dtype)?;
            let rate = |seconds: f64| (2 * m * k * n) as f64 / seconds / 1e9;
            println!(
                "{:16} {m:4} x {k:4} x {n:4} {:7.0} {:7.0} {:7.0}",
                class.name(),
                rate(best(|| cpu.linear(&x, &layer, Epilogue::Store, &mut sums))),
                rate(best(|| cpu.linear(&x, &layer, Epilogue::Gelu, &mut rounded))),
                rate(best(|| cpu.linear(&x, &layer, Epilogue::Add, &mut sums))),
            );
        }
    }
    Ok(())
}

/// The shortest of some runs, in seconds.
fn best(mut run: impl FnMut()) -> f64 {
    let mut time = || {
        let start = Instant::now();
        run();
        start.elapsed().as_secs_f64()
    };
    (0..200).map(|_| time()).fold(f64::INFINITY, f64::min)
}

fn wave(len: usize) -> Vec<f32> {
    (0..len).map(|i| (i * 7919 % 1013) as f32 / 506.5 - 1.0).collect()
}
