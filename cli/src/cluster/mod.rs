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
#[cfg(feature = "otlp")]
mod otlp;
mod process;
mod records;
mod serve;
mod status;
mod token;
mod worker;

use std::{future::Future, sync::Arc};

use backend::{Backend, Cpu};
use checkpoint::Checkpoint;
use coordinator::UNCOMMITTED_CHUNKS_MAX;
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

pub(crate) use args::{DrainArgs, ServeArgs, StatusArgs, TokenCommand, WorkerArgs};
pub(crate) use drain::run as drain;
pub(crate) use serve::run as serve;
pub(crate) use status::run as status;
pub(crate) use token::run as token;
pub(crate) use worker::run as worker;

use crate::{args::Precision, failure::Failure, held};

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
    process::runtime()?.block_on(future)
}

/// This machine's name.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name.trim().chars().take(48).collect();
    if name.is_empty() { "worker".to_owned() } else { name }
}
