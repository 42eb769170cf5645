//! One video's state on a stage: latent caches, prompt contexts, window.
//!
//! Every layer has one preallocated tensor of slots; a slot holds the rows of
//! one chunk. Nothing grows while a video is made. Which chunk is in which slot
//! is decided by [`plan::slots`]; here the slots become ranges of rows.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

use backend::{Backend, Tensor};
use plan::slots::{Segment, Slots};
use types::{Branch, Pass, PassKind, Positions, TokenGrid, Transformer, wan::TIMESTEPS};

use crate::{
    Error,
    transformer::{is_time, layer::Window},
};

/// One video's state on a stage.
#[derive(Debug)]
pub struct Job<B: Backend> {
    grid: TokenGrid,
    slots: Slots,
    /// The stage's layers.
    layers: Range<usize>,
    /// Per layer, `[slots * tokens, row]`.
    caches: Vec<B::Tensor>,
    /// Layer and chunk of pages that a job begun elsewhere has not got yet.
    missing: BTreeSet<(usize, u32)>,
    /// The chunk that was in generation when the window was last run again.
    rerun_at: u32,
    /// Per branch and layer, the cross-attention's keys and values.
    contexts: BTreeMap<Branch, Vec<B::Tensor>>,
    positions: Positions,
}

impl<B: Backend> Job<B> {
    pub(super) fn new(
        backend: &B,
        config: &Transformer,
        layers: Range<usize>,
        grid: TokenGrid,
        slots: Slots,
    ) -> Result<Self, Error> {
        let rows = slots.count().saturating_mul(grid.tokens());
        let dtype = backend.class().activation();
        let cache = || backend.zeros(rows, config.row_elements(), dtype);
        let of_layer = |layer| slots.resident().into_iter().map(move |chunk| (layer, chunk));
        Ok(Self {
            grid,
            caches: layers.clone().map(|_| cache()).collect::<Result<_, _>>()?,
            missing: layers.clone().flat_map(of_layer).collect(),
            rerun_at: 0,
            layers,
            slots,
            contexts: BTreeMap::new(),
            positions: config.rope.positions,
        })
    }

    /// Tokens of a chunk.
    pub fn grid(&self) -> TokenGrid {
        self.grid
    }

    /// The layers of its stage.
    pub fn layers(&self) -> Range<usize> {
        self.layers.clone()
    }

    /// The window's bookkeeping.
    pub fn slots(&self) -> &Slots {
        &self.slots
    }

    /// Bytes of all latent caches.
    pub fn cache_bytes(&self) -> u64 {
        self.caches.iter().map(Tensor::bytes).sum()
    }

    /// Pages that must be written before the next pass, as `(layer, chunk)`:
    /// those of a video begun elsewhere ([`Stage::resume`](super::Stage::resume)).
    pub fn missing_pages(&self) -> impl Iterator<Item = (usize, u32)> {
        self.missing.iter().copied()
    }

    /// The exact bytes of a page: the rows of a resident chunk in one of the
    /// stage's layers, counted as the model's.
    ///
    /// # Errors
    ///
    /// [`Error::Layers`] if the layer is on another stage,
    /// [`Error::NotResident`] if the chunk is not in the cache,
    /// [`Error::Backend`] if the device failed.
    pub fn read_page(&self, backend: &B, layer: usize, chunk: u32) -> Result<Vec<u8>, Error> {
        self.check_resident(chunk)?;
        if self.missing.contains(&(layer, chunk)) {
            return Err(Error::NotResident { chunk });
        }
        let rows = self.slot_rows(self.slots.slot_of(chunk));
        Ok(backend.read_rows(&self.caches[self.place(layer)?], rows)?)
    }

    /// Puts back a page as [`Job::read_page`] gave it, here or elsewhere.
    ///
    /// # Errors
    ///
    /// [`Error::Layers`] if the layer is on another stage,
    /// [`Error::NotResident`] if the chunk has no slot, [`Error::Shape`] if the
    /// page has another size. The cache is unchanged then.
    pub fn write_page(
        &mut self,
        backend: &B,
        layer: usize,
        chunk: u32,
        page: &[u8],
    ) -> Result<(), Error> {
        self.check_resident(chunk)?;
        let rows = self.slot_rows(self.slots.slot_of(chunk));
        let place = self.place(layer)?;
        let cache = &mut self.caches[place];
        let expected = rows.len() * cache.columns() * cache.dtype().bytes();
        if page.len() != expected {
            let (expected, found) = (vec![expected], vec![page.len()]);
            return Err(Error::Shape { what: "bytes of a page", expected, found });
        }
        backend.write_rows(cache, rows.start, page);
        self.missing.remove(&(layer, chunk));
        Ok(())
    }

    /// Cached rows of a layer that the chunk in generation attends to, in
    /// window order, widened to f32: `[tokens, row]`.
    ///
    /// # Errors
    ///
    /// [`Error::Layers`] if the layer is on another stage, [`Error::Slots`] at
    /// the end of counting, [`Error::Backend`] if the device failed.
    pub fn window_rows(&self, backend: &B, layer: usize) -> Result<Vec<f32>, Error> {
        let cache = &self.caches[self.place(layer)?];
        let (values, row) = (backend.download(cache)?, cache.columns());
        let segments = self.slots.attended(self.slots.committed())?;
        let range = |segment: &Segment| {
            let rows = self.segment_rows(segment);
            rows.start * row..rows.end * row
        };
        Ok(segments.iter().flat_map(|segment| &values[range(segment)]).copied().collect())
    }

