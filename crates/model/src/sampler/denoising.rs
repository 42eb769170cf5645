//! A chunk on its way from noise to clean frames.
//!
//! Which runs there are, and when, is [`plan::chunk`]'s to say; here are the
//! frames, and what becomes of them when velocities are back. Nothing here waits
//! for anything: whoever submits the runs may have other chunks, and other
//! machines, in between.
//!
//! The velocity of a guided pass is `v = v_un + w (v_cond - v_un)`, both branches
//! run over the conditional branch's cache.

use backend::{Backend, PatchGrid};
use plan::{
    chunk::ChunkRuns,
    passes::{Branches, ChunkPasses, PassPlan, PassUpdate},
};
use types::{Branch, Pass, TokenGrid, Transformer};

use crate::{Error, sampler::noise::Draws, transformer::patches};

/// A chunk on its way from noise to clean frames.
#[derive(Debug)]
pub struct Denoising<B: Backend> {
    chunk: u32,
    grid: TokenGrid,
    frames_grid: PatchGrid,
    runs: ChunkRuns,
    /// f32 `[channels, pixels]`.
    frames: B::Tensor,
    /// Velocities of the pass' branches that are back.
    velocities: Vec<(Branch, B::Tensor)>,
}

impl<B: Backend> Denoising<B> {
    /// A chunk of noise, for a transformer of this configuration.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] if the device has no room, [`Error::Shape`] if given
    /// noise is used up or has another size.
    pub fn start(
        backend: &B,
        noise: &mut Draws,
        config: &Transformer,
        grid: TokenGrid,
        (chunk, passes): (u32, ChunkPasses),
    ) -> Result<Self, Error> {
        let frames_grid = patches(grid, config.in_channels, config.patch);
        let frames = noise.draw(backend, frames_grid, chunk, 0)?;
        let (runs, velocities) = (ChunkRuns::new(passes), Vec::new());
        Ok(Self { chunk, grid, frames_grid, runs, frames, velocities })
    }

    /// Its index.
    pub fn chunk(&self) -> u32 {
        self.chunk
    }

    /// Passes of the chunk, the commit pass among them.
    pub fn passes(&self) -> &[PassPlan] {
        self.runs.passes()
    }

    /// The next run, over [`Denoising::frames`], if one can be submitted before
    /// another one is back.
    pub fn poll_run(&mut self) -> Option<Pass> {
        let run = self.runs.poll_run()?;
        let PassPlan { step, kind, timestep, .. } = run.pass;
        Some(Pass::whole(self.grid, self.chunk, step, run.branch, kind, timestep))
    }

    /// Whether a run was polled and is not back yet.
    pub fn is_out(&self, step: u32, branch: Branch) -> bool {
        self.runs.is_out(step, branch)
    }

    /// The frames at the level that the pass to run begins with; clean ones once
    /// all denoise passes are done.
    pub fn frames(&self) -> &B::Tensor {
        &self.frames
    }

    /// The clean frames.
    pub fn into_frames(self) -> B::Tensor {
        self.frames
    }

    /// A run is back, with its velocity (f32 `[channels, pixels]`) unless it was a
    /// commit. Gives the pass if that was its last one.
    ///
    /// # Errors
    ///
    /// [`Error::Pass`] if no such run is on its way; as [`Denoising::start`] if
    /// the pass draws fresh noise.
    pub fn handle_run(
        &mut self,
        backend: &B,
        noise: &mut Draws,
        (step, branch): (u32, Branch),
        velocity: Option<B::Tensor>,
    ) -> Result<Option<PassPlan>, Error> {
        let finished = self.runs.handle_run(step, branch);
        let finished = finished.map_err(|error| Error::Pass { problem: error.to_string() })?;
        self.velocities.extend(velocity.map(|velocity| (branch, velocity)));
        let Some(pass) = finished else { return Ok(None) };
        if let Some(velocity) = self.mixed(backend, pass.branches) {
            self.update(backend, noise, &pass, &velocity)?;
        }
        Ok(Some(pass))
    }

    /// The velocity of a pass whose branches are all back.
    fn mixed(&mut self, backend: &B, branches: Branches) -> Option<B::Tensor> {
        let mut of = |branch| {
            let place = self.velocities.iter().position(|(other, _)| *other == branch)?;
            Some(self.velocities.swap_remove(place).1)
        };
        let mut velocity = of(Branch::Conditional)?;
        if let Branches::Guided { weight } = branches {
            let unconditional = of(Branch::Unconditional)?;
            backend.blend(weight, &mut velocity, 1.0 - weight, &unconditional);
        }
        Some(velocity)
    }

    fn update(
        &mut self,
        backend: &B,
        noise: &mut Draws,
        pass: &PassPlan,
        velocity: &B::Tensor,
    ) -> Result<(), Error> {
        let x = &mut self.frames;
        match pass.update {
            PassUpdate::Discard => {}
            PassUpdate::Euler => backend.blend(1.0, x, pass.sigma_next - pass.sigma, velocity),
            PassUpdate::Finish => backend.blend(1.0, x, -pass.sigma, velocity),
            PassUpdate::Renoise { noise_step } => {
                backend.blend(1.0, x, -pass.sigma, velocity);
                let drawn = noise.draw(backend, self.frames_grid, self.chunk, noise_step)?;
                backend.blend(1.0 - pass.sigma_next, x, pass.sigma_next, &drawn);
            }
        }
        Ok(())
    }
}
