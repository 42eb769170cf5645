//! Blobs on their way here: several at once, each as often as it takes.
//!
//! ```text
//!  receive ─▶ ask for what is behind the bytes that are here ─▶ write part by part ─▶ finish
//!     ▲                                                                  │
//!     └── wait ◀── Patience ◀── connection broken, blob damaged ─────────┘
//! ```
//!
//! Files are written and compared off the runtime. Dropping a fetch ends it; what
//! has come stays, and the next one goes on behind it.
//!
//! Invariants: at most [`STREAMS_MAX`] blobs are on their way, a part of each in
//! memory; a stream on which nothing comes is given up and opened again.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use bytes::Bytes;
use checkpoint::{Blob, Blobs, Contents, Incoming, Tally};
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::{task::spawn_blocking, time::timeout};
use types::ModelDigest;

use super::{
    failure::{Failure, Patience, Setback},
    lender::Lender,
    progress::{Line, Progress},
};

/// Blobs on their way at once.
const STREAMS_MAX: usize = 4;
/// How long a stream may bring nothing.
const STALL_MAX: Duration = Duration::from_secs(20);

/// Where blobs come from, and where they go.
#[derive(Debug)]
pub(super) struct Supply<'a, L> {
    pub(super) lender: &'a L,
    pub(super) blobs: &'a Blobs,
    /// Grows with every byte that comes, and every attempt to get some: a fetch that
    /// brings nothing ends by itself.
    pub(super) loading: &'a Tally,
}

/// A fetch of some blobs.
#[derive(Debug)]
pub(super) struct Fetching<'a, L> {
    supply: Supply<'a, L>,
    progress: Mutex<Progress>,
    what: &'static str,
}

impl<'a, L: Lender> Fetching<'a, L> {
    /// `what` is how lines for people call it.
    pub(super) fn new(supply: Supply<'a, L>, missing: &[Blob], what: &'static str) -> Self {
        let total_bytes = missing.iter().map(|blob| blob.bytes).fold(0, u64::saturating_add);
        let progress = Mutex::new(Progress::new(Instant::now(), total_bytes));
        Self { supply, progress, what }
    }

    /// Fetches them. Gives the bytes that came.
    ///
    /// # Errors
    ///
    /// [`Failure`] of the first that cannot be had; the others are given up.
    pub(super) async fn run(self, missing: Vec<Blob>) -> Result<u64, Failure> {
        let fetch = |blob| self.fetch(blob);
        stream::iter(missing).map(Ok).try_for_each_concurrent(STREAMS_MAX, fetch).await?;
        Ok(self.progress().fetched_bytes())
    }

    async fn fetch(&self, blob: Blob) -> Result<(), Failure> {
        let mut patience = Patience::new(Instant::now());
        let mut here_bytes = 0;
        loop {
            let before = here_bytes;
            self.supply.loading.add(1);
            let Err(setback) = self.attempt(blob, &mut here_bytes).await else { return Ok(()) };
            if before < here_bytes {
                patience.handle_moved(Instant::now());
            }
            if matches!(setback, Setback::Damaged(_)) {
                self.progress().handle_here(here_bytes, 0);
                here_bytes = 0;
            }
            tokio::time::sleep(patience.handle_setback(Instant::now(), setback)?).await;
        }
    }

    /// Goes on where the last attempt ended. `here_bytes` is what is here of the blob.
    async fn attempt(&self, blob: Blob, here_bytes: &mut u64) -> Result<(), Setback> {
        let blobs = self.supply.blobs.clone();
        let mut incoming = blocking(move || blobs.receive(blob)).await??;
        self.progress().handle_here(*here_bytes, incoming.received());
        *here_bytes = incoming.received();
        let silent = |_| Setback::Broken(format!("nothing came for {} s", STALL_MAX.as_secs()));
        if *here_bytes < blob.bytes {
            let parts = timeout(STALL_MAX, self.supply.lender.fetch(blob, *here_bytes)).await;
            let mut parts = parts.map_err(silent)??;
            while let Some(part) = timeout(STALL_MAX, parts.next()).await.map_err(silent)? {
                let part = part?;
                let bytes = part.len() as u64;
                incoming = write(incoming, part).await?;
                *here_bytes += bytes;
                self.count(bytes);
            }
        }
        Ok(blocking(move || incoming.finish()).await??)
    }

    fn count(&self, bytes: u64) {
        self.supply.loading.add(bytes);
        let line = self.progress().handle_fetched(Instant::now(), bytes);
        if let Some(Line { percent, megabytes_per_second }) = line {
            tracing::info!("fetching {}: {percent} %, {megabytes_per_second:.1} MB/s", self.what);
        }
    }

    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a model consists of.
///
/// # Errors
///
/// [`Failure`] if the list cannot be had.
pub(super) async fn contents(
    lender: &impl Lender,
    digest: ModelDigest,
    loading: &Tally,
) -> Result<Contents, Failure> {
    let mut patience = Patience::new(Instant::now());
    loop {
        loading.add(1);
        let setback = match lender.contents(digest).await {
            Ok(contents) => return Ok(contents),
            Err(status) => Setback::from(status),
        };
        tokio::time::sleep(patience.handle_setback(Instant::now(), setback)?).await;
    }
}

async fn write(mut incoming: Incoming, part: Bytes) -> Result<Incoming, Setback> {
    let written = blocking(move || incoming.write(&part).map(|()| incoming)).await?;
    Ok(written?)
}

/// Does what waits for a disk off the runtime.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Failure> {
    spawn_blocking(work).await.map_err(|_| Failure::Stopping)
}

