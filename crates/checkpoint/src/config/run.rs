//! How a model is run: window, positions, sampler and picture size.
//!
//! Four sources, later ones over earlier ones:
//!
//! 1. Defaults. A causal model samples as the Self-Forcing family does (fresh
//!    noise between the warped timesteps 1000, 750, 500, 250, shift 5, no
//!    guidance); a bidirectional one takes 50 Euler steps with shift 5 and
//!    guidance 5, Wan2.1's own numbers. Pictures are 832x480 at 16 a second.
//! 2. `scheduler/scheduler_config.json`: the shift, and the update rule if the
//!    scheduler is the flow-matching Euler one. Wan's teachers name a
//!    multi-step solver there (`UniPCMultistepScheduler`), whose shift is used
//!    and whose steps are Euler's here. Beside a student such a solver is a
//!    leftover of the teacher's folder and says nothing: published folders
//!    keep shifts of 1 and 3 there, the students' is 5.
//! 3. The `video` section of `model_index.json`, as in the embedded model.
//! 4. `filmloom.json`.

use serde::Deserialize;
use serde_json::Value;
use types::{
    Positions, Sampler, StepList, Transformer, Update, Vae, Video, Window, wan as published,
};

use super::{Family, File, latent::FramePositions, wan};
use crate::{Error, Result, Source};

/// Optional file in a model's root.
pub(crate) const FILMLOOM: &str = "filmloom.json";
/// Files besides the parts' own that say how a model is run.
pub(crate) const FILES: [&str; 3] = [MODEL_INDEX, SCHEDULER, FILMLOOM];
const MODEL_INDEX: &str = "model_index.json";
const SCHEDULER: &str = "scheduler/scheduler_config.json";

/// What `filmloom.json` says.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    pub(crate) window: Option<Window>,
    pub(crate) positions: Option<Positions>,
    pub(crate) text_len: Option<usize>,
    pub(crate) fused_heads: Option<FusedHeads>,
    sampler: Option<SamplerFile>,
    video: Option<Video>,
}

