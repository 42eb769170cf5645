//! What the holder of the first stage does for a job: it draws the noise, says
//! which run is next, and begins the next chunk.
//!
//! A chunk is over for the lead when its commit run has gone out, since nothing
//! comes back from it and messages keep their order: the first run of the next
//! chunk follows the commit one stage behind (*look-ahead*). It is exact, as that
//! run needs the commit's rows of its own layer only.
//!
//! Invariant: at most `uncommitted_chunks_max` chunks wait to be made durable
//! while another one is begun.

use backend::Backend;
use model::{
    Error,
    sampler::{Denoising, Draws, Noise},
};
use plan::passes::{PassUpdate, chunk_passes};
use types::{Branch, Pass, PassKind, Sampler, TokenGrid, Transformer};

/// A job's lead.
#[derive(Debug)]
pub struct Lead<B: Backend> {
    draws: Draws,
    sampler: Sampler,
    /// Chunks of the whole job.
    chunks: u32,
    /// The chunk to begin next.
    next: u32,
    /// Chunks that are durable.
    durable: u32,
    uncommitted_chunks_max: u32,
    denoising: Option<Denoising<B>>,
}

impl<B: Backend> Lead<B> {
    /// Nothing is begun yet.
    pub(crate) fn new(
        seed: u64,
        sampler: Sampler,
        chunks: u32,
        uncommitted_chunks_max: u32,
    ) -> Self {
        let draws = Draws::new(Noise::Seed(seed));
        let (next, durable, denoising) = (0, 0, None);
        Self { draws, sampler, chunks, next, durable, uncommitted_chunks_max, denoising }
    }

    /// The next run, over [`Lead::frames`], if there is one now.
    pub(crate) fn poll_run(
        &mut self,
        backend: &B,
        config: &Transformer,
        grid: TokenGrid,
    ) -> Result<Option<Pass>, Error> {
        if self.denoising.is_none() && self.may_begin() {
            let chunk = (self.next, chunk_passes(&self.sampler, self.next)?);
            let draws = &mut self.draws;
            self.denoising = Some(Denoising::start(backend, draws, config, grid, chunk)?);
            self.next += 1;
        }
        Ok(self.denoising.as_mut().and_then(Denoising::poll_run))
    }

    /// The frames that the polled run takes.
    pub(crate) fn frames(&self) -> Option<&B::Tensor> {
        self.denoising.as_ref().map(Denoising::frames)
    }

    /// Whether a run has gone out and is not back yet.
    pub(crate) fn is_out(&self, (chunk, step, branch): (u32, u32, Branch)) -> bool {
        let denoising = self.denoising.as_ref().filter(|denoising| denoising.chunk() == chunk);
        denoising.is_some_and(|denoising| denoising.is_out(step, branch))
    }

    /// A denoise run is back. Gives the chunk if its frames are clean now.
    pub(crate) fn handle_velocity(
        &mut self,
        backend: &B,
        (chunk, step, branch): (u32, u32, Branch),
        velocity: B::Tensor,
    ) -> Result<Option<u32>, Error> {
        let refused = || {
            let problem = format!("chunk {chunk} is not on its way");
            Error::Pass { problem }
        };
        let denoising = self.denoising.as_mut().filter(|denoising| denoising.chunk() == chunk);
        let denoising = denoising.ok_or_else(refused)?;
        let run = (step, branch);
        let finished = denoising.handle_run(backend, &mut self.draws, run, Some(velocity))?;
        let is_clean = |step: u32| {
            let next = denoising.passes().get(step as usize + 1);
            next.is_some_and(|pass| pass.kind == PassKind::Commit)
        };
        Ok(finished.filter(|pass| is_clean(pass.step)).map(|_| chunk))
    }

    /// The commit run has gone out: the chunk is over here.
    pub(crate) fn handle_commit(&mut self, backend: &B, run: &Pass) -> Result<(), Error> {
        let Some(mut denoising) = self.denoising.take() else { return Ok(()) };
        let run = (run.step, run.branch);
        let finished = denoising.handle_run(backend, &mut self.draws, run, None)?;
        debug_assert!(finished.is_some_and(|pass| pass.update == PassUpdate::Discard));
        Ok(())
    }

    /// All chunks up to this one are durable.
    pub(crate) fn handle_durable(&mut self, chunk: u32) {
        self.durable = self.durable.max(chunk.saturating_add(1)).min(self.next);
    }

    /// Whether all chunks have gone out.
    pub(crate) fn is_done(&self) -> bool {
        self.next == self.chunks && self.denoising.is_none()
    }

    fn may_begin(&self) -> bool {
        let waiting = self.next - self.durable;
        self.next < self.chunks && waiting <= self.uncommitted_chunks_max
    }
}
