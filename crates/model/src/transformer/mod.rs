//! The diffusion transformer, as stages that can stand on different machines.
//!
//! ```text
//!  frames --patch embedding--> hidden --layer--> hidden ... --head--> velocity
//!    text --text projection--> context, once per prompt, for the layers of all stages
//!             first stage               any stage              last stage
//! ```
//!
//! A [`Stage`] is a contiguous range of layers with their weights, shared by
//! any number of jobs. A [`Job`] is one video's state on a stage: the latent
//! cache of every layer, and the cross-attention's keys and values per prompt
//! branch. [`Stage::submit`] runs one [`Pass`]; one process that makes a whole
//! video is simply a stage over all layers.
//!
//! Rows of the chunk in generation are written into its own cache slot by every
//! pass, and attended to there beside the window's finished rows. The commit
//! pass writes them for the last time and moves the window on.
//!
//! Sources: Wan2.1 (arXiv:2503.20314) for the layer; arXiv:2605.30351 for
//! latent attention; arXiv:2506.08009 for the causal loop.

mod embed;
mod job;
mod layer;

use std::{ops::Range, sync::Arc};

use backend::{Backend, MlaPath, PatchGrid, Tensor};
use checkpoint::Tensors;
use plan::{path::is_absorbed_cheaper, slots::Slots};
use types::{Attention, Branch, Pass, PassKind, TokenGrid, Transformer, Window, wan::TIMESTEPS};

use crate::{
    Error,
    load::Loader,
    transformer::{
        embed::{Head, PatchEmbedding, TimeEmbedding},
        layer::{Attended, Layer},
    },
};

pub use embed::TextProjection;
pub use job::Job;
pub use layer::Scratch;

/// A contiguous range of layers.
#[derive(Debug)]
pub struct Stage<B: Backend> {
    backend: Arc<B>,
    config: Arc<Transformer>,
    range: Range<usize>,
    time: TimeEmbedding<B>,
    entry: Option<PatchEmbedding<B>>,
    layers: Vec<Layer<B>>,
    exit: Option<Head<B>>,
}

/// What enters a stage.
#[derive(Debug)]
pub enum Input<'a, B: Backend> {
    /// Frame tensors of the chunk, f32 `[channels, frames * rows * columns]`;
    /// for the stage of layer 0.
    Frames(&'a B::Tensor),
    /// The residual `[tokens, dim]` of the layer before.
    Hidden(B::Tensor),
}

/// What leaves a stage.
#[derive(Debug)]
pub enum Output<B: Backend> {
    /// The residual `[tokens, dim]`, f32 values of the class' residual dtype.
    Hidden(B::Tensor),
    /// The velocity, f32 `[channels, frames * rows * columns]`.
    Velocity(B::Tensor),
    /// Nothing: the last stage has committed.
    Committed,
}

impl<B: Backend> Stage<B> {
    /// Loads `range` of the transformer's layers. `tensors` must have passed
    /// the check for this range.
    ///
    /// # Errors
    ///
    /// [`Error::Layers`] if the model has no such layers, [`Error::Checkpoint`]
    /// if a tensor is missing or has another shape, [`Error::Backend`] if the
    /// device has no room.
    pub fn load(
        backend: Arc<B>,
        config: Transformer,
        tensors: &Tensors,
        range: Range<usize>,
        path: MlaPath,
    ) -> Result<Self, Error> {
        if range.is_empty() || config.layers < range.end {
            return Err(Error::Layers { layers: range, stage: 0..config.layers });
        }
        let loader = Loader::new(&*backend, tensors);
        let layers = range
            .clone()
            .map(|layer| Layer::load(&loader, &*backend, &config, layer, path))
            .collect::<Result<_, _>>()?;
        let entry = match range.start {
            0 => Some(PatchEmbedding::load(&loader, &config)?),
            _ => None,
        };
        let exit = match range.end == config.layers {
            true => Some(Head::load(&loader, &config)?),
            false => None,
        };
        Ok(Self {
            time: TimeEmbedding::load(&loader, &config)?,
            entry,
            layers,
            exit,
            range,
            config: Arc::new(config),
            backend,
        })
    }

    /// The layers of this stage.
    pub fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    /// The transformer's configuration.
    pub fn config(&self) -> &Transformer {
        &self.config
    }

    /// The device.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// A new video on this stage. `uncommitted_chunks_max` chunks can be rolled
    /// back; every one costs a slot.
    ///
    /// # Errors
    ///
    /// [`Error::Slots`] for a window that cannot be laid out,
    /// [`Error::Backend`] if the device has no room for it.
    pub fn open(&self, grid: TokenGrid, uncommitted_chunks_max: u32) -> Result<Job<B>, Error> {
        self.resume(grid, uncommitted_chunks_max, 0)
    }

    /// A video that was begun elsewhere: `committed` chunks are finished. Its
    /// pages ([`Job::missing_pages`]) must be written before the next pass.
    ///
    /// # Errors
    ///
    /// As [`Stage::open`].
    pub fn resume(
        &self,
        grid: TokenGrid,
        uncommitted_chunks_max: u32,
        committed: u32,
    ) -> Result<Job<B>, Error> {
        let slots = Slots::resume(window(&self.config, grid)?, uncommitted_chunks_max, committed)?;
        Job::new(&*self.backend, &self.config, self.range(), grid, slots)
    }

