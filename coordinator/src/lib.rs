//! The coordinator: it plans, schedules and serves.
//!
//! ```text
//!  workers ── gRPC ──▶ grpc ──┐                ┌─▶ log thread   chunks, durable
//!  clients ── HTTP ──▶ door ──┼─▶ core (one) ──┼─▶ publishers   pictures to video
//!                             │                └─▶ saver        records, in the store
//!  hops ─── Switchboard ──────┘
//! ```
//!
//! Whoever has the authority's key manages a coordinator that runs by [`Admin`], and
//! the tokens of one that does not by [`Tokens`].
//!
//! What is decided is decided by `plan::cluster`; here is what carries it out. The
//! coordinator is never on the way of a hidden state: what comes here are a chunk's
//! clean frames and its pictures.
//!
//! Invariants: a chunk counts as committed when the log has it, and a video is
//! acknowledged when the store has it; no worker is believed to be another one
//! than its certificate says.

mod admin;
mod core;
mod door;
mod grpc;
mod http;
mod log_thread;
mod metrics;
mod model;
mod pictures;
mod publisher;
mod records;
mod run;
mod saver;
mod spans;
mod state;
mod tenure;
mod tokens;

pub use self::core::UNCOMMITTED_CHUNKS_MAX;
pub use admin::{Admin, AdminError, DrainingWorker, NotReached};
pub use model::Served;
pub use run::{Config, Error, Running, start};
#[cfg(feature = "etcd")]
pub use state::EtcdTls;
pub use state::State;
pub use tenure::InUse;
pub use tokens::{ListedToken, TokenPage, TokenUse, Tokens, TokensError};
