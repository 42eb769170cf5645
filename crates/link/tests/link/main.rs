//! Nodes that exchange messages over real connections on one machine: frames on the
//! TLS stream itself. `tests/grpc` runs the same over gRPC.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

mod delivery;
mod framed;
mod hostile;
mod lives;
mod mixed;
mod proxy;
mod refusals;
mod relay;
mod support;

/// What every listener of these tests knows.
const CARRIER: support::Carrier = support::Carrier::Framed;
