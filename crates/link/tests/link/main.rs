//! Nodes that exchange messages over real connections on one machine.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

mod delivery;
mod hostile;
mod lives;
mod proxy;
mod refusals;
mod relay;
mod support;
