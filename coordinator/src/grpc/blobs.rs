//! The served model's weights, for workers that do not have them.
//!
//! ```text
//!  Manifest ─▶ tensors, then files          Fetch(blob, offset) ─▶ parts of 1 MiB
//! ```
//!
//! A file is read off the runtime, a part at a time and only when the receiver has
//! taken those before it. Streams take turns part by part, so that a large blob
//! delays no small one.
//!
//! Invariants: at most [`STREAMS_MAX`] streams are open, and each has [`PARTS_MAX`]
//! parts in memory at most; one whose receiver takes nothing is given up. Nothing is
//! handed out but blobs of the served model.

use std::{ops::Range, pin::Pin, sync::Arc, time::Duration};

use checkpoint::{Blob, Bytes, Contents, Digest, FileEntry, Library, Part, TensorEntry};
use futures_util::{Stream, stream};
use proto::{
    PART_BYTES_MAX, control,
    generated::blob::{
        self as wire,
        blobs_server::{Blobs, BlobsServer},
        manifest_entry::Kind,
        tensor::Of,
    },
};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task::spawn_blocking,
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

/// Streams at once: eight workers with four each.
const STREAMS_MAX: usize = 32;
/// Parts of a stream that wait to be sent, and the one that is being read.
const PARTS_MAX: usize = 2;
/// Parts that are read from disk at once.
const READS_MAX: usize = 4;
/// How long a receiver may take nothing.
const STALL_MAX: Duration = Duration::from_secs(30);
/// Bytes of a request, at most.
const REQUEST_BYTES_MAX: usize = 1 << 10;

/// The service.
#[derive(Debug)]
pub(crate) struct Lending {
    library: Arc<Library>,
    streams: Arc<Semaphore>,
    reads: Arc<Semaphore>,
}

type Sent<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Lending {
    pub(crate) fn new(library: Arc<Library>) -> Self {
        let [streams, reads] = [STREAMS_MAX, READS_MAX].map(|max| Arc::new(Semaphore::new(max)));
        Self { library, streams, reads }
    }

    /// The server for it, with its limits.
    pub(crate) fn into_server(self) -> BlobsServer<Self> {
        BlobsServer::new(self).max_decoding_message_size(REQUEST_BYTES_MAX)
    }

    /// A place among the streams.
    fn place(&self) -> Result<OwnedSemaphorePermit, Status> {
        let place = Arc::clone(&self.streams).try_acquire_owned();
        place.map_err(|_| Status::resource_exhausted("too many fetch weights: ask again soon"))
    }

    async fn read(&self, blob: Blob) -> Result<Bytes, Status> {
        let library = Arc::clone(&self.library);
        let content = spawn_blocking(move || library.read(&blob)).await;
        let content = content.map_err(|error| Status::unavailable(error.to_string()))?;
        let content = content.map_err(|error| Status::data_loss(error.to_string()))?;
        let Blob { digest, bytes } = blob;
        let model = self.library.contents().digest;
        content.ok_or_else(|| {
            Status::not_found(format!("model {model} has no blob {digest} of {bytes} bytes"))
        })
    }
}

#[tonic::async_trait]
impl Blobs for Lending {
    type ManifestStream = Sent<wire::ManifestEntry>;
    type FetchStream = Sent<wire::Part>;

    async fn manifest(
        &self,
        request: Request<wire::ManifestRequest>,
    ) -> Result<Response<Self::ManifestStream>, Status> {
        let asked = request.into_inner().model_digest;
        let asked = control::model_digest(&asked).map_err(malformed)?;
        let Contents { digest, tensors, files } = self.library.contents();
        if asked != *digest {
            let message = format!("this node hands out model {digest}, not {asked}");
            return Err(Status::not_found(message));
        }
        let (place, library) = (self.place()?, Arc::clone(&self.library));
        let entries = (0..tensors.len() + files.len()).map(move |index| {
            let _held = &place;
            Ok(entry(library.contents(), index))
        });
        Ok(Response::new(Box::pin(stream::iter(entries))))
    }

    async fn fetch(
        &self,
        request: Request<wire::FetchRequest>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let wire::FetchRequest { digest, offset, bytes } = request.into_inner();
        let digest = Digest(control::digest(&digest).map_err(malformed)?);
        let place = self.place()?;
        let content = self.read(Blob { digest, bytes }).await?;
        let offset = usize::try_from(offset).ok().filter(|&offset| offset <= content.len());
        let Some(offset) = offset else {
            return Err(Status::out_of_range(format!("blob {digest} has {bytes} bytes")));
        };
        let (away, parts) = mpsc::channel(PARTS_MAX);
        tokio::spawn(send(content, offset, away, Arc::clone(&self.reads), place));
        Ok(Response::new(Box::pin(ReceiverStream::new(parts))))
    }
}

/// Sends what is behind `offset`, until the receiver is gone.
async fn send(
    content: Bytes,
    offset: usize,
    away: mpsc::Sender<Result<wire::Part, Status>>,
    reads: Arc<Semaphore>,
    place: OwnedSemaphorePermit,
) {
    for range in parts(offset, content.len()) {
        let Ok(Ok(slot)) = timeout(STALL_MAX, away.reserve()).await else { break };
        let Ok(_turn) = reads.acquire().await else { break };
        let content = content.clone();
        let read = spawn_blocking(move || bytes::Bytes::copy_from_slice(&content[range])).await;
        let part = read.map(|data| wire::Part { data });
        slot.send(part.map_err(|error| Status::unavailable(error.to_string())));
    }
    drop(place);
}

