//! What stands around the layers: patches, time, text and the head.
//!
//! All of it runs in f32 in every class: it is little work (ADR 0002 counts it),
//! and time and velocity are where rounding would show.

use backend::{Backend, Dtype, Epilogue, PatchGrid, ScaleShift, Tensor};
use checkpoint::Tensors;
use types::Transformer;

use crate::{
    Error,
    load::{Loader, Precision::Full},
};

/// Patches to residual: a convolution whose stride is its kernel, so a product.
#[derive(Debug)]
pub(super) struct PatchEmbedding<B: Backend> {
    linear: B::Linear,
    dim: usize,
}

impl<B: Backend> PatchEmbedding<B> {
    pub(super) fn load(loader: &Loader<'_, B>, config: &Transformer) -> Result<Self, Error> {
        let [frames, rows, columns] = config.patch;
        let shape = [config.dim, config.in_channels, frames, rows, columns];
        let linear = loader.shaped("patch_embedding", &shape, true, Full)?;
        Ok(Self { linear, dim: config.dim })
    }

    /// Frame tensors `[channels, pixels]` to the residual `[tokens, dim]`.
    pub(super) fn embed(
        &self,
        backend: &B,
        frames: &B::Tensor,
        grid: PatchGrid,
    ) -> Result<B::Tensor, Error> {
        let mut patches = backend.zeros(grid.tokens(), grid.patch(), Dtype::F32)?;
        backend.patchify(frames, grid, &mut patches);
        let mut hidden = backend.zeros(grid.tokens(), self.dim, Dtype::F32)?;
        backend.linear(&patches, &self.linear, Epilogue::Store, &mut hidden);
        backend.round_residual(&mut hidden);
        Ok(hidden)
    }
}

/// Time of every frame to its modulation vectors.
#[derive(Debug)]
pub(super) struct TimeEmbedding<B: Backend> {
    first: B::Linear,
    second: B::Linear,
    projection: B::Linear,
    freq_dim: usize,
    dim: usize,
}

/// What time does to the layers and the head, per frame.
#[derive(Debug)]
pub(super) struct Modulation<B: Backend> {
    /// `[frames, dim]`, for the head.
    pub(super) embedding: B::Tensor,
    /// `[frames, 6 dim]`, for the layers.
    pub(super) vectors: B::Tensor,
}

impl<B: Backend> Modulation<B> {
    pub(super) fn frames(&self) -> usize {
        self.vectors.rows()
    }
}

impl<B: Backend> TimeEmbedding<B> {
    pub(super) fn load(loader: &Loader<'_, B>, config: &Transformer) -> Result<Self, Error> {
        let Transformer { dim, freq_dim, .. } = *config;
        Ok(Self {
            first: loader.linear("time_embedding.0", dim, freq_dim, true, Full)?,
            second: loader.linear("time_embedding.2", dim, dim, true, Full)?,
            projection: loader.linear("time_projection.1", 6 * dim, dim, true, Full)?,
            freq_dim,
            dim,
        })
    }

    /// Modulation at these times, 0 to 1000, one per frame.
    pub(super) fn embed(&self, backend: &B, times: &[f32]) -> Result<Modulation<B>, Error> {
        let frames = times.len();
        let waves: Vec<f32> =
            times.iter().flat_map(|&time| sinusoid(time, self.freq_dim)).collect();
        let waves = backend.upload(frames, self.freq_dim, &waves, Dtype::F32)?;
        let mut inner = backend.zeros(frames, self.dim, Dtype::F32)?;
        backend.linear(&waves, &self.first, Epilogue::Silu, &mut inner);
        let mut embedding = backend.zeros(frames, self.dim, Dtype::F32)?;
        backend.linear(&inner, &self.second, Epilogue::Store, &mut embedding);
        backend.silu(&embedding, &mut inner);
        let mut vectors = backend.zeros(frames, 6 * self.dim, Dtype::F32)?;
        backend.linear(&inner, &self.projection, Epilogue::Store, &mut vectors);
        Ok(Modulation { embedding, vectors })
    }
}

