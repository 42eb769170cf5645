//! Plans against brute force, predictions against a simulated pipeline, words.

mod errors;
mod explained;
mod loads;
mod predicted;
mod searched;
mod work;

use std::num::NonZeroU32;

use types::Dtype;

use super::*;

/// A cluster of alike workers that decode and encode in no time, fully linked
/// without delay; work of 4 + 1 runs. Tests change what they are about.
fn request(workers: usize, layers: usize) -> Request {
    let link = Link { bytes_per_second: 1e3, latency_seconds: 0.0 };
    let four = Runs { passes: 4, runs: 4 };
    Request {
        work: Work {
            layers,
            first_chunk: four,
            later_chunks: four,
            hidden_bytes: 0,
            velocity_bytes: 0,
            x0_bytes: 0,
            footprint: Footprint {
                layer_bytes: 10,
                layer_job_bytes: 0,
                first_stage_bytes: 0,
                last_stage_bytes: 0,
                stage_bytes: 0,
                text_bytes: 0,
                decoder_bytes: 0,
                decoder_job_bytes: 0,
            },
        },
        workers: (0..workers).map(worker).collect(),
        links: Links::uniform(workers, link),
        objective: Objective::OneJob,
        classes: Classes::One,
    }
}

fn worker(index: usize) -> Worker {
    Worker {
        name: ["a", "b", "c", "d", "e", "f"].get(index).copied().unwrap_or("more").to_owned(),
        class: "cpu-f32".to_owned(),
        residual: Dtype::F32,
        speed: Speed {
            layer_seconds: 1.0,
            embedding_seconds: 0.0,
            head_seconds: 0.0,
            decode_seconds: Some(0.0),
            text_seconds: Some(0.0),
        },
        memory_bytes: 1_000,
        limits: Limits::default(),
    }
}

fn jobs(jobs: u32) -> Objective {
    Objective::Throughput { jobs: NonZeroU32::new(jobs).expect("a test asks for some jobs") }
}

/// Stages of so many layers on these workers, everything else on the first.
fn placement(stages: &[(usize, usize)]) -> Placement {
    let mut held = 0;
    let stage = |&(worker, layers): &(usize, usize)| {
        held += layers;
        Stage { worker, layers: held - layers..held }
    };
    let stages: Vec<_> = stages.iter().map(stage).collect();
    let lead = stages[0].worker;
    Placement { stages, decoder: lead, text: lead }
}
