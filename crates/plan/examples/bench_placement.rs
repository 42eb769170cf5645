//! How good and how fast placements are, on random clusters.
//!
//! ```text
//! cargo run --release -p filmloom-plan --example bench_placement -- [clusters]
//! ```
//!
//! 1. The heuristic against the exact search, on clusters of 2 to 10 workers: clusters
//!    for which it finds no plan, the share where both are equal, the mean and the
//!    largest gap in seconds per chunk, and the times (of the exact search with the
//!    heuristic before it).
//! 2. Plans against two plain divisions over all workers in their order, by memory
//!    and equal, each with the decoder where it is best: clusters where the plan is
//!    slower (none may be), where the division cannot run at all (memory, links),
//!    and how many times as many chunks the plan makes where it can. The speeds'
//!    ratio is averaged geometrically.
//! 3. The time to plan 64 workers and 40 layers.
//!
//! Clusters are random but the same on every machine, those that cannot hold the model
//! left out: speeds over a factor of 30,
//! memory for 2 layers to all and in every second worker for the rest, links of 1 to 25
//! Gbit/s and 0.05 to 2 ms,
//! shapes of Wan2.1 1.3B at 480x832 (bf16) with 30 or 40 layers.

#![expect(clippy::print_stdout, reason = "a benchmark's output")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock and its arguments")]

use std::{error::Error, num::NonZeroU32, ops::RangeInclusive, time::Instant};

use plan::placement::{
    Classes, Footprint, Limits, Link, Links, Method, Objective, Placement, Plan, Request, Runs,
    Speed, Stage, Work, Worker, plan_with, predict,
};
use types::Dtype;

fn main() -> Result<(), Box<dyn Error>> {
    let clusters = std::env::args().nth(1).map_or(Ok(1_000), |clusters| clusters.parse())?;
    print_gaps(clusters / 5);
    print_gains(clusters);
    print_times();
    Ok(())
}

fn print_gaps(clusters: usize) {
    println!("heuristic against exact, {clusters} clusters each, 30 layers");
    println!("workers jobs  missed   equal  mean gap  largest  exact ms  longest  heuristic ms");
    for workers in [2, 4, 6, 8, 10] {
        for jobs in [1, 4] {
            let (mut missed, mut equal, mut gaps, mut largest) = (0, 0, 0.0, 0.0_f64);
            let (mut exact_sum, mut exact_max, mut quick_sum) = (0.0, 0.0_f64, 0.0);
            for request in large_enough(clusters, workers..=workers, 30, jobs) {
                let (exact, exact_seconds) = timed(&request, Method::Best);
                let (quick, quick_seconds) = timed(&request, Method::Heuristic);
                exact_sum += exact_seconds;
                exact_max = exact_max.max(exact_seconds);
                quick_sum += quick_seconds;
                match (exact, quick) {
                    (Some(exact), Some(quick)) => {
                        let seconds = |plan: &Plan| plan.prediction.seconds_per_chunk;
                        let gap = seconds(&quick) / seconds(&exact) - 1.0;
                        equal += u32::from(gap < 1e-9);
                        gaps += gap;
                        largest = largest.max(gap);
                    }
                    _ => missed += 1,
                }
            }
            let count = clusters as f64;
            println!(
                "{workers:7} {jobs:4} {missed:7} {:5.0} % {:7.2} % {:6.2} % {:9.2} {:8.2} {:13.2}",
                100.0 * f64::from(equal) / count,
                100.0 * gaps / (count - f64::from(missed)),
                100.0 * largest,
                1e3 * exact_sum / count,
                1e3 * exact_max,
                1e3 * quick_sum / count,
            );
        }
    }
}

fn print_gains(clusters: usize) {
    println!("\nplan against plain divisions, {clusters} clusters of 2 to 16 workers, 40 layers");
    println!("division   jobs  plan slower  cannot run  mean gain");
    for jobs in [1, 4] {
        let mut rows = [("by memory", 0, 0, 0.0), ("equal", 0, 0, 0.0)];
        for request in large_enough(clusters, 2..=16, 40, jobs) {
            let (planned, _) = timed(&request, Method::Best);
            let planned = planned.map_or(f64::INFINITY, |plan| plan.prediction.seconds_per_chunk);
            let memory: Vec<_> = request.workers.iter().map(|w| w.memory_bytes as f64).collect();
            let even = vec![1.0; memory.len()];
            for ((_, slower, cannot, gain), shares) in rows.iter_mut().zip([memory, even]) {
                match division(&request, &shares) {
                    None => *cannot += 1,
                    Some(seconds) => {
                        *slower += u32::from(seconds < planned * (1.0 - 1e-9));
                        *gain += (seconds / planned).ln();
                    }
                }
            }
        }
        for (name, slower, cannot, gain) in rows {
            let gain = (gain / (clusters as f64 - f64::from(cannot))).exp();
            println!("{name:10} {jobs:4} {slower:12} {cannot:11} {gain:9.2}x");
        }
    }
}

