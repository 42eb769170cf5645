//! Models of which what is needed comes from a lender, and stays for the next time.
//!
//! Invariants: the folder has a bounded size. Blobs are pinned as long as a model of
//! them is open, so its part of the folder cannot be given to another.

use std::{
    sync::Arc,
    time::{Instant, SystemTime},
};

use checkpoint::{
    Blob, Blobs, Checkpoint, Contents, Ema, FileEntry, Need, Pinned, Problem, Source, Tally,
};
use tokio::sync::Mutex;
use types::{Model, ModelDigest};

use super::{
    Failure,
    fetch::{self, Fetching, Supply, blocking},
    lender::Lender,
};

/// What was fetched, and whom more is fetched from.
#[derive(Debug)]
pub(super) struct Cache<L> {
    lender: L,
    blobs: Blobs,
    bytes_max: u64,
    /// The model that was fetched last. Whoever fetches the next one holds it.
    known: Mutex<Option<Arc<Known>>>,
    /// Grows while blobs are fetched and compared.
    loading: Tally,
}

/// A model whose digest was made again.
#[derive(Debug)]
struct Known {
    contents: Contents,
    model: Model,
}

impl<L: Lender> Cache<L> {
    /// `bytes_max` is what the blobs may take.
    pub(super) fn new(lender: L, blobs: Blobs, bytes_max: u64, loading: Tally) -> Self {
        Self { lender, blobs, bytes_max, known: Mutex::new(None), loading }
    }

    /// The configuration of a model. No weights are fetched for it.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub(super) async fn model(&self, digest: ModelDigest) -> Result<Model, Failure> {
        Ok(self.known(digest).await?.model.clone())
    }

    /// A model of which what is needed can be opened.
    ///
    /// # Errors
    ///
    /// [`Failure`].
    pub(super) async fn checkpoint(
        &self,
        digest: ModelDigest,
        need: &Need,
    ) -> Result<Checkpoint, Failure> {
        let known = self.known(digest).await?;
        let mut wanted = known.contents.needed(&known.model, need)?;
        // They may have been pushed out since.
        wanted.extend(known.contents.files.iter().map(FileEntry::blob));
        let pinned = self.fetch(wanted, "weights").await?;
        let contents = known.contents.clone();
        Ok(blocking(move || open(contents, pinned)).await??)
    }

    /// List and configuration of a model.
    async fn known(&self, digest: ModelDigest) -> Result<Arc<Known>, Failure> {
        let mut known = self.known.lock().await;
        if let Some(known) = known.as_ref().filter(|known| known.contents.digest == digest) {
            return Ok(Arc::clone(known));
        }
        let contents = fetch::contents(&self.lender, digest, &self.loading).await?;
        // Before room is made for what it lists.
        contents.check()?;
        let files = contents.files.iter().map(FileEntry::blob).collect();
        let pinned = self.fetch(files, "the model's configuration").await?;
        let fetched = blocking(move || {
            let model = open(contents.clone(), pinned)?.model()?;
            Ok::<_, checkpoint::Error>(Known { contents, model })
        });
        let fetched = Arc::new(fetched.await??);
        *known = Some(Arc::clone(&fetched));
        Ok(fetched)
    }

    /// Fetches what is not here of these, and pins them.
    async fn fetch(&self, mut wanted: Vec<Blob>, what: &'static str) -> Result<Pinned, Failure> {
        wanted.sort_unstable();
        wanted.dedup();
        let bytes = wanted.iter().map(|blob| blob.bytes).fold(0, u64::saturating_add);
        if self.bytes_max < bytes {
            return Err(Failure::CacheTooSmall { bytes, bytes_max: self.bytes_max });
        }
        let (blobs, begun, loading) = (self.blobs.clone(), Instant::now(), self.loading.clone());
        let found = blocking(move || {
            let pinned = blobs.pin(wanted.iter().map(|blob| blob.digest), SystemTime::now());
            missing(&blobs, &wanted, &loading).map(|missing| (pinned, missing))
        });
        let (pinned, missing) = found.await?.map_err(Failure::Kept)?;
        let supply = Supply { lender: &self.lender, blobs: &self.blobs, loading: &self.loading };
        let fetching = Fetching::new(supply, &missing, what);
        let fetched_bytes = fetching.run(missing).await?;
        let kept_bytes = bytes.saturating_sub(fetched_bytes);
        let seconds = begun.elapsed().as_secs_f32();
        tracing::info!(fetched_bytes, kept_bytes, seconds, "{what}: all here");
        Ok(pinned)
    }
}

/// Which blobs are not here. Comparing all that are may take minutes.
fn missing(blobs: &Blobs, wanted: &[Blob], loading: &Tally) -> Result<Vec<Blob>, Problem> {
    let mut missing = Vec::new();
    for blob in wanted {
        missing.extend(blobs.missing(&[*blob])?);
        loading.add(blob.bytes);
    }
    Ok(missing)
}

