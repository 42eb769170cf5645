//! The UMT5 encoder.
//!
//! ```text
//!  per layer   x += out(attention(norm(x)))           bias by relative position, no scaling
//!              x += down(gelu(gate(norm(x))) * up(norm(x)))
//!  at the end  norm(x)
//! ```
//!
//! No biases, RMS norms, tanh GELU. Products run in the class' factors; the
//! residual, queries, keys, values and norms are f32 in every class.
//!
//! Padding costs nothing: keys that the mask hides get no weight, positions are
//! relative, so the prompt's rows are the same to the bit without the padding
//! after them. The embedding table (2 GB in UMT5-XXL) stays in the checkpoint's
//! bytes, of which only the prompt's rows are read.
//!
//! Source: arXiv:2304.09151 (UMT5), as transformers 5.17 computes it
//! (`UMT5EncoderModel`); zero rows after the prompt: Wan2.1, `wan/modules/t5.py`.

use std::sync::Arc;

use backend::{Backend, Dtype, Epilogue};
use checkpoint::Tensors;
use types::TextEncoder;

use crate::{
    Error,
    load::{Loader, Precision::Class},
    text::{self, Tokens, positions},
};

/// A UMT5 encoder's weights on a backend.
#[derive(Debug)]
pub struct Encoder<B: Backend> {
    backend: Arc<B>,
    config: TextEncoder,
    embedding: checkpoint::Tensor,
    layers: Vec<Layer<B>>,
    norm: B::Tensor,
}

#[derive(Debug)]
struct Layer<B: Backend> {
    attention_norm: B::Tensor,
    /// Queries, keys and values of all heads.
    qkv: B::Linear,
    out: B::Linear,
    /// `[position_buckets, heads]`.
    positions: Vec<f32>,
    feed_forward_norm: B::Tensor,
    gate: B::Linear,
    up: B::Linear,
    down: B::Linear,
}

impl<B: Backend> Encoder<B> {
    /// Loads the encoder. `tensors` must have passed the check for `config`.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] if a tensor is missing or has another shape,
    /// [`Error::Backend`] if the device has no room.
    pub fn load(backend: Arc<B>, config: TextEncoder, tensors: &Tensors) -> Result<Self, Error> {
        let loader = Loader::new(&*backend, tensors);
        let layers = (0..config.layers)
            .map(|layer| Layer::load(&loader, &config, layer))
            .collect::<Result<_, _>>()?;
        let norm = loader.row("encoder.final_layer_norm.weight", &[config.dim])?;
        let embedding = tensors.get("shared.weight", &[config.vocabulary, config.dim])?;
        Ok(Self { embedding, layers, norm, config, backend })
    }

    /// The encoder's configuration.
    pub fn config(&self) -> &TextEncoder {
        &self.config
    }

    /// What the transformer takes: `[text_len, dim]` f32, the prompt's rows and
    /// exact zeros after them.
    ///
    /// # Errors
    ///
    /// As [`Encoder::encode`].
    pub fn rows_for_prompt(&self, tokens: &Tokens) -> Result<B::Tensor, Error> {
        let prompt = tokens.mask.iter().take_while(|&&inside| inside).count();
        let encoded = self.encode(&tokens.ids[..prompt], &tokens.mask[..prompt])?;
        let mut rows = self.backend.zeros(tokens.ids.len(), self.config.dim, Dtype::F32)?;
        self.backend.copy_rows(&encoded, &mut rows, 0);
        Ok(rows)
    }

    /// The last hidden state of every token, `[tokens, dim]` f32; rows where
    /// `mask` is false are what the network makes of them, not zero.
    ///
    /// # Errors
    ///
    /// [`text::Error::Token`] or [`text::Error::Mask`] if the input does not fit,
    /// [`Error::Backend`] if the device has no room.
    pub fn encode(&self, ids: &[u32], mask: &[bool]) -> Result<B::Tensor, Error> {
        if ids.len() != mask.len() {
            return Err(text::Error::Mask { ids: ids.len(), mask: mask.len() }.into());
        }
        let (backend, tokens) = (&*self.backend, ids.len());
        let embedded = self.embed(ids)?;
        let mut hidden = backend.upload(tokens, self.config.dim, &embedded, Dtype::F32)?;
        let mut scratch = Scratch::new(backend, &self.config, tokens)?;
        for layer in &self.layers {
            layer.attend(backend, &self.config, mask, &mut hidden, &mut scratch)?;
            layer.feed_forward(backend, &self.config, &mut hidden, &mut scratch);
        }
        let mut out = backend.zeros(tokens, self.config.dim, Dtype::F32)?;
        backend.rms_norm(&hidden, &self.norm, self.config.eps, &mut out, 0);
        Ok(out)
    }

