//! A pool as its users meet it: real processes, real sockets, real kills.
//!
//! Videos are short and small, so that all of it takes a few minutes on two cores.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

mod clients;
#[cfg(target_os = "linux")]
mod discovery;
mod doors;
#[cfg(feature = "etcd")]
mod etcd;
#[cfg(feature = "etcd")]
mod etcd_tls;
mod kept;
mod limits;
mod live;
mod manage;
mod overload;
mod peer;
mod pictures;
mod plans;
mod players;
mod pool;
mod refusals;
mod restarts;
mod starting;
#[cfg(feature = "otlp")]
mod traces;
mod viewer;
mod ways;
mod weights;
mod wishes;
