//! Decides what a job does and needs, as data: pure arithmetic on resolved configurations.
//!
//! Nothing here reads a file or a clock, holds a tensor or names a device, so
//! every decision can be tested in microseconds and comes out the same on
//! every machine. The executor follows what it is handed.
//!
//! - [`chunk`]: which of a chunk's runs can be submitted, and what follows them.
//! - [`cluster`]: who is here, what stands where, which job runs.
//! - [`passes`]: the list of passes that turns noise into a finished chunk.
//! - [`slots`]: which preallocated cache slot holds which chunk's page.
//! - [`length`]: seconds to pictures, frames and chunks.
//! - [`memory`]: what weights, caches and activations weigh, term by term.
//! - [`path`]: whether latent attention is absorbed or rebuilt.
//! - [`placement`]: which workers hold which layers, how fast that is and why.
//! - [`presets`]: published and comparison shapes, planned without their files.
//! - [`report`]: dense against MLA for one video, as a table and as JSON.
//! - [`units`]: byte counts and times as people read them.

pub mod chunk;
pub mod cluster;
pub mod length;
pub mod memory;
pub mod passes;
pub mod path;
pub mod placement;
pub mod presets;
pub mod report;
pub mod slots;
pub mod units;
