//! From a prompt to the rows that the transformer attends to.
//!
//! ```text
//!  prompt --clean--> text --Tokenizer--> ids, mask --Encoder--> rows [text_len, dim]
//!                             |
//!                             +--> words it does not know, tokens it had to drop
//! ```
//!
//! - [`clean()`] and [`clean_prompt`]: what Wan does to a prompt before anything else.
//! - [`Tokenizer`]: the model's own `tokenizer.json`, cut and padded to the text length.
//! - [`Contexts`]: all of it, with the transformer's projection of the rows.
//! - [`Encoder`]: UMT5, with a table of relative positions in every layer.
//!
//! Wan's convention: rows after the prompt are exactly zero, and the
//! transformer attends to them all the same. They need not be computed, so a
//! short prompt costs what its own tokens cost.

mod clean;
#[cfg(test)]
mod clean_tests;
mod contexts;
mod encoder;
mod mojibake;
mod positions;
mod tokenizer;

pub use clean::{clean, clean_prompt};
pub use contexts::{Contexts, Prompt};
pub use encoder::Encoder;
pub use tokenizer::{Tokenizer, Tokens};

/// Why a text cannot become rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum Error {
    /// Nothing is left of the prompt once it is cleaned.
    #[error("the prompt is empty: say what the video shows")]
    EmptyPrompt,
    /// The tokenizer's file is damaged or of an unknown kind. Fetch it again.
    #[error("{file}: no usable tokenizer: {problem}")]
    Tokenizer { file: String, problem: String },
    /// The text length holds no word at all. Correct the model's configuration.
    #[error(
        "{file}: a text of {text_len} tokens has no room beside the {special} added to each: \
         correct the transformer's text_len"
    )]
    TextLength { file: String, text_len: usize, special: usize },
    /// The tokenizer gives a token that the encoder's table has no row for.
    #[error(
        "{file}: gives token {position} of the text the id {id}, but the text encoder has rows \
         for ids below {vocabulary}: put the same model's tokenizer there"
    )]
    OtherVocabulary { file: String, position: usize, id: u32, vocabulary: usize },
    /// The encoder's table has no row for a token. Correct the input.
    #[error("token {position} has id {id}, the text encoder has rows for ids below {vocabulary}")]
    Token { position: usize, id: u32, vocabulary: usize },
    /// Every token needs a mask value. Correct the input.
    #[error("{ids} token ids came with {mask} mask values, as many are needed")]
    Mask { ids: usize, mask: usize },
}
