//! The vocabulary of Filmloom: resolved model configurations, shapes and counts.
//!
//! Nothing here reads a file, a clock or a device. A checkpoint's own
//! configuration files are turned into these types once, by the `checkpoint`
//! crate, and everything after that (planning, memory arithmetic, the model
//! itself) sees only what is here. A value that two published sources define
//! differently is a field, never a guess.
//!
//! - [`class`]: element types, and numeric classes whose bits agree.
//! - [`config`]: transformer, text encoder, VAE, sampler, and the whole model.
//! - [`ids`]: what names nodes, jobs, placements and models.
//! - [`pass`]: one run of a chunk through the layers.
//! - [`rope`]: which frequencies rotate which pairs of a head.
//! - [`text`]: what of a peer's text may reach a terminal.
//! - [`window`]: which frames a pass attends to.
//! - [`tiles`]: how much of an attention's keys and values is made at once.
//! - [`wan`]: facts of the published models.

pub mod class;
pub mod config;
pub mod ids;
pub mod pass;
pub mod rope;
pub mod text;
pub mod tiles;
pub mod wan;
pub mod window;

pub use class::{Class, Dtype};
pub use config::{
    Attention, Mla, Model, QueryNorm, Sampler, SizedChunk, StepList, TextEncoder, Transformer,
    Update, Vae, Video,
};
pub use ids::{Epoch, Fence, Incarnation, JobId, ModelDigest, NodeId};
pub use pass::{Branch, Pass, PassKind, TokenGrid};
pub use rope::{Axis, Positions, Rope};
pub use tiles::{TiledHead, Tiles};
pub use window::Window;
