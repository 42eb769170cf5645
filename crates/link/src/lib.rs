//! Messages between nodes: in order, each once, across broken connections.
//!
//! ```text
//!  send(to, message) ─▶ Hop ── Window ──▶ connection ──▶ Window ── Hop ─▶ Arrival
//!                        one per peer  (frames, gRPC)
//! ```
//!
//! - [`switchboard`]: all hops of a node: sends, accepts, dials, passes on.
//! - [`service`]: where peers open connections.
//! - [`hop`]: the messages to and from one peer, over one connection after another.
//! - [`window`]: what a hop remembers; no socket.
//! - [`measure`]: how fast a hop is. `live`: how fast it is at work.
//! - `transfer`: how long messages are on their way.
//! - [`transport`]: what a connection is to a hop: frames on TLS, or a gRPC stream.
//! - [`tls`]: channels and listeners of a cluster.
//!
//! Invariants: a node is who its certificate says; what was on its way to another
//! incarnation never arrives; a peer that does not read stops its sender, and
//! nobody else.

mod connection;
mod dial;
mod greeting;
pub mod hop;
mod live;
pub mod measure;
mod relay;
pub mod service;
pub mod switchboard;
pub mod tls;
mod transfer;
pub mod transport;
pub mod window;

pub use dial::jittered;
pub use hop::{Full, Traffic};
pub use live::Seen;
pub use measure::Measured;
pub use service::DataService;
pub use switchboard::{Arrival, Me, Notice, Switchboard, Way};
