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
//!
//! Nothing here opens a socket or waits: whoever owns an executor carries its
//! messages. They may come at any time and from any job in between; only the
//! order of the messages from one worker to another must be kept, and that makes
//! a video's bits those of one process.

pub mod executor;
pub mod lead;
pub mod message;

pub use executor::{Executor, Opening, Refused};
pub use message::{Message, Outgoing};
