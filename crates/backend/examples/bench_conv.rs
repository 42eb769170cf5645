//! Speed of every convolution of a decoder, against this machine's peak.
//!
//! ```text
//! cargo run --release -p filmloom-backend --example bench_conv -- [mini|wan] [CLASS] [threads]
//! ```
//!
//! The class is `cpu-f32`, `cpu-bf16-avx512` or `cpu-bf16-amx`; `mini` is the
//! embedded model at 128x128, `wan` a few layers of Wan2.1's VAE at 480x832. A
//! row is one convolution of one picture: operations counted by the definition
//! (two per weight and output, doubled pixels included), the time of the
//! convolution, the rate, its share of the peak, and the time to fill the volume
//! through norm and SiLU. Shares over 100 % are sums of weights saved. The peak
//! is that of a matrix product that stays in cache.

#![expect(clippy::print_stdout, reason = "a benchmark's output")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::{error::Error, time::Instant};

use backend::{Activation, Backend, Class, ConvKind, Cpu, Dtype, Epilogue, Grid, Weight};

/// Name, times it occurs per frame, kind, rows, columns, channels, outputs, whether normed.
type Layer = (&'static str, usize, ConvKind, usize, usize, usize, usize, bool);

const MINI: [Layer; 12] = [
    ("conv_in", 1, ConvKind::Causal3, 16, 16, 12, 64, false),
    ("mid, stage 0", 8, ConvKind::Causal3, 16, 16, 64, 64, true),
    ("time 0", 1, ConvKind::DoubleTime, 16, 16, 64, 128, false),
    ("space 0", 2, ConvKind::DoubleSpace, 16, 16, 64, 32, false),
    ("stage 1 first", 2, ConvKind::Causal3, 32, 32, 32, 64, true),
    ("stage 1", 6, ConvKind::Causal3, 32, 32, 64, 64, true),
    ("time 1", 2, ConvKind::DoubleTime, 32, 32, 64, 128, false),
    ("space 1", 4, ConvKind::DoubleSpace, 32, 32, 64, 32, false),
    ("stage 2", 16, ConvKind::Causal3, 64, 64, 32, 32, true),
    ("space 2", 4, ConvKind::DoubleSpace, 64, 64, 32, 16, false),
    ("stage 3", 16, ConvKind::Causal3, 128, 128, 16, 16, true),
    ("conv_out", 4, ConvKind::Causal3, 128, 128, 16, 3, true),
];

const WAN: [Layer; 6] = [
    ("stage 0", 1, ConvKind::Causal3, 60, 104, 384, 384, true),
    ("stage 1", 1, ConvKind::Causal3, 120, 208, 384, 384, true),
    ("stage 2", 1, ConvKind::Causal3, 240, 416, 192, 192, true),
    ("space 2", 1, ConvKind::DoubleSpace, 240, 416, 192, 96, false),
    ("stage 3", 1, ConvKind::Causal3, 480, 832, 96, 96, true),
    ("conv_out", 1, ConvKind::Causal3, 480, 832, 96, 3, true),
];

fn main() -> Result<(), Box<dyn Error>> {
    let (mut layers, mut class, mut threads) = (&MINI[..], Class::CpuF32, 2);
    for argument in std::env::args().skip(1) {
        match argument.as_str() {
            "mini" => layers = &MINI,
            "wan" => layers = &WAN,
            name => match Cpu::classes().find(|class| class.name() == name) {
                Some(found) => class = found,
                None => threads = name.parse().map_err(|_| format!("what is {name}?"))?,
            },
        }
    }
    let cpu = Cpu::new(class, threads)?;
    let peak = peak(&cpu)?;
    println!("{} on {threads} threads, peak {peak:.0} GFLOP/s", cpu.class().name());
    println!("layer          calls  MFLOP    conv ms  GFLOP/s  share  fill ms");
    let (mut conv_total, mut fill_total) = (0.0, 0.0);
    for layer in layers {
        let (conv, fill) = measure(&cpu, layer, peak)?;
        conv_total += conv;
        fill_total += fill;
    }
    println!("all calls: conv {:.2} ms, fill {:.2} ms", conv_total * 1e3, fill_total * 1e3);
    Ok(())
}

/// Times of all calls of a layer, in seconds: convolving and filling.
fn measure(cpu: &Cpu, layer: &Layer, peak: f64) -> Result<(f64, f64), Box<dyn Error>> {
    let &(name, calls, kind, rows, columns, channels, n, normed) = layer;
    let (taps, scale, outputs) = match kind {
        ConvKind::Causal3 => (27, 1, n),
        ConvKind::DoubleTime => (3, 2, n / 2),
        ConvKind::DoubleSpace => (9, 4, n),
    };
    let pixels = rows * columns;
    let values = wave(pixels * channels);
    let x = cpu.upload(pixels, channels, &values, Dtype::F32)?;
    let gamma = cpu.upload(1, channels, &wave(channels), Dtype::F32)?;
    let mut volume = cpu.volume(Grid { frames: 1, rows, columns, channels }, kind)?;
    let weights = wave(n * channels * taps);
    let weight = Weight { n, k: channels * taps, values: &weights };
    let conv = cpu.load_conv(kind, weight, &wave(n))?;
    let mut out = cpu.zeros(pixels * scale, outputs, Dtype::F32)?;

    let fill_time = best(|| {
        let activation = if normed { Activation::NormSilu(&gamma) } else { Activation::None };
        cpu.fill(&x, 0..1, activation, &mut volume);
    });
    let conv_time = best(|| cpu.conv(&volume, &conv, false, &mut out));
    let operations = (2 * pixels * scale * outputs * channels * taps) as f64;
    let rate = operations / conv_time / 1e9;
    println!(
        "{name:14} {calls:5} {:7.1} {:9.3} {rate:8.0} {:5.0}% {:8.3}",
        operations / 1e6,
        conv_time * 1e3,
        100.0 * rate / peak,
        fill_time * 1e3
    );
    Ok((conv_time * calls as f64, fill_time * calls as f64))
}

/// GFLOP/s of a product whose factors stay in the second-level cache.
fn peak(cpu: &Cpu) -> Result<f64, Box<dyn Error>> {
    let (m, k, n) = (960, 384, 256);
    let dtype = cpu.class().activation();
    let weights = cpu.load_linear(Weight { n, k, values: &wave(n * k) }, None, dtype)?;
    let x = cpu.upload(m, k, &wave(m * k), dtype)?;
    let mut out = cpu.zeros(m, n, Dtype::F32)?;
    let time = best(|| cpu.linear(&x, &weights, Epilogue::Store, &mut out));
    Ok((2 * m * k * n) as f64 / time / 1e9)
}

/// The shortest of some runs, in seconds.
fn best(mut run: impl FnMut()) -> f64 {
    run();
    let start = Instant::now();
    let mut best = f64::INFINITY;
    let mut runs = 0;
    while runs < 3 || (start.elapsed().as_secs_f64() < 0.2 && runs < 200) {
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
