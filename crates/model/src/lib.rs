//! Text to video, written once over the backend seam.
//!
//! - [`engine`]: a whole model on one device, from prompt to pictures.
//! - [`text`]: prompts to rows.
//! - [`transformer`]: stages of layers, their jobs and passes.
//! - [`sampler`]: from noise to a clean chunk, following a list of passes.
//! - [`vae`]: frames to pictures.
//! - [`forward`]: single parts on given inputs, for comparison.
//!
//! Nothing here names a device or reads a clock.

pub mod engine;
mod error;
mod event;
pub mod forward;
mod load;
pub mod sampler;
pub mod text;
pub mod transformer;
pub mod vae;

pub use engine::{Chunk, Engine, Film, History, Request};
pub use error::Error;
pub use event::Event;
pub use text::Prompt;
