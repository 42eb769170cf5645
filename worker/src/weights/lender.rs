//! Who hands out weights: the coordinator, over a connection beside the session's,
//! so that heartbeats do not wait behind tensors.

use std::{future::Future, time::Duration};

use bytes::Bytes;
use checkpoint::{Blob, Contents, Digest, Dtype, FileEntry, Part, TensorEntry};
use futures_util::{StreamExt, TryStreamExt, stream::BoxStream};
use identity::Expect;
use link::{switchboard::Tls, tls};
use proto::{
    Malformed, PART_BYTES_MAX, control,
    generated::blob::{self as wire, blobs_client::BlobsClient, manifest_entry::Kind, tensor::Of},
};
use tokio::{sync::Mutex, time::timeout};
use tonic::{Status, transport::Channel};
use types::ModelDigest;

/// How long a list may not go on.
const STALL_MAX: Duration = Duration::from_secs(20);
/// Entries of a list, at most: Wan's 14B model with its encoder has 2,000.
const ENTRIES_MAX: usize = 1 << 17;
/// What stands around a part's bytes in a message, at most.
const HEAD_BYTES_MAX: usize = 64;

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

    async fn client(&self) -> Result<BlobsClient<Channel>, Status> {
        let mut channel = self.channel.lock().await;
        let open = match channel.take() {
            Some(open) => open,
            None => {
                let opened = tls::connect(&self.address, (self.tls.0)(Expect::Coordinator)).await;
                opened.map_err(|error| Status::unavailable(error.to_string()))?
            }
        };
        *channel = Some(open.clone());
        Ok(BlobsClient::new(open).max_decoding_message_size(PART_BYTES_MAX + HEAD_BYTES_MAX))
    }
}

impl Lender for Coordinator {
    async fn fetch(&self, blob: Blob, offset: u64) -> Result<Parts, Status> {
        let Blob { digest, bytes } = blob;
        let request = wire::FetchRequest { digest: digest.0.to_vec(), offset, bytes };
        let parts = self.client().await?.fetch(request).await?.into_inner();
        Ok(parts.map_ok(|part| part.data).boxed())
    }

    async fn contents(&self, digest: ModelDigest) -> Result<Contents, Status> {
        let request = wire::ManifestRequest { model_digest: digest.0.to_vec() };
        let mut entries = self.client().await?.manifest(request).await?.into_inner();
        let mut contents = Contents { digest, tensors: Vec::new(), files: Vec::new() };
        loop {
            let next = timeout(STALL_MAX, entries.message()).await;
            let next = next.map_err(|_| Status::deadline_exceeded("the model's list stopped"))?;
            let Some(entry) = next? else { return Ok(contents) };
            take(&mut contents, entry).map_err(|error| Status::data_loss(error.to_string()))?;
        }
    }
}

/// Takes the next entry of a list.
fn take(contents: &mut Contents, entry: wire::ManifestEntry) -> Result<(), Malformed> {
    if ENTRIES_MAX <= contents.tensors.len() + contents.files.len() {
        return Err(malformed("list", format!("has more than {ENTRIES_MAX} entries")));
    }
    match entry.kind {
        Some(Kind::Tensor(entry)) => contents.tensors.push(tensor(entry)?),
        Some(Kind::File(wire::File { path, digest, bytes })) => {
            let digest = Digest(control::digest(&digest)?);
            contents.files.push(FileEntry { path, bytes, digest });
        }
        None => return Err(malformed("list", "has an entry of an unknown kind".to_owned())),
    }
    Ok(())
}

fn tensor(entry: wire::Tensor) -> Result<TensorEntry, Malformed> {
    let part = match entry.of() {
        Of::TextEncoder => Part::TextEncoder,
        Of::Transformer => Part::Transformer,
        Of::Vae => Part::Vae,
        Of::Unspecified => {
            let problem = format!("is of {}, which is no part of a model", entry.of);
            return Err(malformed("tensor", problem));
        }
    };
    let dtype = Dtype::named(&entry.dtype);
    let dtype = dtype.ok_or_else(|| malformed("dtype", format!("is {:?}", entry.dtype)))?;
    let size = |size: u64| {
        usize::try_from(size).map_err(|_| malformed("shape", format!("has {size}, too large")))
    };
    Ok(TensorEntry {
        part,
        name: entry.name,
        dtype,
        shape: entry.shape.into_iter().map(size).collect::<Result<_, _>>()?,
        bytes: entry.bytes,
        digest: Digest(control::digest(&entry.digest)?),
    })
}

fn malformed(field: &'static str, problem: String) -> Malformed {
    Malformed { field, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_that_no_honest_peer_sends_are_refused() {
        let good = wire::Tensor {
            of: Of::Vae.into(),
            name: "a".to_owned(),
            dtype: "BF16".to_owned(),
            shape: vec![2, 3],
            digest: vec![1; 32],
            bytes: 12,
        };
        let taken = |tensor: wire::Tensor| {
            let (digest, tensors, files) = (ModelDigest([0; 32]), Vec::new(), Vec::new());
            let mut contents = Contents { digest, tensors, files };
            let entry = wire::ManifestEntry { kind: Some(Kind::Tensor(tensor)) };
            take(&mut contents, entry).map(|()| contents.tensors.remove(0))
        };
        let read = taken(good.clone()).unwrap();
        assert_eq!((read.part, read.dtype, read.shape), (Part::Vae, Dtype::Bf16, vec![2, 3]));
        assert_eq!((read.bytes, read.digest), (12, Digest([1; 32])));

        let wrong = [
            (wire::Tensor { of: 99, ..good.clone() }, "of 99"),
            (wire::Tensor { dtype: "I4".to_owned(), ..good.clone() }, "I4"),
            (wire::Tensor { digest: vec![1; 31], ..good }, "31 bytes"),
        ];
        for (tensor, problem) in wrong {
            let error = taken(tensor).unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
