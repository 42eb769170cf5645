//! The tests of `tests/link` with peers that know gRPC only.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

#[path = "../link/delivery.rs"]
mod delivery;
#[path = "../link/hostile.rs"]
mod hostile;
#[path = "../link/lives.rs"]
mod lives;
#[path = "../link/mixed.rs"]
mod mixed;
#[path = "../link/proxy.rs"]
mod proxy;
#[path = "../link/refusals.rs"]
mod refusals;
#[path = "../link/relay.rs"]
mod relay;
#[path = "../link/support.rs"]
mod support;

/// What every listener of these tests knows.
const CARRIER: support::Carrier = support::Carrier::Grpc;
