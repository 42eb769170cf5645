//! A service that keeps everything in memory and makes videos when it is told to.

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    path::PathBuf,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
};

use api::{
    Cluster, EventId, Events, Happening, List, Live, Model, NewVideo, Order, Page, Picture,
    Pictures, Plan, PlanHop, PlanLeftOut, PlanNode, PlanPace, PlanWish, PlanWorker, Refusal,
    Service, Size, Status, Thumbnail, Video, VideoEvent, VideoId, Written,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures_util::{StreamExt, stream};
use tempfile::TempDir;
use tokio::sync::{Semaphore, watch};

pub(crate) const QUEUE_MAX: usize = 200;
pub(crate) const MODEL: &str = "house/mini";
/// The life of the service.
pub(crate) const LIFE: u64 = 3;

/// Jobs of a plan that there is no room for.
pub(crate) const NO_ROOM_JOBS: u32 = 999;
/// Jobs of a plan that comes while too many are made.
pub(crate) const BUSY_JOBS: u32 = 998;

/// What a call of `cluster` does, besides answering.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Trap {
    #[default]
    None,
    Panic,
    Hang,
}

#[derive(Debug)]
pub(crate) struct Fake {
    folder: TempDir,
    kept: Mutex<Kept>,
    /// A deletion takes one of these.
    pub(crate) confirmations: Semaphore,
    /// Deletions that have begun.
    pub(crate) deletions: AtomicUsize,
    /// Calls of `cluster` that have begun.
    pub(crate) cluster_calls: AtomicUsize,
}

#[derive(Debug, Default)]
struct Kept {
    asked_for: Vec<NewVideo>,
    plans_asked_for: Vec<PlanWish>,
    videos: BTreeMap<VideoId, Film>,
    trap: Trap,
}

#[derive(Debug)]
struct Film {
    video: Video,
    events: Arc<Mutex<Vec<VideoEvent>>>,
    /// Tells that there is another event.
    told: watch::Sender<()>,
    written: watch::Sender<Written>,
}

impl Fake {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            kept: Mutex::default(),
            confirmations: Semaphore::new(1),
            deletions: AtomicUsize::new(0),
            cluster_calls: AtomicUsize::new(0),
        }
    }

    pub(crate) fn asked_for(&self) -> Vec<NewVideo> {
        self.kept().asked_for.clone()
    }

    pub(crate) fn plans_asked_for(&self) -> Vec<PlanWish> {
        self.kept().plans_asked_for.clone()
    }

    pub(crate) fn holds(&self, id: VideoId) -> bool {
        self.kept().videos.contains_key(&id)
    }

    pub(crate) fn set_trap(&self, trap: Trap) {
        self.kept().trap = trap;
    }

    pub(crate) fn tell(&self, id: VideoId, what: Happening) {
        let kept = self.kept();
        let film = &kept.videos[&id];
        let mut events = film.events.lock().unwrap();
        let number = events.len() as u64 + 1;
        events.push(VideoEvent { id: EventId { life: LIFE, number }, what });
        film.told.send_replace(());
    }

    /// Appends to the file, then says so.
    pub(crate) fn write(&self, id: VideoId, bytes: &[u8]) {
        let mut file = fs::File::options().append(true).create(true).open(self.path(id)).unwrap();
        file.write_all(bytes).unwrap();
        let mut kept = self.kept();
        let film = kept.videos.get_mut(&id).unwrap();
        film.video.status = Status::InProgress;
        film.written.send_modify(|written| written.bytes += bytes.len() as u64);
    }

    /// Another file takes the place of this one; what is said of it stays until then.
    pub(crate) fn begin_again(&self, id: VideoId) {
        self.remove(id);
        self.kept().videos[&id].written.send_replace(Written::default());
    }

    pub(crate) fn remove(&self, id: VideoId) {
        drop(fs::remove_file(self.path(id)));
    }

    pub(crate) fn finish(&self, id: VideoId) {
        let mut kept = self.kept();
        let film = kept.videos.get_mut(&id).unwrap();
        film.video.status = Status::Completed;
        film.written.send_modify(|written| written.finished = true);
    }

    /// Clients that read the file while it grows.
    pub(crate) fn written(&self, id: VideoId) -> watch::Sender<Written> {
        self.kept().videos[&id].written.clone()
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap()
    }

    fn path(&self, id: VideoId) -> PathBuf {
        self.folder.path().join(id.to_string())
    }

    fn film<T>(&self, id: VideoId, f: impl FnOnce(&Film) -> T) -> Result<T, Refusal> {
        let kept = self.kept();
        let film = kept.videos.get(&id);
        film.map(f).ok_or_else(|| Refusal::NotFound { message: format!("there is no {id}") })
    }

    fn finished(&self, id: VideoId) -> Result<(), Refusal> {
        if self.film(id, |film| film.video.status)? == Status::Completed {
            return Ok(());
        }
        Err(Refusal::NotReady { message: format!("{id} is not finished; wait for it") })
    }
}