fn print_times() {
    println!("\n64 workers, 40 layers, 20 clusters each");
    println!("jobs   mean ms  largest ms  mean stages");
    for jobs in [1, 4, 32] {
        let (mut sum, mut largest, mut stages) = (0.0, 0.0_f64, 0);
        for request in large_enough(20, 64..=64, 40, jobs) {
            let (plan, seconds) = timed(&request, Method::Best);
            sum += seconds;
            largest = largest.max(seconds);
            stages += plan.map_or(0, |plan| plan.placement.stages.len());
        }
        let (mean, largest) = (1e3 * sum / 20.0, 1e3 * largest);
        println!("{jobs:4} {mean:9.2} {largest:11.2} {:12.1}", stages as f64 / 20.0);
    }
}

/// The plan, if there is one, and the seconds that it took.
fn timed(request: &Request, method: Method) -> (Option<Plan>, f64) {
    let start = Instant::now();
    let plan = plan_with(request, method).ok();
    (plan, start.elapsed().as_secs_f64())
}

/// So many clusters that the model fits, their sizes in turn.
fn large_enough(
    clusters: usize,
    workers: RangeInclusive<usize>,
    layers: usize,
    jobs: u32,
) -> impl Iterator<Item = Request> {
    (0_u64..)
        .zip(workers.cycle())
        .map(move |(seed, workers)| cluster(seed, workers, layers, jobs))
        .filter(|request| plan_with(request, Method::Best).is_ok())
        .take(clusters)
}

/// Seconds per chunk of a division by shares over all workers in their order; `None`
/// if it cannot run.
fn division(request: &Request, shares: &[f64]) -> Option<f64> {
    let (sum, layers) = (shares.iter().sum::<f64>(), request.work.layers);
    let (mut held, mut reached, mut stages) = (0, 0.0, Vec::new());
    for (worker, share) in shares.iter().enumerate() {
        reached += share / sum * layers as f64;
        let end = (held..=layers).rev().find(|&end| end as f64 <= reached + 0.5)?;
        if held < end {
            stages.push(Stage { worker, layers: held..end });
        }
        held = end;
    }
    let decoders = 0..request.workers.len();
    let placed = |decoder| {
        let texts = 0..request.workers.len();
        let placed = |text| Placement { stages: stages.clone(), decoder, text };
        texts
            .filter_map(|text| predict(request, &placed(text)).ok())
            .find(|prediction| prediction.fits())
    };
    decoders
        .filter_map(placed)
        .map(|prediction| prediction.seconds_per_chunk)
        .min_by(f64::total_cmp)
}

/// A cluster from a seed; it may be too small.
fn cluster(seed: u64, workers: usize, layers: usize, jobs: u32) -> Request {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let four = Runs { passes: 4, runs: 4 };
    let work = Work {
        layers,
        first_chunk: four,
        later_chunks: four,
        hidden_bytes: 14_400_000,
        velocity_bytes: 600_000,
        x0_bytes: 600_000,
        footprint: Footprint {
            layer_bytes: 90_000_000,
            layer_job_bytes: 12_000_000,
            first_stage_bytes: 20_000_000,
            last_stage_bytes: 2_000_000,
            stage_bytes: 500_000_000,
            text_bytes: 1_000_000_000,
            decoder_bytes: 1_000_000_000,
            decoder_job_bytes: 1_900_000_000,
        },
    };
    let layer_bytes = 90_000_000 + 12_000_000 * u64::from(jobs);
    let beside = 2_600_000_000 + 1_900_000_000 * u64::from(jobs);
    let worker = |index: usize| {
        let layer_seconds = random.spread(0.001, 0.03);
        let held = random.spread(2.0, layers as f64);
        let all = random.unit() < 0.5;
        let bytes = held * layer_bytes as f64 + if all { beside as f64 } else { 6e8 };
        Worker {
            name: format!("worker {index}"),
            class: "bf16".to_owned(),
            residual: Dtype::Bf16,
            speed: Speed {
                layer_seconds,
                embedding_seconds: layer_seconds / 4.0,
                head_seconds: layer_seconds / 4.0,
                decode_seconds: Some(layer_seconds * random.spread(10.0, 40.0)),
                text_seconds: Some(layer_seconds * 20.0),
            },
            memory_bytes: whole(bytes),
            limits: Limits::default(),
        }
    };
    let workers: Vec<_> = (0..workers).map(worker).collect();
    let count = workers.len();
    // A pair is as slow as the slower of its ends, and as far as both are.
    let ends: Vec<_> =
        (0..count).map(|_| (random.spread(1.25e8, 3.1e9), random.spread(2.5e-5, 1e-3))).collect();
    let links = Links::from_fn(count, |from, to| {
        let (from, to) = (ends[from], ends[to]);
        Some(Link { bytes_per_second: from.0.min(to.0), latency_seconds: from.1 + to.1 })
    });
    let objective = match NonZeroU32::new(jobs) {
        Some(jobs) if 1 < jobs.get() => Objective::Throughput { jobs },
        _ => Objective::OneJob,
    };
    Request { work, workers, links, objective, classes: Classes::One }
}

#[expect(clippy::cast_possible_truncation, reason = "some gigabytes")]
fn whole(bytes: f64) -> u64 {
    bytes as u64
}

/// Marsaglia's xorshift64.
struct Random(u64);

impl Random {
    /// Evenly between 0 and 1.
    fn unit(&mut self) -> f64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Evenly between two numbers' logarithms.
    fn spread(&mut self, least: f64, most: f64) -> f64 {
        least * (most / least).powf(self.unit())
    }
}
