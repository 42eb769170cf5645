//! Dense against MLA for one video: what `filmloom plan` prints.
//!
//! [`report`] computes both kinds of attention at the same shapes, the model's
//! own and its twin ([`presets::counterpart`]), so every line has its
//! comparison. [`Report`] serialises with exact bytes; [`Report::table`] shows
//! the same numbers in units of 1000.
//!
//! Keys *and* values are counted for dense attention. What is saved concerns
//! the cache of the self-attention only: cross-attention, VAE cache, weights
//! and activations stand beside it and hardly change, which is why the total is
//! printed too. What is held is this engine's, see [`Layout`]; what any engine
//! must hold at least, as published code counts it, stands beside it by name.
//!
//! Sources of the numbers it must give for published shapes: arXiv:2605.30351,
//! section 3; the tests repeat them.

mod table;

use serde::Serialize;
use types::{Attention, Model, Transformer, Vae, Video, Window};

use crate::{
    length::{self, Length, Rate},
    memory::{self, CausalInput, Engine, Grid, Layout, Load, Memory, Parts, Size},
    presets,
    slots::{self, Slots},
    units::sum,
};

/// Frames of Wan's own clip, 5 seconds: the length published cache sizes are
/// given for.
const WAN_CLIP_FRAMES: usize = 21;

/// What to plan for.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Length of the video.
    pub seconds: f64,
    /// Size of the pictures; `None` is the model's own.
    pub size: Option<Size>,
    /// Attention to hold; `None` is the model's own.
    pub attention: Option<Kind>,
    /// The engine that makes it.
    pub engine: Engine,
}

/// Kind of self-attention.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Keys and values of every head are cached.
    Dense,
    /// One low-rank row is cached.
    Mla,
}

/// What a video takes, dense and MLA side by side. All bytes are exact.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// The model's name, as it was given.
    pub model: String,
    /// The kind of attention the model itself has.
    pub own_attention: Kind,
    /// The kind of attention planned for.
    pub attention: Kind,
    /// Seconds asked for.
    pub seconds: f64,
    /// Pictures per second.
    pub fps: u32,
    /// Size of the pictures.
    pub size: Size,
    /// Pictures, frames and chunks.
    pub length: Length,
    /// Tokens of a frame.
    pub frame_tokens: usize,
    /// Layers of the transformer.
    pub layers: usize,
    /// Frames attended to; `null` for a model without a cache.
    pub window: Option<WindowFrames>,
    /// Sizes of stored numbers.
    pub element_bytes: ElementBytes,
    /// The engine that is planned for.
    pub engine: Engine,
    /// The model with dense attention; `null` if its heads allow none.
    pub dense: Option<Column>,
    /// The model with MLA; `null` if its heads allow none.
    pub mla: Option<Column>,
    /// Cached bytes of some numbers of frames, all layers.
    pub spans: Vec<Span>,
    /// What MLA saves of the cache, if both exist.
    pub saved: Option<Saved>,
    /// Everything held at once with the attention planned for.
    pub held: Memory,
    /// The least that any streaming VAE decoder remembers.
    pub vae_cache: Vec<CausalInput>,
    /// Bytes as published code counts them.
    pub published: Published,
}

/// Bytes of one stored number, by where it is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ElementBytes {
    /// Weights of products.
    pub weights: usize,
    /// Cached rows, and the cross-attention's keys and values.
    pub cache: usize,
    /// The residual and sums; what enters a product is as wide as the weights.
    pub activations: usize,
}

/// Bytes that any engine must hold at least, as published code counts them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Published {
    /// The VAE's causal cache: two frames per convolution, as wide as weights.
    pub vae_cache_bytes: u64,
}

/// Frames that a chunk attends to, and the slots that hold them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct WindowFrames {
    /// First frames, which never leave.
    pub sink: usize,
    /// Latest finished frames, counting neither sink nor chunk.
    pub recent: usize,
    /// Frames generated together.
    pub chunk: usize,
    /// Preallocated slots, of one chunk each.
    pub slots: usize,
}