fn parts(offset: usize, end: usize) -> impl Iterator<Item = Range<usize>> {
    let starts = (offset..end).step_by(PART_BYTES_MAX);
    starts.map(move |start| start..end.min(start + PART_BYTES_MAX))
}

/// The entry at `index`: tensors stand before files.
fn entry(contents: &Contents, index: usize) -> wire::ManifestEntry {
    let kind = match contents.tensors.get(index) {
        Some(entry) => Kind::Tensor(tensor(entry)),
        None => Kind::File(file(&contents.files[index - contents.tensors.len()])),
    };
    wire::ManifestEntry { kind: Some(kind) }
}

fn tensor(entry: &TensorEntry) -> wire::Tensor {
    let of = match entry.part {
        Part::TextEncoder => Of::TextEncoder,
        Part::Transformer => Of::Transformer,
        Part::Vae => Of::Vae,
        // It is a file.
        Part::Tokenizer => Of::Unspecified,
    };
    wire::Tensor {
        of: of.into(),
        name: entry.name.clone(),
        dtype: entry.dtype.name().to_owned(),
        shape: entry.shape.iter().map(|&size| size as u64).collect(),
        digest: entry.digest.0.to_vec(),
        bytes: entry.bytes,
    }
}

fn file(entry: &FileEntry) -> wire::File {
    wire::File { path: entry.path.clone(), digest: entry.digest.0.to_vec(), bytes: entry.bytes }
}

#[expect(clippy::needless_pass_by_value, reason = "it is given to map_err")]
fn malformed(malformed: proto::Malformed) -> Status {
    Status::invalid_argument(malformed.to_string())
}

#[cfg(test)]
mod tests {
    use checkpoint::{Checkpoint, Ema, Source};
    use futures_util::{StreamExt, TryStreamExt};
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn a_blob_is_sent_from_any_place_on_in_bounded_parts() {
        let lending = lending();
        let largest = lending.library.contents().tensors.iter().max_by_key(|entry| entry.bytes);
        let blob = largest.unwrap().blob();
        let whole = lending.library.read(&blob).unwrap().unwrap();
        assert!(PART_BYTES_MAX < whole.len());

        for offset in [0, 1, PART_BYTES_MAX, whole.len() - 1, whole.len()] {
            let request = request(blob, offset as u64);
            let parts = lending.fetch(request).await.unwrap().into_inner();
            let parts: Vec<_> = parts.try_collect().await.unwrap();
            assert!(parts.iter().all(|part| part.data.len() <= PART_BYTES_MAX));
            let sent: Vec<u8> = parts.iter().flat_map(|part| part.data.to_vec()).collect();
            assert!(sent == whole[offset..], "from {offset} on");
        }
        let beyond = lending.fetch(request(blob, blob.bytes + 1)).await.err().unwrap();
        assert_eq!(beyond.code(), Code::OutOfRange);
    }

    #[tokio::test]
    async fn nothing_of_another_model_is_sent() {
        let lending = lending();
        let ours = lending.library.contents().files[0].blob();
        let other = Blob { bytes: ours.bytes + 1, ..ours };
        for blob in [Blob { digest: Digest([7; 32]), ..ours }, other] {
            let refused = lending.fetch(request(blob, 0)).await.err().unwrap();
            assert_eq!(refused.code(), Code::NotFound, "{refused}");
        }
        let model_digest = vec![7; 32];
        let asked = Request::new(wire::ManifestRequest { model_digest });
        let refused = lending.manifest(asked).await.err().unwrap();
        let ours = lending.library.contents().digest.to_string();
        assert!(refused.message().contains(&ours), "{refused}");
        assert!(refused.message().contains(&"07".repeat(32)), "{refused}");
    }

    #[tokio::test]
    async fn streams_are_bounded_and_a_place_is_free_again_when_one_ends() {
        let lending = lending();
        let blob = lending.library.contents().files[0].blob();
        let manifest = || {
            let model_digest = lending.library.contents().digest.0.to_vec();
            lending.manifest(Request::new(wire::ManifestRequest { model_digest }))
        };
        let mut open = Vec::new();
        for _ in 0..STREAMS_MAX {
            open.push(manifest().await.unwrap());
        }
        let refused = lending.fetch(request(blob, 0)).await.err().unwrap();
        assert_eq!(refused.code(), Code::ResourceExhausted);

        let entries: Vec<_> = open.pop().unwrap().into_inner().collect().await;

        let Contents { tensors, files, .. } = lending.library.contents();
        assert_eq!(entries.len(), tensors.len() + files.len());
        assert!(lending.fetch(request(blob, 0)).await.is_ok());
    }

    fn request(Blob { digest, bytes }: Blob, offset: u64) -> Request<wire::FetchRequest> {
        Request::new(wire::FetchRequest { digest: digest.0.to_vec(), offset, bytes })
    }

    fn lending() -> Lending {
        let source = Source::embedded(filmloom_mini::FILES);
        let checkpoint = Checkpoint::open(source, Ema::Prefer).unwrap();
        Lending::new(Arc::new(checkpoint.library().unwrap()))
    }
}
