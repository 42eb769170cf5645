//! `filmloom bench`: what this machine really takes, in time and memory.
//!
//! - [`generate`]: a chunk of the embedded model (or another), part by part.
//! - [`cache`]: dense against latent attention at the same shapes, with random
//!   weights: bytes really held and time per pass.
//!
//! Times on a busy machine mislead, so every figure is a median with its
//! minimum, and what is compared takes turns.

mod cache;
mod generate;

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::{
    args::{Threads, whole},
    failure::Failure,
};

/// Measures speed and memory on this machine.
#[derive(Debug, Subcommand)]
pub(crate) enum BenchCommand {
    /// Times a chunk with a full window: text, passes, commit, decode, encode.
    Generate(generate::GenerateBench),
    /// Measures dense against latent attention at the same shapes.
    Cache(cache::CacheBench),
}

/// What all benchmarks take.
#[derive(Args, Clone, Debug)]
pub(crate) struct Common {
    #[command(flatten)]
    threads: Threads,
    /// Times every measurement is repeated.
    #[arg(
        short, long, value_name = "N", default_value_t = 7, value_parser = whole::<u32>(1..=1000),
        allow_negative_numbers = true
    )]
    repeats: u32,
    /// Writes one JSON object per line.
    #[arg(long)]
    json: bool,
}

/// Runs a benchmark.
///
/// # Errors
///
/// Any [`Failure`] of loading or running the model.
pub(crate) fn run(command: &BenchCommand) -> Result<(), Failure> {
    match command {
        BenchCommand::Generate(args) => generate::run(args),
        BenchCommand::Cache(args) => cache::run(args),
    }
}

/// Repeated times of one thing.
#[derive(Clone, Debug, Default)]
struct Times(Vec<Duration>);

impl Times {
    fn add(&mut self, time: Duration) {
        self.0.push(time);
    }

    /// Median and minimum in milliseconds.
    fn milliseconds(&self) -> Milliseconds {
        let mut sorted = self.0.clone();
        sorted.sort();
        let at = |index: usize| sorted.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3);
        Milliseconds { median: at(sorted.len() / 2), min: at(0) }
    }
}

/// A time as it is reported.
#[derive(Clone, Copy, Debug, serde::Serialize)]
struct Milliseconds {
    median: f64,
    min: f64,
}
