//! The door with a house behind it that keeps everything in memory: what clients
//! send, what they get, and what they cannot do to each other.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

mod bodies;
mod client;
mod content;
mod events;
mod fake;
mod guard;
mod live;
mod plan;
mod videos;