#[async_trait]
impl Service for Fake {
    async fn create(&self, new: NewVideo) -> Result<Video, Refusal> {
        let mut kept = self.kept();
        if new.model.as_ref().is_some_and(|model| model != MODEL) {
            let message = format!("there is no such model; ask for {MODEL}");
            return Err(Refusal::InvalidRequest { param: Some("model".to_owned()), message });
        }
        if kept.videos.len() == QUEUE_MAX {
            let message = "200 videos wait; the next one would begin in about 90 s".to_owned();
            return Err(Refusal::TooManyRequests { message, retry_after_seconds: 90 });
        }
        kept.asked_for.push(new.clone());
        let id = VideoId(kept.asked_for.len() as u128);
        let video = video(id, new);
        let (events, (told, _), (written, _)) =
            (Arc::default(), watch::channel(()), watch::channel(Written::default()));
        kept.videos.insert(id, Film { video: video.clone(), events, told, written });
        Ok(video)
    }

    async fn video(&self, id: VideoId) -> Result<Video, Refusal> {
        self.film(id, |film| film.video.clone())
    }

    async fn list(&self, Page { after, limit, order }: Page) -> Result<List, Refusal> {
        let kept = self.kept();
        let mut videos: Vec<_> = kept.videos.values().map(|film| film.video.clone()).collect();
        if order == Order::Descending {
            videos.reverse();
        }
        if let Some(after) = after {
            let place = videos.iter().position(|video| video.id == after);
            let place = place.ok_or_else(|| Refusal::InvalidRequest {
                param: Some("after".to_owned()),
                message: format!("there is no {after}; begin without `after`"),
            })?;
            videos.drain(..=place);
        }
        let has_more = limit < videos.len();
        videos.truncate(limit);
        Ok(List { videos, has_more })
    }

    async fn delete(&self, id: VideoId) -> Result<(), Refusal> {
        self.film(id, |_| ())?;
        self.deletions.fetch_add(1, Ordering::SeqCst);
        self.confirmations.acquire().await.unwrap().forget();
        self.tell(id, Happening::Cancelled);
        self.kept().videos.remove(&id);
        Ok(())
    }

    async fn events(&self, id: VideoId, after: Option<EventId>) -> Result<Events, Refusal> {
        let (events, told) = self.film(id, |film| (film.events.clone(), film.told.subscribe()))?;
        let seen = after.filter(|after| after.life == LIFE).map_or(0, |after| after.number);
        let from = usize::try_from(seen).unwrap();
        Ok(stream::unfold((from, told), move |(place, mut told)| {
            let events = events.clone();
            async move {
                loop {
                    told.mark_unchanged();
                    {
                        let events = events.lock().unwrap();
                        if let Some(event) = events.get(place) {
                            return Some((event.clone(), (place + 1, told)));
                        }
                        if events.last().is_some_and(|event| event.what.is_last()) {
                            return None;
                        }
                    }
                    told.changed().await.ok()?;
                }
            }
        })
        .boxed())
    }

    async fn file(&self, id: VideoId) -> Result<PathBuf, Refusal> {
        self.finished(id)?;
        Ok(self.path(id))
    }

    async fn thumbnail(&self, id: VideoId) -> Result<Thumbnail, Refusal> {
        self.finished(id)?;
        Ok(Thumbnail { media_type: "image/png", bytes: Bytes::from_static(b"\x89PNG") })
    }

    async fn pictures(&self, id: VideoId) -> Result<Pictures, Refusal> {
        self.finished(id)?;
        let picture = |number: usize| {
            let png = Bytes::from(vec![7; 300 * number]);
            Ok(Picture { name: format!("{number:06}.png"), png })
        };
        Ok(stream::iter((1..=3).map(picture)).boxed())
    }

