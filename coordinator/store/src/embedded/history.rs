//! The latest changes of a store, and the watches that read them.
//!
//! ```text
//!  dropped │ change change change change │
//!          floor      ▲             ▲
//!                  watch a       watch b       each has its own place
//! ```
//!
//! There is one queue for all watches, so a slow one costs nothing: what is dropped
//! at the old end before a watch has read it is what it has missed.
//!
//! Invariant: the queue holds every change after its floor, within both limits.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard},
};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::{
    Watch,
    error::Error,
    record::{Change, Revision},
};

/// Changes that are kept at most.
pub(super) const CHANGES_MAX: usize = 4_096;
/// Bytes of their keys and values at most.
const BYTES_MAX: usize = 16 << 20;

/// The latest changes.
#[derive(Debug)]
pub(super) struct History {
    queue: Mutex<Queue>,
    changed: Notify,
}

#[derive(Debug)]
struct Queue {
    changes: VecDeque<Arc<Change>>,
    bytes: usize,
    /// Changes that were dropped.
    dropped: u64,
    /// Revision of the latest one dropped; what is before the history began counts.
    floor: Revision,
    /// Revision of the latest change.
    latest: Revision,
    is_closed: bool,
}

impl History {
    /// A history of what comes after a revision.
    pub(super) fn new(floor: Revision) -> Self {
        let (changes, bytes, dropped) = (VecDeque::new(), 0, 0);
        let queue = Queue { changes, bytes, dropped, floor, latest: floor, is_closed: false };
        Self { queue: Mutex::new(queue), changed: Notify::new() }
    }

    /// Adds the changes of a commit.
    pub(super) fn push(&self, changes: Vec<Change>) {
        {
            let mut queue = self.queue();
            for change in changes {
                queue.push(change);
            }
        }
        self.changed.notify_waiters();
    }

    /// Ends all watches.
    pub(super) fn close(&self) {
        self.queue().is_closed = true;
        self.changed.notify_waiters();
    }

    pub(super) fn is_closed(&self) -> bool {
        self.queue().is_closed
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nothing panics while it holds the queue")
    }
}

impl Queue {
    fn push(&mut self, change: Change) {
        self.bytes += bytes(&change);
        self.latest = change.revision;
        self.changes.push_back(Arc::new(change));
        while CHANGES_MAX < self.changes.len() || BYTES_MAX < self.bytes {
            let Some(dropped) = self.changes.pop_front() else { return };
            self.bytes -= bytes(&dropped);
            self.dropped += 1;
            self.floor = dropped.revision;
        }
    }

    /// The place of the first change after a revision, counted from the first ever.
    fn place_after(&self, after: Revision) -> Option<u64> {
        if after < self.floor || self.latest < after {
            return None;
        }
        let before = self.changes.partition_point(|change| change.revision <= after);
        Some(self.dropped + before as u64)
    }
}

/// A watch of a history.
#[derive(Debug)]
pub(super) struct HistoryWatch {
    history: Arc<History>,
    prefix: String,
    /// The change to look at next, unless changes were missed.
    place: Option<u64>,
}

impl HistoryWatch {
    pub(super) fn new(history: Arc<History>, prefix: &str, after: Revision) -> Self {
        let place = history.queue().place_after(after);
        Self { history, prefix: prefix.to_owned(), place }
    }

    /// The next change that is there.
    fn poll(&mut self) -> Result<Option<Change>, Error> {
        let queue = self.history.queue();
        loop {
            let place = self.place.and_then(|place| place.checked_sub(queue.dropped));
            let Some(place) = place else {
                self.place = None;
                return Err(Error::Lagged);
            };
            let change = usize::try_from(place).ok().and_then(|place| queue.changes.get(place));
            let Some(change) = change else { break };
            self.place = Some(queue.dropped + place + 1);
            if change.key.starts_with(&self.prefix) {
                return Ok(Some((**change).clone()));
            }
        }
        if queue.is_closed {
            return Err(Error::Unavailable { problem: "it was closed".to_owned() });
        }
        Ok(None)
    }
}

#[async_trait]
impl Watch for HistoryWatch {
    async fn next(&mut self) -> Result<Change, Error> {
        let history = self.history.clone();
        loop {
            let changed = history.changed.notified();
            if let Some(change) = self.poll()? {
                return Ok(change);
            }
            changed.await;
        }
    }
}

fn bytes(change: &Change) -> usize {
    change.key.len() + change.value.as_ref().map_or(0, Vec::len)
}
