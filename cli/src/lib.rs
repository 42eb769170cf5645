//! The `filmloom` command: everything of it, so that everything can be tested.
//!
//! ```text
//! run ── args ──┬── generate   a prompt becomes a video
//!               ├── plan       what a video takes, in bytes; what a pool would do
//!               ├── inspect    what a model folder holds
//!               ├── forward    one part of a model on given tensors
//!               ├── serve      a pool's coordinator, with a worker
//!               ├── worker     a worker that joins a pool
//!               ├── status     who is in a pool, what runs where
//!               ├── token      what lets machines into a pool
//!               └── bench      what this machine takes for it
//! ```
//!
//! A command returns a `Failure` or nothing; [`run`] alone turns it
//! into a line on the terminal and an exit status. What is printed, is printed
//! by `terminal`: results on standard output, everything said about them on
//! standard error.
//!
//! Invariants: no input makes a command panic; a failure is one line that
//! begins with `error:`; the exit status is 0, 1 (the machine failed), 2 (the
//! input is wrong) or 130 (stopped by a signal).

mod args;
mod bench;
mod cluster;
mod failure;
mod forward;
mod generate;
mod held;
mod inspect;
mod interrupt;
mod plan;
mod remote;
mod source;
mod system;
mod terminal;
mod time;

use std::process::ExitCode;

use crate::{
    args::{Command, ModelCommand},
    failure::Failure,
};

/// Runs the command that the process was called with.
pub fn run() -> ExitCode {
    let args = match args::parse() {
        Ok(args) => args,
        Err(refusal) => return refusal.show(),
    };
    terminal::conclude(dispatch(&args.command))
}

fn dispatch(command: &Command) -> Result<(), Failure> {
    match command {
        Command::Generate(args) if args.server.is_some() => remote::generate(args),
        Command::Generate(args) => generate::run(args),
        Command::Plan(args) if args.server.is_some() => remote::plan(args),
        Command::Plan(args) => plan::run(args),
        Command::Model { command: ModelCommand::Inspect(args) } => inspect::run(args),
        Command::Model { command: ModelCommand::Forward(args) } => forward::run(args),
        Command::Serve(args) => cluster::serve(args),
        Command::Worker(args) => cluster::worker(args),
        Command::Status(args) => cluster::status(args),
        Command::Drain(args) => cluster::drain(args),
        Command::Token { command } => cluster::token(command),
        Command::Bench { command } => bench::run(command),
    }
}
