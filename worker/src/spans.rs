//! Spans of what a worker does for jobs; docs/tracing.md has their names and fields.
//!
//! ```text
//!  stage           a job on this stage, from when it is opened until it is closed
//!  └ stage_chunk   a chunk of it, from its first run here until its commit run
//!    └ run         one pass under one branch through these layers
//!  text, decode    a job's prompts, a chunk's pictures
//! ```
//!
//! Whoever collects them finds the parent of those that have none here by `job` and
//! `epoch`: the coordinator's span of that placement.
//!
//! They are made at level debug. Where nobody listens at that level, making one is a
//! comparison of two numbers, and their fields are not looked at. They hold names and
//! numbers only.

use std::{ops::Range, time::Duration};

use tracing::{Span, debug_span, field::Empty};
use types::{Fence, Pass, PassKind};

/// A job on this stage.
#[derive(Debug)]
pub(crate) struct JobSpans {
    fence: Fence,
    layers: Range<usize>,
    stage: Span,
    /// The chunk in generation here.
    chunk: Option<(u32, Span)>,
}

impl JobSpans {
    /// The job is opened.
    pub(crate) fn new(fence: Fence, layers: Range<usize>) -> Self {
        let stage = debug_span!(
            parent: None, "stage",
            job = %fence.job, epoch = fence.epoch.0, layers = ?layers,
        );
        Self { fence, layers, stage, chunk: None }
    }

    /// A run begins. It ends with its span.
    pub(crate) fn run(&mut self, pass: &Pass) -> Span {
        let Self { fence, layers, stage, .. } = self;
        let chunk = match self.chunk.take() {
            Some((chunk, span)) if chunk == pass.chunk => span,
            Some(_) | None => debug_span!(
                parent: &*stage, "stage_chunk",
                job = %fence.job, epoch = fence.epoch.0, chunk = pass.chunk, layers = ?layers,
            ),
        };
        let run = debug_span!(
            parent: &chunk, "run",
            job = %fence.job, epoch = fence.epoch.0, chunk = pass.chunk, pass = pass.step,
            branch = %pass.branch, kind = kind(pass.kind), layers = ?layers,
            compute_seconds = Empty, wait_seconds = Empty,
        );
        // What is a parent ends after its children: the chunk with its last run.
        if pass.kind != PassKind::Commit {
            self.chunk = Some((pass.chunk, chunk));
        }
        run
    }
}

/// A run is over, that the device computed for so long, after it had waited for so
/// long since the run before it.
pub(crate) fn end_run(run: &Span, compute: Duration, wait: Duration) {
    run.record("compute_seconds", compute.as_secs_f64());
    run.record("wait_seconds", wait.as_secs_f64());
}

/// Prompts are being encoded.
pub(crate) fn text(fence: Fence, prompts: usize) -> Span {
    debug_span!(parent: None, "text", job = %fence.job, epoch = fence.epoch.0, prompts)
}

/// A chunk is being decoded.
pub(crate) fn decode(fence: Fence, chunk: u32) -> Span {
    debug_span!(parent: None, "decode", job = %fence.job, epoch = fence.epoch.0, chunk)
}

fn kind(kind: PassKind) -> &'static str {
    match kind {
        PassKind::Denoise => "denoise",
        PassKind::Commit => "commit",
        PassKind::Rerun => "rerun",
    }
}
