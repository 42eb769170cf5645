//! Which preallocated cache slot holds which chunk's page.
//!
//! A job has a fixed number of slots on a stage, the same for all its layers;
//! a slot holds one page, the cached rows of one chunk in one layer. [`Slots`]
//! is the bookkeeping: it moves no bytes.
//!
//! ```text
//! chunk   0      1    2    3    4    5    6       sink 1, recent 6, chunk 3 frames,
//! slot    0      1    2    3    4    1    2       one uncommitted chunk
//!         sink   ring of 4 slots, then again
//! ```
//!
//! The chunks that the sink touches keep their slots for ever. All others take
//! turns in a ring that is long enough for the pages a window reaches into, for
//! the chunk in generation, and for `uncommitted_chunks_max` chunks more: so
//! the window of any chunk that a roll-back may return to is still resident.
//!
//! The chunk in generation, `committed()`, owns its slot from the start: its
//! passes may write there at any time. [`Slots::commit`] says that its rows are
//! final. A chunk more than `uncommitted_chunks_max` below the highest chunk
//! ever reached has been made durable elsewhere and is never returned to.
//!
//! Invariant: a slot that [`Slots::attended`] names holds the rows last written
//! for its chunk. The tests hold this against a model that never forgets a page.
//!
//! A model without a window has no cache, hence no `Slots`.

use std::ops::Range;

use types::Window;

/// The slots of one job on one stage, shared by all its layers.
#[derive(Clone, Debug)]
pub struct Slots {
    window: Window,
    uncommitted_chunks_max: u32,
    /// Chunks that the sink touches.
    sink_chunks: usize,
    /// Slots that all other chunks share.
    ring_slots: usize,
    /// Chunks whose rows are final.
    committed: u32,
    /// The highest value `committed` ever had.
    reached: u32,
}

/// Attended frames that lie in one slot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    /// The slot that holds the frames' page.
    pub slot: usize,
    /// The attended frames, counted inside the chunk.
    pub frames: Range<usize>,
    /// Index in the video of the first of these frames.
    pub first_frame: usize,
}

/// A committed chunk to run again, and what it attends to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rerun {
    /// The chunk whose clean frames pass through the layers again.
    pub chunk: u32,
    /// The slot that its new rows replace.
    pub slot: usize,
    /// Attended frames besides the chunk's own, in window order.
    pub segments: Vec<Segment>,
}

/// Why slots could not be made, read or moved on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The window's chunks are empty. Correct the model's configuration.
    #[error("the window has chunks of 0 frames: a chunk needs at least one")]
    EmptyChunk,
    /// The window cannot be counted. Correct the model's configuration.
    #[error(
        "a window of {sink} sink, {recent} recent and {chunk} chunk frames is too large: \
         shorten it"
    )]
    TooLarge {
        /// Sink frames.
        sink: usize,
        /// Recent frames.
        recent: usize,
        /// Frames of a chunk.
        chunk: usize,
    },
    /// Another chunk is in generation. Commit or roll back to this one first.
    #[error("chunk {chunk} is not in generation: chunk {expected} is")]
    NotInGeneration {
        /// The chunk asked for.
        chunk: u32,
        /// The chunk in generation.
        expected: u32,
    },
    /// The chunk is not yet there to return to. Drop the request.
    #[error("cannot roll back to chunk {to_chunk}: only chunk {in_generation} has been reached")]
    RollbackAhead {
        /// The chunk asked for.
        to_chunk: u32,
        /// The chunk in generation.
        in_generation: u32,
    },
    /// Pages the chunk attends to are gone. Rebuild them, or restart the job.
    #[error(
        "cannot roll back to chunk {to_chunk}: pages are kept back to chunk {oldest} only \
         ({uncommitted_chunks_max} uncommitted chunks at most)"
    )]
    RollbackTooFar {
        /// The chunk asked for.
        to_chunk: u32,
        /// The oldest chunk that can be returned to.
        oldest: u32,
        /// The bound the slots were made for.
        uncommitted_chunks_max: u32,
    },
    /// The video is as long as chunks can be counted. End the job.
    #[error("chunk {chunk} is the last that can be counted: end the video")]
    TooManyChunks {
        /// The chunk that could not be followed by another.
        chunk: u32,
    },
}

