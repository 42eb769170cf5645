//! The command as a user meets it: real processes, real files.
//!
//! Videos here are small and made in one step a chunk; what is tested is what
//! the command does with them, not how they look.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

mod bad_input;
mod bad_model;
mod formats;
mod forward;
mod full_disk;
mod looking;
mod running;
mod stopping;
mod support;
