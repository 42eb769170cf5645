//! What chunks really take, beside what was planned.

use std::{collections::VecDeque, time::Duration};

/// Commits that are looked back at.
const COMMITS_MAX: usize = 33;

/// The last commits of all jobs.
#[derive(Debug, Default)]
pub(super) struct Pace {
    /// When, and how many jobs were open then.
    commits: VecDeque<(Duration, usize)>,
}

impl Pace {
    /// A chunk is in the log while so many jobs are open.
    pub(super) fn handle_commit(&mut self, now: Duration, open: usize) {
        if self.commits.back().is_some_and(|&(_, before)| before != open) {
            self.commits.clear();
        }
        if self.commits.len() == COMMITS_MAX {
            self.commits.pop_front();
        }
        self.commits.push_back((now, open));
    }

    /// Another pipeline, or another job: what was before does not count.
    pub(super) fn begin(&mut self) {
        self.commits.clear();
    }

    /// Jobs that are open, and the median time between two chunks of theirs.
    pub(super) fn measured(&self) -> Option<(usize, Duration)> {
        let &(_, open) = self.commits.back()?;
        let times = self.commits.iter().map(|&(time, _)| time);
        let mut waits: Vec<_> = times
            .clone()
            .skip(1)
            .zip(times)
            .map(|(later, time)| later.saturating_sub(time))
            .collect();
        waits.sort_unstable();
        // The first chunk takes longer, and the one after it may have waited.
        (4 <= waits.len()).then(|| (open, waits[waits.len() / 2]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pace_is_the_median_of_what_is_alike() {
        let mut pace = Pace::default();
        let mut now = Duration::ZERO;
        for seconds in [0, 9, 1, 1, 1, 5] {
            now += Duration::from_secs(seconds);
            pace.handle_commit(now, 1);
        }
        assert_eq!(pace.measured(), Some((1, Duration::from_secs(1))));

        pace.handle_commit(now, 2);

        assert_eq!(pace.measured(), None);
    }
}
