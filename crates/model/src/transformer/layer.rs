//! One transformer layer.
//!
//! ```text
//!  normed = modulate(norm(x))              queries, rows = project(normed)
//!  x += gate * o(attend(queries, window, rows))
//!  x += o'(attend(queries'(norm3(x)), context))
//!  x += gate' * ffn(modulate(norm(x)))     rounded to the class' residual dtype
//! ```
//!
//! `project` and `attend` are separate steps, so that rows which another worker
//! computed can come between them one day; today a stage does both in one pass.

use std::ops::Range;

use backend::{
    Backend, Dtype, Epilogue, FinishQueries, Heads, Keys, MlaPath, MlaShape, ScaleShift, Tensor,
    Weight,
};
use types::{Attention, Mla, QueryNorm, Transformer};

use crate::{
    Error,
    load::{Loader, Precision::Class},
    transformer::embed::Modulation,
};

/// Vectors of a layer's modulation, in the order of the checkpoint.
mod slot {
    pub(super) const ATTENTION: [usize; 3] = [0, 1, 2];
    pub(super) const FFN: [usize; 3] = [3, 4, 5];
}

/// Weights of one layer.
#[derive(Debug)]
pub(super) struct Layer<B: Backend> {
    /// `[1, 6 dim]`.
    modulation: B::Tensor,
    query: Query<B>,
    /// Residual to a cached row, before its norm.
    rows: B::Linear,
    /// Norm of a row's first columns: the content latent, or the dense keys.
    rows_norm: Option<B::Tensor>,
    /// Up-projections; `None` for dense attention.
    latent: Option<B::Mla>,
    output: B::Linear,
    cross: Cross<B>,
    ffn_in: B::Linear,
    ffn_out: B::Linear,
    shape: Shape,
}

/// Queries of the self-attention.
#[derive(Debug)]
struct Query<B: Backend> {
    /// To the query latent, and its norm.
    down: Option<(B::Linear, Option<B::Tensor>, usize)>,
    up: B::Linear,
    /// Norm over all heads.
    norm: Option<B::Tensor>,
}

/// The cross-attention.
#[derive(Debug)]
struct Cross<B: Backend> {
    norm: Option<(B::Tensor, B::Tensor)>,
    query: B::Linear,
    query_norm: Option<B::Tensor>,
    /// `[2 dim, dim]`: keys, then values.
    context: B::Linear,
    key_norm: Option<B::Tensor>,
    output: B::Linear,
}

/// Widths of a layer.
#[derive(Clone, Copy, Debug)]
struct Shape {
    dim: usize,
    heads: usize,
    /// A head's query, and its rotated part.
    head: usize,
    rotated: usize,
    eps: f32,
}

/// A layer's cache and the part of it that a pass attends to.
#[derive(Debug)]
pub(super) struct Attended<'a, B: Backend> {
    pub(super) cache: &'a mut B::Tensor,
    pub(super) window: &'a Window<B>,
}

/// What a pass attends to, the same for all layers.
#[derive(Debug)]
pub(super) struct Window<B: Backend> {
    /// Cache rows in window order; the chunk's own are the last.
    pub(super) segments: Vec<Range<usize>>,
    /// First cache row of the chunk's own.
    pub(super) own_row: usize,
    /// Place of the chunk's first token in the window.
    pub(super) own_token: usize,
    /// Positions of the window's tokens.
    pub(super) rotation: B::Rotation,
}

impl<B: Backend> Layer<B> {
    pub(super) fn load(
        loader: &Loader<'_, B>,
        backend: &B,
        config: &Transformer,
        layer: usize,
        path: MlaPath,
    ) -> Result<Self, Error> {
        let Transformer { dim, ffn_dim, heads, .. } = *config;
        let name = |tensor: &str| format!("blocks.{layer}.{tensor}");
        let dense = dim / heads;
        let (head, rotated, value) = match &config.attention {
            Attention::Dense => (dense, dense, dense),
            Attention::Mla(mla) => (mla.nope + mla.rope, mla.rope, mla.value),
        };
        let own = SelfAttention { loader, config, layer };
        Ok(Self {
            modulation: loader.row(&name("modulation"), &[1, 6, dim])?,
            query: own.query(head)?,
            rows: own.rows()?,
            rows_norm: own.rows_norm()?,
            latent: own.latent(backend, path)?,
            output: loader.linear(&name("self_attn.o"), dim, heads * value, true, Class)?,
            cross: Cross::load(loader, config, &name("cross_attn"), &name("norm3"))?,
            ffn_in: loader.linear(&name("ffn.0"), ffn_dim, dim, true, Class)?,
            ffn_out: loader.linear(&name("ffn.2"), dim, ffn_dim, true, Class)?,
            shape: Shape { dim, heads, head, rotated, eps: config.eps },
        })
    }

