//! Writes records down, again and again until the store takes them. Of a record
//! that changes meanwhile only the last form is written, and who waits for an
//! earlier one is told then: a record that was deleted never comes back.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;
use store::{Error, Expect, Store};
use tokio::sync::{Notify, oneshot};

const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// The store's handle for whoever cannot wait for it.
#[derive(Clone, Debug)]
pub(crate) struct Saver {
    store: Arc<dyn Store>,
    due: Arc<Due>,
}

#[derive(Debug, Default)]
struct Due {
    records: Mutex<BTreeMap<String, Record>>,
    changed: Notify,
}

/// A record that is to be written.
#[derive(Debug, Default)]
struct Record {
    /// `None` if it is to be deleted.
    value: Option<Vec<u8>>,
    waiting: Vec<oneshot::Sender<Result<(), String>>>,
}

impl Saver {
    /// Starts to write; it ends with the runtime.
    pub(crate) fn start(store: Arc<dyn Store>) -> Self {
        let saver = Self { store, due: Arc::default() };
        tokio::spawn(saver.clone().run());
        saver
    }

    /// The store itself, for those who wait.
    pub(crate) fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Writes a record when the store is there.
    pub(crate) fn save<T: Serialize>(&self, key: String, record: &T) {
        match serde_json::to_vec(record) {
            Ok(bytes) => self.add(key, Some(bytes), None),
            Err(error) => tracing::error!(%key, %error, "a record cannot be written"),
        }
    }

    /// Writes a record and waits until it is written.
    ///
    /// # Errors
    ///
    /// A sentence if the store will never take it.
    pub(crate) async fn insist<T: Serialize + Sync>(
        &self,
        key: String,
        record: &T,
    ) -> Result<(), String> {
        let value = serde_json::to_vec(record).map_err(|error| error.to_string())?;
        let (waiting, written) = oneshot::channel();
        self.add(key, Some(value), Some(waiting));
        written.await.unwrap_or_else(|_| Err("the coordinator stops".to_owned()))
    }

    /// Deletes a record when the store is there.
    pub(crate) fn delete(&self, key: String) {
        self.add(key, None, None);
    }

    /// Whether everything is written.
    pub(crate) fn is_idle(&self) -> bool {
        self.due.lock().is_empty()
    }

    fn add(
        &self,
        key: String,
        value: Option<Vec<u8>>,
        waiting: Option<oneshot::Sender<Result<(), String>>>,
    ) {
        let mut records = self.due.lock();
        let record = records.entry(key).or_default();
        record.value = value;
        record.waiting.extend(waiting);
        drop(records);
        self.due.changed.notify_one();
    }

    async fn run(self) {
        let mut wait = WAIT_MIN;
        loop {
            let next =
                self.due.lock().iter().next().map(|(key, due)| (key.clone(), due.value.clone()));
            let Some((key, record)) = next else {
                self.due.changed.notified().await;
                continue;
            };
            let written = match &record {
                Some(value) => self.store.put(&key, value, Expect::Any).await,
                None => self.store.delete(&key, Expect::Any).await,
            };
            match written {
                Ok(_) => {
                    wait = WAIT_MIN;
                    self.due.done(&key, record.as_ref(), &Ok(()));
                }
                Err(error @ Error::Unavailable { .. }) => {
                    tracing::warn!(%key, %error, "the state store is away: trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(WAIT_MAX);
                }
                Err(error) => {
                    tracing::error!(%key, %error, "a record was not written");
                    self.due.done(&key, record.as_ref(), &Err(error.to_string()));
                }
            }
        }
    }
}

impl Due {
    /// A record is written in this form, or never will be.
    fn done(&self, key: &str, value: Option<&Vec<u8>>, outcome: &Result<(), String>) {
        let mut records = self.lock();
        if records.get(key).is_none_or(|due| due.value.as_ref() != value) {
            return;
        }
        let waiting = records.remove(key).map(|due| due.waiting).unwrap_or_default();
        // Who waited may be gone.
        waiting.into_iter().for_each(|waiting| drop(waiting.send(outcome.clone())));
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Record>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