    async fn live(&self, id: VideoId) -> Result<Live, Refusal> {
        self.film(id, |film| Live { path: self.path(id), written: film.written.subscribe() })
    }

    async fn models(&self) -> Result<Vec<Model>, Refusal> {
        let size = Size { width: 128, height: 80 };
        let (id, owned_by) = (MODEL.to_owned(), "house".to_owned());
        Ok(vec![Model { id, created: 1_700_000_000, owned_by, size, fps: 8 }])
    }

    async fn cluster(&self) -> Result<Cluster, Refusal> {
        self.cluster_calls.fetch_add(1, Ordering::SeqCst);
        let trap = self.kept().trap;
        match trap {
            Trap::None => Ok(Cluster { queued: 2, ..Cluster::default() }),
            Trap::Panic => panic!("a trap"),
            Trap::Hang => std::future::pending().await,
        }
    }

    async fn plan(&self, wish: PlanWish) -> Result<Plan, Refusal> {
        let mut kept = self.kept();
        if wish.model.as_ref().is_some_and(|model| model != MODEL) {
            let message = format!("there is no such model; ask for {MODEL}");
            return Err(Refusal::NoSuchModel { message });
        }
        match wish.jobs.map_or(1, |jobs| jobs.get()) {
            NO_ROOM_JOBS => {
                let message = "no worker is here; start one".to_owned();
                return Err(Refusal::Unavailable { message });
            }
            BUSY_JOBS => {
                let message = "2 plans are being made; come back later".to_owned();
                return Err(Refusal::TooManyRequests { message, retry_after_seconds: 1 });
            }
            _ => {}
        }
        kept.plans_asked_for.push(wish.clone());
        Ok(plan(wish))
    }

    async fn readiness(&self) -> Result<(), String> {
        if self.kept().trap == Trap::None { Ok(()) } else { Err("no worker is here".to_owned()) }
    }

    async fn metrics(&self) -> String {
        "filmloom_videos 1\n".to_owned()
    }
}

/// A plan of one worker that does everything, beside one that does nothing.
fn plan(wish: PlanWish) -> Plan {
    let own = Size { width: 128, height: 80 };
    let (id, name) = ("node_1".to_owned(), "boxA".to_owned());
    let worker = PlanWorker {
        id: id.clone(),
        name: name.clone(),
        stages: vec!["layers 0..8".to_owned(), "text".to_owned(), "decode".to_owned()],
        ..PlanWorker::default()
    };
    let why = "it is draining".to_owned();
    let other = PlanLeftOut { id: "node_2".to_owned(), name: "boxB".to_owned(), why };
    let hop = PlanHop { carries: "hidden".to_owned(), ..PlanHop::default() };
    Plan {
        model: MODEL.to_owned(),
        size: wish.size.unwrap_or(own),
        measured_size: own,
        fps: 8,
        seconds: wish.seconds.unwrap_or(4.0),
        pictures: 32,
        chunks: 3,
        jobs: wish.jobs.map_or(4, |jobs| jobs.get()),
        jobs_at_once: 1,
        jobs_max: 4,
        stands: true,
        workers: vec![worker],
        hops: vec![hop],
        left_out: vec![other],
        chunk_seconds: 1.5,
        seconds_per_chunk: 1.5,
        pictures_per_second: 8.0,
        first_chunk_seconds: 2.0,
        video_seconds: 5.0,
        videos_seconds: 5.0,
        bottleneck: "bound by boxA".to_owned(),
        verdict: "use one node".to_owned(),
        use_one_node: true,
        one_node: Some(PlanNode { id, name, seconds_per_chunk: 1.5 }),
        gain: None,
        measured: Some(PlanPace::default()),
    }
}

fn video(id: VideoId, new: NewVideo) -> Video {
    Video {
        id,
        model: new.model.unwrap_or_else(|| MODEL.to_owned()),
        prompt: new.prompt,
        status: Status::Queued,
        progress: 0,
        created_at: 1_700_000_000,
        started_at: None,
        completed_at: None,
        expires_at: None,
        size: new.size.unwrap_or(Size { width: 128, height: 80 }),
        seconds: new.seconds.unwrap_or(60.0),
        seed: new.seed.unwrap_or(7),
        fps: new.fps.unwrap_or(8),
        error: None,
        queue_position: Some(0),
        estimated_start_at: Some(1_700_000_001),
        estimated_completion_at: Some(1_700_000_061),
        pictures: 0,
        stage_timings: Vec::new(),
    }
}
