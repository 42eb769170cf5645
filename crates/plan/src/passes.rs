//! The passes that turn noise into a finished chunk.
//!
//! A chunk starts as noise at level 1. Every *denoise* pass predicts the
//! velocity `v = noise - x0` at one level `sigma` and moves the chunk to the
//! next; the last one arrives at 0, the clean frames. A final *commit* pass at
//! level 0 leaves the clean chunk's rows in the cache; its velocity is unused.
//!
//! ```text
//! sigma   1 ──▶ 0.9375 ──▶ 0.8333 ──▶ 0.625 ──▶ 0        0
//! pass    denoise 0    1          2         3   commit (4)
//! ```
//!
//! [`chunk_passes`] computes this list from a [`Sampler`] and the chunk's index,
//! in f64, and rounds each number once to f32: the executor only follows it, and
//! nothing else knows how many passes a chunk has.
//!
//! Invariants: levels never rise, the last denoise pass ends at exactly 0, a
//! pass ends where the next one begins, and exactly the last pass is a commit.
//!
//! Sources: schedule and re-noising as in Self-Forcing (arXiv:2506.08009,
//! `guandeh17/Self-Forcing` at 33593df, `utils/scheduler.py` and
//! `pipeline/causal_inference.py`); guidance as in arXiv:2207.12598.

use std::num::NonZeroU32;

use types::{
    PassKind, Sampler, SizedChunk, StepList, Update,
    wan::{STEPS_MAX, TIMESTEPS},
};

/// The passes of one chunk, in order; the last one is the commit pass.
#[derive(Clone, Debug, PartialEq)]
pub struct ChunkPasses {
    /// At least one denoise pass, then one commit pass.
    pub passes: Vec<PassPlan>,
}

/// One run of a chunk through all layers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PassPlan {
    /// Place in the chunk's list, from 0; the commit pass has the last one.
    pub step: u32,
    /// Whether the pass denoises or commits; a list has no other kind.
    pub kind: PassKind,
    /// The prompts the pass is run under.
    pub branches: Branches,
    /// What the model is fed as time, in 0..=1000.
    pub timestep: f32,
    /// Noise level of the pass' input, in 0..=1.
    pub sigma: f32,
    /// Noise level after the pass, at most `sigma`.
    pub sigma_next: f32,
    /// What becomes of the predicted velocity.
    pub update: PassUpdate,
}

/// The prompts a pass is run under. Every branch reads the conditional cache.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Branches {
    /// The prompt alone.
    Conditional,
    /// The prompt and the empty (or negative) prompt, mixed as
    /// `v = v_uncond + weight (v_cond - v_uncond)`.
    Guided {
        /// The guidance weight, never 1.
        weight: f32,
    },
}

/// What the executor does with the velocity `v` and the chunk `x`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassUpdate {
    /// `x += (sigma_next - sigma) v`.
    Euler,
    /// `x0 = x - sigma v`, then `x = (1 - sigma_next) x0 + sigma_next noise`.
    Renoise {
        /// Step index under which the fresh noise is drawn, at least 1.
        noise_step: u32,
    },
    /// `x = x - sigma v`: the clean chunk.
    Finish,
    /// Nothing: the commit pass' velocity is not read.
    Discard,
}

/// Replacement step counts, for each kind of chunk that is to change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepCounts {
    /// Steps of the first chunk; `None` keeps the sampler's own list.
    pub first_chunk: Option<NonZeroU32>,
    /// Steps of all later chunks; `None` keeps the sampler's own list.
    pub later_chunks: Option<NonZeroU32>,
}

/// Why a sampler describes no list of passes. Correct the model's sampler.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The list is empty.
    #[error("the sampler lists no denoising step: give it at least one")]
    NoSteps,
    /// The list is longer than the schedule's table.
    #[error("{steps} denoising steps are too many: at most {STEPS_MAX} are allowed")]
    TooManySteps {
        /// The steps asked for.
        steps: usize,
    },
    /// A listed timestep is no noise level.
    #[error(
        "denoising step {index} is {timestep}: every step must be above 0 and at most {TIMESTEPS} \
         (leave out a closing 0)"
    )]
    StepOutOfRange {
        /// Place in the list, from 0.
        index: usize,
        /// The timestep found there.
        timestep: f64,
    },
    /// The listed timesteps do not fall.
    #[error(
        "denoising step {index} is {timestep}, not below the step before it ({before}): \
         list the steps from high to low"
    )]
    StepsNotFalling {
        /// Place in the list, from 0.
        index: usize,
        /// The timestep found there.
        timestep: f64,
        /// The timestep before it.
        before: f64,
    },
    /// The shift is no positive number.
    #[error("the schedule's shift is {shift}: it must be a positive number")]
    Shift {
        /// The shift found.
        shift: f64,
    },
    /// The guidance weight is no number.
    #[error("the guidance weight is {weight}: it must be a finite number")]
    Guidance {
        /// The weight found.
        weight: f32,
    },
}

/// Lists the passes of chunk `chunk`, the video's first being 0.
///
/// # Errors
///
/// [`Error`] if the sampler has no valid list of steps, shift or guidance for
/// this chunk.
pub fn chunk_passes(sampler: &Sampler, chunk: u32) -> Result<ChunkPasses, Error> {
    let SizedChunk { steps, guidance } = match chunk {
        0 => &sampler.first_chunk,
        _ => &sampler.later_chunks,
    };
    let levels = levels(steps, sampler.shift)?;
    let branches = branches(*guidance)?;
    let mut passes = Vec::with_capacity(levels.len() + 1);
    for (step, level) in (0..).zip(&levels) {
        let next = levels.get(passes.len() + 1);
        passes.push(PassPlan {
            step,
            kind: PassKind::Denoise,
            branches,
            timestep: round(level.timestep),
            sigma: round(level.sigma),
            sigma_next: next.map_or(0.0, |next| round(next.sigma)),
            update: match (sampler.update, next) {
                (Update::Euler, _) => PassUpdate::Euler,
                (Update::Renoise, Some(_)) => PassUpdate::Renoise { noise_step: step + 1 },
                (Update::Renoise, None) => PassUpdate::Finish,
            },
        });
    }
    passes.push(commit_pass(passes.len()));
    Ok(ChunkPasses { passes })
}

