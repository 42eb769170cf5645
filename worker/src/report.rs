//! What the device says of itself: what it makes, and what it has done.

use std::{
    mem,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use link::Switchboard;
use proto::control::wire;
use tracing::Span;
use types::Fence;

use crate::spans;

/// Where the device is, for everyone to read.
#[derive(Clone, Debug, Default)]
pub struct Shared(Arc<Mutex<Report>>);

impl Shared {
    /// Where the device is.
    pub fn read(&self) -> Report {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn write(&self, report: Report) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = report;
    }
}

/// Where the device is.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// The chunk in generation of every open job.
    pub progress: Vec<(Fence, u32)>,
    /// What was done since the beginning.
    pub counters: Counters,
    /// Since when there is nothing to do, if so: `counters` do not have that yet.
    pub waits_since: Option<Instant>,
}

impl Report {
    /// What is said to the coordinator: the device's times up to now, and what the
    /// hops have carried.
    pub(crate) fn counters(&self, now: Instant, hops: Option<&Switchboard>) -> wire::Counters {
        let Counters { runs, compute, wait, decode, text } = self.counters;
        let waits = self.waits_since.map_or(Duration::ZERO, |since| now.duration_since(since));
        let traffic = hops.map(Switchboard::total).unwrap_or_default();
        let transfer = hops.map(Switchboard::transfer).unwrap_or_default();
        wire::Counters {
            runs,
            compute_seconds: compute.as_secs_f64(),
            wait_seconds: (wait + waits).as_secs_f64(),
            decode_seconds: decode.as_secs_f64(),
            text_seconds: text.as_secs_f64(),
            sent_bytes: traffic.sent_bytes,
            received_bytes: traffic.received_bytes,
            transfer_seconds: transfer.as_secs_f64(),
        }
    }
}

/// What was done since the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Counters {
    /// Runs and steps.
    pub runs: u64,
    /// Time in runs and steps.
    pub compute: Duration,
    /// Time without anything to do.
    pub wait: Duration,
    /// Time in decoding.
    pub decode: Duration,
    /// Time in encoding text.
    pub text: Duration,
}

/// The counters, as the device keeps them.
#[derive(Debug, Default)]
pub(crate) struct Account {
    pub(crate) counters: Counters,
    /// Time without anything to do since the last run.
    waited: Duration,
}

impl Account {
    /// There was nothing to do for so long.
    pub(crate) fn wait(&mut self, waited: Duration) {
        self.counters.wait += waited;
        self.waited += waited;
    }

    /// A run, or a step, took so long. `run` is its span if it was a run, which ends.
    pub(crate) fn run(&mut self, compute: Duration, run: Option<Span>) {
        self.counters.runs += 1;
        self.counters.compute += compute;
        if let Some(run) = run {
            spans::end_run(&run, compute, mem::take(&mut self.waited));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_that_goes_on_counts_up_to_now() {
        let now = Instant::now();
        let wait = Duration::from_secs(3);
        let counters = Counters { runs: 2, wait, ..Counters::default() };
        let busy = Report { counters, ..Report::default() };
        let idle = Report { waits_since: Some(now), ..busy.clone() };
        let later = now + Duration::from_secs(4);

        let said = |report: &Report| report.counters(later, None).wait_seconds;

        assert_eq!((said(&busy), said(&idle)), (3.0, 7.0));
    }
}
