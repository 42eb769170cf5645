//! What happens to a video, as a client hears of it.
//!
//! ```text
//! queued* ─▶ planned ─▶ started ─▶ chunk_committed* ─▶ done | failed | cancelled
//!               ▲                        │
//!               └──── a stage was lost ──┘
//! ```
//!
//! Events of a video are numbered from 1 without gaps, so a client that comes
//! back names the last one it saw and misses none. Nothing follows one of the
//! last three.

use serde::Serialize;

use crate::video::{StageTiming, VideoError};

/// One thing that happened to a video.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoEvent {
    /// Its place among the events of the video, from 1.
    pub number: u64,
    /// What happened.
    pub what: Happening,
}

/// What can happen to a video.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Happening {
    /// It waits, or its place has changed while someone followed it.
    Queued {
        /// Videos that begin before it.
        position: u32,
        /// When it will begin, in seconds since 1970.
        estimated_start_at: Option<u64>,
    },
    /// Workers were chosen: at first, and again if one is lost.
    Planned {
        /// Number of the placement; only grows.
        epoch: u64,
        /// Who does what.
        stages: Vec<PlannedStage>,
        /// Time of a chunk, as predicted.
        chunk_seconds: f64,
        /// What bounds the speed, in words.
        bottleneck: String,
    },
    /// The first pass has begun.
    Started,
    /// A chunk is durable; its pictures can be watched.
    ChunkCommitted {
        /// Its index, from 0.
        chunk: u32,
        /// Chunks of the whole video.
        chunks: u32,
        /// Pictures of the video up to and with this chunk.
        pictures: u64,
        /// From its first pass to its commit.
        seconds: f64,
        /// Where that time went, per stage.
        stage_timings: Vec<StageTiming>,
    },
    /// The whole file is there.
    Done {
        /// Pictures of the video.
        pictures: u64,
    },
    /// It will not be finished.
    Failed {
        /// Why.
        error: VideoError,
    },
    /// It was deleted before it was finished.
    Cancelled,
}

/// A part of the work and who does it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PlannedStage {
    /// What the stage does: `layers 0..15`, `decode`.
    pub stage: String,
    /// Who holds it.
    pub worker: String,
}

impl Happening {
    /// Its name on the wire.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Queued { .. } => "queued",
            Self::Planned { .. } => "planned",
            Self::Started => "started",
            Self::ChunkCommitted { .. } => "chunk_committed",
            Self::Done { .. } => "done",
            Self::Failed { .. } => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Whether nothing can follow.
    pub fn is_last(&self) -> bool {
        matches!(self, Self::Done { .. } | Self::Failed { .. } | Self::Cancelled)
    }
}
