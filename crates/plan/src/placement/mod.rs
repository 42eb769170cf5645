//! Which workers hold which layers of one model, in which order, and where text
//! encoding and decoding stand.
//!
//! [`plan`] finds the [`Placement`] that makes chunks fastest, [`predict`] says how
//! fast any given placement is, and the [`Explanation`] says why: what bounds it,
//! why a worker is left out, whether one node alone is as good. All is arithmetic
//! on measured profiles, so the same request has the same answer everywhere.
//!
//! ```text
//!  text ──▶ lead: stage 0 ── hidden ──▶ stage 1 ── hidden ──▶ stage 2
//!  (once)     ▲     │                                            │
//!             └─────┼────────── velocity, denoise passes only ───┘
//!                   └── x0, once a chunk ──▶ decoder
//!
//!  stage 0   d d   d d   d d   C D D          d, D  denoise run of this, of the next chunk
//!  stage 1    d d   d d   d d   C D D         C     commit run
//!  stage 2     d d   d d   d d   C D D        (two runs a pass: guidance)
//!          ▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔▔ a pass waits for the last one's velocity
//! ```
//!
//! # What is assumed
//!
//! A stage takes the same time for every run, and works on one run at a time. Every
//! ordered pair of workers is a link of its own that carries one run at a time,
//! while both ends compute; latency delays a run and keeps nothing busy. So, with
//!
//! - `pass` = all stages' times + all hops (latency and transfer) + the velocity's
//!   way back to the lead,
//! - `spacing` = the longest stage or transfer (of a hidden state, of a velocity):
//!   runs that do not wait for each other come back so far apart,
//! - `passes` and `runs` = denoise passes and their runs (two where guided),
//!
//! one job's chunk takes
//!
//! ```text
//!   passes * pass + (runs - passes) * spacing + commit
//!   commit = the longest stage or hop    with look-ahead
//!          = all stages' times + hops    without: nothing comes back
//! ```
//!
//! With look-ahead the next chunk's first run follows the commit run one stage
//! behind, since it needs that run's rows of its own layer only: of the commit run
//! it sees only its wait at the longest stage (or hop's transfer). The commit's
//! acknowledgement, the chunk log and the context's way from the text encoder are
//! taken to cost nothing.
//!
//! Decoding goes on beside the next chunk. On a worker of its own it bounds the
//! chunk's time from below, as the transfer of x0 does. On a stage's worker it fills
//! the wait for the velocity (`pass` less the stage's time) behind the next chunk's
//! first pass, and what is longer delays that chunk. (Where runs queue for a longer
//! stage, or follow each other without waiting, some of the delay is made up for; it
//! is not counted on.)
//!
//! Of `n` interleaved jobs, a chunk (of whichever job) takes the larger of
//!
//! - the longest busy time per chunk of a worker (`runs + 1` runs, and decoding) or
//!   link (`runs + 1` hidden states, `runs` velocities, or one x0; the last counted
//!   on its own even where it shares a link),
//! - one job's time / `n`: no job is faster than alone.
//!
//! For one job the second is never the smaller, so one objective serves both.
//!
//! # How it is found
//!
//! Order and split do not see each other, except through `spacing` and through which
//! worker is first and last. `exact` enumerates orders by dynamic programming over
//! subsets and finds the best split of each; `heuristic` searches locally from
//! several starts. Both judge by the formulas above, in one place (`cost`).
//!
//! Invariants: stages cover all layers once, in order; no worker holds two stages,
//! more than its memory or its limits allow; all workers are of one numeric class
//! unless classes may be mixed; a pinned worker holds exactly its layers.

mod check;
mod cost;
mod exact;
mod explain;
mod heuristic;
mod links;
mod load;
mod predict;
mod problem;
mod scale;
mod search;
mod split;
mod text;
mod work;

use std::{num::NonZeroU32, ops::Range};

pub use check::Error;
pub use explain::{Explanation, LeftOut, OneNode, POOL_GAIN_MIN, Reason, Verdict};
pub use links::{Link, Links};
pub use load::{Bottleneck, Carries, HopLoad, WorkerLoad};
pub use predict::{Accuracy, Misplaced, Prediction, WorkerMemory, predict};
pub use scale::{Scale, Shape};
pub use search::{EXACT_WORKERS_MAX, Method, plan, plan_with};
pub use work::{JobShape, WorkError};

use types::Dtype;

use crate::passes::ChunkPasses;

/// What is to be placed, on what, and what for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// The model's work.
    pub work: Work,
    /// The workers; an index into this list names one everywhere else.
    pub workers: Vec<Worker>,
    /// What connects them.
    pub links: Links,
    /// What is to be fast.
    pub objective: Objective,
    /// Whether a placement may cross numeric classes.
    pub classes: Classes,
}

/// What is to be fast.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Objective {
    /// The chunks of one job alone.
    OneJob,
    /// The chunks of all of so many interleaved jobs, each with caches of its own.
    Throughput {
        /// Jobs that run at once.
        jobs: NonZeroU32,
    },
}

/// Whether a placement may cross numeric classes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Classes {
    /// All its workers are of one class: bits do not depend on the placement.
    One,
    /// Any workers may stand together.
    Mixed,
}