    /// The tokens' rows of the embedding table.
    fn embed(&self, ids: &[u32]) -> Result<Vec<f32>, text::Error> {
        let row_bytes = self.config.dim * self.embedding.dtype.bytes();
        let mut rows = Vec::with_capacity(ids.len() * self.config.dim);
        for (position, &id) in ids.iter().enumerate() {
            let row = id as usize;
            if self.config.vocabulary <= row {
                let vocabulary = self.config.vocabulary;
                return Err(text::Error::Token { position, id, vocabulary });
            }
            let bytes = self.embedding.bytes.slice(row * row_bytes..(row + 1) * row_bytes);
            let row = checkpoint::Tensor {
                dtype: self.embedding.dtype,
                shape: vec![self.config.dim],
                bytes: bytes.expect("the table has a row for every id of the vocabulary"),
            };
            rows.extend(row.to_f32());
        }
        Ok(rows)
    }
}

/// Tensors that every layer writes anew.
struct Scratch<B: Backend> {
    /// Bucket of every offset between two tokens.
    offsets: Vec<usize>,
    tokens: usize,
    normed: B::Tensor,
    qkv: B::Tensor,
    attended: B::Tensor,
    gate: B::Tensor,
    gated: B::Tensor,
}

impl<B: Backend> Scratch<B> {
    fn new(backend: &B, config: &TextEncoder, tokens: usize) -> Result<Self, Error> {
        let inner = config.heads * config.head_dim;
        let factors = Class.dtype(backend);
        Ok(Self {
            offsets: positions::offsets(
                tokens,
                config.position_buckets,
                config.position_distance_max,
            ),
            tokens,
            normed: backend.zeros(tokens, config.dim, factors)?,
            qkv: backend.zeros(tokens, 3 * inner, Dtype::F32)?,
            attended: backend.zeros(tokens, inner, factors)?,
            gate: backend.zeros(tokens, config.ffn_dim, Dtype::F32)?,
            gated: backend.zeros(tokens, config.ffn_dim, factors)?,
        })
    }
}

impl<B: Backend> Layer<B> {
    fn load(loader: &Loader<'_, B>, config: &TextEncoder, layer: usize) -> Result<Self, Error> {
        let (dim, inner) = (config.dim, config.heads * config.head_dim);
        let attention = format!("encoder.block.{layer}.layer.0");
        let feed_forward = format!("encoder.block.{layer}.layer.1");
        let [q, k, v] = ["q", "k", "v"].map(|name| format!("{attention}.SelfAttention.{name}"));
        let dense = |name: &str, n, k| {
            loader.linear(&format!("{feed_forward}.DenseReluDense.{name}"), n, k, false, Class)
        };
        Ok(Self {
            attention_norm: loader.row(&format!("{attention}.layer_norm.weight"), &[dim])?,
            qkv: loader.stacked(&[(&q, inner), (&k, inner), (&v, inner)], dim, false, Class)?,
            out: loader.linear(
                &format!("{attention}.SelfAttention.o"),
                dim,
                inner,
                false,
                Class,
            )?,
            positions: loader.values(
                &format!("{attention}.SelfAttention.relative_attention_bias.weight"),
                &[config.position_buckets, config.heads],
            )?,
            feed_forward_norm: loader.row(&format!("{feed_forward}.layer_norm.weight"), &[dim])?,
            gate: dense("wi_0", config.ffn_dim, dim)?,
            up: dense("wi_1", config.ffn_dim, dim)?,
            down: dense("wo", dim, config.ffn_dim)?,
        })
    }

    fn attend(
        &self,
        backend: &B,
        config: &TextEncoder,
        mask: &[bool],
        hidden: &mut B::Tensor,
        scratch: &mut Scratch<B>,
    ) -> Result<(), Error> {
        let (heads, tokens) = (config.heads, scratch.tokens);
        let bias = positions::bias(&self.positions, heads, &scratch.offsets, tokens);
        let bias = backend.upload(heads * tokens, tokens, &bias, Dtype::F32)?;
        backend.rms_norm(hidden, &self.attention_norm, config.eps, &mut scratch.normed, 0);
        backend.linear(&scratch.normed, &self.qkv, Epilogue::Store, &mut scratch.qkv);
        backend.attend_biased(&scratch.qkv, heads, &bias, mask, &mut scratch.attended);
        backend.linear(&scratch.attended, &self.out, Epilogue::Add, hidden);
        Ok(())
    }

