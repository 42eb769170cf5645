//! Writes records down, in their order, again and again until the store takes
//! them. Of a record that changes meanwhile only the last form is written.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use serde::Serialize;
use store::{Error, Expect, Store};
use tokio::sync::Notify;

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
    /// Records by key; `None` for one that is to be deleted.
    records: Mutex<BTreeMap<String, Option<Vec<u8>>>>,
    changed: Notify,
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
            Ok(bytes) => self.add(key, Some(bytes)),
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
        let mut wait = WAIT_MIN;
        loop {
            match self.store.put(&key, &value, Expect::Any).await {
                Ok(_) => return Ok(()),
                Err(error @ Error::Unavailable { .. }) => {
                    tracing::warn!(%key, %error, "the state store is away: trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(WAIT_MAX);
                }
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// Deletes a record when the store is there.
    pub(crate) fn delete(&self, key: String) {
        self.add(key, None);
    }

    /// Whether everything is written.
    pub(crate) fn is_idle(&self) -> bool {
        self.due.lock().is_empty()
    }

    fn add(&self, key: String, record: Option<Vec<u8>>) {
        self.due.lock().insert(key, record);
        self.due.changed.notify_one();
    }

    async fn run(self) {
        let mut wait = WAIT_MIN;
        loop {
            let next =
                self.due.lock().iter().next().map(|(key, value)| (key.clone(), value.clone()));
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
                    self.due.done(&key, record.as_ref());
                }
                Err(error @ Error::Unavailable { .. }) => {
                    tracing::warn!(%key, %error, "the state store is away: trying again");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(WAIT_MAX);
                }
                Err(error) => {
                    tracing::error!(%key, %error, "a record was not written");
                    self.due.done(&key, record.as_ref());
                }
            }
        }
    }
}

impl Due {
    /// A record is written in this form.
    fn done(&self, key: &str, record: Option<&Vec<u8>>) {
        let mut records = self.lock();
        if records.get(key).is_some_and(|due| due.as_ref() == record) {
            records.remove(key);
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Option<Vec<u8>>>> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
