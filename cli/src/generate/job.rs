//! Everything about a video that can be known before anything is loaded.
//!
//! Checked in this order: the prompt, the output's name, the model's
//! configuration, the length, the schedule, the size, the sampler. Whether the
//! output can be written and whether there is memory enough is asked of the
//! system afterwards; weights are read last of all.

use std::{num::NonZeroU32, path::PathBuf};

use checkpoint::{Checkpoint, Part};
use model::{History, Prompt, Request, sampler::Noise, text::clean_prompt};
use plan::{
    length::{Length, Rate},
    memory::{self, Engine, Load, Memory, Parts, Size},
    passes::{self, StepCounts},
};
use types::{Model, Sampler, Transformer, Vae, Video};

use crate::{
    args::{GenerateArgs, PromptSwitch},
    failure::Failure,
    generate::{
        maker::Shoot,
        schedule::{Change, schedule},
    },
    source, system,
};

/// A video that can be made, as far as can be told without loading the model.
#[derive(Debug)]
pub(super) struct Job {
    /// The prompt, as it was given.
    pub(super) prompt: String,
    /// Later prompts.
    pub(super) changes: Vec<Change>,
    /// What a change does with the window.
    pub(super) history: History,
    /// File or folder to write.
    pub(super) output: PathBuf,
    /// Format that the name stands for.
    pub(super) format: video::Format,
    /// Seconds asked for.
    pub(super) seconds: f64,
    /// Seed of the noise.
    pub(super) seed: u64,
    /// Whether nobody asked for this seed.
    pub(super) seed_is_drawn: bool,
    /// Name of the model.
    pub(super) model_name: String,
    /// Resolved configuration of the model.
    pub(super) model: Model,
    /// Steps and guidance: the model's own, or changed.
    pub(super) sampler: Sampler,
    /// Size of the pictures.
    pub(super) size: Size,
    /// Pictures, frames and chunks.
    pub(super) length: Length,
    /// Runs through the layers that a first and a later chunk take.
    pub(super) runs: [u64; 2],
    checkpoint: Checkpoint,
}

impl Job {
    /// Checks what `args` ask for.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`], which says what to change.
    pub(super) fn new(args: &GenerateArgs) -> Result<Self, Failure> {
        check_prompt(&args.prompt, "the prompt")?;
        for pair in args.prompt_at.chunks_exact(2) {
            check_prompt(&pair[1], &format!("the prompt at {}", pair[0]))?;
        }
        let format = video::Format::from_path(&args.output)?;
        let folder = args.model.as_deref();
        let checkpoint = source::open(folder)?;
        let model = checkpoint.model()?;
        let (transformer, vae) = parts(&checkpoint, &model)?;

        let rate = Rate {
            fps: model.video.fps,
            pictures_per_frame: vae.time_scale(),
            chunk_frames: transformer.window.map(|window| window.chunk),
        };
        let length = rate.length(args.seconds)?;
        let changes = schedule(&args.prompt_at, &rate, &length)?;
        let Video { width, height, .. } = model.video;
        let size = args.size.unwrap_or(Size { width, height });
        memory::grid(transformer, vae, size)?;
        let sampler = sampler(&model.sampler, args);
        Ok(Self {
            prompt: args.prompt.clone(),
            changes,
            history: match args.prompt_switch {
                PromptSwitch::Keep => History::Keep,
                PromptSwitch::Recache => History::Recache,
            },
            output: args.output.clone(),
            format,
            seconds: args.seconds,
            seed: args.seed.unwrap_or_else(system::random_seed),
            seed_is_drawn: args.seed.is_none(),
            model_name: source::name(folder),
            model,
            runs: runs(&sampler)?,
            sampler,
            size,
            length,
            checkpoint,
        })
    }

    /// What the video takes at once.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] if the window cannot be laid out.
    pub(super) fn memory(&self, engine: Engine) -> Result<Memory, Failure> {
        let model = Model { sampler: self.sampler.clone(), ..self.model.clone() };
        let parts = Parts::whole(&model);
        let load = Load { parts, engine, size: self.size, video_frames: self.frames() };
        Ok(memory::memory(&model, &load)?)
    }

    /// What the video's file needs to know.
    pub(super) fn options(&self) -> video::Options {
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        video::Options {
            width: side(self.size.width),
            height: side(self.size.height),
            pictures_per_second: self.model.video.fps,
        }
    }

    /// What the maker needs to know.
    pub(super) fn shoot(&self) -> Shoot {
        Shoot {
            checkpoint: self.checkpoint.clone(),
            prompt: self.prompt.clone(),
            changes: self.changes.clone(),
            history: self.history,
            seed: self.seed,
            sampler: self.sampler.clone(),
            size: self.size,
            frames: self.frames(),
            chunks: self.length.chunks,
        }
    }

    fn frames(&self) -> usize {
        usize::try_from(self.length.frames).unwrap_or(usize::MAX)
    }
}

impl Shoot {
    /// The request for a prompt that the engine has read.
    pub(super) fn request(&self, prompt: Prompt) -> Request {
        let Size { width, height } = self.size;
        let (noise, sampler) = (Noise::Seed(self.seed), self.sampler.clone());
        Request { prompt, noise, sampler, width, height, frames: Some(self.frames) }
    }
}

fn check_prompt(prompt: &str, what: &str) -> Result<(), Failure> {
    match clean_prompt(prompt) {
        Ok(_) => Ok(()),
        Err(_) => Err(Failure::Input(format!("{what} is empty: say what the video shows"))),
    }
}

/// The parts that a video takes.
fn parts<'a>(
    checkpoint: &Checkpoint,
    model: &'a Model,
) -> Result<(&'a Transformer, &'a Vae), Failure> {
    // Each of these says what it looked for.
    let _ = (checkpoint.text_encoder()?, checkpoint.tokenizer()?);
    let _ = (checkpoint.transformer()?, checkpoint.vae()?);
    let missing = |part: Part| Failure::Input(format!("{}: no {part}", checkpoint.name()));
    let transformer = model.transformer.as_ref().ok_or_else(|| missing(Part::Transformer))?;
    let vae = model.vae.as_ref().ok_or_else(|| missing(Part::Vae))?;
    Ok((transformer, vae))
}

/// The sampler with the step counts asked for.
fn sampler(own: &Sampler, args: &GenerateArgs) -> Sampler {
    let count = |steps: Option<u32>| steps.and_then(NonZeroU32::new);
    let alike = own.first_chunk.steps == own.later_chunks.steps;
    let later_chunks = count(args.steps);
    let first_chunk = count(args.first_steps).or(later_chunks.filter(|_| alike));
    passes::with_steps(own, StepCounts { first_chunk, later_chunks })
}

fn runs(sampler: &Sampler) -> Result<[u64; 2], Failure> {
    let [first, later] = [passes::chunk_passes(sampler, 0)?, passes::chunk_passes(sampler, 1)?];
    Ok([first.runs() as u64, later.runs() as u64])
}
