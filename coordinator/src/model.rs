//! The model that is served, and what a request for a video or a plan means for it.

use std::{num::NonZeroU32, path::Path};

use api::{NewVideo, PlanWish, Refusal};
use plan::{
    cluster::Question,
    length::{Length, Rate},
    memory::{self, Engine, Size},
    passes::{Branches, chunk_passes},
    placement::{JobShape, Scale, Shape, Work, WorkError},
};
use types::{Model, ModelDigest, TokenGrid, Transformer, Vae};

use crate::records;

/// The model that is served.
#[derive(Clone, Debug)]
pub struct Served {
    /// Its name.
    pub name: String,
    /// What identifies it.
    pub digest: ModelDigest,
    /// Its resolved configuration.
    pub model: Model,
    /// How workers hold it.
    pub engine: Engine,
}

/// A video that can be made, as far as can be told without making it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Order {
    /// Prompts with the first chunk that is made under each; the first is of chunk 0.
    pub(crate) prompts: Vec<(u32, String)>,
    pub(crate) size: Size,
    pub(crate) seconds: f64,
    pub(crate) length: Length,
}

/// A plan that can be asked for.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Asked {
    /// The model's name.
    pub(crate) model: String,
    pub(crate) size: api::Size,
    /// The size that workers are timed at.
    pub(crate) measured_size: api::Size,
    pub(crate) fps: u32,
    pub(crate) seconds: f64,
    pub(crate) length: Length,
    pub(crate) question: Question,
}

/// Seconds of a video if nobody says.
const SECONDS_DEFAULT: f64 = 4.0;

impl Served {
    /// Reads what a request asks for.
    ///
    /// # Errors
    ///
    /// [`Refusal::InvalidRequest`], which names the field.
    pub(crate) fn order(&self, new: &NewVideo) -> Result<Order, Refusal> {
        if let Some(model) = new.model.as_ref().filter(|&model| *model != self.name) {
            let message = format!(
                "there is no model `{model}` here: leave it out, or ask for `{}`",
                self.name
            );
            return Err(invalid("model", message));
        }
        let fps = self.model.video.fps;
        if let Some(asked) = new.fps.filter(|&asked| asked != fps) {
            let message = format!("this model makes {fps} pictures a second, not {asked}");
            return Err(invalid("fps", message));
        }
        let (transformer, vae) = self.parts()?;
        let rate = self.rate(transformer, vae);
        let (seconds, length) = self.length(new.seconds)?;
        let size = self.size(new.size)?;
        let mut prompts = vec![(0, new.prompt.clone())];
        for change in new.prompt_schedule.iter().flatten() {
            let found = rate.chunk_from(change.at_seconds, &length);
            let (chunk, _) = found.ok_or_else(|| {
                let at = change.at_seconds;
                let message = format!("no chunk begins between {at} s and the end of the video");
                invalid("prompt_schedule", message)
            })?;
            if prompts.last().is_some_and(|&(last, _)| chunk <= last) {
                let at = change.at_seconds;
                let message =
                    format!("the prompt at {at} s begins with the same chunk as the one before");
                return Err(invalid("prompt_schedule", message));
            }
            prompts.push((chunk, change.prompt.clone()));
        }
        Ok(Order { prompts, size, seconds, length })
    }

    /// How many times as long a run takes at this size as at the model's own.
    ///
    /// # Errors
    ///
    /// [`Refusal::InvalidRequest`], which names the field.
    pub(crate) fn times(&self, size: Size, frames: u64) -> Result<f64, Refusal> {
        let video_frames = usize::try_from(frames).unwrap_or(usize::MAX);
        let measured = Shape { size: self.own_size(), video_frames: 1 };
        let scale = Scale::between(&self.model, measured, Shape { size, video_frames });
        let Scale { layer, pixels } =
            scale.map_err(|error: WorkError| invalid("size", error.to_string()))?;
        Ok(layer.max(pixels))
    }

