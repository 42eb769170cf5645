//! A job as those who asked for it see it: what was wished for, how far it is.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use api::{Happening, Refusal, StageTiming, Written};
use bytes::Bytes;
use plan::{cluster::JobSpec, length::Length, memory::Size};
use proto::control::wire::Counters;
use tokio::sync::watch;
use types::{Branch, JobId, NodeId, TokenGrid};

use super::{Event, Handle};
use crate::{
    model::{Order, Served},
    publisher::{self, Pictures, Publisher},
    records::{self, Status},
};

/// Events that say where the time of a chunk went, at most: the latest.
const TIMED_EVENTS_MAX: usize = 256;
/// How long a finished video keeps the name under which it grew.
const LIVE_KEPT: Duration = Duration::from_secs(60);

/// Who asked for what.
#[derive(Clone, Debug)]
pub(crate) struct Wish {
    pub(crate) job: JobId,
    pub(crate) order: Order,
    pub(crate) seed: u64,
    pub(crate) priority: i8,
    pub(crate) user: Option<String>,
    pub(crate) created_at: u64,
    /// Whether nobody asked for it.
    pub(crate) is_probe: bool,
}

/// A job's tables.
#[derive(Debug)]
pub(crate) struct Film {
    pub(crate) wish: Wish,
    /// What makes it, or has made it.
    pub(crate) model: records::Model,
    /// What its tensors are; nothing of a video that the model which is served does not
    /// make.
    pub(super) shapes: Option<Shapes>,
    /// Bytes of a chunk's clean frames.
    pub(super) chunk_bytes: u64,
    pub(crate) status: Status,
    /// Whether it has ended and is to be deleted.
    pub(super) is_unwanted: bool,
    pub(crate) error: Option<String>,
    pub(crate) epoch: u64,
    pub(crate) started_at: Option<u64>,
    pub(crate) completed_at: Option<u64>,
    /// Pictures in the video.
    pub(crate) pictures: u64,
    /// Bytes of the finished video.
    pub(crate) bytes: u64,
    pub(crate) contexts: BTreeMap<(u32, Branch), Context>,
    /// What happened to it in this life of the coordinator.
    pub(crate) history: watch::Sender<Vec<Happening>>,
    pub(crate) written: watch::Sender<Written>,
    publisher: Option<Publisher>,
    /// The chunk that the publisher is given next.
    next_chunk: u32,
    file: publisher::Film,
    /// Videos ahead of it, as was told as an event.
    pub(super) told_position: Option<u32>,
    /// The placement that was told as an event.
    pub(super) told_epoch: u64,
    /// Chunks that were told as events.
    pub(super) told_chunks: u32,
    /// When the last of them was, or the job was placed.
    pub(super) told_at: Duration,
    /// What workers had done then, and when it was placed.
    pub(super) told_counters: BTreeMap<NodeId, Counters>,
    pub(super) placed_counters: BTreeMap<NodeId, Counters>,
    /// What they did since it was placed.
    pub(crate) timings: Vec<StageTiming>,
}

/// What the tensors of a job are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shapes {
    pub(super) grid: TokenGrid,
    /// Channels, frames, rows, columns of a chunk's clean frames.
    pub(super) x0: [u32; 4],
}

/// What a prompt became.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    pub(crate) payload: Bytes,
    pub(crate) digest: [u8; 32],
}

impl Shapes {
    /// Bytes of a chunk's clean frames.
    fn chunk_bytes(self) -> u64 {
        let x0: u64 = self.x0.iter().map(|&axis| u64::from(axis)).product();
        x0.saturating_mul(4)
    }
}

impl Wish {
    /// A chunk that nobody asked for.
    pub(super) fn probe(job: JobId, served: &Served, size: Size) -> Self {
        let length =
            Length { pictures: 1, needed_frames: 1, chunks: 1, frames: 1, surplus_pictures: 0 };
        let prompts = vec![(0, "a red ball".to_owned())];
        let seconds = 1.0 / f64::from(served.model.video.fps.max(1));
        let order = Order { prompts, size, seconds, length };
        let (seed, priority, user, created_at) = (0, 0, None, 0);
        Self { job, order, seed, priority, user, created_at, is_probe: true }
    }

    /// The tables of this wish, and what the cluster must know of it.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if the model has no such pictures.
    pub(crate) fn film(self, served: &Served, videos: &Path) -> Result<(Film, JobSpec), Refusal> {
        let (shapes, spec) = self.needs(served)?;
        Ok((Film::new(self, served.recorded()?, Some(shapes), videos), spec))
    }