/// `[cos, sin]` of `time * 10000^(-i / half)`, computed in f64.
fn sinusoid(time: f32, width: usize) -> Vec<f32> {
    let half = width / 2;
    #[expect(clippy::cast_precision_loss, reason = "a few hundred frequencies")]
    let angle = |i: usize| f64::from(time) * libm::pow(10_000.0, -(i as f64) / half as f64);
    #[expect(clippy::cast_possible_truncation, reason = "the embedding is f32")]
    let narrow = |x: f64| x as f32;
    let cosines = (0..half).map(|i| narrow(libm::cos(angle(i))));
    cosines.chain((0..half).map(|i| narrow(libm::sin(angle(i))))).collect()
}

/// Text encoder rows to the context of the cross-attention. It stands with the
/// text encoder: the context is made once and travels to every stage.
#[derive(Debug)]
pub struct TextProjection<B: Backend> {
    first: B::Linear,
    second: B::Linear,
    text_len: usize,
    text_dim: usize,
    dim: usize,
}

impl<B: Backend> TextProjection<B> {
    /// Loads the projection from the transformer's tensors.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] if a tensor is missing or has another shape,
    /// [`Error::Backend`] if the device has no room.
    pub fn load(backend: &B, config: &Transformer, tensors: &Tensors) -> Result<Self, Error> {
        let loader = Loader::new(backend, tensors);
        let Transformer { dim, text_dim, text_len, .. } = *config;
        Ok(Self {
            first: loader.linear("text_embedding.0", dim, text_dim, true, Full)?,
            second: loader.linear("text_embedding.2", dim, dim, true, Full)?,
            text_len,
            text_dim,
            dim,
        })
    }

    /// What the layers attend to for a prompt, `[rows, dim]` in the activation
    /// dtype. `rows` are the text encoder's, f32 `[text_len, text_dim]`, zero
    /// after the prompt's end. All rows are attended to; a model is trained for
    /// `text_len` of them, but any number can be given.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if the rows are not the model's, [`Error::Backend`] if
    /// the device has no room.
    pub fn context(&self, backend: &B, rows: &B::Tensor) -> Result<B::Tensor, Error> {
        super::check_rows("text rows", rows, [self.text_len, self.text_dim])?;
        let mut inner = backend.zeros(rows.rows(), self.dim, Dtype::F32)?;
        backend.linear(rows, &self.first, Epilogue::Gelu, &mut inner);
        let mut context = backend.zeros(rows.rows(), self.dim, backend.class().activation())?;
        backend.linear(&inner, &self.second, Epilogue::Store, &mut context);
        Ok(context)
    }
}

/// Residual to velocity.
#[derive(Debug)]
pub(super) struct Head<B: Backend> {
    /// `[1, 2 dim]`: shift, scale.
    modulation: B::Tensor,
    linear: B::Linear,
    eps: f32,
}

impl<B: Backend> Head<B> {
    pub(super) fn load(loader: &Loader<'_, B>, config: &Transformer) -> Result<Self, Error> {
        let patch: usize = config.patch.iter().product();
        Ok(Self {
            modulation: loader.row("head.modulation", &[1, 2, config.dim])?,
            linear: loader.linear(
                "head.head",
                config.out_channels * patch,
                config.dim,
                true,
                Full,
            )?,
            eps: config.eps,
        })
    }

    /// The velocity as frame tensors `[channels, pixels]`.
    pub(super) fn velocity(
        &self,
        backend: &B,
        modulation: &Modulation<B>,
        hidden: &B::Tensor,
        grid: PatchGrid,
    ) -> Result<B::Tensor, Error> {
        let (frames, dim) = (modulation.frames(), hidden.columns());
        let mut table = backend.zeros(frames, 2 * dim, Dtype::F32)?;
        backend.add_row(&modulation.embedding, &self.modulation, &mut table);
        let mut normed = backend.zeros(hidden.rows(), dim, Dtype::F32)?;
        let modulated = ScaleShift::Modulated { table: &table, shift: 0, scale: 1 };
        backend.layer_norm(hidden, modulated, self.eps, &mut normed);
        let mut patches = backend.zeros(hidden.rows(), grid.patch(), Dtype::F32)?;
        backend.linear(&normed, &self.linear, Epilogue::Store, &mut patches);
        let mut velocity = backend.zeros(grid.channels, grid.pixels(), Dtype::F32)?;
        backend.unpatchify(&patches, grid, &mut velocity);
        Ok(velocity)
    }
}
