//! What the device says of itself: what it makes, and what it has done.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use types::Fence;

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
