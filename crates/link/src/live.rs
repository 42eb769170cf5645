//! How fast a hop is, by what it carries anyhow.
//!
//! ```text
//!  handed over   ▼        ▼ ▼                ▼
//!  on its way    ████     ████████           ███ ...
//!  taken            ▼         ▼ ▼              ▼
//!                periods: each gives bytes a second, or a round trip
//! ```
//!
//! A *period* begins when a message is handed to a hop that carries nothing, and ends
//! when the peer has taken all; one that does not end is cut after a while. Its bytes
//! over its time, less a round trip, are what a hidden state sees: not what the cable
//! could carry, but what is left of it beside everything else that both ends do.
//!
//! A period tells nothing of the speed if the round trip was most of it, or if its
//! messages may have waited for each other. An empty message tells the round trip.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// Periods that are looked back at.
const PERIODS_MAX: usize = 32;
/// How long a period tells something.
const AGE_MAX: Duration = Duration::from_secs(60);
/// Periods that a speed is told of, at least.
const PERIODS_MIN: usize = 8;
/// When a period is cut.
const PERIOD_MAX: Duration = Duration::from_secs(1);
/// Payload that tells nothing of the speed.
const SMALL_BYTES: u64 = 16 << 10;
/// How much longer than the round trips that may hide in it a period must be.
const ROUND_TRIPS: u32 = 8;

/// What a hop's traffic shows.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Seen {
    /// Bytes of payload a second, the median of the last periods.
    pub bytes_per_second: f64,
    /// There and back, of an empty message, if there was one.
    pub round_trip: Option<Duration>,
}

/// One direction of a hop, watched.
#[derive(Debug, Default)]
pub(crate) struct Live {
    period: Option<Period>,
    /// With when each was seen.
    speeds: VecDeque<(Instant, f64)>,
    /// The shortest one.
    round_trip: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
struct Period {
    begun: Instant,
    messages: u32,
    bytes: u64,
}

impl Live {
    /// A message is handed over. `is_first` if nothing was on its way.
    pub(crate) fn handle_sent(&mut self, now: Instant, is_first: bool) {
        if is_first {
            self.period = Some(Period::begin(now));
        }
    }

    /// The peer has taken so much more; all there is if `is_settled`.
    pub(crate) fn handle_taken(
        &mut self,
        now: Instant,
        (messages, bytes): (u32, u64),
        is_settled: bool,
    ) {
        let Some(period) = &mut self.period else {
            // What was interrupted goes on: from here it can be told again.
            self.period = (!is_settled).then(|| Period::begin(now));
            return;
        };
        period.messages = period.messages.saturating_add(messages);
        period.bytes += bytes;
        let (period, took) = (*period, now.duration_since(period.begun));
        if is_settled {
            self.period = None;
        } else if PERIOD_MAX <= took {
            self.period = Some(Period::begin(now));
        } else {
            return;
        }
        self.end(now, period, took);
    }

    /// What is on its way is late for reasons of its own.
    pub(crate) fn interrupt(&mut self) {
        self.period = None;
    }

    /// What was seen lately, if it is enough.
    pub(crate) fn seen(&self, now: Instant) -> Option<Seen> {
        let lately = self.speeds.iter().filter(|(at, _)| now.duration_since(*at) <= AGE_MAX);
        let mut speeds: Vec<f64> = lately.map(|&(_, speed)| speed).collect();
        if speeds.len() < PERIODS_MIN {
            return None;
        }
        speeds.sort_by(f64::total_cmp);
        Some(Seen { bytes_per_second: speeds[speeds.len() / 2], round_trip: self.round_trip })
    }