impl From<Failure> for Setback {
    fn from(failure: Failure) -> Self {
        Self::Final(failure)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use checkpoint::{Digest, Problem};
    use tonic::Status;

    use super::{super::lender::Parts, *};

    #[tokio::test]
    async fn a_broken_connection_is_gone_on_with_and_no_byte_comes_twice() {
        let kept = Kept::new(1 << 20);
        let broken = || Err(Status::unavailable("the coordinator is away"));
        let answers = [
            vec![Ok(0..10), broken()],
            vec![broken()],
            vec![Ok(10..12), Ok(12..30)],
            vec![Ok(30..CONTENT.len())],
        ];
        let lender = Scripted::new(answers);

        assert_eq!(kept.fetch(&lender).await.unwrap(), CONTENT.len() as u64);

        assert_eq!(lender.offsets(), [0, 10, 10, 30]);
        let attempts = 4;
        assert_eq!(kept.loading.read(), CONTENT.len() as u64 + attempts);
        assert_eq!(kept.missing(), []);
    }

    #[tokio::test]
    async fn what_an_earlier_process_has_left_is_not_fetched_again() {
        let kept = Kept::new(1 << 20);
        kept.blobs.receive(blob()).unwrap().write(&CONTENT[..40]).unwrap();
        let lender = Scripted::new([vec![Ok(40..CONTENT.len())]]);

        assert_eq!(kept.fetch(&lender).await.unwrap(), CONTENT.len() as u64 - 40);

        assert_eq!(lender.offsets(), [40]);
    }

    #[tokio::test]
    async fn damaged_weights_are_fetched_again_from_the_start_and_given_up_at_last() {
        let kept = Kept::new(1 << 20);
        let end = CONTENT.len();
        let damaged = || vec![Ok(1..end), Ok(0..1)];
        let lender = Scripted::new([damaged(), damaged(), vec![Ok(0..end)]]);
        assert_eq!(kept.fetch(&lender).await.unwrap(), 3 * end as u64);
        assert_eq!(lender.offsets(), [0, 0, 0]);
        assert_eq!(kept.missing(), []);

        let kept = Kept::new(1 << 20);
        let lender = Scripted::new([damaged(), damaged(), damaged(), vec![Ok(0..end)]]);
        let failure = kept.fetch(&lender).await.unwrap_err();
        assert!(matches!(failure, Failure::Damaged(Problem::Damaged { .. })), "{failure}");
        assert_eq!(kept.missing(), [blob()]);
    }

    #[tokio::test]
    async fn a_folder_without_room_and_a_refusal_end_a_fetch_at_once() {
        let kept = Kept::new(CONTENT.len() as u64 - 1);
        let lender = Scripted::new([]);
        let failure = kept.fetch(&lender).await.unwrap_err();
        assert!(matches!(failure, Failure::Kept(Problem::Full { .. })), "{failure}");
        assert!(lender.offsets().is_empty());

        let kept = Kept::new(1 << 20);
        let lender = Scripted::new([vec![Err(Status::not_found("no such blob"))]]);
        let failure = kept.fetch(&lender).await.unwrap_err();
        assert!(matches!(failure, Failure::Refused(_)), "{failure}");
        assert_eq!(lender.offsets(), [0]);
    }

    const CONTENT: &[u8] = b"weights of a layer that is not here yet, in one blob of 64 bytes";

    fn blob() -> Blob {
        Blob { digest: Digest::of(CONTENT), bytes: CONTENT.len() as u64 }
    }

    /// Blobs in a folder that goes with them.
    struct Kept {
        blobs: Blobs,
        loading: Tally,
        _folder: tempfile::TempDir,
    }

    impl Kept {
        fn new(bytes_max: u64) -> Self {
            let folder = tempfile::tempdir().unwrap();
            let blobs = Blobs::open(folder.path(), bytes_max).unwrap();
            Self { blobs, loading: Tally::default(), _folder: folder }
        }

        async fn fetch(&self, lender: &Scripted) -> Result<u64, Failure> {
            let missing = vec![blob()];
            let supply = Supply { lender, blobs: &self.blobs, loading: &self.loading };
            Fetching::new(supply, &missing, "weights").run(missing).await
        }

        fn missing(&self) -> Vec<Blob> {
            self.blobs.missing(&[blob()]).unwrap()
        }
    }

    type Answer = Vec<Result<std::ops::Range<usize>, Status>>;

    /// Answers with these ranges of the content, whatever it is asked for.
    struct Scripted {
        answers: Mutex<VecDeque<Answer>>,
        offsets: Mutex<Vec<u64>>,
    }

    impl Scripted {
        fn new(answers: impl IntoIterator<Item = Answer>) -> Self {
            let answers = Mutex::new(answers.into_iter().collect());
            Self { answers, offsets: Mutex::default() }
        }

        fn offsets(&self) -> Vec<u64> {
            self.offsets.lock().unwrap().clone()
        }
    }

    impl Lender for Scripted {
        async fn fetch(&self, _blob: Blob, offset: u64) -> Result<Parts, Status> {
            self.offsets.lock().unwrap().push(offset);
            let answer = self.answers.lock().unwrap().pop_front().unwrap();
            let part = |part: Result<_, _>| part.map(|range| Bytes::from_static(&CONTENT[range]));
            Ok(stream::iter(answer).map(part).boxed())
        }

        async fn contents(&self, _digest: ModelDigest) -> Result<Contents, Status> {
            Err(Status::unimplemented("this one has blobs only"))
        }
    }
}
