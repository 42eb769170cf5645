//! The parts of a model, each of which may be there alone.

use std::fmt;

use serde::Serialize;

/// A part of a model. A digest lists them in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The prompt's encoder.
    TextEncoder,
    /// What turns a prompt into token ids.
    Tokenizer,
    /// The diffusion transformer.
    Transformer,
    /// The frame decoder.
    Vae,
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::TextEncoder => "text encoder",
            Self::Tokenizer => "tokenizer",
            Self::Transformer => "transformer",
            Self::Vae => "VAE",
        })
    }
}
