//! The work of a model at a picture size: what [`Work`] is made from.
//!
//! [`memory`] counts whole processes. What one layer, an end or a part adds comes out
//! as a difference between two of them, so the planner and the check before a video
//! can never count differently. All layers weigh the same, so three of them stand for
//! any number: the first, one that is no end, the last.
//!
//! ```text
//!  memory(first, middle) - memory(first)   a layer
//!  memory(first) - memory(middle)          what only the first stage holds
//!  memory(middle) - a layer                what every stage holds beside its layers
//! ```
//!
//! Weights, caches and buffers are exact. *Moments*, what setting a prompt, a pass or
//! decoding holds for a short while, are not sums but maxima; a worker does one thing
//! at a time, whatever jobs it has, so each counts once and with what is shared:
//!
//! - Setting a prompt grows with the layers, by a second copy of one prompt's
//!   cross-attention; that is counted in full with every layer, whether or not a pass
//!   holds more.
//! - Text side, stages and decoder each keep their own moment, since they may stand
//!   apart.
//!
//! So no worker is promised more room than it has, and what is counted too much of one
//! that holds everything is less than the smaller moments together and that copy.
//!
//! A layer's buffers are shared by all jobs of a stage. A decoder's are of each job,
//! as its causal history is. Clean frames that are kept for a change of the prompt are
//! counted for one job, with the first stage.

use std::ops::Range;

use types::{Dtype, Model, Sampler, Transformer};

use super::{Footprint, Runs, Work};
use crate::{
    memory::{self, Engine, Load, Memory, NO_TRANSFORMER, NO_VAE, Parts, Size, memory},
    passes::{self, chunk_passes},
    units::{product, sum},
};

/// What a model's work depends on, besides the model.
#[derive(Clone, Debug, PartialEq)]
pub struct JobShape {
    /// Size of the pictures.
    pub size: Size,
    /// Steps and guidance of the job.
    pub sampler: Sampler,
    /// Frames of the whole video: those of a pass if the model has no window.
    pub video_frames: usize,
    /// What holds the model.
    pub engine: Engine,
}

/// Why a model's work could not be counted.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum WorkError {
    /// A part is missing, or the size or the window does not fit the model.
    #[error(transparent)]
    Memory(#[from] memory::Error),
    /// The sampler's steps cannot be run.
    #[error(transparent)]
    Passes(#[from] passes::Error),
}

impl Work {
    /// What a model asks of workers for jobs of this shape.
    ///
    /// # Errors
    ///
    /// [`WorkError`] if a part is missing, the size does not divide into tokens, the
    /// window cannot be laid out, or the steps cannot be run.
    pub fn of(model: &Model, shape: &JobShape) -> Result<Self, WorkError> {
        let transformer = model.transformer.as_ref().ok_or(NO_TRANSFORMER)?;
        let vae = model.vae.as_ref().ok_or(NO_VAE)?;
        let grid = memory::grid(transformer, vae, shape.size)?;
        let frames = transformer.window.map_or(shape.video_frames, |window| window.chunk);
        let runs = |chunk| Ok::<_, WorkError>(Runs::of(&chunk_passes(&shape.sampler, chunk)?));
        let Transformer { dim, in_channels, out_channels, layers, .. } = *transformer;
        let bytes = Dtype::F32.bytes();
        let frame_tensors = |channels| product([channels, frames, grid.rows, grid.columns, bytes]);
        Ok(Self {
            layers,
            first_chunk: runs(0)?,
            later_chunks: runs(1)?,
            hidden_bytes: grid.tokens(frames).saturating_mul(product([dim, bytes])),
            velocity_bytes: frame_tensors(out_channels),
            x0_bytes: frame_tensors(in_channels),
            footprint: footprint(model, transformer, shape)?,
        })
    }
}

/// Layers of the model that is measured: all ends, and one that is none.
const MEASURED_LAYERS: usize = 3;

fn footprint(
    model: &Model,
    transformer: &Transformer,
    shape: &JobShape,
) -> Result<Footprint, memory::Error> {
    let measured = |layers: usize, parts: Parts| {
        let transformer = Some(Transformer { layers, ..transformer.clone() });
        let model = Model { transformer, sampler: shape.sampler.clone(), ..model.clone() };
        let JobShape { engine, size, video_frames, .. } = *shape;
        memory(&model, &Load { parts, engine, size, video_frames })
    };
    let stage = |layers, range: Range<usize>| {
        measured(layers, Parts { text: false, layers: Some(range), decoder: false })
    };
    let [first, middle, last] = [0, 1, 2].map(|layer| stage(MEASURED_LAYERS, layer..layer + 1));
    let stages = Stages {
        first: first?,
        middle: middle?,
        last: last?,
        two: stage(MEASURED_LAYERS, 0..2)?,
        only: stage(1, 0..1)?,
        prompts: memory::prompts_per_pass(&shape.sampler),
    };
    let text = measured(1, Parts { text: true, layers: None, decoder: false })?;
    let decoder = measured(1, Parts { text: false, layers: None, decoder: true })?;
    let of_decoder_job = decoder.per_job_bytes - decoder.per_job.moment_bytes;
    Ok(Footprint {
        layer_bytes: stages.layer_bytes(),
        layer_job_bytes: stages.layer_job_bytes(),
        first_stage_bytes: stages.first_stage_bytes(),
        last_stage_bytes: stages.last_stage_bytes(),
        stage_bytes: stages.stage_bytes(),
        text_bytes: text.total_bytes,
        decoder_bytes: decoder.total_bytes - of_decoder_job,
        decoder_job_bytes: of_decoder_job,
    })
}

/// Stages of a model of three layers, and of one.
struct Stages {
    first: Memory,
    middle: Memory,
    last: Memory,
    /// The first two layers.
    two: Memory,
    /// The one layer of a model that has no other.
    only: Memory,
    /// Prompts whose cross-attention a stage holds.
    prompts: u64,
}

impl Stages {
    fn layer_bytes(&self) -> u64 {
        sum([self.layer_weights(), self.layer_prompt()])
    }

    fn layer_weights(&self) -> u64 {
        self.two.shared_bytes - self.first.shared_bytes
    }

    /// One prompt's cross-attention of a layer.
    fn layer_prompt(&self) -> u64 {
        self.middle.per_job.cross_attention_bytes / self.prompts
    }

    fn layer_job_bytes(&self) -> u64 {
        let job = &self.middle.per_job;
        sum([job.cache_slots_bytes, job.cross_attention_bytes])
    }

    fn stage_bytes(&self) -> u64 {
        let (weights, job) =
            (self.middle.shared_bytes - self.layer_weights(), &self.middle.per_job);
        let moment = job.moment_bytes.saturating_sub(self.layer_prompt());
        sum([weights, job.pass_activations_bytes, moment])
    }

    fn first_stage_bytes(&self) -> u64 {
        let weights = self.first.shared_bytes - self.middle.shared_bytes;
        let moment = more(&self.first, &self.middle);
        sum([weights, self.first.per_job.kept_frames_bytes, moment])
    }

    /// The last stage may be the first one too; the larger of what it then adds counts.
    fn last_stage_bytes(&self) -> u64 {
        let weights = self.last.shared_bytes - self.middle.shared_bytes;
        sum([weights, more(&self.last, &self.middle).max(more(&self.only, &self.first))])
    }
}

/// By how much the largest moment is larger.
fn more(stage: &Memory, other: &Memory) -> u64 {
    stage.per_job.moment_bytes.saturating_sub(other.per_job.moment_bytes)
}