impl Slots {
    /// Slots of a new job, which is about to generate chunk 0.
    ///
    /// # Errors
    ///
    /// [`Error::EmptyChunk`] or [`Error::TooLarge`] for a window that cannot be
    /// laid out.
    pub fn new(window: Window, uncommitted_chunks_max: u32) -> Result<Self, Error> {
        Self::resume(window, uncommitted_chunks_max, 0)
    }

    /// Slots of a job of which `committed` chunks were made elsewhere: the pages
    /// of [`Slots::resident`] are to be put where [`Slots::slot_of`] says.
    ///
    /// # Errors
    ///
    /// As [`Slots::new`].
    pub fn resume(
        window: Window,
        uncommitted_chunks_max: u32,
        committed: u32,
    ) -> Result<Self, Error> {
        if window.chunk == 0 {
            return Err(Error::EmptyChunk);
        }
        let Window { sink, recent, chunk } = window;
        let count = usize::try_from(uncommitted_chunks_max)
            .ok()
            .and_then(|uncommitted| uncommitted.checked_add(1)?.checked_add(recent.div_ceil(chunk)))
            .filter(|ring| ring.checked_add(sink).is_some_and(|slots| slots <= u32::MAX as usize));
        let Some(ring_slots) = count else {
            return Err(Error::TooLarge { sink, recent, chunk });
        };
        let sink_chunks = sink.div_ceil(chunk);
        let reached = committed;
        Ok(Self { window, uncommitted_chunks_max, sink_chunks, ring_slots, committed, reached })
    }

    /// Makes the rows of the chunk in generation final; the next one follows.
    ///
    /// # Errors
    ///
    /// [`Error::NotInGeneration`] for any other chunk, [`Error::TooManyChunks`]
    /// at the end of counting.
    pub fn commit(&mut self, chunk: u32) -> Result<(), Error> {
        self.check_in_generation(chunk)?;
        self.committed = chunk.checked_add(1).ok_or(Error::TooManyChunks { chunk })?;
        self.reached = self.reached.max(self.committed);
        Ok(())
    }

    /// Drops `to_chunk` and all chunks after it: `to_chunk` is in generation.
    ///
    /// # Errors
    ///
    /// [`Error::RollbackAhead`] if it was not reached, and
    /// [`Error::RollbackTooFar`] below [`Slots::oldest_rollback`].
    pub fn rollback(&mut self, to_chunk: u32) -> Result<(), Error> {
        if self.committed < to_chunk {
            return Err(Error::RollbackAhead { to_chunk, in_generation: self.committed });
        }
        let oldest = self.oldest_rollback();
        if to_chunk < oldest {
            let uncommitted_chunks_max = self.uncommitted_chunks_max;
            return Err(Error::RollbackTooFar { to_chunk, oldest, uncommitted_chunks_max });
        }
        self.committed = to_chunk;
        Ok(())
    }

    /// Number of slots, the same for the whole job.
    pub fn count(&self) -> usize {
        self.sink_chunks + self.ring_slots
    }

    /// Number of chunks whose rows are final; the chunk with this index is in
    /// generation.
    pub fn committed(&self) -> u32 {
        self.committed
    }

    /// The oldest chunk that can be rolled back to.
    pub fn oldest_rollback(&self) -> u32 {
        self.reached.saturating_sub(self.uncommitted_chunks_max)
    }

    /// The slot that chunk `chunk` lives in while it is resident.
    pub fn slot_of(&self, chunk: u32) -> usize {
        match (chunk as usize).checked_sub(self.sink_chunks) {
            None => chunk as usize,
            Some(turn) => self.sink_chunks + turn % self.ring_slots,
        }
    }

