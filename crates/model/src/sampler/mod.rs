//! From noise to a clean chunk, following a list of passes.
//!
//! The list is data from [`plan::passes`]; nothing here knows how many passes a
//! chunk has. A [`Denoising`] says which run is next and takes what comes back;
//! the [`Sampler`] is the simplest way to drive it, through one stage that holds
//! every layer, one run after the other.

mod denoising;
mod noise;

use backend::Backend;
use plan::passes::{ChunkPasses, PassPlan};
use types::{Branch, Pass, PassKind};

use crate::{
    Error, Event,
    transformer::{Input, Job, Output, Scratch, Stage},
};

pub use denoising::Denoising;
pub use noise::{Draws, Noise};

/// Runs chunks of one job through a stage that holds every layer.
#[derive(Debug)]
pub struct Sampler<'a, B: Backend> {
    stage: &'a Stage<B>,
    job: Job<B>,
    scratch: Scratch<B>,
    noise: Draws,
}

impl<'a, B: Backend> Sampler<'a, B> {
    /// A sampler for `job`, which must be of `stage`.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] if the device has no room.
    pub fn new(stage: &'a Stage<B>, job: Job<B>, noise: Noise) -> Result<Self, Error> {
        let grid = job.grid();
        let scratch = Scratch::new(stage.backend(), stage.config(), grid.tokens(), grid.frames)?;
        Ok(Self { stage, job, scratch, noise: Draws::new(noise) })
    }

    /// The job's state.
    pub fn job(&self) -> &Job<B> {
        &self.job
    }

    /// The job's state, to set prompts or put back pages.
    pub fn job_mut(&mut self) -> &mut Job<B> {
        &mut self.job
    }

    /// The clean frames of `chunk`, f32 `[channels, pixels]`, committed to the cache.
    ///
    /// # Errors
    ///
    /// [`Error::Pass`] or [`Error::Slots`] if the chunk is not the next one,
    /// [`Error::Backend`] if the device has no room or failed.
    pub fn chunk(
        &mut self,
        chunk: u32,
        passes: ChunkPasses,
        observe: &mut dyn FnMut(Event),
    ) -> Result<B::Tensor, Error> {
        let backend = self.stage.backend();
        let steps = u32::try_from(passes.passes.len()).unwrap_or(u32::MAX);
        let mut denoising = self.begin(chunk, passes)?;
        let mut begun = None;
        while let Some(run) = denoising.poll_run() {
            let (step, commit) = (run.step, run.kind == PassKind::Commit);
            if begun.replace(step) != Some(step) {
                observe(Event::PassStarted { chunk, step, steps, commit });
            }
            let velocity = self.submit(&run, denoising.frames())?;
            let finished =
                denoising.handle_run(backend, &mut self.noise, (step, run.branch), velocity)?;
            if let Some(PassPlan { step, .. }) = finished {
                observe(Event::PassDone { chunk, step, steps, commit });
            }
        }
        Ok(denoising.into_frames())
    }

    /// Makes the window as if its chunks had been committed under the prompt
    /// that is set now. `clean(chunk)` gives a chunk's clean frames.
    ///
    /// # Errors
    ///
    /// [`Error::NotResident`] if a chunk's frames are not given,
    /// [`Error::Backend`] if the device has no room or failed.
    pub fn recache<'c>(
        &mut self,
        clean: &dyn Fn(u32) -> Option<&'c B::Tensor>,
    ) -> Result<(), Error> {
        for rerun in self.job.slots().reruns() {
            let chunk = rerun.chunk;
            let frames = clean(chunk).ok_or(Error::NotResident { chunk })?;
            let pass = self.whole(chunk, PassKind::Rerun);
            self.stage.submit(&mut self.job, &mut self.scratch, &pass, Input::Frames(frames))?;
        }
        Ok(())
    }

    /// One pass over frames; the velocity, unless it is not needed.
    ///
    /// # Errors
    ///
    /// As [`Sampler::chunk`].
    pub fn single(
        &mut self,
        chunk: u32,
        frame_times: Vec<f32>,
        kind: PassKind,
        frames: &B::Tensor,
    ) -> Result<Option<B::Tensor>, Error> {
        let pass = Pass { frame_times, ..self.whole(chunk, kind) };
        self.submit(&pass, frames)
    }

    /// A pass at time 0 under the prompt.
    fn whole(&self, chunk: u32, kind: PassKind) -> Pass {
        Pass::whole(self.job.grid(), chunk, 0, Branch::Conditional, kind, 0.0)
    }

    fn begin(&mut self, chunk: u32, passes: ChunkPasses) -> Result<Denoising<B>, Error> {
        let (backend, config) = (self.stage.backend(), self.stage.config());
        Denoising::start(backend, &mut self.noise, config, self.job.grid(), (chunk, passes))
    }

    fn submit(&mut self, pass: &Pass, x: &B::Tensor) -> Result<Option<B::Tensor>, Error> {
        match self.stage.submit(&mut self.job, &mut self.scratch, pass, Input::Frames(x))? {
            Output::Velocity(velocity) => Ok(Some(velocity)),
            Output::Committed => Ok(None),
            Output::Hidden(_) => Err(Error::Pass {
                problem: "a sampler needs a stage that holds every layer".into(),
            }),
        }
    }
}
