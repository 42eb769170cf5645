//! The HTTP door: `/v1/videos` and its kin over a trait.
//!
//! ```text
//! client ─HTTP─▶ guard ─▶ access ─▶ routes ─▶ videos, content, events, system ─▶ dyn Service
//!                                               │                                  │
//!                 fields ─▶ NewVideo ◀──────────┘        Video, VideoEvent, Live ◀─┘
//! ```
//!
//! [`router`] turns a [`Service`], which the coordinator implements, into an axum
//! router that speaks the OpenAI interface for videos, with extensions. This crate
//! knows no gRPC, no tensor and no plan, and keeps no state but counts of what is
//! open.
//!
//! Invariants: every answer that is not a success is an OpenAI-style JSON error
//! that says what to do; every body, queue and stream has a limit with a name;
//! a client that is slow or leaves disturbs neither the service nor another
//! client.
//!
//! - [`service`]: what is asked of the coordinator.
//! - [`video`], [`event`]: what a client sees of a video.
//! - [`plan`]: what would run where.
//! - [`refusal`]: why something is not done.
//! - [`access`]: who may come in.

pub mod access;
pub mod event;
pub mod plan;
pub mod refusal;
pub mod service;
pub mod video;

mod content;
mod create;
mod events;
mod fields;
mod guard;
mod live;
mod parts;
mod range;
mod routes;
mod system;
mod tar;
mod unsupported;
mod videos;

pub use access::{Access, Keys};
pub use event::{EventId, Happening, NotAnEventId, PlannedStage, VideoEvent};
pub use plan::{Plan, PlanHop, PlanLeftOut, PlanNode, PlanPace, PlanWish, PlanWorker};
pub use refusal::Refusal;
pub use routes::router;
pub use service::{
    Cluster, Events, Link, Live, Model, Picture, Pictures, Service, Thumbnail, Worker, Written,
};
pub use video::{
    List, NewVideo, Order, Page, ScheduledPrompt, Size, StageTiming, Status, Video, VideoError,
    VideoId,
};