/// Order of the rows of a matrix that fuses two projections of every head.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FusedHeads {
    /// First both projections of head 0, then both of head 1, ...
    PerHead,
    /// First one projection of all heads, then the other of all heads.
    Blocks,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OverridesFile {
    window: Option<WindowFile>,
    rope_positions: Option<FramePositions>,
    text_len: Option<usize>,
    fused_heads: Option<FusedHeads>,
    sampler: Option<SamplerFile>,
    video: Option<VideoFile>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WindowFile {
    sink: usize,
    recent: usize,
    chunk: usize,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct SamplerFile {
    update: Option<UpdateFile>,
    shift: Option<f64>,
    steps: Option<Steps>,
    warp: Option<bool>,
    first_chunk_steps: Option<Steps>,
    guidance: Option<f32>,
    first_chunk_guidance: Option<f32>,
}

#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum UpdateFile {
    Euler,
    Renoise,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(untagged, expecting = "expected a number of steps or a list of timesteps")]
enum Steps {
    Even(usize),
    List(Vec<f64>),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VideoFile {
    width: usize,
    height: usize,
    fps: u32,
}

/// The `video` section of `model_index.json`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct VideoSection {
    width: usize,
    height: usize,
    fps: u32,
    latent_width: Option<usize>,
    latent_height: Option<usize>,
    chunk_frames: Option<usize>,
    num_inference_steps: Option<usize>,
    first_chunk_steps: Option<usize>,
    guidance_scale: Option<f32>,
    first_chunk_guidance: Option<f32>,
}

/// The keys of a scheduler's file that matter.
#[derive(Deserialize)]
struct Scheduler {
    num_train_timesteps: Option<f64>,
    shift: Option<f64>,
    flow_shift: Option<f64>,
    #[serde(default)]
    stochastic_sampling: bool,
    prediction_type: Option<String>,
}

impl Overrides {
    /// Reads `filmloom.json`, if there is one. Our own family states window,
    /// positions and text length itself, so they may not be stated twice.
    ///
    /// # Errors
    ///
    /// [`crate::Error::Json`] or [`crate::Error::Config`], naming the field.
    pub(crate) fn read(source: &Source, family: Option<Family>) -> Result<Self> {
        if !source.has(FILMLOOM) {
            return Ok(Self::default());
        }
        let file = File::read(source, FILMLOOM)?;
        if family == Some(Family::Filmloom) {
            for field in ["window", "rope_positions", "text_len"] {
                if file.object.contains_key(field) {
                    return Err(file.error(field, "the transformer's config.json states it"));
                }
            }
        }
        let stated: OverridesFile = file.parse()?;
        let window = |stated: WindowFile| {
            let WindowFile { sink, recent, chunk } = stated;
            wan::window(
                &file,
                ["window.sink", "window.recent", "window.chunk"],
                Window { sink, recent, chunk },
            )
        };
        Ok(Self {
            window: stated.window.map(window).transpose()?,
            positions: stated.rope_positions.map(Positions::from),
            text_len: stated.text_len.map(|rows| file.size("text_len", rows)).transpose()?,
            fused_heads: stated.fused_heads,
            sampler: stated.sampler,
            video: stated
                .video
                .map(|stated| video(&file, stated.width, stated.height, stated.fps))
                .transpose()?,
        })
    }
}

/// What no file of the folder says, so that defaults are taken: file and values.
fn unstated(source: &Source, overrides: &Overrides) -> Result<Vec<(&'static str, &'static str)>> {
    let mut unstated = Vec::new();
    if overrides.sampler.is_none() && !source.has(SCHEDULER) {
        unstated.push((SCHEDULER, "shift and update rule"));
    }
    let section =
        source.has(MODEL_INDEX) && File::read(source, MODEL_INDEX)?.object.get("video").is_some();
    if overrides.sampler.is_none() && !section {
        unstated.push((MODEL_INDEX, "steps and guidance"));
    }
    if overrides.video.is_none() && !section {
        unstated.push((MODEL_INDEX, "picture size and rate"));
    }
    Ok(unstated)
}

/// A sentence about what no file of a foreign model says, if there is such a thing.
///
/// # Errors
///
/// [`crate::Error::Json`] if the model's index cannot be read.
pub(crate) fn assumed(source: &Source, overrides: &Overrides) -> Result<Option<String>> {
    let unstated: Vec<_> = unstated(source, overrides)?.into_iter().map(|(_, what)| what).collect();
    let what = unstated.join(", nor ");
    let sentence = format!(
        "no file states {what}: the published models' are taken, {FILMLOOM} can say otherwise"
    );
    Ok((!unstated.is_empty()).then_some(sentence))
}

/// Sampler and picture size of a model whose parts are as given, where known.
///
/// # Errors
///
/// [`crate::Error::Json`] or [`crate::Error::Config`], naming file and field;
/// a folder of our own family must state everything.
pub(crate) fn resolve(
    source: &Source,
    overrides: &Overrides,
    family: Option<Family>,
    transformer: Option<&Transformer>,
    vae: Option<&Vae>,
) -> Result<(Sampler, Video)> {
    if family == Some(Family::Filmloom)
        && let Some((file, what)) = unstated(source, overrides)?.first()
    {
        let problem = format!("does not state {what}, nor does {FILMLOOM}");
        return Err(Error::Json { file: source.display(file), problem });
    }
    let window = transformer.and_then(|transformer| transformer.window);
    let mut sampler = match window {
        Some(_) => published::student_sampler(),
        None => published::teacher_sampler(),
    };
    let mut size = published::VIDEO;
    if source.has(SCHEDULER) {
        apply_scheduler(&mut sampler, window, &File::read(source, SCHEDULER)?)?;
    }
    if source.has(MODEL_INDEX) {
        let index = File::read(source, MODEL_INDEX)?;
        if let Some(section) = video_section(&index)? {
            apply_section(&mut sampler, &index, &section)?;
            section.agrees(&index, window, vae)?;
            size = video(&index, section.width, section.height, section.fps)?;
            check_size(&index, size, transformer, vae)?;
        }
    }
    if source.has(FILMLOOM) {
        let file = File { name: source.display(FILMLOOM), object: serde_json::Map::new() };
        if let Some(stated) = &overrides.sampler {
            stated.apply(&mut sampler, &file)?;
        }
        if let Some(stated) = overrides.video {
            size = stated;
            check_size(&file, size, transformer, vae)?;
        }
    }
    Ok((sampler, size))
}

fn apply_scheduler(sampler: &mut Sampler, window: Option<Window>, file: &File) -> Result<()> {
    file.refuse(&[
        "use_dynamic_shifting",
        "shift_terminal",
        "use_karras_sigmas",
        "use_exponential_sigmas",
        "use_beta_sigmas",
    ])?;
    let stated: Scheduler = file.parse()?;
    if stated.num_train_timesteps.is_some_and(|count| count != published::TIMESTEPS) {
        return Err(file.error("num_train_timesteps", "only 1000 is supported"));
    }
    if stated.prediction_type.as_deref().is_some_and(|kind| kind != "flow_prediction") {
        return Err(file.error("prediction_type", "only `flow_prediction` is supported"));
    }
    let leftover = window.is_some() && file.text("_class_name").contains("Multistep");
    for (field, shift) in [("flow_shift", stated.flow_shift), ("shift", stated.shift)] {
        if let Some(shift) = shift {
            let shift = file.positive(field, shift)?;
            if !leftover {
                sampler.shift = shift;
            }
        }
    }
    if file.text("_class_name") == "FlowMatchEulerDiscreteScheduler" {
        sampler.update = match stated.stochastic_sampling {
            true => Update::Renoise,
            false => Update::Euler,
        };
    }
    Ok(())
}

fn video_section(index: &File) -> Result<Option<VideoSection>> {
    match index.object.get("video") {
        None => Ok(None),
        Some(Value::Object(object)) => {
            let section = File { name: index.name.clone(), object: object.clone() };
            section.parse().map(Some)
        }
        Some(other) => Err(index.error("video", format!("expected an object, found {other}"))),
    }
}

fn apply_section(sampler: &mut Sampler, index: &File, section: &VideoSection) -> Result<()> {
    let stated = SamplerFile {
        steps: section.num_inference_steps.map(Steps::Even),
        first_chunk_steps: section.first_chunk_steps.map(Steps::Even),
        guidance: section.guidance_scale,
        first_chunk_guidance: section.first_chunk_guidance,
        ..SamplerFile::default()
    };
    stated.apply(sampler, index)
}

impl VideoSection {
    /// Checks what is stated elsewhere too.
    fn agrees(&self, index: &File, window: Option<Window>, vae: Option<&Vae>) -> Result<()> {
        if let (Some(window), Some(chunk)) = (window, self.chunk_frames)
            && window.chunk != chunk
        {
            let problem = format!("is {chunk}, but the transformer's is {}", window.chunk);
            return Err(index.error("video.chunk_frames", problem));
        }
        let Some(vae) = vae else { return Ok(()) };
        for (field, rows, pixels) in [
            ("video.latent_width", self.latent_width, self.width),
            ("video.latent_height", self.latent_height, self.height),
        ] {
            if rows.is_some_and(|rows| rows.saturating_mul(vae.space_scale()) != pixels) {
                let scale = vae.space_scale();
                let problem = format!("times the VAE's {scale} is not the picture's {pixels}");
                return Err(index.error(field, problem));
            }
        }
        Ok(())
    }
}

impl SamplerFile {
    /// Overrides what is stated. The first chunk follows the later ones where
    /// it says nothing itself.
    fn apply(&self, sampler: &mut Sampler, file: &File) -> Result<()> {
        match self.update {
            Some(UpdateFile::Euler) => sampler.update = Update::Euler,
            Some(UpdateFile::Renoise) => sampler.update = Update::Renoise,
            None => {}
        }
        if let Some(shift) = self.shift {
            sampler.shift = file.positive("shift", shift)?;
        }
        if let Some(steps) = &self.steps {
            let steps = self.steps(file, "steps", steps)?;
            sampler.first_chunk.steps = steps.clone();
            sampler.later_chunks.steps = steps;
        }
        if let Some(steps) = &self.first_chunk_steps {
            sampler.first_chunk.steps = self.steps(file, "first_chunk_steps", steps)?;
        }
        if let Some(guidance) = self.guidance {
            let guidance = finite(file, "guidance", guidance)?;
            sampler.first_chunk.guidance = guidance;
            sampler.later_chunks.guidance = guidance;
        }
        if let Some(guidance) = self.first_chunk_guidance {
            sampler.first_chunk.guidance = finite(file, "first_chunk_guidance", guidance)?;
        }
        Ok(())
    }

    fn steps(&self, file: &File, field: &str, steps: &Steps) -> Result<StepList> {
        use published::STEPS_MAX;
        match steps {
            Steps::Even(count) if (1..=STEPS_MAX).contains(count) => Ok(StepList::Even(*count)),
            Steps::Even(count) => {
                Err(file.error(field, format!("expected 1 to {STEPS_MAX}, found {count}")))
            }
            Steps::List(list) if STEPS_MAX < list.len() => {
                Err(file.error(field, format!("expected 1 to {STEPS_MAX}, found {}", list.len())))
            }
            Steps::List(list) if !published::is_schedule(list) => {
                let problem = format!("expected timesteps falling from 1000 to above 0: {list:?}");
                Err(file.error(field, problem))
            }
            Steps::List(list) => Ok(match self.warp.unwrap_or(true) {
                true => StepList::Warped(list.clone()),
                false => StepList::Listed(list.clone()),
            }),
        }
    }
}

fn finite(file: &File, field: &str, guidance: f32) -> Result<f32> {
    match guidance {
        0.0..=1000.0 => Ok(guidance),
        _ => Err(file.error(field, format!("expected 0 to 1000, found {guidance}"))),
    }
}

fn video(file: &File, width: usize, height: usize, fps: u32) -> Result<Video> {
    /// Larger pictures are a mistake, and their products would overflow.
    const SIDE_MAX: usize = 1 << 14;
    const FPS_MAX: u32 = 1000;
    for (field, side) in [("video.width", width), ("video.height", height)] {
        if !(1..=SIDE_MAX).contains(&side) {
            return Err(file.error(field, format!("expected 1 to {SIDE_MAX}, found {side}")));
        }
    }
    if !(1..=FPS_MAX).contains(&fps) {
        return Err(file.error("video.fps", format!("expected 1 to {FPS_MAX}, found {fps}")));
    }
    Ok(Video { width, height, fps })
}

/// Checks that pictures divide into whole patches.
fn check_size(
    file: &File,
    video: Video,
    transformer: Option<&Transformer>,
    vae: Option<&Vae>,
) -> Result<()> {
    let (Some(transformer), Some(vae)) = (transformer, vae) else { return Ok(()) };
    let [_, rows, columns] = transformer.patch;
    for (field, side, patch) in
        [("video.height", video.height, rows), ("video.width", video.width, columns)]
    {
        let unit = patch * vae.space_scale();
        if side % unit != 0 {
            return Err(file.error(field, format!("{side} is no multiple of {unit}")));
        }
    }
    Ok(())
}
