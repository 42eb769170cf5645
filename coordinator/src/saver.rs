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

    /// Writes a record; what it gives waits until it is written. The order of records
    /// is that of the calls.
    ///
    /// # Errors
    ///
    /// A sentence if the store will never take it.
    pub(crate) fn insist<T: Serialize>(
        &self,
        key: String,
        record: &T,
    ) -> impl Future<Output = Result<(), String>> + Send + use<T> {
        let (waiting, written) = oneshot::channel();
        match serde_json::to_vec(record) {
            Ok(value) => self.add(key, Some(value), Some(waiting)),
            Err(error) => drop(waiting.send(Err(error.to_string()))),
        }
        async { written.await.unwrap_or_else(|_| Err("the coordinator stops".to_owned())) }
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use async_trait::async_trait;
    use store::{Action, LeaseId, List, Page, Revision, Watch, Write};

    use super::*;

    #[tokio::test]
    async fn record_that_was_deleted_while_the_store_was_away_does_not_come_back() {
        let store = Arc::new(Flaky::default());
        store.is_away.store(true, Ordering::SeqCst);
        let saver = Saver::start(Arc::clone(&store) as Arc<dyn Store>);

        let written = saver.insist("jobs/1".to_owned(), &"placed");
        saver.delete("jobs/1".to_owned());
        saver.save("jobs/2".to_owned(), &"first");
        saver.save("jobs/2".to_owned(), &"last");
        tokio::time::sleep(Duration::from_millis(60)).await;
        store.is_away.store(false, Ordering::SeqCst);

        assert_eq!(written.await, Ok(()), "who waits is not left waiting");
        while !saver.is_idle() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let kept = store.records.lock().unwrap();
        assert!(kept.iter().eq([(&"jobs/2".to_owned(), &b"\"last\"".to_vec())]), "{kept:?}");
    }

    /// A store that takes and deletes records, or is away.
    #[derive(Debug, Default)]
    struct Flaky {
        is_away: AtomicBool,
        records: Mutex<BTreeMap<String, Vec<u8>>>,
    }

    #[async_trait]
    impl Store for Flaky {
        async fn get(&self, _key: &str) -> Result<Option<store::Record>, Error> {
            Err(away())
        }

        async fn list(&self, _list: &List) -> Result<Page, Error> {
            Err(away())
        }

        async fn commit(&self, writes: &[Write]) -> Result<Revision, Error> {
            if self.is_away.load(Ordering::SeqCst) {
                return Err(away());
            }
            let mut records = self.records.lock().unwrap();
            for Write { key, action, .. } in writes {
                match action {
                    Action::Put { value, .. } => drop(records.insert(key.clone(), value.clone())),
                    Action::Delete => drop(records.remove(key)),
                    Action::Check => {}
                }
            }
            Ok(Revision(1))
        }

        async fn watch(&self, _prefix: &str, _after: Revision) -> Result<Box<dyn Watch>, Error> {
            Err(away())
        }

        async fn grant(&self, _ttl: Duration) -> Result<LeaseId, Error> {
            Err(away())
        }

        async fn keep_alive(&self, _lease: LeaseId) -> Result<(), Error> {
            Err(away())
        }

        async fn revoke(&self, _lease: LeaseId) -> Result<(), Error> {
            Err(away())
        }
    }

    fn away() -> Error {
        Error::Unavailable { problem: "it is away".to_owned() }
    }
}