    /// Reads what a plan is asked for. So many jobs are planned for if nobody says.
    ///
    /// # Errors
    ///
    /// [`Refusal::NoSuchModel`], or [`Refusal::InvalidRequest`], which names the field.
    pub(crate) fn asked(&self, wish: &PlanWish, jobs: NonZeroU32) -> Result<Asked, Refusal> {
        if let Some(model) = wish.model.as_ref().filter(|model| !self.is_called(model)) {
            let message = format!(
                "there is no model `{model}` here: leave it out, or ask for `{}`",
                self.name
            );
            return Err(Refusal::NoSuchModel { message });
        }
        let (seconds, length) = self.length(wish.seconds)?;
        let (size, own) = (self.size(wish.size)?, self.own_size());
        let unable = |error: WorkError| invalid("size", error.to_string());
        let (transformer, vae) = self.parts()?;
        let video_frames = usize::try_from(length.frames).unwrap_or(usize::MAX);
        let measured = Shape { size: own, video_frames: 1 };
        let scale = Scale::between(&self.model, measured, Shape { size, video_frames });
        let question = Question {
            work: self.work(size, length.frames).map_err(unable)?,
            scale: scale.map_err(unable)?,
            jobs: wish.jobs.unwrap_or(jobs),
            chunks: length.chunks,
            chunk_pictures: self.rate(transformer, vae).chunk_pictures(&length),
        };
        let (size, measured_size) = (shown(size), shown(own));
        let (model, fps) = (self.name.clone(), self.model.video.fps);
        Ok(Asked { model, size, measured_size, fps, seconds, length, question })
    }

    /// What is written down of it with every job.
    ///
    /// # Errors
    ///
    /// [`Refusal::Internal`] if it is not whole.
    pub(crate) fn recorded(&self) -> Result<records::Model, Refusal> {
        let (transformer, vae) = self.parts()?;
        let Rate { fps, pictures_per_frame, chunk_frames } = self.rate(transformer, vae);
        let (name, digest) = (self.name.clone(), self.digest.to_string());
        Ok(records::Model { name, digest, fps, pictures_per_frame, chunk_frames })
    }

    /// What a job of this size asks of workers.
    ///
    /// # Errors
    ///
    /// [`WorkError`] if the model has no such pictures.
    pub fn work(&self, size: Size, frames: u64) -> Result<Work, WorkError> {
        let shape = JobShape {
            size,
            sampler: self.model.sampler.clone(),
            video_frames: usize::try_from(frames).unwrap_or(usize::MAX),
            engine: self.engine,
        };
        Work::of(&self.model, &shape)
    }

    /// Tokens of a chunk of pictures of this size.
    pub(crate) fn grid(&self, size: Size) -> Result<TokenGrid, Refusal> {
        let (transformer, vae) = self.parts()?;
        let [_, patch_rows, patch_columns] = transformer.patch;
        let scale = vae.space_scale();
        Ok(TokenGrid {
            frames: transformer.window.map_or(1, |window| window.chunk),
            rows: size.height / (scale * patch_rows),
            columns: size.width / (scale * patch_columns),
        })
    }

    /// Bytes of what a prompt becomes: f32 `[text_len, dim]`.
    pub(crate) fn context_bytes(&self) -> usize {
        let transformer = self.model.transformer.as_ref();
        transformer.map_or(0, |config| config.text_len * config.dim * size_of::<f32>())
    }

    /// Axes of a chunk's clean frames: channels, frames, rows, columns.
    pub(crate) fn x0_shape(&self, size: Size) -> Result<[u32; 4], Refusal> {
        let (transformer, vae) = self.parts()?;
        let scale = vae.space_scale();
        let frames = transformer.window.map_or(1, |window| window.chunk);
        let axes = [transformer.in_channels, frames, size.height / scale, size.width / scale];
        Ok(axes.map(|axis| u32::try_from(axis).unwrap_or(u32::MAX)))
    }

    /// Size of the pictures that the model makes by itself.
    pub(crate) fn own_size(&self) -> Size {
        Size { width: self.model.video.width, height: self.model.video.height }
    }

    /// Whether any pass runs the unconditional branch.
    pub(crate) fn is_guided(&self) -> bool {
        let sampler = &self.model.sampler;
        let chunks = [0, 1].into_iter().filter_map(|chunk| chunk_passes(sampler, chunk).ok());
        let mut passes = chunks.flat_map(|chunk| chunk.passes);
        passes.any(|pass| matches!(pass.branches, Branches::Guided { .. }))
    }

    /// Whether this is the model's name, or that of its folder.
    fn is_called(&self, name: &str) -> bool {
        let folder = Path::new(&self.name).file_name().and_then(|folder| folder.to_str());
        name == self.name || Some(name) == folder
    }

