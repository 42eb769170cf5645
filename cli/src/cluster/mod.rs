//! The pool's processes: a coordinator with its worker, and workers.
//!
//! ```text
//!  serve    coordinator (HTTP, gRPC) + worker, in one process
//!  worker   a worker, which joins a coordinator
//!  token    what makes a machine a node
//!  drain    a worker finishes and leaves
//!  status   who is here, what runs where
//! ```

mod args;
mod discovery;
mod drain;
mod manage;
mod serve;
mod status;
mod token;
mod worker;

use std::{future::Future, sync::Arc};

use backend::{Backend, Cpu};
use checkpoint::Checkpoint;
use coordinator::UNCOMMITTED_CHUNKS_MAX;
use tokio::{
    runtime::Runtime,
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};
use tracing::level_filters::LevelFilter;

pub(crate) use args::{DrainArgs, ServeArgs, StatusArgs, TokenCommand, WorkerArgs};
pub(crate) use drain::run as drain;
pub(crate) use serve::run as serve;
pub(crate) use status::run as status;
pub(crate) use token::run as token;
pub(crate) use worker::run as worker;

use crate::{args::Precision, failure::Failure, held};

/// Threads that carry messages; those that compute are the device's own.
const NETWORK_THREADS: usize = 2;

/// A runtime for what waits on sockets.
fn runtime() -> Result<Runtime, Failure> {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(NETWORK_THREADS)
        .enable_all()
        .build()
        .map_err(|error| Failure::Machine(format!("cannot start threads: {error}")))
}

/// Writes what the process does to standard error. `FILMLOOM_LOG` sets how much:
/// `error`, `warn`, `info` (the default), `debug` or `trace`.
fn log() {
    let level = std::env::var("FILMLOOM_LOG").ok().and_then(|level| level.parse().ok());
    let level = level.unwrap_or(LevelFilter::INFO);
    let format = tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr);
    // Without a subscriber nothing is written, which is no reason to stop.
    drop(format.with_ansi(false).try_init());
}

/// Changes when the process is told to stop. Signals are taken from the call on.
fn stopped() -> Result<watch::Receiver<bool>, Failure> {
    let taken = |kind| {
        signal(kind).map_err(|error| Failure::Machine(format!("cannot take signals: {error}")))
    };
    let mut signals = [taken(SignalKind::interrupt())?, taken(SignalKind::terminate())?];
    let (sender, stopped) = watch::channel(false);
    tokio::spawn(async move {
        signalled(&mut signals).await;
        sender.send_replace(true);
        // A second signal does not wait.
        signalled(&mut signals).await;
        std::process::exit(130);
    });
    Ok(stopped)
}

async fn signalled([interrupt, terminate]: &mut [Signal; 2]) {
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
}

/// The device and the model of a process.
struct Engine {
    cpu: Arc<Cpu>,
    checkpoint: Checkpoint,
}

impl Engine {
    fn new(precision: Precision, threads: usize, checkpoint: Checkpoint) -> Result<Self, Failure> {
        let cpu = Arc::new(precision.cpu(threads)?);
        Ok(Self { cpu, checkpoint })
    }

    /// How it holds what it holds, with a chunk to return to.
    fn memory(&self) -> plan::memory::Engine {
        let own = held::engine(self.cpu.class().activation());
        plan::memory::Engine { uncommitted_chunks_max: UNCOMMITTED_CHUNKS_MAX, ..own }
    }
}

/// Runs a future to its end on a runtime of its own.
fn block_on<T>(future: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    runtime()?.block_on(future)
}

/// This machine's name.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().take(48).collect();
    if name.is_empty() { "worker".to_owned() } else { name }
}