    /// Positions of the rows that [`Job::window_rows`] gives.
    ///
    /// # Errors
    ///
    /// [`Error::Slots`] at the end of counting, [`Error::Backend`] if the device has no room.
    pub fn window_rotation(&self, backend: &B, config: &Transformer) -> Result<B::Rotation, Error> {
        let segments = self.slots.attended(self.slots.committed())?;
        let TokenGrid { rows, columns, .. } = self.grid;
        Ok(backend.rotation(&config.rope, &self.positions(&segments), rows, columns)?)
    }

    /// Drops `to_chunk` and all after it. If the prompt has changed since then,
    /// the earlier context must be set again.
    ///
    /// # Errors
    ///
    /// [`Error::Slots`] if that is too far back, or ahead; [`Error::Rerun`] if
    /// the window has been run again since: what it held then is gone.
    pub fn rollback(&mut self, to_chunk: u32) -> Result<(), Error> {
        if to_chunk < self.rerun_at {
            return Err(Error::Rerun { to_chunk, rerun_at: self.rerun_at });
        }
        Ok(self.slots.rollback(to_chunk)?)
    }

    pub(super) fn set_context(&mut self, branch: Branch, layers: Vec<B::Tensor>) {
        self.contexts.insert(branch, layers);
    }

    /// Records that a pass has run through all layers.
    pub(super) fn finish(&mut self, pass: &Pass) -> Result<(), Error> {
        match pass.kind {
            PassKind::Denoise => {}
            PassKind::Commit => self.slots.commit(pass.chunk)?,
            PassKind::Rerun => self.rerun_at = self.slots.committed(),
        }
        Ok(())
    }

    /// Refuses a pass that this job cannot run.
    pub(super) fn check(&self, pass: &Pass) -> Result<(), Error> {
        let refuse = |problem: String| Err(Error::Pass { problem });
        if let Some(&(layer, chunk)) = self.missing.first() {
            return Err(Error::NoPage { layer, chunk });
        }
        if pass.tokens != (0..self.grid.tokens()) {
            return refuse(format!(
                "tokens {:?} of a chunk of {}: this stage takes whole chunks",
                pass.tokens,
                self.grid.tokens()
            ));
        }
        if pass.frame_times.len() != self.grid.frames {
            let (times, frames) = (pass.frame_times.len(), self.grid.frames);
            return refuse(format!("{times} times for a chunk of {frames} frames"));
        }
        if !pass.frame_times.iter().all(|&time| is_time(time)) {
            return refuse(format!("times {:?} are not within 0 to {TIMESTEPS}", pass.frame_times));
        }
        Ok(())
    }

    /// What the pass attends to.
    pub(super) fn window(
        &self,
        backend: &B,
        config: &Transformer,
        pass: &Pass,
    ) -> Result<Window<B>, Error> {
        let finished = match pass.kind {
            PassKind::Denoise | PassKind::Commit => self.slots.attended(pass.chunk)?,
            PassKind::Rerun => {
                let rerun = self.slots.reruns().into_iter().find(|rerun| rerun.chunk == pass.chunk);
                let Some(rerun) = rerun else {
                    return Err(Error::NotResident { chunk: pass.chunk });
                };
                rerun.segments
            }
        };
        let own = Segment {
            slot: self.slots.slot_of(pass.chunk),
            frames: 0..self.grid.frames,
            first_frame: pass.chunk as usize * self.grid.frames,
        };
        let own_row = self.segment_rows(&own).start;
        let own_token: usize =
            finished.iter().map(|segment| self.segment_rows(segment).len()).sum();
        let all: Vec<Segment> = finished.into_iter().chain([own]).collect();
        let positions = self.positions(&all);
        let TokenGrid { rows, columns, .. } = self.grid;
        Ok(Window {
            segments: all.iter().map(|segment| self.segment_rows(segment)).collect(),
            own_row,
            own_token,
            rotation: backend.rotation(&config.rope, &positions, rows, columns)?,
        })
    }

    /// The position of every frame of the window.
    fn positions(&self, segments: &[Segment]) -> Vec<f64> {
        let absolute =
            segments.iter().flat_map(|segment| (segment.first_frame..).take(segment.frames.len()));
        #[expect(clippy::cast_precision_loss, reason = "frames are counted far below 2^52")]
        match self.positions {
            Positions::Absolute => absolute.map(|frame| frame as f64).collect(),
            Positions::Window => absolute.enumerate().map(|(place, _)| place as f64).collect(),
        }
    }

    /// The cache of the stage's `index`-th layer, and its context for a branch.
    pub(super) fn layer(
        &mut self,
        index: usize,
        branch: Branch,
    ) -> Result<(&mut B::Tensor, &B::Tensor), Error> {
        match self.contexts.get(&branch) {
            Some(contexts) => Ok((&mut self.caches[index], &contexts[index])),
            None => Err(Error::Pass { problem: format!("the {branch} branch has no prompt yet") }),
        }
    }

    /// Place of one of the model's layers in this stage.
    fn place(&self, layer: usize) -> Result<usize, Error> {
        match self.layers.contains(&layer) {
            true => Ok(layer - self.layers.start),
            false => Err(Error::Layers { layers: layer..layer + 1, stage: self.layers.clone() }),
        }
    }

    fn slot_rows(&self, slot: usize) -> Range<usize> {
        slot * self.grid.tokens()..(slot + 1) * self.grid.tokens()
    }

    fn segment_rows(&self, segment: &Segment) -> Range<usize> {
        let first = segment.slot * self.grid.tokens();
        let tokens = self.grid.frame_tokens();
        first + segment.frames.start * tokens..first + segment.frames.end * tokens
    }

    fn check_resident(&self, chunk: u32) -> Result<(), Error> {
        match self.slots.is_resident(chunk) {
            true => Ok(()),
            false => Err(Error::NotResident { chunk }),
        }
    }
}
