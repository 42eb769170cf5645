//! Tests of [`super`]: windows drawn by hand, then any window and any history
//! against a model that never forgets a page.

use proptest::prelude::*;

use super::*;

/// The window of VideoMLA's paper.
const PAPER: Window = Window { sink: 1, recent: 6, chunk: 3 };

#[test]
fn sink_keeps_its_slot_and_the_others_take_turns() {
    let slots = at(PAPER, 1, 0);

    // One sink chunk; two chunks of recent frames, one in generation, one to roll back.
    assert_eq!(slots.count(), 5);
    let places: Vec<_> = (0..7).map(|chunk| slots.slot_of(chunk)).collect();
    assert_eq!(places, [0, 1, 2, 3, 4, 1, 2]);
}

#[test]
fn papers_window_is_the_sink_frame_and_two_whole_chunks() {
    assert_eq!(at(PAPER, 1, 0).attended(0), Ok(vec![]));
    // Nothing lies between sink and recent yet: the frames of page 0 are one segment.
    assert_eq!(at(PAPER, 1, 1).attended(1), Ok(vec![segment(0, 0..3, 0)]));
    let full = [segment(0, 0..1, 0), segment(4, 0..3, 12), segment(1, 0..3, 15)];
    assert_eq!(at(PAPER, 1, 6).attended(6), Ok(full.to_vec()));
}

#[test]
fn window_of_the_public_code_begins_inside_a_page() {
    let window = Window { sink: 1, recent: 2, chunk: 3 };

    let segments = [segment(0, 0..1, 0), segment(1, 1..3, 10)];
    assert_eq!(at(window, 0, 4).attended(4), Ok(segments.to_vec()));
}

#[test]
fn sink_longer_than_a_chunk_ends_inside_a_page() {
    let window = Window { sink: 4, recent: 2, chunk: 3 };
    let slots = at(window, 0, 2);

    // Frame 3 is sink, frames 4 and 5 are recent: one page, one segment.
    assert_eq!(slots.attended(2), Ok(vec![segment(0, 0..3, 0), segment(1, 0..3, 3)]));
    let later = [segment(0, 0..3, 0), segment(1, 0..1, 3), segment(3, 1..3, 10)];
    assert_eq!(at(window, 0, 4).attended(4), Ok(later.to_vec()));
}

#[test]
fn rollback_ends_where_pages_were_overwritten() {
    let mut slots = at(PAPER, 2, 10);
    let too_far =
        |to_chunk| Error::RollbackTooFar { to_chunk, oldest: 8, uncommitted_chunks_max: 2 };

    assert_eq!(slots.resident(), [0, 6, 7, 8, 9]);
    assert_eq!(slots.rollback(7), Err(too_far(7)));
    assert_eq!(slots.rollback(11), Err(Error::RollbackAhead { to_chunk: 11, in_generation: 10 }));
    assert_eq!(slots.rollback(8), Ok(()));
    assert_eq!(slots.resident(), [0, 6, 7]);
    // Going forward again does not bring older pages back.
    assert_eq!(slots.rollback(7), Err(too_far(7)));
    assert_eq!(slots.commit(9), Err(Error::NotInGeneration { chunk: 9, expected: 8 }));
    assert_eq!(slots.commit(8), Ok(()));
    assert_eq!((slots.committed(), slots.oldest_rollback()), (9, 8));
}

#[test]
fn only_the_chunk_in_generation_has_a_window() {
    let not_in_generation = Error::NotInGeneration { chunk: 2, expected: 3 };

    assert_eq!(at(PAPER, 1, 3).attended(2), Err(not_in_generation));
}

#[test]
fn reruns_cover_the_recent_chunks_from_what_is_resident() {
    let window = Window { sink: 1, recent: 5, chunk: 3 };
    let reruns = at(window, 0, 5).reruns();

    // Recent frames are 10..15: the last two of chunk 3, and chunk 4.
    let third = Rerun { chunk: 3, slot: 3, segments: vec![segment(0, 0..1, 0)] };
    let segments = vec![segment(0, 0..1, 0), segment(3, 1..3, 10)];
    assert_eq!(reruns, [third, Rerun { chunk: 4, slot: 1, segments }]);
}

#[test]
fn reruns_at_the_start_make_the_sink_anew() {
    assert_eq!(at(PAPER, 1, 0).reruns(), []);
    let first = Rerun { chunk: 0, slot: 0, segments: vec![] };
    let second = Rerun { chunk: 1, slot: 1, segments: vec![segment(0, 0..3, 0)] };
    assert_eq!(at(PAPER, 1, 2).reruns(), [first, second]);
}

#[test]
fn impossible_windows_are_refused() {
    let empty = Window { chunk: 0, ..PAPER };
    assert_eq!(Slots::new(empty, 1).unwrap_err(), Error::EmptyChunk);
    let (sink, recent, chunk) = (usize::MAX, usize::MAX, 1);
    let error = Slots::new(Window { sink, recent, chunk }, u32::MAX).unwrap_err();
    assert_eq!(error, Error::TooLarge { sink, recent, chunk });
}

