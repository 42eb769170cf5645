//! The whole text side of a model: from a prompt to what the transformer attends to.

use std::sync::Arc;

use backend::Backend;
use checkpoint::Checkpoint;

use crate::{
    Error,
    text::{Encoder, Tokenizer, Tokens, clean_prompt},
    transformer::TextProjection,
};

/// Tokenizer, encoder and projection of a model.
#[derive(Debug)]
pub struct Contexts<B: Backend> {
    backend: Arc<B>,
    tokenizer: Tokenizer,
    encoder: Encoder<B>,
    projection: TextProjection<B>,
    warnings: Vec<String>,
}

/// A cleaned, tokenised prompt.
#[derive(Clone, Debug)]
pub struct Prompt {
    /// The cleaned text.
    pub text: String,
    /// Words that the model does not know, as the user wrote them.
    pub unknown_words: Vec<String>,
    /// Tokens over the model's text length, which are dropped.
    pub dropped_tokens: usize,
    tokens: Tokens,
}

impl<B: Backend> Contexts<B> {
    /// Loads the text side.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] naming file and tensor, [`Error::Backend`] if the
    /// device has no room.
    pub fn load(backend: Arc<B>, checkpoint: &Checkpoint) -> Result<Self, Error> {
        let encoder = checkpoint.open_text_encoder()?;
        let projection = checkpoint.open_text_projection()?;
        let tokenizer = Tokenizer::new(
            &checkpoint.tokenizer_name(),
            &checkpoint.tokenizer()?,
            projection.config.text_len,
            encoder.config.vocabulary,
        )?;
        Ok(Self {
            encoder: Encoder::load(Arc::clone(&backend), encoder.config, &encoder.tensors)?,
            projection: TextProjection::load(&*backend, &projection.config, &projection.tensors)?,
            tokenizer,
            backend,
            warnings: encoder.warnings,
        })
    }

    /// Oddities of the files that do no harm, each a sentence for the user.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Cleans and tokenises a prompt.
    ///
    /// # Errors
    ///
    /// [`Error::Text`] if nothing is left of it.
    pub fn prompt(&self, text: &str) -> Result<Prompt, Error> {
        let text = clean_prompt(text)?;
        let tokens = self.tokenizer.tokens(&text)?;
        let Tokens { dropped: dropped_tokens, unknown: unknown_words, .. } = tokens.clone();
        Ok(Prompt { text, unknown_words, dropped_tokens, tokens })
    }

    /// What the transformer attends to for a prompt, `[text_len, dim]`.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] if the device has no room or failed.
    pub fn encode(&self, prompt: &Prompt) -> Result<B::Tensor, Error> {
        self.context(&prompt.tokens)
    }

    /// What the unconditional branch of guided passes attends to, `[text_len, dim]`.
    ///
    /// # Errors
    ///
    /// As [`Contexts::encode`].
    pub fn encode_nothing(&self) -> Result<B::Tensor, Error> {
        self.context(&self.tokenizer.tokens("")?)
    }

    fn context(&self, tokens: &Tokens) -> Result<B::Tensor, Error> {
        self.projection.context(&*self.backend, &self.encoder.rows_for_prompt(tokens)?)
    }
}