    fn feed_forward(
        &self,
        backend: &B,
        config: &TextEncoder,
        hidden: &mut B::Tensor,
        scratch: &mut Scratch<B>,
    ) {
        backend.rms_norm(hidden, &self.feed_forward_norm, config.eps, &mut scratch.normed, 0);
        backend.linear(&scratch.normed, &self.gate, Epilogue::Gelu, &mut scratch.gate);
        let gate = Epilogue::Mul(&scratch.gate);
        backend.linear(&scratch.normed, &self.up, gate, &mut scratch.gated);
        backend.linear(&scratch.gated, &self.down, Epilogue::Add, hidden);
    }
}

#[cfg(test)]
mod tests {
    use backend::Cpu;
    use checkpoint::manifest;

    use super::*;

    #[test]
    fn rows_after_the_prompt_are_zero_and_padding_changes_no_bit() {
        let encoder = encoder(Cpu::f32(2));
        let tokens = tokens(&[5, 9, 3, 3, 1], 12);

        let rows = encoder.rows_for_prompt(&tokens).unwrap();
        let padded = encoder.encode(&tokens.ids, &tokens.mask).unwrap();

        let rows = encoder.backend.download(&rows).unwrap();
        let padded = encoder.backend.download(&padded).unwrap();
        let prompt = 5 * CONFIG.dim;
        assert_eq!(rows[..prompt], padded[..prompt]);
        assert!(rows[..prompt].iter().all(|x| x.is_finite() && *x != 0.0));
        assert!(rows[prompt..].iter().all(|x| x.to_bits() == 0));
        assert_eq!(rows.len(), padded.len());
    }

    #[test]
    fn bits_do_not_depend_on_threads() {
        let ids: Vec<u32> = (0..19).collect();
        let rows = [1, 3].map(|threads| {
            let encoder = encoder(Cpu::f32(threads));
            let rows = encoder.encode(&ids, &[true; 19]).unwrap();
            encoder.backend.download(&rows).unwrap()
        });
        assert_eq!(rows[0], rows[1]);
    }

    #[test]
    fn input_that_does_not_fit_is_refused() {
        let encoder = encoder(Cpu::f32(1));
        let refused = |ids: &[u32], mask: &[bool]| match encoder.encode(ids, mask) {
            Err(Error::Text(error)) => error,
            other => panic!("expected a refusal, not {other:?}"),
        };

        let error = refused(&[1, 20], &[true; 2]);
        assert_eq!(error, text::Error::Token { position: 1, id: 20, vocabulary: 20 });
        assert_eq!(refused(&[1, 2], &[true]), text::Error::Mask { ids: 2, mask: 1 });
    }

    #[test]
    fn no_tokens_and_none_seen_are_no_fault() {
        let encoder = encoder(Cpu::f32(2));

        let nothing = encoder.encode(&[], &[]).unwrap();
        assert!(encoder.backend.download(&nothing).unwrap().is_empty());
        let unseen = encoder.encode(&[1, 2], &[false; 2]).unwrap();
        assert!(encoder.backend.download(&unseen).unwrap().iter().all(|x| x.is_finite()));
    }

    const CONFIG: TextEncoder = TextEncoder {
        vocabulary: 20,
        dim: 24,
        head_dim: 8,
        heads: 2,
        ffn_dim: 40,
        layers: 2,
        position_buckets: 8,
        position_distance_max: 20,
        eps: 1e-6,
    };

    fn encoder(cpu: Cpu) -> Encoder<Cpu> {
        let tensors = Tensors::random(manifest::text_encoder(&CONFIG), 7);
        Encoder::load(Arc::new(cpu), CONFIG, &tensors).unwrap()
    }

    fn tokens(ids: &[u32], text_len: usize) -> Tokens {
        let mut ids = ids.to_vec();
        let mask = (0..text_len).map(|token| token < ids.len()).collect();
        ids.resize(text_len, 0);
        Tokens { ids, mask, dropped: 0, unknown: Vec::new() }
    }
}
