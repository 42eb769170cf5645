//! What the door asks of the house behind it.
//!
//! The coordinator implements [`Service`]; this crate turns it into HTTP and
//! knows nothing else of it. Replies are typed, and those that will grow carry a
//! map for what is not typed yet.
//!
//! A call that changes something is run to its end even if its client leaves,
//! so it never has to survive being dropped half-way; a call that only reads may
//! be dropped at any await.

use std::{io, path::PathBuf};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream::BoxStream;
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::sync::watch;

use crate::{
    event::{EventId, VideoEvent},
    plan::{Plan, PlanWish},
    refusal::Refusal,
    video::{List, NewVideo, Page, Size, Video, VideoId},
};

/// What the door asks of the house behind it.
#[async_trait]
pub trait Service: Send + Sync + 'static {
    /// Admits a video, or refuses it: [`Refusal::TooManyRequests`] with an
    /// estimate if the queue is full, [`Refusal::TooFewWorkers`] if nobody is here who
    /// could make it. What it returns is durable.
    async fn create(&self, new: NewVideo) -> Result<Video, Refusal>;

    /// A video as it is now.
    async fn video(&self, id: VideoId) -> Result<Video, Refusal>;

    /// A page of all videos; [`Refusal::InvalidRequest`] of `after` if that one
    /// is not known.
    async fn list(&self, page: Page) -> Result<List, Refusal>;

    /// Stops a video on every stage, then deletes it. Returns once all stages
    /// have confirmed, or once those that did not are known to be lost.
    async fn delete(&self, id: VideoId) -> Result<(), Refusal>;

    /// Events of a video behind `after`, which is all if that is of another life of
    /// the service or nothing: those that happened, then those that happen. It ends
    /// behind the last one. It is polled only as fast as the client reads, so what
    /// waits in it is the service's to bound.
    async fn events(&self, id: VideoId, after: Option<EventId>) -> Result<Events, Refusal>;

    /// The finished MP4 file; [`Refusal::NotReady`] before. It never changes.
    async fn file(&self, id: VideoId) -> Result<PathBuf, Refusal>;

    /// A picture that stands for the video.
    async fn thumbnail(&self, id: VideoId) -> Result<Thumbnail, Refusal>;

    /// All pictures of a finished video, to the bit, in order.
    async fn pictures(&self, id: VideoId) -> Result<Pictures, Refusal>;

    /// The file that grows while the video is made.
    async fn live(&self, id: VideoId) -> Result<Live, Refusal>;

    /// Models that can be asked for.
    async fn models(&self) -> Result<Vec<Model>, Refusal>;

    /// Who is here, what runs where and what bounds it.
    async fn cluster(&self) -> Result<Cluster, Refusal>;

    /// What would run where, at what speed, and why. Nothing is changed.
    /// [`Refusal::NoSuchModel`] of a model that is not served,
    /// [`Refusal::Unavailable`] if nobody is here or it fits nowhere,
    /// [`Refusal::TooManyRequests`] while too many plans are made.
    async fn plan(&self, wish: PlanWish) -> Result<Plan, Refusal>;

    /// Whether a video that is asked for now would be made.
    ///
    /// # Errors
    ///
    /// Why not, in words.
    async fn readiness(&self) -> Result<(), String>;

    /// All metrics, in the text format of Prometheus, version 0.0.4.
    async fn metrics(&self) -> String;
}

/// Events of a video, in order.
pub type Events = BoxStream<'static, VideoEvent>;

/// Pictures of a video, in order. An error ends the answer, visibly cut short.
pub type Pictures = BoxStream<'static, io::Result<Picture>>;

/// A picture and its name in an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// `000001.png`: at most 100 bytes of printable ASCII.
    pub name: String,
    /// The PNG file.
    pub png: Bytes,
}

/// A picture that stands for a video.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Thumbnail {
    /// `image/png` or `image/webp`.
    pub media_type: &'static str,
    /// The file.
    pub bytes: Bytes,
}

/// A fragmented MP4 that is being written.
///
/// The writer never waits for a reader: it appends to the file, then tells how
/// far that is. If it drops its sender without having finished, the video failed
/// or was deleted, and readers see their connection cut. It may begin again: with
/// another file of that name, in which the same bytes come again.
#[derive(Clone, Debug)]
pub struct Live {
    /// Where it is, once it has a first byte.
    pub path: PathBuf,
    /// How far it is.
    pub written: watch::Receiver<Written>,
}

/// How far a growing file is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Bytes that can be read; only grows, unless the writer begins again.
    pub bytes: u64,
    /// Whether those are all.
    pub finished: bool,
}

/// A model that can be asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Model {
    /// Its name.
    pub id: String,
    /// When it was loaded, in seconds since 1970.
    pub created: u64,
    /// Whose it is.
    pub owned_by: String,
    /// Size of its pictures.
    pub size: Size,
    /// Its pictures a second.
    pub fps: u32,
}

/// Who is here, what runs where and what bounds it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Cluster {
    /// Who is here.
    pub workers: Vec<Worker>,
    /// What was measured between them.
    pub links: Vec<Link>,
    /// Videos that are being made.
    pub running: u32,
    /// Videos that wait.
    pub queued: u32,
    /// Time of a chunk, as predicted.
    pub chunk_seconds: Option<f64>,
    /// What bounds the speed, in words.
    pub bottleneck: Option<String>,
    /// What else there is to say.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// A worker of the pool.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Worker {
    /// Its name, the same after a restart.
    pub id: String,
    /// What it computes on.
    pub device: String,
    /// Its numeric class.
    pub class: String,
    /// `ready`, `draining`, `suspected`: what may be expected of it.
    pub state: String,
    /// What it holds: `layers 0..15`, `decode`.
    pub stages: Vec<String>,
    /// Memory it may use.
    pub memory_bytes: u64,
    /// Memory it uses.
    pub memory_used_bytes: u64,
    /// What else there is to say.
    #[serde(flatten)]
    pub more: Map<String, Value>,
}

/// What was measured between two workers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Link {
    /// Who sends.
    pub from: String,
    /// Who receives.
    pub to: String,
    /// Bandwidth.
    pub bytes_per_second: f64,
    /// Round trip of a small message.
    pub round_trip_seconds: f64,
}