    /// Gives a branch of the job its prompt, as
    /// [`TextProjection::context`] made it, here or elsewhere.
    ///
    /// # Errors
    ///
    /// [`Error::Shape`] if the context is not of the model's width,
    /// [`Error::Backend`] if the device has no room.
    pub fn set_context(
        &self,
        job: &mut Job<B>,
        branch: Branch,
        context: &B::Tensor,
    ) -> Result<(), Error> {
        check_rows("rows of the context", context, [self.config.text_len, self.config.dim])?;
        let layers = self.layers.iter().map(|layer| layer.context(&*self.backend, context));
        job.set_context(branch, layers.collect::<Result<_, _>>()?);
        Ok(())
    }

    /// Runs one pass of the job's chunk in generation.
    ///
    /// # Errors
    ///
    /// [`Error::Pass`] if the pass does not fit the job or this stage;
    /// [`Error::Backend`] if the device has no room. The job is then unchanged
    /// but for the rows of the chunk in generation.
    pub fn submit(
        &self,
        job: &mut Job<B>,
        scratch: &mut Scratch<B>,
        pass: &Pass,
        input: Input<'_, B>,
    ) -> Result<Output<B>, Error> {
        let backend = &*self.backend;
        job.check(pass)?;
        let window = job.window(backend, &self.config, pass)?;
        let modulation = self.time.embed(backend, &pass.frame_times)?;
        let mut hidden = self.enter(job.grid(), input)?;
        scratch.fit(backend, &self.config, hidden.rows(), modulation.frames())?;

        let last = self.layers.len() - 1;
        for (index, layer) in self.layers.iter().enumerate() {
            let (cache, context) = job.layer(index, pass.branch)?;
            let attended = Attended { cache, window: &window };
            let velocity_unused = self.exit.is_some() && pass.kind != PassKind::Denoise;
            if index == last && velocity_unused {
                layer.project_rows(backend, &modulation, &hidden, scratch, attended);
            } else {
                layer.forward(backend, &modulation, &mut hidden, context, scratch, attended);
            }
        }

        job.finish(pass)?;
        match &self.exit {
            None => Ok(Output::Hidden(hidden)),
            Some(_) if pass.kind != PassKind::Denoise => Ok(Output::Committed),
            Some(head) => {
                let grid = patches(job.grid(), self.config.out_channels, self.config.patch);
                head.velocity(backend, &modulation, &hidden, grid).map(Output::Velocity)
            }
        }
    }

    fn enter(&self, grid: TokenGrid, input: Input<'_, B>) -> Result<B::Tensor, Error> {
        match (input, &self.entry) {
            (Input::Frames(frames), Some(entry)) => {
                let patches = patches(grid, self.config.in_channels, self.config.patch);
                let expected = vec![patches.channels, patches.pixels()];
                let found = vec![frames.rows(), frames.columns()];
                if expected != found {
                    return Err(Error::Shape { what: "frame tensors", expected, found });
                }
                entry.embed(&*self.backend, frames, patches)
            }
            (Input::Hidden(hidden), None) => {
                let expected = vec![grid.tokens(), self.config.dim];
                let found = vec![hidden.rows(), hidden.columns()];
                match expected == found {
                    true => Ok(hidden),
                    false => Err(Error::Shape { what: "hidden state", expected, found }),
                }
            }
            (Input::Frames(_), None) => {
                Err(Error::Pass { problem: "frames enter at the stage of layer 0 only".into() })
            }
            (Input::Hidden(_), Some(_)) => {
                Err(Error::Pass { problem: "the stage of layer 0 takes frames".into() })
            }
        }
    }
}

/// The window that a job of this grid has. Without one a model sees all its
/// frames at once: one chunk, no history.
fn window(config: &Transformer, grid: TokenGrid) -> Result<Window, Error> {
    let window = config.window.unwrap_or(Window { sink: 0, recent: 0, chunk: grid.frames });
    match window.chunk == grid.frames {
        true => Ok(window),
        false => {
            let (expected, found) = (vec![window.chunk], vec![grid.frames]);
            Err(Error::Shape { what: "frames of a chunk", expected, found })
        }
    }
}

/// Refuses rows of another width, or none at all.
fn check_rows<T: Tensor>(what: &'static str, rows: &T, expected: [usize; 2]) -> Result<(), Error> {
    match rows.columns() == expected[1] && rows.rows() != 0 {
        true => Ok(()),
        false => {
            let found = vec![rows.rows(), rows.columns()];
            Err(Error::Shape { what, expected: expected.to_vec(), found })
        }
    }
}

/// Whether a frame can stand at this time: 0 to 1000, and a number.
pub(crate) fn is_time(time: f32) -> bool {
    (0.0..=TIMESTEPS).contains(&f64::from(time))
}

/// The cheaper way to compute latent attention for `queries` tokens of a chunk
/// that attend to `keys` rows, see [`plan::path`].
pub fn cheaper_path(config: &Transformer, queries: usize, keys: usize) -> MlaPath {
    let Attention::Mla(mla) = &config.attention else { return MlaPath::Rebuild };
    match is_absorbed_cheaper(mla, queries as u64, keys as u64) {
        true => MlaPath::Absorb,
        false => MlaPath::Rebuild,
    }
}

/// A chunk's division into patches, for frame tensors of `channels` channels.
pub(crate) fn patches(grid: TokenGrid, channels: usize, patch: [usize; 3]) -> PatchGrid {
    let [_, patch_rows, patch_columns] = patch;
    let TokenGrid { frames, rows, columns } = grid;
    PatchGrid { channels, frames, rows, columns, patch_rows, patch_columns }
}
