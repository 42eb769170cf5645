//! How long to pause before a call is made again: exponential, with full jitter.
//!
//! Source of the rule: "Exponential Backoff And Jitter", AWS Architecture Blog, 2015.

use std::{
    hash::{BuildHasher, RandomState},
    time::Duration,
};

const FIRST: Duration = Duration::from_millis(50);
const MAX: Duration = Duration::from_secs(2);

/// The pauses of one call, or of one watch since it last got something.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failures: u32,
}

impl Backoff {
    /// The next pause: anything from nothing to a bound that doubles each time.
    pub(super) fn pause(&mut self, random: u64) -> Duration {
        let bound = FIRST.saturating_mul(2_u32.saturating_pow(self.failures)).min(MAX);
        self.failures = self.failures.saturating_add(1);
        let micros = u64::try_from(bound.as_micros()).expect("the longest pause is short");
        Duration::from_micros(random % (micros + 1))
    }

    /// It went well.
    pub(super) fn reset(&mut self) {
        self.failures = 0;
    }
}

/// A number that differs between calls and processes.
pub(super) fn random() -> u64 {
    RandomState::new().hash_one(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_bound_and_use_all_of_it() {
        let mut backoff = Backoff::default();
        let mut longest = || {
            let bound = FIRST.saturating_mul(2_u32.saturating_pow(backoff.failures)).min(MAX);
            let random = u64::try_from(bound.as_micros()).unwrap();
            assert_eq!(backoff.pause(random), bound);
            bound.as_millis()
        };

        let pauses: Vec<_> = (0..8).map(|_| longest()).collect();
        assert_eq!(pauses, [50, 100, 200, 400, 800, 1_600, 2_000, 2_000]);
        let mut late = Backoff { failures: u32::MAX };
        assert_eq!(late.pause(0), Duration::ZERO);
        assert_eq!(late.pause(2_000_000), MAX);
        late.reset();
        assert_eq!(late.pause(50_000), FIRST);
    }

    #[test]
    fn random_numbers_differ() {
        assert_ne!(random(), random());
    }
}