/// One kind of attention.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Column {
    /// Parameters of the transformer.
    pub transformer_parameters: u64,
    /// Cached numbers per token per layer.
    pub row_elements: usize,
    /// Cached bytes per token per layer.
    pub row_bytes: u64,
    /// Cached bytes per token, all layers.
    pub token_bytes: u64,
    /// Everything held at once on one machine.
    pub memory: Memory,
}

/// Cached bytes of a number of frames.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// What the frames are.
    pub name: &'static str,
    /// Number of frames.
    pub frames: usize,
    /// Bytes of their rows in all layers, dense; `null` without that column.
    pub dense_bytes: Option<u64>,
    /// The same with MLA.
    pub mla_bytes: Option<u64>,
}

/// What MLA saves of a dense cache. The same per token, layer and window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Saved {
    /// Share saved, in percent; below 0 if the low-rank row is the larger.
    pub percent: f64,
    /// Dense bytes per MLA byte.
    pub times: f64,
}

/// Why there is no report.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The length makes no video.
    #[error(transparent)]
    Length(#[from] length::Error),
    /// The memory cannot be counted.
    #[error(transparent)]
    Memory(#[from] memory::Error),
    /// The window cannot be laid out.
    #[error(transparent)]
    Slots(#[from] slots::Error),
    /// The model has no twin of the kind asked for. Leave the kind out.
    #[error(
        "{heads} heads over a width of {dim} cannot be planned with the other kind of \
         attention: each head must be a whole multiple of 8 numbers"
    )]
    NoCounterpart {
        /// Attention heads.
        heads: usize,
        /// Width of the residual stream.
        dim: usize,
    },
}

/// Plans a video with a model, named `name` in the report.
///
/// # Errors
///
/// [`Error`] if the length makes no video, transformer or VAE are missing, the
/// size does not divide into tokens, or the attention asked for is impossible.
pub fn report(name: &str, model: &Model, request: &Request) -> Result<Report, Error> {
    let own = model.transformer.as_ref().ok_or(memory::NO_TRANSFORMER)?;
    let vae = model.vae.as_ref().ok_or(memory::NO_VAE)?;
    let twin = presets::counterpart(own);
    let own_attention = kind(own);
    let attention = request.attention.unwrap_or(own_attention);
    if attention != own_attention && twin.is_none() {
        return Err(Error::NoCounterpart { heads: own.heads, dim: own.dim });
    }
    let context = Context::new(model, own, vae, request)?;
    let Context { grid, size, length, .. } = context;

    let own_column = context.column(own)?;
    let twin_column = twin.map(|twin| context.column(&twin)).transpose()?;
    let held = match &twin_column {
        Some(twin) if attention != own_attention => twin.memory,
        Some(_) | None => own_column.memory,
    };
    let (dense, mla) = match own_attention {
        Kind::Dense => (Some(own_column), twin_column),
        Kind::Mla => (twin_column, Some(own_column)),
    };
    let vae_cache = memory::vae_cache(vae, grid);
    Ok(Report {
        model: name.to_owned(),
        own_attention,
        attention,
        seconds: request.seconds,
        fps: model.video.fps,
        size,
        length,
        frame_tokens: grid.frame_tokens,
        layers: own.layers,
        window: own.window.map(|window| window_frames(window, request)).transpose()?,
        element_bytes: element_bytes(&request.engine.layout),
        engine: request.engine,
        spans: context.spans(own.window, [dense.as_ref(), mla.as_ref()]),
        saved: dense.as_ref().zip(mla.as_ref()).and_then(|(dense, mla)| saved(dense, mla)),
        dense,
        mla,
        held,
        published: published(&vae_cache, &request.engine.layout),
        vae_cache,
    })
}

