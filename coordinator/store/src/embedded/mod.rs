//! The store of a single coordinator: one file, written by one process.
//!
//! ```text
//!  commit ─▶ writer (one at a time) ─▶ file, durable ─▶ leases, history ─▶ watches
//!  get, list ─▶ file as of the last commit
//!  expiry (a task) ─▶ sleeps until the first lease is due ─▶ writer deletes its keys
//! ```
//!
//! Work on the file runs on threads that may block. Leases live in memory and go by
//! the runtime's clock; whoever held one is gone after a restart, so what was under
//! any lease is deleted when the file is opened.
//!
//! - `file`: the records in the file.
//! - `history`: the latest changes, and the watches that read them.
//! - `leases`: which lease is due when, and which keys go with it.

mod file;
mod history;
mod leases;

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use async_trait::async_trait;
use tokio::{sync::Notify, task::JoinHandle, time::Instant};

use self::{
    file::File,
    history::{History, HistoryWatch},
    leases::Leases,
};
use crate::{
    Store, Watch, check,
    error::Error,
    record::{Action, Change, Expect, LeaseId, List, Page, Record, Revision, Write},
};

/// How long a failed deletion of expired records waits for its next try.
const EXPIRY_RETRY: Duration = Duration::from_secs(1);

/// A store in a file.
#[derive(Debug)]
pub struct Embedded {
    shared: Arc<Shared>,
    expiry: JoinHandle<()>,
}

#[derive(Debug)]
struct Shared {
    file: File,
    writer: Mutex<Writer>,
    history: Arc<History>,
    /// Told when a lease is granted, which may be due before all others, and at the end.
    expiry_due: Notify,
}

/// What only one commit at a time may change.
#[derive(Debug)]
struct Writer {
    revision: Revision,
    leases: Leases,
}

impl Embedded {
    /// Opens the file, which is made if need be. Deletes what was under a lease.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`] if another process has it, or it cannot be read;
    /// [`Error::Damaged`] if it is no such file.
    pub async fn open(path: &Path) -> Result<Self, Error> {
        let path: PathBuf = path.to_owned();
        let (file, revision) = block(move || File::open(&path)).await?;
        let shared = Arc::new(Shared {
            file,
            writer: Mutex::new(Writer { revision, leases: Leases::default() }),
            history: Arc::new(History::new(revision)),
            expiry_due: Notify::new(),
        });
        let expiry = tokio::spawn(expire(shared.clone()));
        Ok(Self { shared, expiry })
    }

    /// Closes the store. The file is free for another one then.
    pub async fn close(mut self) {
        self.shared.close();
        // The task only ends otherwise by a panic, which has been reported.
        let _ = (&mut self.expiry).await;
    }

    /// Runs work that may block.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Shared) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let shared = self.shared.clone();
        block(move || work(&shared)).await
    }
}

impl Drop for Embedded {
    fn drop(&mut self) {
        self.shared.close();
    }
}

#[async_trait]
impl Store for Embedded {
    async fn get(&self, key: &str) -> Result<Option<Record>, Error> {
        check::key(key)?;
        let key = key.to_owned();
        self.run(move |shared| shared.file.get(&key)).await
    }

    async fn list(&self, list: &List) -> Result<Page, Error> {
        check::list(list)?;
        let list = list.clone();
        self.run(move |shared| shared.file.list(&list)).await
    }

    async fn commit(&self, writes: &[Write]) -> Result<Revision, Error> {
        check::writes(writes)?;
        let (writes, now) = (writes.to_vec(), Instant::now());
        self.run(move |shared| {
            let mut writer = shared.writer();
            writer.leases.check(&writes, now)?;
            shared.commit(&mut writer, &writes)
        })
        .await
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, Error> {
        check::prefix(prefix)?;
        let watch = HistoryWatch::new(self.shared.history.clone(), prefix, after);
        Ok(Box::new(watch))
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        check::ttl(ttl)?;
        let now = Instant::now();
        let lease = self.run(move |shared| shared.writer().leases.grant(ttl, now)).await?;
        self.shared.expiry_due.notify_one();
        Ok(lease)
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), Error> {
        let now = Instant::now();
        self.run(move |shared| shared.writer().leases.keep_alive(lease, now)).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.run(move |shared| shared.end(&[lease])).await
    }
}

impl Shared {
    fn close(&self) {
        self.history.close();
        self.expiry_due.notify_one();
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().expect("a panic in a commit ends the store's use")
    }

    /// Does writes whose leases are there.
    fn commit(&self, writer: &mut Writer, writes: &[Write]) -> Result<Revision, Error> {
        let revision = Revision(writer.revision.0 + 1);
        let applied = self.file.commit(writes, revision)?;
        if applied.is_empty() {
            return Ok(writer.revision);
        }
        writer.revision = revision;
        let mut changes = Vec::new();
        for write in applied {
            let (value, lease) = match &write.action {
                Action::Put { value, lease } => (Some(value.clone()), *lease),
                Action::Delete | Action::Check => (None, None),
            };
            writer.leases.attach(&write.key, lease);
            changes.push(Change { key: write.key.clone(), value, revision });
        }
        self.history.push(changes);
        Ok(revision)
    }

    /// Ends leases, and the records under them.
    fn end(&self, leases: &[LeaseId]) -> Result<(), Error> {
        let mut writer = self.writer();
        let keys = leases.iter().flat_map(|&lease| writer.leases.keys(lease));
        let writes: Vec<_> = keys.map(|key| Write::delete(key, Expect::Any)).collect();
        if !writes.is_empty() {
            self.commit(&mut writer, &writes)?;
        }
        for &lease in leases {
            writer.leases.remove(lease);
        }
        Ok(())
    }

    /// Ends what is due. Gives when the next lease may be.
    fn end_due(&self, now: Instant) -> Result<Option<Instant>, Error> {
        let due = self.writer().leases.due(now);
        self.end(&due)?;
        Ok(self.writer().leases.first_deadline())
    }
}

/// Ends leases when they are due.
async fn expire(shared: Arc<Shared>) {
    while !shared.history.is_closed() {
        let (work, now) = (shared.clone(), Instant::now());
        let next = block(move || work.end_due(now)).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "expired records were not deleted");
            Some(now + EXPIRY_RETRY)
        });
        let due = shared.expiry_due.notified();
        match next {
            None => due.await,
            Some(deadline) => {
                let _ = tokio::time::timeout_at(deadline, due).await;
            }
        }
    }
}

async fn block<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Error> + Send + 'static,
) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| {
        Err(Error::Damaged { problem: format!("its file could not be worked on: {error}") })
    })
}