proptest! {
    #[test]
    fn attended_slots_hold_what_a_model_that_forgets_nothing_remembers(
        sink in 0_usize..8, recent in 0_usize..12, chunk in 1_usize..5,
        uncommitted in 0_u32..4, history in proptest::collection::vec(event(), 0..60),
    ) {
        let window = Window { sink, recent, chunk };
        let mut stage = Stage::new(window, uncommitted);
        let count = stage.slots.count();
        for event in history {
            stage.handle(event);
            prop_assert_eq!(stage.slots.count(), count);
            stage.check()?;
        }
    }

    #[test]
    fn every_allowed_rollback_finds_its_window_resident(
        sink in 0_usize..8, recent in 0_usize..12, chunk in 1_usize..5,
        uncommitted in 0_u32..4, history in proptest::collection::vec(event(), 0..60),
    ) {
        let mut stage = Stage::new(Window { sink, recent, chunk }, uncommitted);
        for event in history {
            stage.handle(event);
        }
        let now = stage.slots.committed();
        let reach = now.saturating_sub(stage.slots.oldest_rollback());
        for chunks in 0..=reach {
            let mut stage = stage.clone();
            stage.handle(Event::Rollback { chunks });
            prop_assert_eq!(stage.slots.committed(), now - chunks);
            stage.check()?;
        }
    }
}

/// Something that happens to a job.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A denoise pass writes noisy rows into the chunk's slot.
    Denoise,
    /// The commit pass writes final rows.
    Commit,
    /// The job goes back by so many chunks.
    Rollback { chunks: u32 },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        3 => Just(Event::Denoise),
        6 => Just(Event::Commit),
        1 => (0_u32..5).prop_map(|chunks| Event::Rollback { chunks }),
    ]
}

/// Slots with their contents, beside a model that keeps every page.
#[derive(Clone, Debug)]
struct Stage {
    slots: Slots,
    window: Window,
    /// Serial number of the rows in each slot.
    contents: Vec<Option<u32>>,
    /// Serial numbers of the final rows of all committed chunks.
    pages: Vec<u32>,
    /// Rows written so far.
    writes: u32,
}

impl Stage {
    fn new(window: Window, uncommitted_chunks_max: u32) -> Self {
        let slots = Slots::new(window, uncommitted_chunks_max).unwrap();
        let contents = vec![None; slots.count()];
        Self { slots, window, contents, pages: Vec::new(), writes: 0 }
    }

    fn handle(&mut self, event: Event) {
        let chunk = self.slots.committed();
        match event {
            Event::Denoise => self.write(chunk),
            Event::Commit => {
                self.write(chunk);
                self.slots.commit(chunk).unwrap();
                self.pages.push(self.writes);
            }
            Event::Rollback { chunks } => {
                let to_chunk = chunk.saturating_sub(chunks);
                let allowed = self.slots.oldest_rollback() <= to_chunk;
                assert_eq!(self.slots.rollback(to_chunk).is_ok(), allowed);
                if allowed {
                    self.pages.truncate(to_chunk as usize);
                }
            }
        }
    }

    fn write(&mut self, chunk: u32) {
        self.writes += 1;
        self.contents[self.slots.slot_of(chunk)] = Some(self.writes);
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let chunk = self.slots.committed();
        let mut attended = Vec::new();
        for segment in self.slots.attended(chunk).unwrap() {
            prop_assert!(!segment.frames.is_empty());
            for (frame, inside) in (segment.first_frame..).zip(segment.frames) {
                attended.push((frame, inside, self.contents[segment.slot]));
            }
        }
        prop_assert_eq!(attended, self.expected());
        let residents = self.slots.resident();
        for chunk in 0..self.slots.committed() {
            prop_assert_eq!(residents.contains(&chunk), self.slots.is_resident(chunk));
            if self.slots.is_resident(chunk) {
                let page = Some(self.pages[chunk as usize]);
                prop_assert_eq!(self.contents[self.slots.slot_of(chunk)], page);
            }
        }
        Ok(())
    }

    /// Every attended frame: its index, its place in its chunk, its rows.
    fn expected(&self) -> Vec<(usize, usize, Option<u32>)> {
        let frames = self.pages.len() * self.window.chunk;
        (0..frames)
            .filter(|&frame| frame < self.window.sink || frames <= frame + self.window.recent)
            .map(|frame| {
                let (page, inside) = (frame / self.window.chunk, frame % self.window.chunk);
                (frame, inside, Some(self.pages[page]))
            })
            .collect()
    }
}

/// Slots of a job that has committed so many chunks.
fn at(window: Window, uncommitted_chunks_max: u32, committed: u32) -> Slots {
    let mut slots = Slots::new(window, uncommitted_chunks_max).unwrap();
    for chunk in 0..committed {
        slots.commit(chunk).unwrap();
    }
    slots
}

fn segment(slot: usize, frames: Range<usize>, first_frame: usize) -> Segment {
    Segment { slot, frames, first_frame }
}