    /// Keys and values of the cross-attention for a context
    /// `[text_len, dim]`: `[text_len, 2 dim]` in the activation dtype.
    pub(super) fn context(&self, backend: &B, context: &B::Tensor) -> Result<B::Tensor, Error> {
        let (rows, width) = (context.rows(), 2 * self.shape.dim);
        let mut wide = backend.zeros(rows, width, Dtype::F32)?;
        backend.linear(context, &self.cross.context, Epilogue::Store, &mut wide);
        let mut out = backend.zeros(rows, width, backend.class().activation())?;
        match &self.cross.key_norm {
            Some(norm) => backend.rms_norm(&wide, norm, self.shape.eps, &mut out, 0),
            None => backend.copy_rows(&wide, &mut out, 0),
        }
        Ok(out)
    }

    /// Runs the whole layer on `hidden` `[tokens, dim]`, in place.
    pub(super) fn forward(
        &self,
        backend: &B,
        modulation: &Modulation<B>,
        hidden: &mut B::Tensor,
        context: &B::Tensor,
        scratch: &mut Scratch<B>,
        attended: Attended<'_, B>,
    ) {
        backend.add_row(&modulation.vectors, &self.modulation, &mut scratch.table);
        self.project(backend, hidden, scratch, &mut *attended.cache, attended.window);
        self.attend(backend, hidden, scratch, attended.cache, attended.window);
        self.cross(backend, hidden, context, scratch);
        self.feed_forward(backend, hidden, scratch);
        backend.round_residual(hidden);
    }

    /// Writes this layer's rows for `hidden` into the cache, and nothing else.
    pub(super) fn project_rows(
        &self,
        backend: &B,
        modulation: &Modulation<B>,
        hidden: &B::Tensor,
        scratch: &mut Scratch<B>,
        attended: Attended<'_, B>,
    ) {
        backend.add_row(&modulation.vectors, &self.modulation, &mut scratch.table);
        self.norm(backend, hidden, slot::ATTENTION, scratch);
        self.write_rows(backend, scratch, attended.cache, attended.window.own_row);
    }

    /// Hidden state to queries (in the scratch) and cached rows.
    fn project(
        &self,
        backend: &B,
        hidden: &B::Tensor,
        scratch: &mut Scratch<B>,
        cache: &mut B::Tensor,
        window: &Window<B>,
    ) {
        self.norm(backend, hidden, slot::ATTENTION, scratch);
        self.write_rows(backend, scratch, cache, window.own_row);
        let up_input = match (&self.query.down, &mut scratch.latent) {
            (Some((down, norm, _)), Some((wide, narrow))) => {
                backend.linear(&scratch.normed, down, Epilogue::Store, wide);
                match norm {
                    Some(norm) => backend.rms_norm(wide, norm, self.shape.eps, narrow, 0),
                    None => backend.copy_rows(wide, narrow, 0),
                }
                &*narrow
            }
            _ => &scratch.normed,
        };
        backend.linear(up_input, &self.query.up, Epilogue::Store, &mut scratch.wide);
        let finish = FinishQueries {
            norm: self.query.norm.as_ref().map(|norm| (norm, self.shape.eps)),
            head_dim: self.shape.head,
            rotation: Some((&window.rotation, window.own_token, self.shape.rotated)),
            scale: softmax_scale(self.shape.head),
        };
        backend.finish_queries(&scratch.wide, &finish, &mut scratch.queries);
    }

    fn write_rows(&self, backend: &B, scratch: &mut Scratch<B>, cache: &mut B::Tensor, row: usize) {
        backend.linear(&scratch.normed, &self.rows, Epilogue::Store, &mut scratch.rows);
        match &self.rows_norm {
            Some(norm) => backend.rms_norm(&scratch.rows, norm, self.shape.eps, cache, row),
            None => backend.copy_rows(&scratch.rows, cache, row),
        }
    }

    /// Attends the scratch's queries to the window; adds to `hidden`.
    fn attend(
        &self,
        backend: &B,
        hidden: &mut B::Tensor,
        scratch: &mut Scratch<B>,
        cache: &B::Tensor,
        window: &Window<B>,
    ) {
        let heads = match &self.latent {
            Some(latent) => Heads::Mla(latent),
            None => Heads::Dense { heads: self.shape.heads, head_dim: self.shape.head },
        };
        let rotation = Some(&window.rotation);
        let keys = Keys { cache, segments: &window.segments, rotation };
        backend.attend(&scratch.queries, heads, &keys, &mut scratch.attended);
        let gated = Epilogue::AddGated { table: &scratch.table, slot: slot::ATTENTION[2] };
        backend.linear(&scratch.attended, &self.output, gated, hidden);
    }

