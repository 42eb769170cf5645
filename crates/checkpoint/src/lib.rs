//! Model folders: resolved configurations and checked tensors.
//!
//! [`Checkpoint::open`] looks what parts a folder has; a part's configuration
//! is resolved into `types::config`, and [`Checkpoint::open_transformer`] and
//! its siblings compare the files' tensors with that configuration before
//! anything is computed. [`Tensors::get`] then hands out a tensor by its
//! canonical name, whatever the file calls it, as shared bytes of a mapping.
//!
//! ```text
//! Source -> Checkpoint -> Opened { config, Tensors }
//! files     parts         get("blocks.3.ffn.0.weight", &[1536, 384]) -> Tensor
//! ```
//!
//! - Read: safetensors (single, sharded) and torch's zipped pickles, the latter
//!   by an interpreter that knows tensors and plain containers only and runs
//!   nothing.
//! - Three layouts of transformers, of which two hold teachers or their causal
//!   students, two of VAEs and text encoders, told apart by configuration and by
//!   tensor names (see [`Family`]).
//! - A model is known by a digest, and can be fetched piece by piece from whoever has
//!   it: see [`Contents`], [`Library`] and [`Blobs`].
//! - No input may cause a panic; every [`Error`] names the file.
//! - No device and no arithmetic: planning and inspection need no kernels.

mod blobs;
mod canonical;
mod checkpoint;
mod config;
mod contents;
mod error;
mod fetched;
mod formats;
mod inspect;
mod json_words;
mod library;
pub mod manifest;
mod names;
mod part;
mod random;
mod source;
mod tensor;
mod tensors;
mod weights;

pub use blobs::{Blobs, Incoming, Pinned, Problem};
pub use checkpoint::{Checkpoint, Opened};
pub use config::Family;
pub use contents::{Blob, Contents, Digest, FileEntry, Need, NoDigest, TensorEntry};
pub use error::{Error, Result};
pub use fetched::Fetched;
pub use inspect::{
    AttentionReport, Inspection, PartReport, SamplerReport, TensorReport, WindowReport,
};
pub use json_words::json_words;
pub use library::Library;
pub use part::Part;
pub use source::{Bytes, Source};
pub use tensor::{Dtype, Tensor};
pub use tensors::{Tally, Tensors};
pub use weights::Ema;
