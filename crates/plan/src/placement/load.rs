//! What a chunk keeps busy, and for how long: the workers and links of a placement.

use super::{Placement, Request, Runs, cost, predict::stage_times};

/// How busy a worker is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WorkerLoad {
    /// Its index.
    pub worker: usize,
    /// Seconds that it computes for every chunk: its stage's runs, and decoding.
    pub compute_seconds: f64,
    /// The share of the time that it computes, in 0..=1.
    pub busy_share: f64,
}

/// What one direction between two workers carries for every chunk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct HopLoad {
    /// Index of the worker that sends.
    pub from: usize,
    /// Index of the worker that receives.
    pub to: usize,
    /// What is sent.
    pub carries: Carries,
    /// How often for every chunk.
    pub messages: u32,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Seconds that all of them are on their way, one after the other: latencies and
    /// transfers.
    pub seconds: f64,
    /// The share of the time that the link transfers them, in 0..=1.
    pub busy_share: f64,
}

/// What goes from worker to worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Carries {
    /// Hidden states, to the next stage.
    Hidden,
    /// Velocities, from the last stage to the lead.
    Velocity,
    /// Clean frames, from the lead to the decoder.
    Clean,
}

/// A worker or a direction between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bottleneck {
    /// A worker.
    Worker {
        /// Its index.
        worker: usize,
    },
    /// A link.
    Link {
        /// Index of the worker that sends.
        from: usize,
        /// Index of the worker that receives.
        to: usize,
    },
}

/// Loads of the workers of a placement that can run, in the order of the request.
pub(super) fn workers(
    request: &Request,
    placement: &Placement,
    seconds_per_chunk: f64,
) -> Vec<WorkerLoad> {
    let runs = request.work.later_chunks;
    let mut busy = vec![0.0; request.workers.len()];
    for (stage, time) in placement.stages.iter().zip(stage_times(request, placement)) {
        busy[stage.worker] += cost::stage_busy(runs, time);
    }
    let decoder = placement.decoder;
    busy[decoder] += request.workers[decoder].speed.decode_seconds.unwrap_or(0.0);
    let load = |worker: usize| WorkerLoad {
        worker,
        compute_seconds: busy[worker],
        busy_share: share(busy[worker], seconds_per_chunk),
    };
    placement.workers().into_iter().map(load).collect()
}

/// Loads of the links of a placement that can run; nothing goes from a worker to itself.
pub(super) fn hops(
    request: &Request,
    placement: &Placement,
    seconds_per_chunk: f64,
) -> Vec<HopLoad> {
    let work = &request.work;
    let Runs { runs, .. } = work.later_chunks;
    let load = |(from, to, carries, message_bytes, messages): (usize, usize, _, u64, u32)| {
        let link = request.links.between(from, to)?;
        let transfers = f64::from(messages) * link.transfer_seconds(message_bytes);
        Some(HopLoad {
            from,
            to,
            carries,
            messages,
            bytes: message_bytes.saturating_mul(messages.into()),
            seconds: transfers + f64::from(messages) * link.latency_seconds,
            busy_share: share(transfers, seconds_per_chunk),
        })
    };
    let (first, last) = placement.ends();
    let commit = 1;
    let hidden = |(from, to)| {
        (from, to, Carries::Hidden, request.hidden_bytes(from), runs.saturating_add(commit))
    };
    let back = (last, first, Carries::Velocity, work.velocity_bytes, runs);
    let clean = (first, placement.decoder, Carries::Clean, work.x0_bytes, 1);
    placement.hops().map(hidden).chain([back, clean]).filter_map(load).collect()
}

/// What is busy longest, and for which share of the time; the first of equals.
pub(super) fn longest(workers: &[WorkerLoad], hops: &[HopLoad]) -> (Bottleneck, f64) {
    let workers = workers.iter().map(|load| {
        let WorkerLoad { worker, busy_share, .. } = *load;
        (Bottleneck::Worker { worker }, busy_share)
    });
    let links = hops.iter().map(|load| {
        let HopLoad { from, to, busy_share, .. } = *load;
        (Bottleneck::Link { from, to }, busy_share)
    });
    let longer = |a: (Bottleneck, f64), b: (Bottleneck, f64)| if a.1 < b.1 { b } else { a };
    let nobody = (Bottleneck::Worker { worker: 0 }, 0.0);
    workers.chain(links).reduce(longer).unwrap_or(nobody)
}

fn share(busy_seconds: f64, seconds_per_chunk: f64) -> f64 {
    if seconds_per_chunk <= 0.0 { 0.0 } else { busy_seconds / seconds_per_chunk }
}
