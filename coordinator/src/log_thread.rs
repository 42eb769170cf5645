//! The chunk log on a thread of its own, since it waits for the disk.

use std::thread;

use bytes::Bytes;
use chunk_log::{ChunkLog, Error, Header};
use tokio::sync::{mpsc, oneshot};
use types::{Fence, JobId, ModelDigest};

/// What waits for the log at most: every job's uncommitted chunks, and reads.
const REQUESTS_MAX: usize = 1024;

/// The log's handle.
#[derive(Clone, Debug)]
pub(crate) struct Log(mpsc::Sender<Request>);

/// Too much waits for the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the chunk log's disk does not keep up: {REQUESTS_MAX} chunks wait for it")]
pub(crate) struct Busy;

type Done = Box<dyn FnOnce(Result<(), Error>) + Send>;
type Given = Box<dyn FnOnce(Result<Bytes, Error>) + Send>;

enum Request {
    /// A job begins, or begins again, under this epoch.
    Prepare(Box<Header>, Fence, Done),
    Append(Fence, u32, Bytes, Done),
    Read(JobId, u32, Given),
    Remove(JobId, Done),
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Prepare(..) => "Prepare",
            Self::Append(..) => "Append",
            Self::Read(..) => "Read",
            Self::Remove(..) => "Remove",
        })
    }
}

impl Log {
    /// Starts the thread. It ends with the last handle.
    pub(crate) fn start(log: ChunkLog) -> std::io::Result<Self> {
        let (sender, requests) = mpsc::channel(REQUESTS_MAX);
        thread::Builder::new().name("chunk-log".to_owned()).spawn(move || run(log, requests))?;
        Ok(Self(sender))
    }

    /// A job begins, or begins again, under this epoch.
    ///
    /// # Errors
    ///
    /// A sentence, if the log refuses or has ended.
    pub(crate) async fn prepare(&self, header: Header, fence: Fence) -> Result<(), String> {
        let (sender, done) = oneshot::channel();
        let reply = Box::new(|result| drop(sender.send(result)));
        self.ask(Request::Prepare(Box::new(header), fence, reply)).await;
        let ended = |_| "the chunk log has ended: start the coordinator again".to_owned();
        done.await.map_err(ended)?.map_err(|error| {
            let Error::HeaderDiffers { held, offered } = error else { return error.to_string() };
            differing(&held, &offered)
        })
    }

    /// Appends a chunk; `done` is called once it is durable.
    ///
    /// # Errors
    ///
    /// [`Busy`]; `done` is never called then.
    pub(crate) fn append(
        &self,
        fence: Fence,
        chunk: u32,
        payload: Bytes,
        done: impl FnOnce(Result<(), Error>) + Send + 'static,
    ) -> Result<(), Busy> {
        self.give(Request::Append(fence, chunk, payload, Box::new(done)))
    }

    /// Reads a chunk.
    ///
    /// # Errors
    ///
    /// [`Busy`]; `given` is never called then.
    pub(crate) fn read(
        &self,
        job: JobId,
        chunk: u32,
        given: impl FnOnce(Result<Bytes, Error>) + Send + 'static,
    ) -> Result<(), Busy> {
        self.give(Request::Read(job, chunk, Box::new(given)))
    }

    /// Forgets a job.
    pub(crate) async fn remove(&self, job: JobId) -> Result<(), Error> {
        let (sender, done) = oneshot::channel();
        self.ask(Request::Remove(job, Box::new(|result| drop(sender.send(result))))).await;
        done.await.unwrap_or(Ok(()))
    }

    async fn ask(&self, request: Request) {
        drop(self.0.send(request).await);
    }

    fn give(&self, request: Request) -> Result<(), Busy> {
        self.0.try_send(request).map_err(|_| Busy)
    }
}

/// Why a job cannot go on in the log that it was begun in.
fn differing(held: &Header, offered: &Header) -> String {
    if held.model != offered.model {
        let (held, offered) = (ModelDigest(held.model), ModelDigest(offered.model));
        return format!(
            "the video was begun with the model of digest {held}, and that of digest {offered} is \
             served: serve the first one, or ask for the video again"
        );
    }
    if held.class != offered.class {
        return format!(
            "the video was begun by workers of class {}, and only {} is left: add one of the \
             first, or ask for the video again",
            held.class, offered.class
        );
    }
    format!("the video was begun as {held} and would go on as {offered}: ask for it again")
}

fn run(mut log: ChunkLog, mut requests: mpsc::Receiver<Request>) {
    while let Some(request) = requests.blocking_recv() {
        match request {
            Request::Prepare(header, fence, done) => {
                done(log.create(&header).and_then(|()| log.raise(fence)));
            }
            Request::Append(fence, chunk, payload, done) => {
                done(append(&mut log, fence, chunk, &payload));
            }
            Request::Read(job, chunk, given) => given(log.read(job, chunk).map(Bytes::from)),
            Request::Remove(job, done) => done(log.remove(job)),
        }
    }
}

/// Appends a chunk. After a failed write the file is scanned again, once: what was
/// acknowledged is there, and the disk may have room by now.
fn append(log: &mut ChunkLog, fence: Fence, chunk: u32, payload: &[u8]) -> Result<(), Error> {
    match log.append(fence, chunk, payload) {
        Err(error @ Error::Broken { .. }) => {
            log.reopen(fence.job).map_err(|_| error)?;
            log.append(fence, chunk, payload).map(drop)
        }
        appended => appended.map(drop),
    }
}

#[cfg(test)]
mod tests {
    use types::{Dtype, Epoch};

    use super::*;

    #[tokio::test]
    async fn who_goes_on_with_a_job_in_another_way_is_told_what_differs() {
        let folder = tempfile::tempdir().unwrap();
        let limits = chunk_log::Limits { folder_bytes_max: 1 << 20 };
        let log = Log::start(ChunkLog::open(folder.path(), limits).unwrap()).unwrap();
        let fence = |epoch| Fence { job: JobId(1), epoch: Epoch(epoch) };
        log.prepare(header(), fence(1)).await.unwrap();

        let model = log.prepare(Header { model: [9; 32], ..header() }, fence(2)).await;
        let class = Header { class: "cpu-bf16".to_owned(), ..header() };
        let class = log.prepare(class, fence(2)).await;
        let shape = log.prepare(Header { x0_shape: [1, 1, 2, 4], ..header() }, fence(2)).await;

        let (model, class, shape) = (model.unwrap_err(), class.unwrap_err(), shape.unwrap_err());
        assert!(model.contains(&"07".repeat(32)) && model.contains(&"09".repeat(32)), "{model}");
        assert!(class.contains("class cpu-f32") && class.contains("cpu-bf16"), "{class}");
        assert!(!shape.contains("class cpu-f32, and only"), "{shape}");
        assert_eq!(log.prepare(header(), fence(2)).await, Ok(()), "as it was begun");
    }

    fn header() -> Header {
        Header {
            job: JobId(1),
            model: [7; 32],
            class: "cpu-f32".to_owned(),
            x0_shape: [1, 1, 2, 2],
            x0_dtype: Dtype::F32,
        }
    }
}
