//! The formulas of the module's documentation, in one place.
//!
//! [`predict`](super::predict()) and every search fill a [`Chain`] and ask it; a lower
//! bound is a chain of lower bounds, since no answer falls when a field rises
//! (`decoding.beside` included, as every chunk has at least one pass).

use super::{Runs, Work};

/// What one run meets on its way, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Chain {
    /// All stages' times.
    pub(super) compute: f64,
    /// The longest stage's time.
    pub(super) stage_max: f64,
    /// All hops: latencies and transfers.
    pub(super) hops: f64,
    /// The longest transfer of a hidden state.
    pub(super) transfer_max: f64,
    /// The velocity's way back to the lead.
    pub(super) back: Way,
    /// What follows the last pass.
    pub(super) decoding: Decoding,
}

/// A way between two workers, in seconds; all 0 within one.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Way {
    /// Latency and transfer.
    pub(super) delay: f64,
    /// Transfer alone: what keeps the link busy.
    pub(super) transfer: f64,
}

/// What becomes of a chunk's x0, in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Decoding {
    /// Decoding one chunk.
    pub(super) seconds: f64,
    /// The way of x0 from the lead.
    pub(super) way: Way,
    /// The time of the stage on the same worker, if there is one.
    pub(super) beside: Option<f64>,
}

/// Whether the next chunk's first run follows the commit run at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LookAhead {
    On,
    Off,
}

impl Chain {
    /// Seconds per chunk of so many interleaved jobs: what is minimised.
    pub(super) fn seconds_per_chunk(&self, work: &Work, jobs: u32) -> f64 {
        self.seconds_apart(work.later_chunks, jobs)
    }

    /// The same of their first chunks.
    pub(super) fn seconds_per_first_chunk(&self, work: &Work, jobs: u32) -> f64 {
        self.seconds_apart(work.first_chunk, jobs)
    }

    fn seconds_apart(&self, runs: Runs, jobs: u32) -> f64 {
        self.busy_max(runs).max(self.job_chunk(runs, LookAhead::On) / f64::from(jobs))
    }

    /// Seconds per chunk of one job alone.
    pub(super) fn job_chunk(&self, runs: Runs, look_ahead: LookAhead) -> f64 {
        let commit = match look_ahead {
            LookAhead::On => self.stage_max.max(self.transfer_max),
            LookAhead::Off => self.compute + self.hops,
        };
        let delay = self.decoding.beside.map_or(0.0, |stage| {
            let wait = self.pass() - stage;
            (self.decoding.seconds - wait).max(0.0)
        });
        let apart = self.decoding.seconds.max(self.decoding.way.transfer);
        (self.denoise(runs) + commit + delay).max(apart)
    }

    /// Seconds from the encoded prompt to the first chunk's pictures.
    pub(super) fn first_chunk(&self, work: &Work) -> f64 {
        self.denoise(work.first_chunk) + self.decoding.way.delay + self.decoding.seconds
    }

    /// Seconds of all denoise passes of a chunk.
    fn denoise(&self, Runs { passes, runs }: Runs) -> f64 {
        f64::from(passes) * self.pass() + f64::from(runs.saturating_sub(passes)) * self.spacing()
    }

    /// Seconds of a denoise pass of one branch.
    fn pass(&self) -> f64 {
        self.compute + self.hops + self.back.delay
    }

    /// Seconds between two runs that follow each other without waiting.
    fn spacing(&self) -> f64 {
        self.stage_max.max(self.transfer_max).max(self.back.transfer)
    }

    /// The longest time that a chunk keeps one worker or link busy.
    fn busy_max(&self, runs: Runs) -> f64 {
        let Decoding { seconds, way, beside } = self.decoding;
        let stage = stage_busy(runs, self.stage_max);
        let links = stage_busy(runs, self.transfer_max).max(back_busy(runs, self.back.transfer));
        let decoder = seconds + beside.map_or(0.0, |stage| stage_busy(runs, stage));
        stage.max(links).max(decoder).max(way.transfer)
    }
}

/// Seconds that a chunk's runs take on a stage, or on a hop's link.
pub(super) fn stage_busy(runs: Runs, run_seconds: f64) -> f64 {
    (f64::from(runs.runs) + 1.0) * run_seconds
}

/// Seconds that a chunk's velocities take on the link back to the lead.
pub(super) fn back_busy(runs: Runs, transfer_seconds: f64) -> f64 {
    f64::from(runs.runs) * transfer_seconds
}
