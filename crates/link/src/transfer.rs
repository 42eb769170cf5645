//! Time in which messages were on their way to a node or from it.
//!
//! ```text
//!  away    handed to a hop ────────────────▶ its peer says that it has taken it
//!  hither  first frame of a message ───────▶ its last
//!  clock   ████████████     ███   ██████████   while any of them is on its way
//! ```
//!
//! What a message waits for counts: a place in the window, a connection that is
//! being opened again, a peer that is slow to take it. Time in which several are on
//! their way counts once, so it never exceeds the time that passes. Computing goes
//! on meanwhile: the two overlap, and may add up to more.
//!
//! It costs a reading of the clock and a lock when the first message of a direction
//! sets out and when the last one is there, and nothing for the parts in between.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::Instant;

/// Runs while something is on its way, over all hops of a node.
#[derive(Clone, Debug, Default)]
pub(crate) struct Clock(Arc<Mutex<Spent>>);

#[derive(Debug, Default)]
struct Spent {
    /// Directions of hops that have something on its way.
    busy: usize,
    /// Since when there is one.
    since: Option<Instant>,
    /// Before that.
    total: Duration,
}

/// One direction of a hop. It has nothing on its way once it is dropped.
#[derive(Debug)]
pub(crate) struct Direction {
    clock: Clock,
    is_busy: bool,
}

impl Clock {
    /// A direction that has nothing on its way.
    pub(crate) fn direction(&self) -> Direction {
        Direction { clock: self.clone(), is_busy: false }
    }

    /// All time up to now in which something was on its way.
    pub(crate) fn total(&self, now: Instant) -> Duration {
        let spent = self.lock();
        spent.total + spent.since.map_or(Duration::ZERO, |since| now.duration_since(since))
    }

    fn begin(&self, now: Instant) {
        let mut spent = self.lock();
        spent.busy += 1;
        spent.since.get_or_insert(now);
    }

    fn end(&self, now: Instant) {
        let mut spent = self.lock();
        spent.busy -= 1;
        if spent.busy == 0
            && let Some(since) = spent.since.take()
        {
            spent.total += now.duration_since(since);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Spent> {
        // Nothing panics while it holds the lock, and the state is whole at any time.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Direction {
    /// Something is on its way, or nothing is.
    pub(crate) fn set(&mut self, is_busy: bool) {
        if is_busy == self.is_busy {
            return;
        }
        self.is_busy = is_busy;
        let now = Instant::now();
        if is_busy { self.clock.begin(now) } else { self.clock.end(now) }
    }
}

impl Drop for Direction {
    fn drop(&mut self) {
        self.set(false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_in_which_several_are_on_their_way_counts_once() {
        let (clock, begun) = (Clock::default(), Instant::now());
        let at = |seconds| begun + Duration::from_secs(seconds);

        clock.begin(at(0));
        clock.begin(at(2));
        clock.end(at(3));
        assert_eq!(clock.total(at(4)), Duration::from_secs(4), "one is still on its way");
        clock.end(at(5));
        clock.begin(at(8));
        clock.end(at(9));

        assert_eq!(clock.total(at(20)), Duration::from_secs(6));
    }

    #[test]
    fn direction_counts_from_its_first_message_until_it_is_dropped() {
        let clock = Clock::default();
        let later = Instant::now() + Duration::from_secs(3600);
        let runs = || clock.total(later) < clock.total(later + Duration::from_secs(1));
        let mut direction = clock.direction();
        assert!(!runs());

        direction.set(true);
        direction.set(true);
        assert!(runs());
        drop(direction);

        assert!(!runs());
    }
}
