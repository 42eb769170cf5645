//! Where a model's weights come from: this machine, or the coordinator.
//!
//! ```text
//!  digest ─▶ is it the local model's? ── yes ─▶ its files
//!                    │ no
//!                    ▼
//!  list of tensors and files ─▶ configuration ─▶ is its digest the one asked for?
//!                                                          │ yes
//!  what a part needs ─▶ what is not here of it ─▶ fetched ─▶ a model with that part
//! ```
//!
//! The list and the configuration make the digest again, so whoever hands them out
//! need not be trusted; every tensor is compared with the list.
//!
//! Invariant: only what a part needs is fetched.

mod cache;
mod failure;
mod fetch;
mod lender;
mod progress;

use std::{path::PathBuf, sync::Arc};

use checkpoint::{Blobs, Checkpoint, Need, Problem, Tally};
use link::switchboard::Tls;
use types::{Model, ModelDigest};

use cache::Cache;
pub(crate) use failure::Failure;
use lender::Coordinator;

/// Where a model's weights come from. Clones are the same.
#[derive(Clone, Debug)]
pub(crate) struct Weights(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    local: Option<(ModelDigest, Checkpoint)>,
    cache: Option<Cache<Coordinator>>,
    /// Grows while weights are fetched and read.
    loading: Tally,
}

/// Where weights are fetched from, and where they are kept.
#[derive(Debug)]
pub(crate) struct Remote {
    /// Where the coordinator's gRPC is, `HOST:PORT`.
    pub(crate) coordinator: String,
    /// How it is spoken with.
    pub(crate) tls: Tls,
    /// The folder of what was fetched.
    pub(crate) folder: PathBuf,
    /// Bytes that it may have.
    pub(crate) bytes_max: u64,
}

impl Weights {
    /// Weights of the model on this machine, if there is one, and of any other one if
    /// there is a place to fetch it from.
    ///
    /// # Errors
    ///
    /// [`Problem::Io`] if the folder cannot be made or read.
    pub(crate) fn new(
        local: Option<(ModelDigest, Checkpoint)>,
        remote: Option<Remote>,
    ) -> Result<Self, Problem> {
        let loading = Tally::default();
        let cache = remote.map(|remote| {
            let Remote { coordinator, tls, folder, bytes_max } = remote;
            let coordinator = Coordinator::new(coordinator, tls);
            let blobs = Blobs::open(folder, bytes_max)?;
            Ok(Cache::new(coordinator, blobs, bytes_max, loading.clone()))
        });
        let (cache, loading) = (cache.transpose()?, loading);
        Ok(Self(Arc::new(Inner { local, cache, loading })))
    }

    /// The model on this machine.
    pub(crate) fn local(&self) -> Option<ModelDigest> {
        self.0.local.as_ref().map(|(digest, _)| *digest)
    }

    /// Whether other models can be fetched.
    pub(crate) fn fetches(&self) -> bool {
        self.0.cache.is_some()
    }

    /// Grows while weights are fetched and read, by bytes and by attempts to get them.
    pub(crate) fn loading(&self) -> u64 {
        self.0.loading.read()
    }

    /// The configuration of a model.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub(crate) async fn model(&self, digest: ModelDigest) -> Result<Model, Failure> {
        match &self.0.local {
            Some((local, checkpoint)) if *local == digest => Ok(checkpoint.model()?),
            _ => Ok(self.cache(digest)?.model(digest).await?),
        }
    }

    /// A model of which this part can be opened.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub(crate) async fn checkpoint(
        &self,
        digest: ModelDigest,
        need: &Need,
    ) -> Result<Checkpoint, Failure> {
        let checkpoint = match &self.0.local {
            Some((local, checkpoint)) if *local == digest => checkpoint.clone(),
            _ => self.cache(digest)?.checkpoint(digest, need).await?,
        };
        Ok(checkpoint.counted(self.0.loading.clone()))
    }

    fn cache(&self, wanted: ModelDigest) -> Result<&Cache<Coordinator>, Failure> {
        let local = self.local();
        self.0.cache.as_ref().ok_or(Failure::NotHere { wanted, local })
    }
}