    /// A video's length in seconds, pictures and chunks.
    fn length(&self, seconds: Option<f64>) -> Result<(f64, Length), Refusal> {
        let (transformer, vae) = self.parts()?;
        let seconds = seconds.unwrap_or(SECONDS_DEFAULT);
        let length = self.rate(transformer, vae).length(seconds);
        let length = length.map_err(|error| invalid("seconds", error.to_string()))?;
        Ok((seconds, length))
    }

    /// A size of pictures that the model can make.
    fn size(&self, asked: Option<api::Size>) -> Result<Size, Refusal> {
        let (transformer, vae) = self.parts()?;
        let asked =
            asked.map(|size| Size { width: size.width as usize, height: size.height as usize });
        let size = asked.unwrap_or_else(|| self.own_size());
        memory::grid(transformer, vae, size).map_err(|error| invalid("size", error.to_string()))?;
        Ok(size)
    }

    fn rate(&self, transformer: &Transformer, vae: &Vae) -> Rate {
        Rate {
            fps: self.model.video.fps,
            pictures_per_frame: vae.time_scale(),
            chunk_frames: transformer.window.map(|window| window.chunk),
        }
    }

    fn parts(&self) -> Result<(&Transformer, &Vae), Refusal> {
        let missing = || Refusal::Internal { detail: "the model is not whole".to_owned() };
        let transformer = self.model.transformer.as_ref().ok_or_else(missing)?;
        Ok((transformer, self.model.vae.as_ref().ok_or_else(missing)?))
    }
}

fn invalid(param: &str, message: String) -> Refusal {
    Refusal::InvalidRequest { param: Some(param.to_owned()), message }
}

/// A size as HTTP has it.
fn shown(Size { width, height }: Size) -> api::Size {
    let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
    api::Size { width: side(width), height: side(height) }
}

#[cfg(test)]
pub(crate) mod tests {
    use checkpoint::{Checkpoint, Ema, Source};
    use plan::memory::Layout;
    use types::Tiles;

    use super::*;

    #[test]
    fn plan_is_asked_for_by_the_name_of_the_model_or_of_its_folder() {
        let served = served("models/films");
        let asked = |model: &str| {
            let wish = PlanWish { model: Some(model.to_owned()), ..PlanWish::default() };
            served.asked(&wish, NonZeroU32::MIN)
        };

        assert_eq!(asked("films").unwrap().model, "models/films");
        assert_eq!(asked("models/films").unwrap().model, "models/films");
        for other in ["models", "films/", "film"] {
            let refused = asked(other).unwrap_err();
            assert!(matches!(refused, Refusal::NoSuchModel { .. }), "{refused}");
            assert!(refused.to_string().contains("ask for `models/films`"), "{refused}");
        }
    }

    #[test]
    fn plan_of_nothing_special_is_for_the_measured_size_and_as_many_jobs_as_are_made() {
        let jobs = NonZeroU32::new(4).unwrap();

        let asked = served("mini").asked(&PlanWish::default(), jobs).unwrap();

        assert_eq!((asked.question.jobs, asked.question.scale), (jobs, Scale::MEASURED));
        assert_eq!((asked.size, asked.seconds), (asked.measured_size, SECONDS_DEFAULT));
        // Chunks of three frames of four pictures; 64 pictures are 17 frames.
        assert_eq!((asked.question.chunk_pictures, asked.question.chunks), (12, 6));
    }

    #[test]
    fn plan_of_what_the_model_cannot_make_is_refused_with_the_field() {
        let refused = |wish: PlanWish| match served("mini").asked(&wish, NonZeroU32::MIN) {
            Err(Refusal::InvalidRequest { param, .. }) => param.unwrap(),
            other => panic!("{other:?}"),
        };
        let size = Some(api::Size { width: 130, height: 128 });

        assert_eq!(refused(PlanWish { size, ..PlanWish::default() }), "size");
        let seconds = Some(0.001);
        assert_eq!(refused(PlanWish { seconds, ..PlanWish::default() }), "seconds");
    }

    pub(crate) fn served(name: &str) -> Served {
        let source = Source::embedded(filmloom_mini::FILES);
        let model = Checkpoint::open(source, Ema::Prefer).unwrap().model().unwrap();
        let engine = Engine {
            layout: Layout::bf16(),
            tiles: Tiles { keys: 128, group_bytes: 4, value_multiple: 16, wave_bytes_max: 1 << 20 },
            uncommitted_chunks_max: 1,
            finished_chunks_max: 2,
        };
        Served { name: name.to_owned(), digest: ModelDigest([0; 32]), model, engine }
    }
}