    /// What it asks of workers that hold this model.
    ///
    /// # Errors
    ///
    /// [`Refusal`] if the model has no such pictures.
    pub(super) fn needs(&self, served: &Served) -> Result<(Shapes, JobSpec), Refusal> {
        let Order { size, length, .. } = &self.order;
        let refused = |problem: String| Refusal::InvalidRequest { param: None, message: problem };
        let work = served.work(*size, length.frames).map_err(|error| refused(error.to_string()))?;
        let user = self.user.as_deref().map_or(0, |user| {
            let [a, b, c, d, e, f, g, h, ..] = *blake3::hash(user.as_bytes()).as_bytes();
            u64::from_le_bytes([a, b, c, d, e, f, g, h])
        });
        let (chunks, priority) = (length.chunks, self.priority.into());
        let times = served.times(*size, length.frames)?;
        let shapes = Shapes { grid: served.grid(*size)?, x0: served.x0_shape(*size)? };
        Ok((shapes, JobSpec { work, chunks, times, priority, user }))
    }
}

impl Film {
    /// A film of which nothing is made yet; without shapes nothing ever is.
    pub(super) fn new(
        wish: Wish,
        model: records::Model,
        shapes: Option<Shapes>,
        videos: &Path,
    ) -> Self {
        let Order { size, length, .. } = &wish.order;
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        let name = format!("{}", wish.job);
        let file = publisher::Film {
            path: videos.join(format!("{name}.mp4")),
            live: videos.join(format!("{name}.live.mp4")),
            thumbnail: videos.join(format!("{name}.png")),
            options: video::Options {
                width: side(size.width),
                height: side(size.height),
                pictures_per_second: model.fps,
            },
            pictures: length.pictures,
        };
        Self {
            wish,
            model,
            chunk_bytes: shapes.map_or(0, Shapes::chunk_bytes),
            shapes,
            status: Status::Queued,
            is_unwanted: false,
            error: None,
            epoch: 0,
            started_at: None,
            completed_at: None,
            pictures: 0,
            bytes: 0,
            contexts: BTreeMap::new(),
            history: watch::Sender::default(),
            written: watch::Sender::default(),
            publisher: None,
            next_chunk: 0,
            file,
            told_position: None,
            told_epoch: 0,
            told_chunks: 0,
            told_at: Duration::ZERO,
            told_counters: BTreeMap::new(),
            placed_counters: BTreeMap::new(),
            timings: Vec::new(),
        }
    }

    pub(super) fn add_context(&mut self, prompt: u32, branch: Branch, payload: Bytes) {
        let digest = *blake3::hash(&payload).as_bytes();
        if (prompt as usize) < self.wish.order.prompts.len() {
            self.contexts.insert((prompt, branch), Context { payload, digest });
        }
    }

    pub(super) fn has_contexts(&self, is_guided: bool) -> bool {
        self.contexts.len() == self.wish.order.prompts.len() + usize::from(is_guided)
    }

    /// Adds a chunk's pictures to the video. The first chunk begins it anew; what
    /// does not follow the last one is of a decoder that was replaced.
    pub(super) fn push(&mut self, pictures: Pictures, handle: &Handle) -> Result<(), String> {
        if self.is_whole() {
            return Ok(());
        }
        // A decoder that begins again begins the video again: its bytes are the same.
        let before = (pictures.chunk == 0).then(|| self.publisher.take()).flatten();
        if pictures.chunk == 0 {
            self.next_chunk = 0;
            let (handle, job) = (handle.clone(), self.wish.job);
            let told = move |published| {
                handle.tell_blocking(Event::Published(job, published));
            };
            let started = Publisher::start(self.file.clone(), self.written.clone(), told, before);
            self.publisher = Some(started.map_err(|error| error.to_string())?);
        }
        let due = self.publisher.as_ref().filter(|_| pictures.chunk == self.next_chunk);
        let Some(publisher) = due else { return Ok(()) };
        self.next_chunk += 1;
        publisher.push(pictures)
    }

    /// Whether it has all its pictures, written or about to be, or gets none any more.
    fn is_whole(&self) -> bool {
        let has_all = self.next_chunk == self.wish.order.length.chunks;
        self.completed_at.is_some() || (self.publisher.is_some() && has_all)
    }

    /// Nothing is added to the video any more: who waits for more of it is told.
    pub(super) fn end(&mut self) {
        self.publisher = None;
        self.written = watch::Sender::default();
        self.contexts.clear();
    }

