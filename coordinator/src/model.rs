//! The model that is served, and what a request for a video means for it.

use api::{NewVideo, Refusal};
use plan::{
    length::{Length, Rate},
    memory::{self, Engine, Size},
    passes::{Branches, chunk_passes},
    placement::{JobShape, Wire, Work, WorkError},
};
use types::{Model, ModelDigest, TokenGrid, Transformer, Vae};

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

/// Seconds of a video if nobody says.
const SECONDS_DEFAULT: f64 = 4.0;

impl Served {
    /// Reads what a request asks for.
    ///
    /// # Errors
    ///
    /// [`Refusal::InvalidRequest`], which names the field.
    pub(crate) fn order(&self, new: &NewVideo) -> Result<Order, Refusal> {
        let invalid = |param: &str, message: String| Refusal::InvalidRequest {
            param: Some(param.to_owned()),
            message,
        };
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
        let seconds = new.seconds.unwrap_or(SECONDS_DEFAULT);
        let rate = self.rate(transformer, vae);
        let length = rate.length(seconds).map_err(|error| invalid("seconds", error.to_string()))?;
        let own = Size { width: self.model.video.width, height: self.model.video.height };
        let asked =
            new.size.map(|size| Size { width: size.width as usize, height: size.height as usize });
        let size = asked.unwrap_or(own);
        memory::grid(transformer, vae, size).map_err(|error| invalid("size", error.to_string()))?;
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
            wire: Wire::F32,
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
