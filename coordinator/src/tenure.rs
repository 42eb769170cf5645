//! One coordinator at a time works on a cluster's records.
//!
//! ```text
//!  start ─▶ someone else alive? ── yes ─▶ refused
//!            │ no
//!            ▼
//!          own record written (a new life) ─▶ every commit checks that it is still ours
//!            │                                  │ it is not
//!            ▼                                  ▼
//!          "alive" under a lease              superseded: nothing is written any more
//! ```
//!
//! The check is part of every commit, so a coordinator that was away from the store,
//! or asleep, cannot overwrite what another one has decided since. The lease only
//! keeps people from starting a second one by mistake.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use store::{Error, Expect, LeaseId, List, Page, Record, Revision, Store, Watch, Write};
use tokio::sync::watch;
use types::NodeId;

use crate::records::{ALIVE, OWN};

/// How long a coordinator counts as alive without saying so.
const ALIVE_FOR: Duration = Duration::from_secs(15);
/// How often it says so.
const SAY_EVERY: Duration = Duration::from_secs(5);

/// The store, in the hands of one life of the coordinator.
#[derive(Clone, Debug)]
pub(crate) struct Tenure {
    store: Arc<dyn Store>,
    /// When the own record was written last by this life.
    begun: Revision,
    superseded: watch::Sender<bool>,
}

/// Who is alive.
#[derive(Debug, Serialize, Deserialize)]
struct Alive {
    node: String,
}

/// Another coordinator is alive on these records.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "coordinator {node} is at work on these records: stop it, wait 15 s if it was killed, or give \
     this one a store of its own"
)]
pub struct InUse {
    /// The other one.
    pub node: String,
}

impl Tenure {
    /// The store of a life whose own record was written in this revision.
    pub(crate) fn new(store: Arc<dyn Store>, begun: Revision) -> Self {
        Self { store, begun, superseded: watch::Sender::new(false) }
    }

    /// Becomes true once another life has begun.
    pub(crate) fn superseded(&self) -> watch::Receiver<bool> {
        self.superseded.subscribe()
    }

    /// Says that this coordinator is alive, and looks whether it is the last one. Ends
    /// when it is not.
    pub(crate) async fn keep(self, node: NodeId) {
        tokio::select! {
            () = self.stay_alive(node) => {}
            () = self.look() => {}
        }
        tracing::error!("another coordinator has begun on these records: this one ends");
        self.superseded.send_replace(true);
    }

    /// Makes way for another coordinator at once.
    pub(crate) async fn end(&self) {
        // One that is not told waits until the lease has expired.
        drop(self.delete(ALIVE, Expect::Any).await);
    }

    async fn stay_alive(&self, node: NodeId) {
        let mut lease = None;
        let mut superseded = self.superseded();
        while !*superseded.borrow_and_update() {
            match self.say_alive(node, lease).await {
                Ok(said) => lease = Some(said),
                Err(Error::NoLease { .. }) => lease = None,
                // Jobs go on while the store is away.
                Err(error) => tracing::debug!(%error, "the store does not hear of this life"),
            }
            drop(tokio::time::timeout(SAY_EVERY, superseded.changed()).await);
        }
    }

    async fn say_alive(&self, node: NodeId, lease: Option<LeaseId>) -> Result<LeaseId, Error> {
        if let Some(lease) = lease {
            self.store.keep_alive(lease).await?;
            return Ok(lease);
        }
        let lease = self.store.grant(ALIVE_FOR).await?;
        let alive = format!("{{\"node\":\"{node}\"}}");
        self.commit(&[Write::put_leased(ALIVE, alive.as_bytes(), Expect::Any, lease)]).await?;
        Ok(lease)
    }

    /// Looks at the own record until someone else has written it.
    async fn look(&self) {
        while self.is_current().await.unwrap_or(true) {
            let Ok(mut changes) = self.store.watch(OWN, self.begun).await else {
                tokio::time::sleep(SAY_EVERY).await;
                continue;
            };
            if changes.next().await.is_err() {
                tokio::time::sleep(SAY_EVERY).await;
            }
        }
    }

    async fn is_current(&self) -> Result<bool, Error> {
        let own = self.store.get(OWN).await?;
        Ok(own.is_some_and(|own| own.revision == self.begun))
    }
}

/// Whether another node than this one is alive on these records.
///
/// # Errors
///
/// [`Error`] of the store.
pub(crate) async fn in_use(store: &dyn Store, node: NodeId) -> Result<Option<InUse>, Error> {
    let alive = store.get(ALIVE).await?;
    let alive = alive.and_then(|record| serde_json::from_slice::<Alive>(&record.value).ok());
    let other = alive.filter(|alive| alive.node != node.to_string());
    Ok(other.map(|Alive { node }| InUse { node }))
}

#[async_trait]
impl Store for Tenure {
    async fn get(&self, key: &str) -> Result<Option<Record>, Error> {
        self.store.get(key).await
    }

    async fn list(&self, list: &List) -> Result<Page, Error> {
        self.store.list(list).await
    }

    async fn commit(&self, writes: &[Write]) -> Result<Revision, Error> {
        let own = Write::check(OWN, Expect::Revision(self.begun));
        let done = self.store.commit(&[writes, &[own]].concat()).await;
        if matches!(&done, Err(Error::Conflict { key, .. }) if key == OWN) {
            self.superseded.send_replace(true);
        }
        done
    }

    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, Error> {
        self.store.watch(prefix, after).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error> {
        self.store.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<(), Error> {
        self.store.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), Error> {
        self.store.revoke(lease).await
    }
}

#[cfg(test)]
mod tests {
    use store::Embedded;

    use super::*;

    #[tokio::test]
    async fn life_that_another_one_has_followed_writes_nothing_and_hears_of_it() {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> =
            Arc::new(Embedded::open(&folder.path().join("state.redb")).await.unwrap());
        let first = Tenure::new(Arc::clone(&store), begin(&*store).await);
        first.put("jobs/1", b"first", Expect::Any).await.unwrap();
        tokio::spawn(first.clone().keep(NodeId(1)));
        let mut superseded = first.superseded();
        wait_alive(&*store).await;

        assert_eq!(in_use(&*store, NodeId(1)).await.unwrap(), None);
        let in_use = in_use(&*store, NodeId(2)).await.unwrap().unwrap();
        assert_eq!(in_use.node, NodeId(1).to_string());

        let second = Tenure::new(Arc::clone(&store), begin(&*store).await);
        superseded.wait_for(|&superseded| superseded).await.unwrap();
        second.put("jobs/1", b"second", Expect::Any).await.unwrap();
        let refused = first.put("jobs/1", b"late", Expect::Any).await.unwrap_err();

        assert!(matches!(refused, Error::Conflict { key, .. } if key == OWN));
        assert_eq!(store.get("jobs/1").await.unwrap().unwrap().value, b"second");
        assert!(!*second.superseded().borrow());
    }

    async fn begin(store: &dyn Store) -> Revision {
        store.put(OWN, b"{}", Expect::Any).await.unwrap()
    }

    async fn wait_alive(store: &dyn Store) {
        while store.get(ALIVE).await.unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}