/// What both columns of a report share.
struct Context<'a> {
    model: &'a Model,
    request: &'a Request,
    grid: Grid,
    size: Size,
    length: Length,
}

impl<'a> Context<'a> {
    fn new(
        model: &'a Model,
        transformer: &Transformer,
        vae: &Vae,
        request: &'a Request,
    ) -> Result<Self, Error> {
        let Video { width, height, fps } = model.video;
        let chunk_frames = transformer.window.map(|window| window.chunk);
        let rate = Rate { fps, pictures_per_frame: vae.time_scale(), chunk_frames };
        let length = rate.length(request.seconds)?;
        let size = request.size.unwrap_or(Size { width, height });
        let grid = memory::grid(transformer, vae, size)?;
        Ok(Self { model, request, grid, size, length })
    }

    fn column(&self, transformer: &Transformer) -> Result<Column, Error> {
        let layers = 0..transformer.layers;
        let model = Model { transformer: Some(transformer.clone()), ..self.model.clone() };
        let load = Load {
            parts: Parts::whole(&model),
            engine: self.request.engine,
            size: self.size,
            video_frames: self.video_frames(),
        };
        let row_elements = transformer.row_elements();
        let row_bytes = (row_elements as u64).saturating_mul(load.engine.layout.cache_bytes as u64);
        Ok(Column {
            transformer_parameters: memory::parameters(transformer, layers).total(),
            row_elements,
            row_bytes,
            token_bytes: row_bytes.saturating_mul(transformer.layers as u64),
            memory: memory::memory(&model, &load)?,
        })
    }

    fn spans(&self, window: Option<Window>, columns: [Option<&Column>; 2]) -> Vec<Span> {
        let mut lengths = Vec::new();
        if let Some(window) = window {
            let besides = window.sink.saturating_add(window.recent);
            lengths.push(("chunk", window.chunk));
            lengths.push(("window", besides));
            lengths.push(("window and chunk", besides.saturating_add(window.chunk)));
        }
        lengths.push(("clip of Wan", WAN_CLIP_FRAMES));
        lengths.push(("whole history", self.video_frames()));
        let span = |(name, frames)| {
            let bytes =
                |column: &Column| column.token_bytes.saturating_mul(self.grid.tokens(frames));
            let [dense_bytes, mla_bytes] = columns.map(|column| column.map(bytes));
            Span { name, frames, dense_bytes, mla_bytes }
        };
        lengths.into_iter().map(span).collect()
    }

    fn video_frames(&self) -> usize {
        usize::try_from(self.length.frames).unwrap_or(usize::MAX)
    }
}

fn element_bytes(layout: &Layout) -> ElementBytes {
    let Layout { factor_bytes, full_bytes, cache_bytes, .. } = *layout;
    ElementBytes { weights: factor_bytes, cache: cache_bytes, activations: full_bytes }
}

fn published(vae_cache: &[CausalInput], layout: &Layout) -> Published {
    let elements = sum(vae_cache.iter().map(CausalInput::elements));
    Published { vae_cache_bytes: elements.saturating_mul(layout.factor_bytes as u64) }
}

fn kind(transformer: &Transformer) -> Kind {
    match transformer.attention {
        Attention::Dense => Kind::Dense,
        Attention::Mla(_) => Kind::Mla,
    }
}

fn window_frames(window: Window, request: &Request) -> Result<WindowFrames, slots::Error> {
    let Window { sink, recent, chunk } = window;
    let slots = Slots::new(window, request.engine.uncommitted_chunks_max)?.count();
    Ok(WindowFrames { sink, recent, chunk, slots })
}

fn saved(dense: &Column, mla: &Column) -> Option<Saved> {
    if dense.row_elements == 0 || mla.row_elements == 0 {
        return None;
    }
    let (dense, mla) = (dense.row_elements as f64, mla.row_elements as f64);
    Some(Saved { percent: 100.0 * (1.0 - mla / dense), times: dense / mla })
}

#[cfg(test)]
mod tests;