/// The sampler with other step counts: evenly spaced steps under its own shift.
///
/// Four even steps are the warped list 1000, 750, 500, 250 of the Self-Forcing
/// family, so a model of either kind keeps its schedule's form. Guidance is
/// kept.
pub fn with_steps(sampler: &Sampler, counts: StepCounts) -> Sampler {
    let replace = |chunk: &SizedChunk, count: Option<NonZeroU32>| SizedChunk {
        steps: match count {
            Some(count) => StepList::Even(count.get() as usize),
            None => chunk.steps.clone(),
        },
        guidance: chunk.guidance,
    };
    Sampler {
        update: sampler.update,
        shift: sampler.shift,
        first_chunk: replace(&sampler.first_chunk, counts.first_chunk),
        later_chunks: replace(&sampler.later_chunks, counts.later_chunks),
    }
}

impl ChunkPasses {
    /// Runs through the layers: a guided pass counts twice.
    pub fn runs(&self) -> usize {
        self.passes.iter().map(|pass| pass.branches.count()).sum()
    }
}

impl Branches {
    /// Runs of one pass.
    pub fn count(&self) -> usize {
        match self {
            Self::Conditional => 1,
            Self::Guided { .. } => 2,
        }
    }
}

/// A denoising level: what the model is fed, and the noise it stands for.
#[derive(Clone, Copy, Debug)]
struct Level {
    timestep: f64,
    sigma: f64,
}

impl Level {
    /// The level whose timestep is its own noise, scaled.
    fn at(sigma: f64) -> Self {
        Self { timestep: TIMESTEPS * sigma, sigma }
    }
}

/// The levels of the denoise passes, from high to low.
fn levels(steps: &StepList, shift: f64) -> Result<Vec<Level>, Error> {
    if !(shift.is_finite() && 0.0 < shift) {
        return Err(Error::Shift { shift });
    }
    match steps {
        StepList::Even(count) => {
            check_count(*count)?;
            Ok((0..*count).map(|k| Level::at(shifted(even(k, *count), shift))).collect())
        }
        StepList::Warped(timesteps) => {
            check_listed(timesteps)?;
            Ok(timesteps.iter().map(|t| Level::at(shifted(t / TIMESTEPS, shift))).collect())
        }
        StepList::Listed(timesteps) => {
            check_listed(timesteps)?;
            let level = |&timestep: &f64| Level { timestep, sigma: nearest(timestep, shift) };
            Ok(timesteps.iter().map(level).collect())
        }
    }
}

fn check_count(steps: usize) -> Result<(), Error> {
    match steps {
        0 => Err(Error::NoSteps),
        1..=STEPS_MAX => Ok(()),
        _ => Err(Error::TooManySteps { steps }),
    }
}

/// Says what keeps timesteps from being a schedule ([`types::wan::is_schedule`]).
fn check_listed(timesteps: &[f64]) -> Result<(), Error> {
    check_count(timesteps.len())?;
    let mut before = f64::INFINITY;
    for (index, &timestep) in timesteps.iter().enumerate() {
        if !(0.0 < timestep && timestep <= TIMESTEPS) {
            return Err(Error::StepOutOfRange { index, timestep });
        }
        if before <= timestep {
            return Err(Error::StepsNotFalling { index, timestep, before });
        }
        before = timestep;
    }
    Ok(())
}

/// `u_k = 1 - k / count`.
fn even(k: usize, count: usize) -> f64 {
    1.0 - k as f64 / count as f64
}

/// `t = s u / (1 + (s - 1) u)`.
fn shifted(u: f64, shift: f64) -> f64 {
    shift * u / (1.0 + (shift - 1.0) * u)
}

/// The entry of the shifted table of [`STEPS_MAX`] levels nearest to a
/// timestep; of two equally near ones the higher, as `argmin` finds it.
fn nearest(timestep: f64, shift: f64) -> f64 {
    let distance = |sigma: &f64| (TIMESTEPS * sigma - timestep).abs();
    (0..STEPS_MAX)
        .map(|i| shifted(even(i, STEPS_MAX), shift))
        .min_by(|a, b| distance(a).total_cmp(&distance(b)))
        .expect("the table is not empty")
}

fn branches(weight: f32) -> Result<Branches, Error> {
    if !weight.is_finite() {
        return Err(Error::Guidance { weight });
    }
    let off = weight == 1.0;
    Ok(if off { Branches::Conditional } else { Branches::Guided { weight } })
}

fn commit_pass(step: usize) -> PassPlan {
    PassPlan {
        step: u32::try_from(step).expect("a chunk has at most STEPS_MAX denoise passes"),
        kind: PassKind::Commit,
        branches: Branches::Conditional,
        timestep: 0.0,
        sigma: 0.0,
        sigma_next: 0.0,
        update: PassUpdate::Discard,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the one rounding to f32")]
fn round(value: f64) -> f32 {
    value as f32
}

#[cfg(test)]
#[path = "passes_tests.rs"]
mod tests;
