//! The attention in the middle of the decoder: one head over the pixels of a
//! frame, so it needs no history.
//!
//! ```text
//! x + proj(softmax(q k^T / sqrt(channels)) v),   [q | k | v] = to_qkv(norm(x))
//! ```

use backend::{Backend, Dtype, Epilogue, FinishQueries, Heads, Keys, Tensor, Weight};

use crate::{
    Error,
    load::{Loader, Precision},
};

/// The attention's weights.
#[derive(Debug)]
pub(super) struct Attention<B: Backend> {
    channels: usize,
    norm: B::Tensor,
    queries: B::Linear,
    /// Keys, then values.
    keys: B::Linear,
    out: B::Linear,
}

/// Scratch memory for one frame.
#[derive(Debug)]
pub(super) struct AttentionState<B: Backend> {
    normed: B::Tensor,
    projected: B::Tensor,
    queries: B::Tensor,
    keys: B::Tensor,
    attended: B::Tensor,
}

impl<B: Backend> Attention<B> {
    pub(super) fn load(
        backend: &B,
        loader: &Loader<'_, B>,
        channels: usize,
    ) -> Result<Self, Error> {
        let name = |name: &str| format!("decoder.mid_block.attentions.0.{name}");
        let shape = [3 * channels, channels, 1, 1];
        let weight = loader.values(&name("to_qkv.weight"), &shape)?;
        let bias = loader.values(&name("to_qkv.bias"), &shape[..1])?;
        let dtype = backend.class().activation();
        let rows = |rows: std::ops::Range<usize>| {
            let values = &weight[rows.start * channels..rows.end * channels];
            let weight = Weight { n: rows.len(), k: channels, values };
            backend.load_linear(weight, Some(&bias[rows]), dtype)
        };
        let proj = [channels, channels, 1, 1];
        Ok(Self {
            channels,
            norm: loader.row(&name("norm.gamma"), &[channels, 1, 1])?,
            queries: rows(0..channels)?,
            keys: rows(channels..3 * channels)?,
            out: loader.shaped(&name("proj"), &proj, true, Precision::Class)?,
        })
    }

    pub(super) fn state(&self, backend: &B, pixels: usize) -> Result<AttentionState<B>, Error> {
        let dtype = backend.class().activation();
        let zeros = |columns, dtype| backend.zeros(pixels, columns, dtype);
        Ok(AttentionState {
            normed: zeros(self.channels, dtype)?,
            projected: zeros(self.channels, Dtype::F32)?,
            queries: zeros(self.channels, dtype)?,
            keys: zeros(2 * self.channels, dtype)?,
            attended: zeros(self.channels, dtype)?,
        })
    }

    /// One frame, in place.
    pub(super) fn run(&self, backend: &B, state: &mut AttentionState<B>, x: &mut B::Tensor) {
        let AttentionState { normed, projected, queries, keys, attended } = state;
        backend.channel_norm(x, &self.norm, normed);
        backend.linear(normed, &self.queries, Epilogue::Store, projected);
        backend.linear(normed, &self.keys, Epilogue::Store, keys);
        #[expect(clippy::cast_precision_loss, reason = "a pixel has few channels")]
        let scale = 1.0 / (self.channels as f32).sqrt();
        let finish = FinishQueries { norm: None, head_dim: self.channels, rotation: None, scale };
        backend.finish_queries(projected, &finish, queries);
        let heads = Heads::Dense { heads: 1, head_dim: self.channels };
        let segments = 0..x.rows();
        let segments = std::slice::from_ref(&segments);
        backend.attend(queries, heads, &Keys { cache: keys, segments, rotation: None }, attended);
        backend.linear(attended, &self.out, Epilogue::Add, x);
    }
}

impl<B: Backend> AttentionState<B> {
    pub(super) fn bytes(&self) -> u64 {
        let Self { normed, projected, queries, keys, attended } = self;
        [normed, projected, queries, keys, attended].into_iter().map(Tensor::bytes).sum()
    }
}