fn open(contents: Contents, pinned: Pinned) -> checkpoint::Result<Checkpoint> {
    Checkpoint::open(Source::fetched(contents, pinned)?, Ema::Prefer)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use bytes::Bytes;
    use checkpoint::Library;
    use futures_util::{StreamExt, stream};
    use tonic::Status;

    use super::{super::lender::Parts, *};

    #[tokio::test]
    async fn a_stage_is_opened_from_its_own_blobs_and_the_second_time_nothing_comes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, 1 << 30);
        let digest = cache.lender.library.contents().digest;
        let model = cache.model(digest).await.unwrap();
        let loading = cache.loading.read();
        let configuration = cache.lender.fetched();
        assert!(configuration < 100_000, "{configuration} bytes came to know the configuration");
        let layers = model.transformer.unwrap().layers;

        let first = cache.checkpoint(digest, &stage(0..2)).await.unwrap();

        let came = cache.lender.fetched();
        assert!(loading + came - configuration <= cache.loading.read(), "every byte counts");
        first.open_transformer(Some(0..2)).unwrap();
        assert!(first.open_transformer(Some(2..3)).is_err());
        assert!(came < cache.lender.all_bytes() * 3 / layers as u64, "{came}");
        cache.checkpoint(digest, &stage(0..2)).await.unwrap();
        assert_eq!(cache.lender.fetched(), came);
    }

    #[tokio::test]
    async fn another_model_than_the_one_asked_for_is_refused_and_both_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, 1 << 30);
        let ours = cache.lender.library.contents().digest.to_string();

        let refused = cache.model(ModelDigest([7; 32])).await.unwrap_err().to_string();

        assert!(refused.contains(&ours) && refused.contains(&"07".repeat(32)), "{refused}");
    }

    #[tokio::test]
    async fn a_part_that_cannot_fit_is_refused_before_any_of_it_comes() {
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, 1 << 20);
        let digest = cache.lender.library.contents().digest;
        cache.model(digest).await.unwrap();
        let came = cache.lender.fetched();

        let refused = cache.checkpoint(digest, &stage(0..8)).await.unwrap_err();

        assert!(matches!(refused, Failure::CacheTooSmall { bytes_max: 1_048_576, .. }));
        assert!(refused.to_string().contains("--cache"), "{refused}");
        assert_eq!(cache.lender.fetched(), came);
    }

    #[tokio::test]
    async fn a_model_that_is_no_longer_open_makes_room_for_the_next_part() {
        let folder = tempfile::tempdir().unwrap();
        let probe = cache(&folder, 1 << 30);
        let digest = probe.lender.library.contents().digest;
        drop(probe.checkpoint(digest, &stage(2..4)).await.unwrap());
        let two_layers = probe.lender.fetched();
        let folder = tempfile::tempdir().unwrap();
        let cache = cache(&folder, two_layers * 3 / 2);

        let open = cache.checkpoint(digest, &stage(2..4)).await.unwrap();
        let full = cache.checkpoint(digest, &stage(4..6)).await.unwrap_err();
        assert!(matches!(full, Failure::Kept(Problem::Full { .. })), "{full}");
        drop(open);
        let next = cache.checkpoint(digest, &stage(4..6)).await.unwrap();

        next.open_transformer(Some(4..6)).unwrap();
        assert!(cache.blobs.bytes() <= two_layers * 3 / 2);
    }

    fn stage(layers: std::ops::Range<usize>) -> Need {
        Need { layers: Some(layers), text: false, decoder: false }
    }

    fn cache(folder: &tempfile::TempDir, bytes_max: u64) -> Cache<Whole> {
        let source = Source::embedded(filmloom_mini::FILES);
        let library = Checkpoint::open(source, Ema::Prefer).unwrap().library().unwrap();
        let lender = Whole { library, fetched: AtomicU64::new(0) };
        let blobs = Blobs::open(folder.path(), bytes_max).unwrap();
        Cache::new(lender, blobs, bytes_max, Tally::default())
    }

    /// Hands out the embedded model, whatever it is asked for.
    struct Whole {
        library: Library,
        fetched: AtomicU64,
    }

    impl Whole {
        fn fetched(&self) -> u64 {
            self.fetched.load(Ordering::Relaxed)
        }

        fn all_bytes(&self) -> u64 {
            self.library.contents().tensors.iter().map(|entry| entry.bytes).sum()
        }
    }

    impl Lender for Whole {
        async fn fetch(&self, blob: Blob, offset: u64) -> Result<Parts, Status> {
            let content = self.library.read(&blob).unwrap().unwrap();
            let rest = Bytes::copy_from_slice(&content[usize::try_from(offset).unwrap()..]);
            self.fetched.fetch_add(rest.len() as u64, Ordering::Relaxed);
            Ok(stream::iter([Ok(rest)]).boxed())
        }

        async fn contents(&self, digest: ModelDigest) -> Result<Contents, Status> {
            Ok(Contents { digest, ..self.library.contents().clone() })
        }
    }
}
