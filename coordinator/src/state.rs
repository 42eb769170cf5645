//! Which state store, and what is asked of it before anything else is done.

use std::{path::Path, sync::Arc, time::Duration};

use store::{Embedded, Error as StoreError, Expect, List, Revision, Store};
use types::{Incarnation, JobId, NodeId};

use crate::{
    records::{self, Own},
    run::Error,
    tenure,
};

/// Who is trusted to be etcd, and who this is, in PEM.
#[cfg(feature = "etcd")]
#[derive(Clone, PartialEq, Eq)]
pub struct EtcdTls {
    /// The authority that signed etcd's certificate.
    pub ca_pem: Vec<u8>,
    /// This client's certificate and its key, if etcd asks for one.
    pub client_pem: Option<(Vec<u8>, Vec<u8>)>,
}

#[cfg(feature = "etcd")]
impl std::fmt::Debug for EtcdTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EtcdTls").finish_non_exhaustive()
    }
}

#[cfg(feature = "etcd")]
impl From<EtcdTls> for store::etcd::Tls {
    fn from(EtcdTls { ca_pem, client_pem }: EtcdTls) -> Self {
        let client =
            |(certificate_pem, key_pem)| store::etcd::TlsClient { certificate_pem, key_pem };
        Self { ca_pem, client: client_pem.map(client) }
    }
}

/// Where records are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// In a file of the data folder.
    #[default]
    File,
    /// In etcd, at these addresses, under the name of a cluster.
    #[cfg(feature = "etcd")]
    Etcd {
        /// `http://HOST:PORT` or `https://HOST:PORT`.
        endpoints: Vec<String>,
        /// What its keys are behind.
        cluster: String,
        /// What TLS needs, for `https`.
        tls: Option<EtcdTls>,
    },
}

impl State {
    /// Opens the store. It need not be there yet, if it is not a file.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if it can never be used.
    pub(crate) async fn open(&self, data: &Path) -> Result<Arc<dyn Store>, Error> {
        match self {
            Self::File => Ok(Arc::new(Embedded::open(&data.join(records::FILE)).await?)),
            #[cfg(feature = "etcd")]
            Self::Etcd { endpoints, cluster, tls } => {
                let (endpoints, cluster) = (endpoints.clone(), cluster.clone());
                let tls = tls.clone().map(store::etcd::Tls::from);
                let options = store::etcd::Options { endpoints, cluster, tls };
                Ok(Arc::new(store::Etcd::new(options).await?))
            }
        }
    }
}

/// What a coordinator before this one has left.
#[derive(Debug)]
pub(crate) struct Left {
    /// The number of this life.
    pub(crate) incarnation: u64,
    /// When that was written down.
    pub(crate) begun: Revision,
    pub(crate) nodes: Vec<(NodeId, records::Node)>,
    /// In the order in which they were asked for.
    pub(crate) jobs: Vec<(JobId, records::Job)>,
}

impl Left {
    /// Begins another life of this node, and reads what the last one has left. Waits
    /// for the store as long as it is away.
    ///
    /// # Errors
    ///
    /// [`Error::Store`] if it will never answer; [`Error::InUse`].
    pub(crate) async fn read(store: &dyn Store, node: NodeId) -> Result<Self, Error> {
        let mut wait = Duration::from_millis(100);
        loop {
            match Self::try_read(store, node).await {
                Err(Error::Store(error @ StoreError::Unavailable { .. })) => {
                    tracing::warn!(%error, "waiting for the state store");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(Duration::from_secs(5));
                }
                read => return read,
            }
        }
    }

    async fn try_read(store: &dyn Store, node: NodeId) -> Result<Self, Error> {
        if let Some(in_use) = tenure::in_use(store, node).await? {
            return Err(in_use.into());
        }
        let (Incarnation(incarnation), begun) = begin_life(store).await?;
        let mut left = Self { incarnation, begun, nodes: Vec::new(), jobs: Vec::new() };
        for (key, value) in all(store, records::NODES).await? {
            let node = records::number(&key, records::NODES);
            match (node, serde_json::from_slice(&value)) {
                (Some(node), Ok(record)) => left.nodes.push((NodeId(node), record)),
                (None, _) | (_, Err(_)) => tracing::error!(%key, "a record cannot be read"),
            }
        }
        for (key, value) in all(store, records::JOBS).await? {
            let job = records::number(&key, records::JOBS);
            match (job, serde_json::from_slice(&value)) {
                (Some(job), Ok(record)) => left.jobs.push((JobId(job), record)),
                (None, _) | (_, Err(_)) => tracing::error!(%key, "a record cannot be read"),
            }
        }
        left.jobs.sort_by_key(|(job, record): &(JobId, records::Job)| (record.created_at, *job));
        Ok(left)
    }
}

/// Gives the number of this life, which is written down, and the revision of that.
async fn begin_life(store: &dyn Store) -> Result<(Incarnation, Revision), Error> {
    let own = store.get(records::OWN).await?;
    // Without it, workers would take this life for one that is over.
    let own = own.map(|record| serde_json::from_slice::<Own>(&record.value)).transpose();
    let own = own.map_err(|source| Error::Record { key: records::OWN, source })?;
    let incarnation = own.unwrap_or_default().incarnation + 1;
    let value = format!("{{\"incarnation\":{incarnation}}}");
    let begun = store.put(records::OWN, value.as_bytes(), Expect::Any).await?;
    Ok((Incarnation(incarnation), begun))
}

async fn all(store: &dyn Store, prefix: &str) -> Result<Vec<(String, Vec<u8>)>, Error> {
    let mut list = List { prefix: prefix.to_owned(), after: None, limit: 100 };
    let mut found = Vec::new();
    loop {
        let page = store.list(&list).await?;
        found.extend(page.records.into_iter().map(|record| (record.key, record.value)));
        match page.next {
            Some(next) => list.after = Some(next),
            None => return Ok(found),
        }
    }
}
