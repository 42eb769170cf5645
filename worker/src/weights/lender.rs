//! Who hands out weights: the coordinator, over a connection beside the session's,
//! so that heartbeats do not wait behind tensors.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use checkpoint::{Blob, Contents};
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use identity::Expect;
use link::{switchboard::Tls, tls};
use proto::{
    PART_BYTES_MAX,
    generated::blob::{self as wire, blobs_client::BlobsClient},
};
use tokio::{sync::Mutex, time::timeout};
use tonic::{Status, transport::Channel};
use types::ModelDigest;

use crate::listing::{ENTRY_BYTES_MAX, Listing};

/// How long a list may not go on.
const STALL_MAX: Duration = Duration::from_secs(20);
/// Bytes of a message with a part, at most: what stands around it is short.
const PART_MESSAGE_BYTES_MAX: usize = PART_BYTES_MAX + 64;

/// A blob's bytes from some place on.
pub(super) type Parts = BoxStream<'static, Result<Bytes, Status>>;

/// Whoever hands out weights.
pub(super) trait Lender: Sync {
    /// The bytes of a blob from `offset` on.
    fn fetch(&self, blob: Blob, offset: u64) -> impl Future<Output = Result<Parts, Status>> + Send;

    /// What a model consists of. It is not checked.
    fn contents(
        &self,
        digest: ModelDigest,
    ) -> impl Future<Output = Result<Contents, Status>> + Send;
}

/// The coordinator.
#[derive(Debug)]
pub(super) struct Coordinator {
    address: String,
    tls: Tls,
    /// Connects again by itself.
    channel: Mutex<Option<Channel>>,
}

impl Coordinator {
    pub(super) fn new(address: String, tls: Tls) -> Self {
        Self { address, tls, channel: Mutex::new(None) }
    }

    /// A client that takes messages of so many bytes.
    async fn client(&self, bytes_max: usize) -> Result<BlobsClient<Channel>, Status> {
        let mut channel = self.channel.lock().await;
        let open = match channel.take() {
            Some(open) => open,
            None => {
                let opened = tls::connect(&self.address, (self.tls.0)(Expect::Coordinator)).await;
                opened.map_err(|error| Status::unavailable(error.to_string()))?
            }
        };
        *channel = Some(open.clone());
        Ok(BlobsClient::new(open).max_decoding_message_size(bytes_max))
    }
}

impl Lender for Coordinator {
    async fn fetch(&self, blob: Blob, offset: u64) -> Result<Parts, Status> {
        let Blob { digest, bytes } = blob;
        let request = wire::FetchRequest { digest: digest.0.to_vec(), offset, bytes };
        let parts = self.client(PART_MESSAGE_BYTES_MAX).await?.fetch(request).await?.into_inner();
        Ok(parts.map_ok(|part| part.data).boxed())
    }

    async fn contents(&self, digest: ModelDigest) -> Result<Contents, Status> {
        let request = wire::ManifestRequest { model_digest: digest.0.to_vec() };
        let mut entries = self.client(ENTRY_BYTES_MAX).await?.manifest(request).await?.into_inner();
        let mut listing = Listing::new(digest);
        loop {
            let next = timeout(STALL_MAX, entries.message()).await;
            let next = next.map_err(|_| Status::deadline_exceeded("the model's list stopped"))?;
            let Some(entry) = next? else { return Ok(listing.finish()) };
            listing.take(entry).map_err(|error| Status::data_loss(error.to_string()))?;
        }
    }
}
