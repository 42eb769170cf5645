//! Every decoder that reads a peer's bytes, as a function of bytes.
//!
//! ```text
//!  corpus/NAME/*  ──▶ seeded damage ──▶ tests/decoders.rs ──┐
//!                                                           ├─▶ Target::decode(bytes)
//!  corpus/NAME/*  ──▶ libFuzzer ──────▶ libfuzzer/ ─────────┘
//! ```
//!
//! A [`Target`] goes in by the door that a peer's bytes go in by, as far as that is
//! public, and on to whoever uses what was decoded. It says whether the bytes were
//! taken; how it refuses them is its own business, as long as it does not panic and
//! holds no more than it may ([`Target::held_max`]).
//!
//! What comes in streams is here as gRPC frames it: messages one behind the other,
//! each with a byte that is 0 and its length in four, big-endian.
//!
//! - [`corpus`]: valid messages, made by the code itself.
//! - [`mutate`]: damages them.
//! - [`frames`]: messages as gRPC frames them.

pub mod corpus;
pub mod frames;
pub mod mutate;

mod admin;
mod certificates;
mod contents;
mod control;
mod data;
mod device;
mod http;
mod log;
mod members;

use mutate::Shape;

/// A decoder.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and its folder's in the corpus.
    pub name: &'static str,
    /// What its input is.
    pub shape: Shape,
    /// Reads bytes of a peer. A sentence says why they are refused.
    pub decode: fn(&[u8]) -> Result<(), String>,
    /// Valid input.
    pub seeds: fn() -> Vec<Vec<u8>>,
    /// Bytes of input, at most: what the door takes, or what damage can reach.
    pub input_bytes_max: usize,
    /// Bytes that it may hold besides, whatever the input.
    pub held_bytes: usize,
    /// Bytes that it may hold for each byte of input.
    pub held_per_byte: usize,
    /// Cases of damage in the quick test.
    pub cases: u32,
}

impl Target {
    /// Bytes that it may hold at a time, for an input of this length.
    pub fn held_max(&self, input_bytes: usize) -> usize {
        self.held_bytes + self.held_per_byte * input_bytes
    }
}

/// All decoders.
pub const TARGETS: [Target; 20] = [
    control::JOIN_REQUEST,
    control::JOIN_REPLY,
    control::FROM_WORKER,
    control::TO_WORKER,
    members::MEMBERS,
    data::FRAMES,
    data::HOP,
    data::FRAMED,
    device::DEVICE,
    contents::BLOB_REQUEST,
    contents::LIST,
    contents::CONFIGURATION,
    admin::ADMIN,
    certificates::TOKEN,
    certificates::CERTIFICATE,
    http::JSON,
    http::FORM,
    http::QUERY,
    http::HEADERS,
    log::LOG,
];

/// The target of this name.
pub fn target(name: &str) -> Option<Target> {
    TARGETS.into_iter().find(|target| target.name == name)
}