    fn end(&mut self, now: Instant, Period { messages, bytes, .. }: Period, took: Duration) {
        if bytes == 0 && messages == 1 {
            self.round_trip = Some(self.round_trip.map_or(took, |before| before.min(took)));
        }
        let round_trip = self.round_trip.unwrap_or(Duration::ZERO);
        // Each message may have waited for what was heard of the one before.
        let hidden = round_trip.saturating_mul(messages.saturating_sub(1));
        let moved = took.saturating_sub(round_trip);
        let tells = round_trip < moved && hidden.saturating_mul(ROUND_TRIPS) <= moved;
        if bytes < SMALL_BYTES || !tells {
            return;
        }
        if self.speeds.len() == PERIODS_MAX {
            self.speeds.pop_front();
        }
        self.speeds.push_back((now, bytes as f64 / moved.as_secs_f64()));
    }
}

impl Period {
    fn begin(begun: Instant) -> Self {
        Self { begun, messages: 0, bytes: 0 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MILLISECOND: Duration = Duration::from_millis(1);

    #[test]
    fn speed_is_the_median_of_periods_less_a_round_trip() {
        let mut hop = Hop::new();
        hop.carry(0, 2 * MILLISECOND);
        for milliseconds in [12, 12, 12, 12, 12, 102, 3, 12] {
            assert_eq!(hop.live.seen(hop.now), None, "that is too little to tell");
            hop.carry(1_000_000, milliseconds * MILLISECOND);
        }
        // The one of three milliseconds is mostly a round trip.
        assert_eq!(hop.live.seen(hop.now), None);

        hop.carry(1_000_000, 12 * MILLISECOND);

        let expected = Seen { bytes_per_second: 1e8, round_trip: Some(2 * MILLISECOND) };
        assert_eq!(hop.live.seen(hop.now), Some(expected));
        assert_eq!(hop.live.seen(hop.now + AGE_MAX), None, "that is long ago");
    }

    #[test]
    fn what_was_long_ago_does_not_count() {
        let mut hop = Hop::new();
        (0..PERIODS_MAX).for_each(|_| hop.carry(1_000_000, 10 * MILLISECOND));
        (0..=PERIODS_MAX / 2).for_each(|_| hop.carry(1_000_000, 1000 * MILLISECOND));

        assert_eq!(hop.live.seen(hop.now).map(|seen| seen.bytes_per_second), Some(1e6));
    }

    #[test]
    fn hop_that_is_never_empty_is_told_of_too() {
        let mut hop = Hop::new();
        hop.live.handle_sent(hop.now, true);
        for _ in 0..40 {
            hop.live.handle_sent(hop.now, false);
            hop.now += 250 * MILLISECOND;
            hop.live.handle_taken(hop.now, (1, 1_000_000), false);
        }

        assert_eq!(hop.live.seen(hop.now).map(|seen| seen.bytes_per_second), Some(4e6));
    }

    #[test]
    fn hop_that_is_never_empty_is_told_of_after_a_broken_connection_too() {
        let mut hop = Hop::new();
        hop.live.handle_sent(hop.now, true);
        hop.now += 1000 * MILLISECOND;
        hop.live.interrupt();
        for _ in 0..40 {
            hop.live.handle_sent(hop.now, false);
            hop.now += 250 * MILLISECOND;
            hop.live.handle_taken(hop.now, (1, 1_000_000), false);
        }

        assert_eq!(hop.live.seen(hop.now).map(|seen| seen.bytes_per_second), Some(4e6));
    }

    #[test]
    fn messages_that_waited_for_each_other_and_broken_connections_tell_nothing() {
        let mut hop = Hop::new();
        hop.carry(0, 10 * MILLISECOND);
        for _ in 0..2 * PERIODS_MIN {
            hop.live.handle_sent(hop.now, true);
            hop.live.handle_sent(hop.now, false);
            hop.now += 40 * MILLISECOND;
            hop.live.handle_taken(hop.now, (2, 1_000_000), true);

            hop.live.handle_sent(hop.now, true);
            hop.live.interrupt();
            hop.now += 40 * MILLISECOND;
            hop.live.handle_taken(hop.now, (1, 1_000_000), true);
        }

        assert_eq!(hop.live.seen(hop.now), None);
    }

    struct Hop {
        live: Live,
        now: Instant,
    }

    impl Hop {
        fn new() -> Self {
            Self { live: Live::default(), now: Instant::now() }
        }

        /// A message that goes alone.
        fn carry(&mut self, bytes: u64, took: Duration) {
            self.live.handle_sent(self.now, true);
            self.now += took;
            self.live.handle_taken(self.now, (1, bytes), true);
        }
    }
}
