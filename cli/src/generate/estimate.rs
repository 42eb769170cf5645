//! How fast a video is made, and how long it still takes.
//!
//! The first chunk is often the slowest by far (more steps, guidance), so it
//! says little about the others. While it is made, time is taken to go with the
//! runs through the layers; from the second chunk on, only later chunks count.

use std::time::Duration;

use plan::{
    length::Length,
    passes::{self, chunk_passes},
};
use types::Sampler;

/// What is known of a video's pace.
#[derive(Debug)]
pub(super) struct Estimate {
    /// Runs through the layers after each pass of a first and of a later chunk.
    runs: [Vec<u32>; 2],
    chunks: u32,
    pictures: u64,
    done: Done,
    /// When the first chunk was there, and how many pictures it had.
    first: Option<(Duration, u64)>,
    /// When the latest chunk was there.
    latest: Duration,
}

/// How far the video is.
#[derive(Clone, Copy, Debug, Default)]
struct Done {
    chunks: u32,
    pictures: u64,
    /// Runs of the chunk in generation.
    runs: u32,
}

impl Estimate {
    /// Nothing is made yet.
    pub(super) fn new(sampler: &Sampler, length: &Length) -> Result<Self, passes::Error> {
        let cumulated = |chunk| {
            let passes = chunk_passes(sampler, chunk)?.passes;
            let runs = passes.iter().scan(0, |sum: &mut u32, pass| {
                *sum += u32::try_from(pass.branches.count()).expect("1 or 2");
                Some(*sum)
            });
            Ok(runs.collect())
        };
        let runs = [cumulated(0)?, cumulated(1)?];
        let (chunks, pictures) = (length.chunks, length.pictures);
        let (done, first, latest) = (Done::default(), None, Duration::ZERO);
        Ok(Self { runs, chunks, pictures, done, first, latest })
    }

    /// A pass of the chunk in generation begins.
    pub(super) fn pass(&mut self, step: u32) {
        let runs = &self.runs[usize::from(0 < self.done.chunks)];
        let before = step.checked_sub(1).and_then(|before| runs.get(before as usize));
        self.done.runs = before.copied().unwrap_or(0);
    }

    /// A chunk is there, `elapsed` after the first pass began.
    pub(super) fn chunk(&mut self, pictures_done: u64, elapsed: Duration) {
        let chunks = self.done.chunks + 1;
        self.done = Done { chunks, pictures: pictures_done, runs: 0 };
        self.first.get_or_insert((elapsed, pictures_done));
        self.latest = elapsed;
    }

    /// Runs done and runs of the whole video, for a bar.
    pub(super) fn position(&self) -> (u64, u64) {
        let [first, later] = [self.chunk_runs(0), self.chunk_runs(1)];
        let runs = |chunks: u32| match chunks.checked_sub(1) {
            Some(others) => first + later * u64::from(others),
            None => 0,
        };
        (runs(self.done.chunks) + u64::from(self.done.runs), runs(self.chunks))
    }

    /// Pictures per second, of the chunks after the first one if there are any.
    pub(super) fn pace(&self) -> Option<f64> {
        let (since, pictures_before) = match self.first {
            Some(first) if 1 < self.done.chunks => first,
            _ => (Duration::ZERO, 0),
        };
        let seconds = self.latest.saturating_sub(since).as_secs_f64();
        let pictures = self.done.pictures - pictures_before;
        (0 < pictures && 0.0 < seconds).then(|| pictures as f64 / seconds)
    }

    /// Seconds that the rest takes, once there is something to go by; `elapsed`
    /// counts from the first pass on.
    pub(super) fn seconds_left(&self, elapsed: Duration) -> Option<f64> {
        if let Some(pace) = self.pace().filter(|_| 1 < self.done.chunks) {
            let after_latest = (self.pictures - self.done.pictures) as f64 / pace;
            let since_latest = elapsed.saturating_sub(self.latest).as_secs_f64();
            return Some((after_latest - since_latest).max(0.0));
        }
        let (done, all) = self.position();
        (0 < done).then(|| elapsed.as_secs_f64() * (all - done) as f64 / done as f64)
    }

    fn chunk_runs(&self, kind: usize) -> u64 {
        self.runs[kind].last().copied().unwrap_or(0).into()
    }
}

#[cfg(test)]
mod tests {
    use types::{SizedChunk, StepList, Update};

    use super::*;

    #[test]
    fn bar_counts_runs_and_reaches_its_end() {
        let mut estimate = minute();
        // 10 guided steps and the commit pass, then 80 chunks of 4 steps and one.
        assert_eq!(estimate.position(), (0, 21 + 80 * 5));
        estimate.pass(10);
        assert_eq!(estimate.position().0, 20);

        for chunk in 0..81_u64 {
            estimate.chunk((9 + 12 * chunk).min(960), Duration::from_secs(chunk));
        }

        assert_eq!(estimate.position().0, estimate.position().1);
        assert_eq!(estimate.seconds_left(Duration::from_secs(81)), Some(0.0));
    }

    #[test]
    fn first_chunk_says_nothing_about_the_others() {
        let mut estimate = minute();
        assert_eq!(estimate.seconds_left(Duration::from_secs(1)), None);
        estimate.chunk(9, Duration::from_secs(10));
        // 10 s for 21 runs, 400 runs to go.
        assert_eq!(estimate.seconds_left(Duration::from_secs(10)).map(f64::round), Some(190.0));

        estimate.chunk(21, Duration::from_secs(11));

        assert_eq!(estimate.pace(), Some(12.0));
        assert_eq!(estimate.seconds_left(Duration::from_secs(11)), Some(939.0 / 12.0));
        // While the third chunk is made, the pace stays and the time runs down.
        assert_eq!(estimate.seconds_left(Duration::from_secs(12)), Some(939.0 / 12.0 - 1.0));
    }

    fn minute() -> Estimate {
        let chunk = |steps, guidance| SizedChunk { steps: StepList::Even(steps), guidance };
        let (first_chunk, later_chunks) = (chunk(10, 2.5), chunk(4, 1.0));
        let sampler = Sampler { update: Update::Euler, shift: 3.0, first_chunk, later_chunks };
        let rate = plan::length::Rate { fps: 16, pictures_per_frame: 4, chunk_frames: Some(3) };
        Estimate::new(&sampler, &rate.length(60.0).unwrap()).unwrap()
    }
}
