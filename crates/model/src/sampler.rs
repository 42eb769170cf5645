//! From noise to a clean chunk, following a list of passes.
//!
//! The list is data from [`plan::passes`]; nothing here knows how many passes a
//! chunk has. The velocity of a guided pass is `v = v_un + w (v_cond - v_un)`,
//! both branches run over the conditional branch's cache.

use backend::{Backend, Dtype, philox::Draw};
use plan::passes::{Branches, PassKind as Kind, PassPlan, PassUpdate};

use crate::{
    Error, Event,
    transformer::{Branch, Input, Job, Output, Pass, PassKind, Scratch, Stage},
};

/// Where a chunk's noise comes from.
#[derive(Clone, Debug)]
pub enum Noise {
    /// Drawn for this seed.
    Seed(u64),
    /// Given: `[draws][channels * pixels]`, used one after the other.
    Given(Vec<Vec<f32>>),
}

/// Runs chunks of one job through a stage that holds every layer.
#[derive(Debug)]
pub struct Sampler<'a, B: Backend> {
    stage: &'a Stage<B>,
    job: Job<B>,
    scratch: Scratch<B>,
    noise: Noise,
    draws: usize,
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
        Ok(Self { stage, job, scratch, noise, draws: 0 })
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
        passes: &[PassPlan],
        observe: &mut dyn FnMut(Event),
    ) -> Result<B::Tensor, Error> {
        let backend = self.stage.backend();
        let mut x = self.zeros()?;
        self.draw(chunk, 0, &mut x)?;
        for plan in passes {
            let kind = match plan.kind {
                Kind::Denoise => PassKind::Denoise,
                Kind::Commit => PassKind::Commit,
            };
            let steps = u32::try_from(passes.len()).unwrap_or(u32::MAX);
            let commit = kind == PassKind::Commit;
            observe(Event::PassStarted { chunk, step: plan.step, steps, commit });
            let velocity = self.run(chunk, plan, kind, &x)?;
            match (velocity, plan.update) {
                (None, _) | (_, PassUpdate::Discard) => {}
                (Some(v), PassUpdate::Euler) => {
                    backend.blend(1.0, &mut x, plan.sigma_next - plan.sigma, &v);
                }
                (Some(v), PassUpdate::Finish) => backend.blend(1.0, &mut x, -plan.sigma, &v),
                (Some(v), PassUpdate::Renoise { noise_step }) => {
                    backend.blend(1.0, &mut x, -plan.sigma, &v);
                    let mut noise = self.zeros()?;
                    self.draw(chunk, noise_step, &mut noise)?;
                    backend.blend(1.0 - plan.sigma_next, &mut x, plan.sigma_next, &noise);
                }
            }
            observe(Event::PassDone { chunk, step: plan.step, steps, commit });
        }
        Ok(x)
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
            let pass = self.pass(chunk, 0, 0.0, Branch::Conditional, PassKind::Rerun);
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
        let mut pass = self.pass(chunk, 0, 0.0, Branch::Conditional, kind);
        pass.frame_times = frame_times;
        self.submit(&pass, frames)
    }

    fn run(
        &mut self,
        chunk: u32,
        plan: &PassPlan,
        kind: PassKind,
        x: &B::Tensor,
    ) -> Result<Option<B::Tensor>, Error> {
        let pass = |branch| self.pass(chunk, plan.step, plan.timestep, branch, kind);
        match plan.branches {
            Branches::Conditional => {
                let pass = pass(Branch::Conditional);
                self.submit(&pass, x)
            }
            Branches::Guided { weight } => {
                let (without, with) = (pass(Branch::Unconditional), pass(Branch::Conditional));
                let unconditional = self.submit(&without, x)?;
                let mut velocity = self.submit(&with, x)?;
                if let (Some(velocity), Some(unconditional)) = (&mut velocity, &unconditional) {
                    self.stage.backend().blend(weight, velocity, 1.0 - weight, unconditional);
                }
                Ok(velocity)
            }
        }
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

    fn pass(&self, chunk: u32, step: u32, time: f32, branch: Branch, kind: PassKind) -> Pass {
        let grid = self.job.grid();
        let (frame_times, tokens) = (vec![time; grid.frames], 0..grid.tokens());
        Pass { chunk, step, branch, kind, frame_times, tokens }
    }

    fn zeros(&self) -> Result<B::Tensor, Error> {
        let config = self.stage.config();
        let patches = self.job.grid().patches(config.in_channels, config.patch);
        Ok(self.stage.backend().zeros(patches.channels, patches.pixels(), Dtype::F32)?)
    }

    fn draw(&mut self, chunk: u32, step: u32, out: &mut B::Tensor) -> Result<(), Error> {
        match &self.noise {
            Noise::Seed(seed) => {
                self.stage.backend().noise(Draw { seed: *seed, chunk, step, domain: 0 }, out);
            }
            Noise::Given(draws) => {
                let Some(values) = draws.get(self.draws) else {
                    let (expected, found) = (vec![self.draws + 1], vec![draws.len()]);
                    return Err(Error::Shape { what: "draws of noise", expected, found });
                };
                let config = self.stage.config();
                let patches = self.job.grid().patches(config.in_channels, config.patch);
                let (rows, columns) = (patches.channels, patches.pixels());
                if values.len() != rows * columns {
                    let (expected, found) = (vec![rows * columns], vec![values.len()]);
                    return Err(Error::Shape {
                        what: "values of a draw of noise",
                        expected,
                        found,
                    });
                }
                *out = self.stage.backend().upload(rows, columns, values, Dtype::F32)?;
            }
        }
        self.draws += 1;
        Ok(())
    }
}