    /// Bytes that it keeps on the disk: the video, and its clean frames. Of one that
    /// failed, as far as it was told: most of it was never made.
    pub(super) fn kept_bytes(&self) -> u64 {
        let chunks = match self.status {
            Status::Completed => self.wish.order.length.chunks,
            Status::Queued | Status::InProgress | Status::Failed => self.told_chunks,
        };
        let chunks = u64::from(chunks);
        self.bytes.saturating_add(self.chunk_bytes.saturating_mul(chunks))
    }

    /// Where the finished video is.
    pub(crate) fn path(&self) -> &Path {
        &self.file.path
    }

    /// Where its first picture is.
    pub(crate) fn thumbnail_path(&self) -> &Path {
        &self.file.thumbnail
    }

    /// Removes its files, once nobody writes them any more. Waits for that.
    ///
    /// # Errors
    ///
    /// A sentence, of the first file that stays.
    pub(super) fn remove(self) -> Result<(), String> {
        if let Some(publisher) = self.publisher {
            publisher.end();
        }
        publisher::remove(&self.file)
    }

    /// Removes files that another life has left, which are not a whole video.
    ///
    /// # Errors
    ///
    /// A sentence, of the first file that stays.
    pub(super) fn remove_left(&self) -> Result<(), String> {
        publisher::remove(&self.file)
    }

    /// Removes the name under which the video grew, once those who were about to
    /// watch it have opened it.
    pub(super) fn forget_live(&self) {
        let live = self.file.live.clone();
        tokio::spawn(async move {
            tokio::time::sleep(LIVE_KEPT).await;
            // It is gone already if the video was deleted.
            let _ = tokio::fs::remove_file(live).await;
        });
    }

    /// Where the video is while it grows.
    pub(crate) fn live_path(&self) -> PathBuf {
        match self.status {
            Status::Completed => self.file.path.clone(),
            Status::Queued | Status::InProgress | Status::Failed => self.file.live.clone(),
        }
    }

    /// Whether someone follows its events.
    pub(super) fn is_followed(&self) -> bool {
        0 < self.history.receiver_count()
    }

    /// Something happened to it.
    pub(super) fn happen(&self, what: Happening) {
        self.history.send_modify(|events| {
            events.push(what);
            // A day of video has a hundred thousand chunks.
            let old = events.len().checked_sub(TIMED_EVENTS_MAX + 1);
            if let Some(Happening::ChunkCommitted { stage_timings, .. }) =
                old.map(|old| &mut events[old])
            {
                *stage_timings = Vec::new();
            }
        });
    }

    /// What is to be written down of it.
    pub(crate) fn record(&self) -> records::Job {
        let Wish { order, seed, priority, user, created_at, .. } = &self.wish;
        records::Job {
            model: Some(self.model.clone()),
            prompt: order.prompts.first().map(|(_, prompt)| prompt.clone()).unwrap_or_default(),
            prompts: order.prompts.clone(),
            width: order.size.width,
            height: order.size.height,
            seconds: order.seconds,
            seed: *seed,
            priority: *priority,
            user: user.clone(),
            status: self.status,
            error: self.error.clone(),
            epoch: self.epoch,
            created_at: *created_at,
            started_at: self.started_at,
            completed_at: self.completed_at,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use types::{Epoch, Fence};

    use super::*;
    use crate::model::tests::served;

    #[test]
    fn decoder_that_is_late_does_not_begin_a_finished_video_again() {
        let (folder, served) = (tempfile::tempdir().unwrap(), served("mini"));
        let (job, size) = (JobId(1), served.own_size());
        let (mut film, _) = Wish::probe(job, &served, size).film(&served, folder.path()).unwrap();
        let (handle, mut events) = Handle::new();
        let first = || Pictures {
            fence: Fence { job, epoch: Epoch(1) },
            chunk: 0,
            width: u32::try_from(size.width).unwrap(),
            height: u32::try_from(size.height).unwrap(),
            rgb: vec![7; size.width * size.height * 3].into(),
        };
        film.push(first(), &handle).unwrap();
        let Some(Event::Published(_, Ok(_))) = events.blocking_recv() else { panic!("no video") };
        let finished = fs::read(film.path()).unwrap();

        film.push(first(), &handle).unwrap();
        film.publisher.take().unwrap().end();
        film.completed_at = Some(1);
        film.push(first(), &handle).unwrap();

        assert!(film.publisher.is_none());
        assert!(events.try_recv().is_err(), "nothing was published again");
        assert!(fs::read(film.path()).unwrap() == finished);
    }
}
