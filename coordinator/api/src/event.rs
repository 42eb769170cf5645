//! What happens to a video, as a client hears of it.
//!
//! ```text
//! queued* ─▶ planned ─▶ started ─▶ chunk_committed* ─▶ done | failed | cancelled
//!               ▲                        │
//!               └──── a stage was lost ──┘
//! ```
//!
//! Events of a video are numbered from 1 without gaps, so a client that comes
//! back names the last one it saw and misses none. A server that is started again
//! numbers them anew, so their ids name its life too: whoever has seen an event of
//! another life is told everything from the beginning. Nothing follows one of the
//! last three.

use std::{fmt, str::FromStr};

use serde::Serialize;

use crate::video::{StageTiming, VideoError};

/// Names an event of a video. Clients give it back as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventId {
    /// The life of the server that tells it, from 1.
    pub life: u64,
    /// Its place among the events that this life tells of the video, from 1.
    pub number: u64,
}

/// A text that names no event. Use an id as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an event's id is two numbers with a hyphen between them")]
pub struct NotAnEventId;

/// One thing that happened to a video.
#[derive(Clone, Debug, PartialEq)]
pub struct VideoEvent {
    /// Its name.
    pub id: EventId,
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

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.life, self.number)
    }
}

impl FromStr for EventId {
    type Err = NotAnEventId;

    /// A number alone is an id of a server before there were lives in them: of none.
    fn from_str(text: &str) -> Result<Self, NotAnEventId> {
        let (life, number) = text.split_once('-').unwrap_or(("0", text));
        let plain = |text: &str| {
            let is_plain = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|_| is_plain).ok_or(NotAnEventId)
        };
        Ok(Self { life: plain(life)?, number: plain(number)? })
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn id_survives_its_text_and_a_number_alone_is_of_no_life() {
        let id = EventId { life: 3, number: 17 };
        assert_eq!((id.to_string().as_str(), "3-17".parse()), ("3-17", Ok(id)));
        assert_eq!("17".parse(), Ok(EventId { life: 0, number: 17 }));
        for wrong in ["", "-", "3-", "-17", "3-17-1", "+3-1", "3-+1", "x", "3 -1"] {
            assert_eq!(wrong.parse::<EventId>(), Err(NotAnEventId), "{wrong}");
        }
    }
}