    /// Whether the final rows of chunk `chunk` are in its slot.
    pub fn is_resident(&self, chunk: u32) -> bool {
        let index = chunk as usize;
        // The chunk `reached` may have begun to write over the one a ring before it.
        let kept = index < self.sink_chunks || (self.reached as usize) < index + self.ring_slots;
        chunk < self.committed && kept
    }

    /// Resident chunks, oldest first.
    pub fn resident(&self) -> Vec<u32> {
        let ring_start = (self.reached as usize + 1).saturating_sub(self.ring_slots);
        let sink = 0..self.sink_chunks.min(ring_start);
        sink.chain(ring_start..self.committed as usize)
            .filter_map(|chunk| u32::try_from(chunk).ok())
            .filter(|&chunk| self.is_resident(chunk))
            .collect()
    }

    /// Finished frames that the chunk in generation attends to, in window
    /// order: sink, then recent, without overlap. Frames that follow each
    /// other in one page are one segment.
    ///
    /// # Errors
    ///
    /// [`Error::NotInGeneration`] for any other chunk.
    pub fn attended(&self, chunk: u32) -> Result<Vec<Segment>, Error> {
        self.check_in_generation(chunk)?;
        Ok(self.segments(self.window.attended(self.frames_before(chunk))))
    }

    /// The committed chunks to run again, in order, so that the window of the
    /// chunk in generation is as if made under another prompt.
    ///
    /// They are the chunks the recent frames lie in. Each attends to the sink
    /// and to those recent frames before it that were run again already, since
    /// older pages are not resident. A sink chunk outside the recent frames
    /// keeps its rows.
    ///
    /// Source: KV-recache of LongLive, arXiv:2509.22622.
    pub fn reruns(&self) -> Vec<Rerun> {
        let [sink, recent] = self.window.attended(self.frames_before(self.committed));
        if recent.is_empty() {
            return Vec::new();
        }
        let first = recent.start / self.window.chunk;
        (0..self.committed)
            .skip(first)
            .map(|chunk| {
                let end = self.frames_before(chunk);
                let before = |frames: &Range<usize>| frames.start.min(end)..frames.end.min(end);
                let segments = self.segments([before(&sink), before(&recent)]);
                Rerun { chunk, slot: self.slot_of(chunk), segments }
            })
            .collect()
    }

    fn check_in_generation(&self, chunk: u32) -> Result<(), Error> {
        match chunk == self.committed {
            true => Ok(()),
            false => Err(Error::NotInGeneration { chunk, expected: self.committed }),
        }
    }

    fn frames_before(&self, chunk: u32) -> usize {
        (chunk as usize).saturating_mul(self.window.chunk)
    }

    /// Cuts ranges of frames at page borders and joins what touches in a page.
    fn segments(&self, ranges: [Range<usize>; 2]) -> Vec<Segment> {
        let mut segments: Vec<Segment> = Vec::new();
        for range in ranges {
            let mut frame = range.start;
            while frame < range.end {
                let page_start = frame - frame % self.window.chunk;
                let end = range.end.min(page_start + self.window.chunk);
                let chunk = u32::try_from(page_start / self.window.chunk)
                    .expect("attended chunks lie before one that is counted in u32");
                self.push(&mut segments, chunk, frame - page_start..end - page_start);
                frame = end;
            }
        }
        segments
    }

    fn push(&self, segments: &mut Vec<Segment>, chunk: u32, frames: Range<usize>) {
        let slot = self.slot_of(chunk);
        let first_frame = self.frames_before(chunk) + frames.start;
        match segments.last_mut() {
            Some(last) if last.slot == slot && last.frames.end == frames.start => {
                last.frames.end = frames.end;
            }
            Some(_) | None => segments.push(Segment { slot, frames, first_frame }),
        }
    }
}

#[cfg(test)]
#[path = "slots_tests.rs"]
mod tests;