    fn cross(
        &self,
        backend: &B,
        hidden: &mut B::Tensor,
        context: &B::Tensor,
        scratch: &mut Scratch<B>,
    ) {
        let Shape { dim, heads, eps, .. } = self.shape;
        let head_dim = dim / heads;
        match &self.cross.norm {
            Some((weight, bias)) => {
                let affine = ScaleShift::Affine { weight, bias };
                backend.layer_norm(hidden, affine, eps, &mut scratch.normed);
            }
            None => backend.copy_rows(hidden, &mut scratch.normed, 0),
        }
        backend.linear(
            &scratch.normed,
            &self.cross.query,
            Epilogue::Store,
            &mut scratch.cross_wide,
        );
        let finish = FinishQueries {
            norm: self.cross.query_norm.as_ref().map(|norm| (norm, eps)),
            head_dim,
            rotation: None,
            scale: softmax_scale(head_dim),
        };
        // The norm's buffer is free again, and has the queries' shape.
        backend.finish_queries(&scratch.cross_wide, &finish, &mut scratch.normed);
        let whole = 0..context.rows();
        let keys = Keys { cache: context, segments: std::slice::from_ref(&whole), rotation: None };
        let heads = Heads::Dense { heads, head_dim };
        backend.attend(&scratch.normed, heads, &keys, &mut scratch.cross_attended);
        backend.linear(&scratch.cross_attended, &self.cross.output, Epilogue::Add, hidden);
    }

    fn feed_forward(&self, backend: &B, hidden: &mut B::Tensor, scratch: &mut Scratch<B>) {
        self.norm(backend, hidden, slot::FFN, scratch);
        backend.linear(&scratch.normed, &self.ffn_in, Epilogue::Gelu, &mut scratch.inner);
        let gated = Epilogue::AddGated { table: &scratch.table, slot: slot::FFN[2] };
        backend.linear(&scratch.inner, &self.ffn_out, gated, hidden);
    }

    fn norm(&self, backend: &B, hidden: &B::Tensor, slots: [usize; 3], scratch: &mut Scratch<B>) {
        let [shift, scale, _] = slots;
        let modulated = ScaleShift::Modulated { table: &scratch.table, shift, scale };
        backend.layer_norm(hidden, modulated, self.shape.eps, &mut scratch.normed);
    }
}

#[expect(clippy::cast_precision_loss, reason = "a head is a few hundred wide")]
fn softmax_scale(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}

/// Names of one layer's self-attention.
struct SelfAttention<'a, B: Backend> {
    loader: &'a Loader<'a, B>,
    config: &'a Transformer,
    layer: usize,
}

impl<B: Backend> SelfAttention<'_, B> {
    fn name(&self, tensor: &str) -> String {
        format!("blocks.{}.self_attn.{tensor}", self.layer)
    }

    fn query(&self, head: usize) -> Result<Query<B>, Error> {
        let (dim, width) = (self.config.dim, self.config.heads * head);
        let norm =
            |columns: usize| self.loader.row(&self.name("norm_q.weight"), &[columns]).map(Some);
        let linear = |tensor: &str, n: usize, k: usize, bias: bool| {
            self.loader.linear(&self.name(tensor), n, k, bias, Class)
        };
        let Attention::Mla(mla) = &self.config.attention else {
            let norm = if self.config.qk_norm { norm(width)? } else { None };
            return Ok(Query { down: None, up: linear("q", width, dim, true)?, norm });
        };
        let full = if mla.query_norm == QueryNorm::Full { norm(width)? } else { None };
        let Some(rank) = mla.query_rank else {
            let up = linear("q", width, dim, mla.query_bias)?;
            return Ok(Query { down: None, up, norm: full });
        };
        let latent = if mla.query_norm == QueryNorm::Latent { norm(rank)? } else { None };
        let down = Some((linear("q_down", rank, dim, mla.query_bias)?, latent, rank));
        Ok(Query { down, up: linear("q_up", width, rank, mla.query_bias)?, norm: full })
    }

    fn rows(&self) -> Result<B::Linear, Error> {
        let dim = self.config.dim;
        let stacked = |names: &[(&str, usize)], bias: bool| {
            let names: Vec<_> = names.iter().map(|&(name, n)| (self.name(name), n)).collect();
            let names: Vec<_> = names.iter().map(|(name, n)| (name.as_str(), *n)).collect();
            self.loader.stacked(&names, dim, bias, Class)
        };
        match &self.config.attention {
            Attention::Dense => stacked(&[("k", dim), ("v", dim)], true),
            Attention::Mla(Mla { fused_kv_down: true, kv_rank, rope, .. }) => {
                stacked(&[("kv_down", kv_rank + rope)], false)
            }
            Attention::Mla(Mla { kv_rank, rope, .. }) => {
                stacked(&[("kv_down", *kv_rank), ("k_rope", *rope)], false)
            }
        }
    }

    fn rows_norm(&self) -> Result<Option<B::Tensor>, Error> {
        match &self.config.attention {
            Attention::Dense if !self.config.qk_norm => Ok(None),
            Attention::Dense => {
                self.loader.row(&self.name("norm_k.weight"), &[self.config.dim]).map(Some)
            }
            Attention::Mla(mla) => {
                self.loader.row(&self.name("norm_kv.weight"), &[mla.kv_rank]).map(Some)
            }
        }
    }

    fn latent(&self, backend: &B, path: MlaPath) -> Result<Option<B::Mla>, Error> {
        let Attention::Mla(Mla { kv_rank, nope, rope, value, .. }) = self.config.attention else {
            return Ok(None);
        };
        let heads = self.config.heads;
        let shape = MlaShape { heads, kv_rank, nope, rope, value };
        let k_up = self.loader.values(&self.name("k_up.weight"), &[heads * nope, kv_rank])?;
        let v_up = self.loader.values(&self.name("v_up.weight"), &[heads * value, kv_rank])?;
        let k_up = Weight { n: heads * nope, k: kv_rank, values: &k_up };
        let v_up = Weight { n: heads * value, k: kv_rank, values: &v_up };
        Ok(Some(backend.load_mla(shape, path, k_up, v_up)?))
    }
}

