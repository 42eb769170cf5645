//! Spans of what the coordinator does for jobs; docs/tracing.md has their names and
//! fields.
//!
//! ```text
//!  job       a placement of a job, until no worker holds anything of it
//!  └ chunk   from when the chunk before it was committed until this one is
//!  encode    a chunk's pictures into the video
//! ```
//!
//! A placement's span is the parent of all that workers do for it: whoever collects
//! spans knows it by `job` and `epoch`. They are made at level debug, and hold names
//! and numbers only.

use std::collections::BTreeMap;

use tracing::{Span, debug_span, field::Empty};
use types::{Fence, JobId};

/// The jobs that have a place, of which there are few.
#[derive(Debug, Default)]
pub(crate) struct Spans(BTreeMap<JobId, Placement>);

#[derive(Debug)]
struct Placement {
    fence: Fence,
    chunks: u32,
    job: Span,
    /// The chunk that is committed next.
    chunk: Option<(u32, Span)>,
}

impl Spans {
    /// A job of so many chunks is placed. A placement before this one is over.
    pub(crate) fn place(&mut self, fence: Fence, chunks: u32) {
        let job = debug_span!(
            parent: None, "job",
            job = %fence.job, epoch = fence.epoch.0, chunks,
        );
        let chunk = None;
        let mut placement = Placement { fence, chunks, job, chunk };
        placement.expect(0);
        self.0.insert(fence.job, placement);
    }

    /// A chunk of so many bytes is in the log.
    pub(crate) fn commit(&mut self, fence: Fence, chunk: u32, bytes: u64) {
        let placement = self.0.get_mut(&fence.job);
        let Some(placement) = placement.filter(|placement| placement.fence == fence) else {
            return;
        };
        if let Some((expected, span)) = &placement.chunk
            && *expected <= chunk
        {
            span.record("committed_bytes", bytes);
            placement.expect(chunk.saturating_add(1));
        }
    }

    /// A job has no place any more.
    pub(crate) fn end(&mut self, job: JobId) {
        self.0.remove(&job);
    }
}

impl Placement {
    /// The chunk before this one is over.
    fn expect(&mut self, chunk: u32) {
        let Self { fence, chunks, job, .. } = self;
        let span = || {
            debug_span!(
                parent: &*job, "chunk",
                job = %fence.job, epoch = fence.epoch.0, chunk, committed_bytes = Empty,
            )
        };
        self.chunk = (chunk < *chunks).then(|| (chunk, span()));
    }
}

/// A chunk's pictures are being encoded.
pub(crate) fn encode(fence: Fence, chunk: u32) -> Span {
    debug_span!(parent: None, "encode", job = %fence.job, epoch = fence.epoch.0, chunk)
}

#[cfg(test)]
mod tests {
    use types::Epoch;

    use super::*;

    #[test]
    fn chunk_is_over_once_it_or_a_later_one_is_committed_under_its_own_epoch() {
        let mut spans = Spans::default();
        spans.place(fence(2), 4);
        assert_eq!(expected(&spans), Some(0));

        spans.commit(fence(1), 0, 9);
        assert_eq!(expected(&spans), Some(0), "of a placement before");
        spans.commit(fence(2), 0, 9);
        spans.commit(fence(2), 0, 9);
        assert_eq!(expected(&spans), Some(1));
        spans.commit(fence(2), 2, 9);
        assert_eq!(expected(&spans), Some(3));
        spans.commit(fence(2), 3, 9);
        assert_eq!(expected(&spans), None);

        spans.end(JobId(7));
        assert!(spans.0.is_empty());
    }

    fn fence(epoch: u64) -> Fence {
        Fence { job: JobId(7), epoch: Epoch(epoch) }
    }

    fn expected(spans: &Spans) -> Option<u32> {
        Some(spans.0[&JobId(7)].chunk.as_ref()?.0)
    }
}
