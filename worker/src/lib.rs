//! A stage of layers at work: several jobs on one device, messages in and out.
//!
//! ```text
//!            Hidden                Hidden
//!  executor ────────▶ executor ────────▶ executor     one stage each
//!  + leads ◀──────────────────────────────────┘       Velocity
//!     └──▶ Clean: a chunk's frames, for the log and the decoder
//! ```
//!
//! - [`executor`]: owns a stage with its jobs; takes messages, runs passes, says
//!   what to send.
//! - [`lead`]: what the holder of the first stage does for a job: noise, steps,
//!   the next chunk.
//! - [`message`]: what crosses from one worker to another.
//! - [`profile`]: how fast this worker is with a model.
//! - [`device`]: the thread that owns the tensors: executor, text side, decoder.
//! - [`listing`]: what a model consists of, as another node tells it.
//! - `weights`: where a model comes from; `loader`: from the coordinator's wish to a
//!   device that holds it.
//! - `spans`: what tracing sees of it.
//! - [`service`]: the process: joins, listens, serves the coordinator's session.
//!
//! The first three open no socket and wait for nothing: whoever owns an executor
//! carries its messages. They may come at any time and from any job in between;
//! only the order of the messages from one worker to another must be kept, and
//! that makes a video's bits those of one process.

mod decoding;
pub mod device;
mod error;
pub mod executor;
mod greeting;
mod join;
pub mod lead;
pub mod listing;
mod loader;
pub mod message;
mod openings;
mod outlet;
pub mod profile;
mod report;
mod routes;
pub mod service;
mod session;
mod spans;
mod weights;
mod wire;

pub use error::Error;
pub use executor::{Context, Executor, Opening, Refused};
pub use message::{Message, Outgoing};
pub use openings::{ContextUse, Order};
pub use service::{Config, Finished, Roles, run};