/// What a model and a job's shape ask of workers; [`Work::of`] counts it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Work {
    /// Layers of the transformer.
    pub layers: usize,
    /// Denoise runs of a job's first chunk.
    pub first_chunk: Runs,
    /// Denoise runs of every later chunk.
    pub later_chunks: Runs,
    /// Bytes of a hidden state in f32: one hop of one run. What crosses is of the
    /// worker's own [`Worker::residual`].
    pub hidden_bytes: u64,
    /// Bytes of a velocity: the way back of one denoise run.
    pub velocity_bytes: u64,
    /// Bytes of a chunk's clean frames, which the decoder gets once.
    pub x0_bytes: u64,
    /// What its parts hold.
    pub footprint: Footprint,
}

/// Denoise runs of one chunk; its one commit run comes on top.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Runs {
    /// Passes, each of which waits for the velocity of the one before; at least 1.
    pub passes: u32,
    /// Runs of all of them, at least one each: a guided pass has two.
    pub runs: u32,
}

/// Bytes that a model's parts hold in the memory of a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// A layer's weights, and what setting a prompt holds of it for a moment.
    pub layer_bytes: u64,
    /// A layer's window cache, cross-attention and other state, of each job.
    pub layer_job_bytes: u64,
    /// What only the first stage holds: the embedding, frames on their way in.
    pub first_stage_bytes: u64,
    /// What only the last stage holds: the head, velocities on their way out.
    pub last_stage_bytes: u64,
    /// What every stage holds beside its layers: activations of a run.
    pub stage_bytes: u64,
    /// The text side.
    pub text_bytes: u64,
    /// The decoder's weights, and what decoding holds for a moment.
    pub decoder_bytes: u64,
    /// The decoder's causal cache, buffers and finished chunks, of each job.
    pub decoder_job_bytes: u64,
}

/// A worker as it was measured, and what its owner allows.
#[derive(Clone, Debug, PartialEq)]
pub struct Worker {
    /// Its name, for people.
    pub name: String,
    /// Its numeric class.
    pub class: String,
    /// Dtype of that class' hidden states.
    pub residual: Dtype,
    /// What it was measured to take.
    pub speed: Speed,
    /// Bytes it may use, headroom already taken off.
    pub memory_bytes: u64,
    /// What its owner allows.
    pub limits: Limits,
}

/// Measured times, in seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Speed {
    /// One run through one layer.
    pub layer_seconds: f64,
    /// The embedding of one run, on the first stage.
    pub embedding_seconds: f64,
    /// The head of one run, on the last stage.
    pub head_seconds: f64,
    /// Decoding one chunk; `None` if it cannot.
    pub decode_seconds: Option<f64>,
    /// Encoding one prompt; `None` if it cannot.
    pub text_seconds: Option<f64>,
}

/// What a worker's owner allows; `None` is no limit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Exactly these layers, always (`--layers A..B`).
    pub layers: Option<Range<usize>>,
    /// At most so many bytes (`--memory`).
    pub memory_bytes_max: Option<u64>,
    /// At most this share of the layers, in 0..=1 (`--max-share`).
    pub layers_share_max: Option<f64>,
}

/// Where everything stands. Workers are indices into [`Request::workers`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placement {
    /// The stages in the order of their layers; the first is the lead.
    pub stages: Vec<Stage>,
    /// The worker that decodes.
    pub decoder: usize,
    /// The worker that encodes text.
    pub text: usize,
}

/// A contiguous range of layers on one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stage {
    /// The worker.
    pub worker: usize,
    /// Its layers, at least one.
    pub layers: Range<usize>,
}

/// A placement with its reasons.
#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    /// Where everything stands.
    pub placement: Placement,
    /// How fast that is, and what it holds.
    pub prediction: Prediction,
    /// Why it is so.
    pub explanation: Explanation,
}

impl Request {
    /// Bytes of a hidden state that a worker sends.
    fn hidden_bytes(&self, from: usize) -> u64 {
        let element = |dtype: Dtype| dtype.bytes() as u64;
        let f32_bytes = self.work.hidden_bytes / element(Dtype::F32);
        f32_bytes.saturating_mul(element(self.workers[from].residual))
    }
}

impl Objective {
    /// Jobs that run at once.
    pub fn jobs(self) -> NonZeroU32 {
        match self {
            Self::OneJob => NonZeroU32::MIN,
            Self::Throughput { jobs } => jobs,
        }
    }
}

impl Runs {
    /// The denoise runs of a chunk's passes.
    pub fn of(passes: &ChunkPasses) -> Self {
        let denoise = passes.passes.split_last().map_or(&[][..], |(_commit, denoise)| denoise);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Self {
            passes: count(denoise.len()),
            runs: count(denoise.iter().map(|pass| pass.branches.count()).sum()),
        }
    }
}

impl Footprint {
    /// Bytes of one layer with the state of so many jobs.
    fn layer(&self, jobs: NonZeroU32) -> u64 {
        per_jobs(self.layer_bytes, self.layer_job_bytes, jobs)
    }

    /// Bytes of the decoder with the caches of so many jobs.
    fn decoder(&self, jobs: NonZeroU32) -> u64 {
        per_jobs(self.decoder_bytes, self.decoder_job_bytes, jobs)
    }
}

fn per_jobs(shared: u64, per_job: u64, jobs: NonZeroU32) -> u64 {
    shared.saturating_add(per_job.saturating_mul(jobs.get().into()))
}

impl Worker {
    /// Bytes that may be used: the memory, or the owner's smaller cap.
    pub fn usable_bytes(&self) -> u64 {
        self.limits.memory_bytes_max.map_or(self.memory_bytes, |cap| cap.min(self.memory_bytes))
    }
}

#[cfg(test)]
mod tests;