impl<B: Backend> Cross<B> {
    fn load(
        loader: &Loader<'_, B>,
        config: &Transformer,
        name: &str,
        norm: &str,
    ) -> Result<Self, Error> {
        let dim = config.dim;
        let qk_norm = |tensor: &str| match config.qk_norm {
            true => loader.row(&format!("{name}.{tensor}.weight"), &[dim]).map(Some),
            false => Ok(None),
        };
        let norm = match config.cross_attention_norm {
            true => Some((
                loader.row(&format!("{norm}.weight"), &[dim])?,
                loader.row(&format!("{norm}.bias"), &[dim])?,
            )),
            false => None,
        };
        let (key, value) = (format!("{name}.k"), format!("{name}.v"));
        Ok(Self {
            norm,
            query: loader.linear(&format!("{name}.q"), dim, dim, true, Class)?,
            query_norm: qk_norm("norm_q")?,
            context: loader.stacked(&[(&key, dim), (&value, dim)], dim, true, Class)?,
            key_norm: qk_norm("norm_k")?,
            output: loader.linear(&format!("{name}.o"), dim, dim, true, Class)?,
        })
    }
}

/// Buffers that layers work in, shared by all layers and jobs of a stage.
#[derive(Debug)]
pub struct Scratch<B: Backend> {
    tokens: usize,
    frames: usize,
    table: B::Tensor,
    normed: B::Tensor,
    rows: B::Tensor,
    latent: Option<(B::Tensor, B::Tensor)>,
    wide: B::Tensor,
    queries: B::Tensor,
    attended: B::Tensor,
    cross_wide: B::Tensor,
    cross_attended: B::Tensor,
    inner: B::Tensor,
}

impl<B: Backend> Scratch<B> {
    /// Buffers for a pass of `tokens` tokens in `frames` frames.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] if the device has no room.
    pub fn new(
        backend: &B,
        config: &Transformer,
        tokens: usize,
        frames: usize,
    ) -> Result<Self, Error> {
        let Transformer { dim, heads, ffn_dim, .. } = *config;
        let activation = backend.class().activation();
        let zeros = |columns, dtype| backend.zeros(tokens, columns, dtype);
        let (head, value, rank) = match &config.attention {
            Attention::Dense => (dim / heads, dim / heads, None),
            Attention::Mla(mla) => (mla.nope + mla.rope, mla.value, mla.query_rank),
        };
        let latent = match rank {
            Some(rank) => Some((zeros(rank, Dtype::F32)?, zeros(rank, activation)?)),
            None => None,
        };
        Ok(Self {
            tokens,
            frames,
            table: backend.zeros(frames, 6 * dim, Dtype::F32)?,
            normed: zeros(dim, activation)?,
            rows: zeros(config.row_elements(), Dtype::F32)?,
            latent,
            wide: zeros(heads * head, Dtype::F32)?,
            queries: zeros(heads * head, activation)?,
            attended: zeros(heads * value, activation)?,
            cross_wide: zeros(dim, Dtype::F32)?,
            cross_attended: zeros(dim, activation)?,
            inner: zeros(ffn_dim, activation)?,
        })
    }

    /// Makes the buffers anew if they are for another size.
    pub(super) fn fit(
        &mut self,
        backend: &B,
        config: &Transformer,
        tokens: usize,
        frames: usize,
    ) -> Result<(), Error> {
        if (self.tokens, self.frames) != (tokens, frames) {
            *self = Self::new(backend, config, tokens, frames)?;
        }
        Ok(())
    }
}
