//! A watch that outlives its connections.
//!
//! ```text
//!  connect ─▶ etcd: from revision r ─▶ changes ─▶ ... broken ─▶ pause ─▶ connect again,
//!     ▲                                                          from where it got to
//!     └──────────────────────────────────────────────────────────────┘
//! ```
//!
//! Each watch has a connection of its own: one that nobody reads fills its own
//! connection's window and holds back nobody else, and what etcd cannot send stays
//! with etcd until it is compacted away. Then the watch has lagged.
//!
//! Invariant: `from` is the first revision of which changes may be missing, and
//! `seen` are the keys of those that have been given out of it.

use std::collections::{BTreeSet, VecDeque};

use async_trait::async_trait;
use etcd_client::{EventType, WatchOptions, WatchResponse, WatchStream};

use super::{Connector, DEADLINE, backoff, backoff::Backoff, unsigned};
use crate::{
    Watch,
    error::Error,
    record::{Change, Revision},
};

/// A watch of keys in etcd.
pub(super) struct EtcdWatch {
    connector: Connector,
    prefix: String,
    from: i64,
    seen: BTreeSet<String>,
    stream: Option<WatchStream>,
    /// Changes of the latest answer that are still to be given out.
    pending: VecDeque<Change>,
    backoff: Backoff,
    has_lagged: bool,
}

impl EtcdWatch {
    pub(super) fn new(connector: Connector, prefix: &str, after: i64) -> Self {
        Self {
            connector,
            prefix: prefix.to_owned(),
            from: after.saturating_add(1),
            seen: BTreeSet::new(),
            stream: None,
            pending: VecDeque::new(),
            backoff: Backoff::default(),
            has_lagged: false,
        }
    }

    /// The next change of the latest answer.
    fn take_pending(&mut self) -> Option<Change> {
        let change = self.pending.pop_front()?;
        let revision = signed(change.revision);
        if self.from < revision {
            self.from = revision;
            self.seen.clear();
        }
        self.seen.insert(change.key.clone());
        Some(change)
    }

    /// Waits for an answer; gives none if the connection broke.
    async fn receive(&mut self) -> Option<WatchResponse> {
        if self.stream.is_none() {
            self.stream = tokio::time::timeout(DEADLINE, self.open()).await.ok()?;
        }
        let answer = self.stream.as_mut()?.message().await;
        answer.inspect_err(|error| tracing::warn!(%error, "a watch has lost etcd")).ok()?
    }

    async fn open(&self) -> Option<WatchStream> {
        let client = self.connector.connect().await.ok()?;
        let options = WatchOptions::new()
            .with_prefix()
            .with_fragment()
            .with_progress_notify()
            .with_start_revision(self.from);
        let path = self.connector.path(&self.prefix);
        let opened = client.watch_client().watch(path, Some(options)).await;
        opened.inspect_err(|error| tracing::debug!(%error, "a watch cannot reach etcd")).ok()
    }

    fn handle(&mut self, answer: &WatchResponse) -> Result<(), Error> {
        let latest = answer.header().map_or(0, |header| header.revision());
        // An etcd that is behind has lost what the watch has seen.
        let is_behind = answer.created() && latest.saturating_add(1) < self.from;
        if 0 < answer.compact_revision() || is_behind {
            self.has_lagged = true;
            return Err(Error::Lagged);
        }
        if answer.canceled() {
            self.stream = None;
            return Ok(());
        }
        self.backoff.reset();
        for event in answer.events() {
            let Some(kv) = event.kv() else { continue };
            let (key, revision) = (self.connector.key(kv.key())?, unsigned(kv.mod_revision())?);
            if signed(revision) == self.from && self.seen.contains(&key) {
                continue;
            }
            let value = match event.event_type() {
                EventType::Put => Some(kv.value().to_vec()),
                EventType::Delete => None,
            };
            self.pending.push_back(Change { key, value, revision });
        }
        // Without changes it says how far etcd has looked.
        if answer.events().is_empty() && !answer.created() && self.from <= latest {
            self.from = latest.saturating_add(1);
            self.seen.clear();
        }
        Ok(())
    }
}

#[async_trait]
impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<Change, Error> {
        loop {
            if self.has_lagged {
                return Err(Error::Lagged);
            }
            if let Some(change) = self.take_pending() {
                return Ok(change);
            }
            match self.receive().await {
                Some(answer) => self.handle(&answer)?,
                None => self.stream = None,
            }
            if self.stream.is_none() {
                tokio::time::sleep(self.backoff.pause(backoff::random())).await;
            }
        }
    }
}

impl std::fmt::Debug for EtcdWatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { connector, prefix, from, .. } = self;
        f.debug_struct("EtcdWatch")
            .field("connector", connector)
            .field("prefix", prefix)
            .field("from", from)
            .finish_non_exhaustive()
    }
}

/// A revision that came from etcd.
fn signed(revision: Revision) -> i64 {
    revision.0.cast_signed()
}
