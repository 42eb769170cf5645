//! How far a fetch is, for people: a line a second at most.

use std::time::{Duration, Instant};

/// Between two lines.
const LINE_EVERY: Duration = Duration::from_secs(1);

/// How far a fetch is.
#[derive(Debug)]
pub(super) struct Progress {
    /// Bytes of all that was not here whole.
    total_bytes: u64,
    /// Bytes of it that are here.
    here_bytes: u64,
    /// Bytes that came.
    fetched_bytes: u64,
    line_at: Instant,
    line_bytes: u64,
}

/// A line for people.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Line {
    /// How much is here, in 0..=100.
    pub(super) percent: u64,
    /// Megabytes a second since the last line.
    pub(super) megabytes_per_second: f64,
}

impl Progress {
    /// Nothing has come yet.
    pub(super) fn new(now: Instant, total_bytes: u64) -> Self {
        Self { total_bytes, here_bytes: 0, fetched_bytes: 0, line_at: now, line_bytes: 0 }
    }

    /// Of some blob there are other bytes here than before: it was begun with, it goes
    /// on behind what was kept, or it was damaged.
    pub(super) fn handle_here(&mut self, before: u64, bytes: u64) {
        self.here_bytes = self.here_bytes.saturating_sub(before).saturating_add(bytes);
    }

    /// Bytes came. Gives a line if it is time for one.
    pub(super) fn handle_fetched(&mut self, now: Instant, bytes: u64) -> Option<Line> {
        self.here_bytes = self.here_bytes.saturating_add(bytes);
        self.fetched_bytes = self.fetched_bytes.saturating_add(bytes);
        let passed = now.saturating_duration_since(self.line_at);
        if passed < LINE_EVERY {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a rate for people need not be exact")]
        let megabytes = (self.fetched_bytes - self.line_bytes) as f64 / 1e6;
        (self.line_at, self.line_bytes) = (now, self.fetched_bytes);
        let percent = self.here_bytes.saturating_mul(100) / self.total_bytes.max(1);
        let megabytes_per_second = megabytes / passed.as_secs_f64();
        Some(Line { percent: percent.min(100), megabytes_per_second })
    }

    /// Bytes that came, those that came in vain too.
    pub(super) fn fetched_bytes(&self) -> u64 {
        self.fetched_bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_comes_once_a_second_and_tells_the_rate_since_the_last() {
        let begin = Instant::now();
        let after = |ms| begin + Duration::from_millis(ms);
        let mut progress = Progress::new(begin, 100_000_000);
        // Half was here.
        progress.handle_here(0, 50_000_000);

        assert_eq!(progress.handle_fetched(after(999), 10_000_000), None);
        let line = progress.handle_fetched(after(2000), 10_000_000);
        assert_eq!(line, Some(Line { percent: 70, megabytes_per_second: 10.0 }));
        assert_eq!(progress.handle_fetched(after(2500), 1_000_000), None);
        let line = progress.handle_fetched(after(3000), 4_000_000).unwrap();
        assert_eq!(line, Line { percent: 75, megabytes_per_second: 5.0 });

        // A blob of 20 MB was damaged.
        progress.handle_here(20_000_000, 0);
        let line = progress.handle_fetched(after(4000), 0).unwrap();
        assert_eq!(line, Line { percent: 55, megabytes_per_second: 0.0 });
        assert_eq!(progress.fetched_bytes(), 25_000_000);
    }

    #[test]
    fn nothing_to_fetch_is_no_division_by_zero() {
        let begin = Instant::now();
        let line = Progress::new(begin, 0).handle_fetched(begin + LINE_EVERY, 0).unwrap();
        assert_eq!(line.percent, 0);
    }
}
