//! A whole model on one device: from a prompt to pictures, chunk by chunk.
//!
//! An [`Engine`] holds weights only and can make any number of films; a
//! [`Film`] is one video in the making. This is the single-process form of
//! what a pool does with several stages: text once, then per chunk its passes,
//! its commit, its pictures.

use std::{collections::VecDeque, sync::Arc};

use backend::{Backend, MlaPath};
use checkpoint::Checkpoint;
use plan::passes::{Branches, chunk_passes};
use types::{Branch, Model, TokenGrid, Transformer, Vae};

use crate::{
    Error, Event,
    sampler::{Noise, Sampler},
    text::{Contexts, Prompt},
    transformer::Stage,
    vae::{Decoder, Pictures, Stream},
};

/// A whole model on one device.
#[derive(Debug)]
pub struct Engine<B: Backend> {
    backend: Arc<B>,
    model: Model,
    vae: Vae,
    text: Contexts<B>,
    stage: Stage<B>,
    decoder: Decoder<B>,
    warnings: Vec<String>,
}

/// What a film is to be.
#[derive(Clone, Debug)]
pub struct Request {
    /// The prompt, from [`Engine::prompt`].
    pub prompt: Prompt,
    /// Where the noise comes from.
    pub noise: Noise,
    /// Steps and guidance: the model's own, or changed.
    pub sampler: types::Sampler,
    /// Picture width.
    pub width: usize,
    /// Picture height.
    pub height: usize,
    /// Frames of the whole film, for a model without a window.
    pub frames: Option<usize>,
}

/// One video in the making.
#[derive(Debug)]
pub struct Film<'a, B: Backend> {
    engine: &'a Engine<B>,
    sampler: Sampler<'a, B>,
    steps: types::Sampler,
    stream: Stream<B>,
    next: u32,
    /// Clean frames of the chunks that a prompt switch may run again.
    clean: VecDeque<(u32, B::Tensor)>,
    size: Size,
}

/// A finished chunk.
#[derive(Clone, Debug)]
pub struct Chunk {
    /// Its index.
    pub index: u32,
    /// Clean frames, normalised: `[channels, frames, rows, columns]`.
    pub x0: Vec<f32>,
    /// Pictures, RGB8, row-major.
    pub pictures: Vec<Vec<u8>>,
}

/// What happens to the history at a prompt switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum History {
    /// The window's rows stay as they were made.
    Keep,
    /// The window's clean frames are run again under the new prompt.
    Recache,
}

#[derive(Clone, Copy, Debug)]
struct Size {
    width: usize,
    height: usize,
    grid: TokenGrid,
    /// Rows and columns of a frame tensor.
    rows: usize,
    columns: usize,
}

impl<B: Backend> Engine<B> {
    /// Loads all parts of a model.
    ///
    /// # Errors
    ///
    /// [`Error::Checkpoint`] naming file and tensor, [`Error::Backend`] if the
    /// device has no room.
    pub fn load(backend: Arc<B>, checkpoint: &Checkpoint) -> Result<Self, Error> {
        let model = checkpoint.model()?;
        let text = Contexts::load(Arc::clone(&backend), checkpoint)?;
        let transformer = checkpoint.open_transformer(None)?;
        let vae = checkpoint.open_vae()?;
        let path = match plan::path::absorbs(&model) {
            true => MlaPath::Absorb,
            false => MlaPath::Rebuild,
        };
        let layers = 0..transformer.config.layers;
        let assumed: Vec<_> = checkpoint.assumed()?.into_iter().collect();
        let warnings =
            [assumed.as_slice(), text.warnings(), &transformer.warnings, &vae.warnings].concat();
        Ok(Self {
            text,
            stage: Stage::load(
                Arc::clone(&backend),
                transformer.config,
                &transformer.tensors,
                layers,
                path,
            )?,
            decoder: Decoder::load(&*backend, &vae.tensors, &vae.config)?,
            vae: vae.config,
            model,
            backend,
            warnings,
        })
    }

    /// The device.
    pub fn backend(&self) -> &B {
        &self.backend
    }

    /// The numeric class of everything this engine makes.
    pub fn class(&self) -> backend::Class {
        self.backend.class()
    }

    /// The resolved configuration.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Oddities of the files that do no harm, each a sentence for the user.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// The text side.
    pub fn text(&self) -> &Contexts<B> {
        &self.text
    }

    /// Cleans and tokenises a prompt.
    ///
    /// # Errors
    ///
    /// [`Error::Text`] if nothing is left of it.
    pub fn prompt(&self, text: &str) -> Result<Prompt, Error> {
        self.text.prompt(text)
    }

    /// Starts a film.
    ///
    /// # Errors
    ///
    /// [`Error::Size`] if the model has no pictures of this size,
    /// [`Error::Backend`] if the device has no room for its caches.
    pub fn start(&self, request: &Request) -> Result<Film<'_, B>, Error> {
        let Request { width, height, frames, .. } = *request;
        let size = size(self.stage.config(), &self.vae, width, height, frames)?;
        let mut job = self.stage.open(size.grid, 0)?;
        let context = self.text.encode(&request.prompt)?;
        self.stage.set_context(&mut job, Branch::Conditional, &context)?;
        if guided(&request.sampler)? {
            self.stage.set_context(
                &mut job,
                Branch::Unconditional,
                &self.text.encode_nothing()?,
            )?;
        }
        Ok(Film {
            engine: self,
            sampler: Sampler::new(&self.stage, job, request.noise.clone())?,
            steps: request.sampler.clone(),
            stream: self.decoder.stream(&*self.backend, size.rows, size.columns)?,
            next: 0,
            clean: VecDeque::new(),
            size,
        })
    }
}

impl<'a, B: Backend> Film<'a, B> {
    /// Index of the chunk that [`Film::next_chunk`] makes.
    pub fn chunk(&self) -> u32 {
        self.next
    }

    /// Axes of a chunk's clean frames: channels, frames, rows, columns.
    pub fn x0_shape(&self) -> [usize; 4] {
        let Size { grid, rows, columns, .. } = self.size;
        [self.engine.stage.config().in_channels, grid.frames, rows, columns]
    }

    /// The job's state: window and pages.
    pub fn sampler(&mut self) -> &mut Sampler<'a, B> {
        &mut self.sampler
    }

    /// Makes the next chunk: its passes, its commit, its pictures.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] if the device has no room or failed,
    /// [`Error::NotFinite`] if the model does not compute in this class,
    /// [`Error::Slots`] at the end of counting.
    pub fn next_chunk(&mut self, observe: &mut dyn FnMut(Event)) -> Result<Chunk, Error> {
        let backend = &*self.engine.backend;
        let bytes = self.size.width * self.size.height * 3;
        let (index, x0, pictures) = self.advance(observe, |pictures| pictures.bytes(backend))?;
        let pictures = pictures.chunks_exact(bytes).map(<[u8]>::to_vec).collect();
        Ok(Chunk { index, x0, pictures })
    }

    /// As [`Film::next_chunk`], with the decoder's own values: clean frames, and
    /// pictures `[count, rows, columns, 3]` in [-1, 1].
    ///
    /// # Errors
    ///
    /// As [`Film::next_chunk`].
    pub fn next_values(&mut self) -> Result<(Vec<f32>, Vec<f32>), Error> {
        let backend = &*self.engine.backend;
        let (_, x0, pictures) = self.advance(&mut |_| (), |pictures| pictures.values(backend))?;
        Ok((x0, pictures))
    }

    fn advance<T>(
        &mut self,
        observe: &mut dyn FnMut(Event),
        read: impl Fn(&Pictures<B>) -> Result<T, Error>,
    ) -> Result<(u32, Vec<f32>, T), Error> {
        let (chunk, backend) = (self.next, &*self.engine.backend);
        let x0 = self.sampler.chunk(chunk, chunk_passes(&self.steps, chunk)?, observe)?;
        let values = backend.download(&x0)?;
        if !values.iter().all(|value| value.is_finite()) {
            return Err(Error::NotFinite { chunk, class: backend.class().name() });
        }
        observe(Event::DecodeStarted { chunk });
        let pictures = read(&self.engine.decoder.decode(backend, &mut self.stream, &x0)?)?;
        observe(Event::DecodeDone { chunk });
        self.remember(chunk, x0);
        self.next += 1;
        Ok((chunk, values, pictures))
    }

    /// Changes the prompt from the next chunk on.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] if the device has no room or failed.
    pub fn switch_prompt(&mut self, prompt: &Prompt, history: History) -> Result<(), Error> {
        let context = self.engine.text.encode(prompt)?;
        self.engine.stage.set_context(self.sampler.job_mut(), Branch::Conditional, &context)?;
        if history == History::Recache {
            let clean = &self.clean;
            self.sampler.recache(&|chunk| {
                clean.iter().find(|(index, _)| *index == chunk).map(|(_, frames)| frames)
            })?;
        }
        Ok(())
    }

    /// Keeps the clean frames of the chunks that the window still reaches into.
    fn remember(&mut self, chunk: u32, frames: B::Tensor) {
        self.clean.push_back((chunk, frames));
        let reruns = self.sampler.job().slots().reruns();
        let oldest = reruns.first().map_or(u32::MAX, |rerun| rerun.chunk);
        self.clean.retain(|(index, _)| oldest <= *index);
    }
}

/// Whether any chunk runs the unconditional branch.
fn guided(sampler: &types::Sampler) -> Result<bool, Error> {
    let chunks = [chunk_passes(sampler, 0)?, chunk_passes(sampler, 1)?];
    let mut passes = chunks.iter().flat_map(|chunk| &chunk.passes);
    Ok(passes.any(|pass| matches!(pass.branches, Branches::Guided { .. })))
}

/// The chunk's grid for pictures of this size.
fn size(
    config: &Transformer,
    vae: &Vae,
    width: usize,
    height: usize,
    frames: Option<usize>,
) -> Result<Size, Error> {
    let [_, patch_rows, patch_columns] = config.patch;
    let (row_pixels, column_pixels) =
        (vae.space_scale() * patch_rows, vae.space_scale() * patch_columns);
    let whole = width.is_multiple_of(column_pixels) && height.is_multiple_of(row_pixels);
    if !whole || width == 0 || height == 0 {
        return Err(Error::Size { width, height, column_pixels, row_pixels });
    }
    let frames = match (config.window, frames) {
        (Some(window), _) => window.chunk,
        (None, Some(frames)) => frames,
        (None, None) => return Err(Error::NoWindow),
    };
    Ok(Size {
        width,
        height,
        grid: TokenGrid { frames, rows: height / row_pixels, columns: width / column_pixels },
        rows: height / vae.space_scale(),
        columns: width / vae.space_scale(),
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use backend::Cpu;
    use checkpoint::{Ema, Source};

    use super::*;

    #[test]
    fn a_chunk_of_no_numbers_is_not_decoded() {
        let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/mini/weights");
        let checkpoint = Checkpoint::open(Source::folder(weights), Ema::Prefer).unwrap();
        let engine = Engine::load(Arc::new(Cpu::f32(2)), &checkpoint).unwrap();
        let (width, height) = (32, 16);
        let mut request = Request {
            prompt: engine.prompt("a red ball").unwrap(),
            noise: Noise::Seed(0),
            sampler: engine.model().sampler.clone(),
            width,
            height,
            frames: None,
        };
        let values = engine.start(&request).unwrap().x0_shape().iter().product();
        request.noise = Noise::Given(vec![vec![f32::NAN; values]]);
        let mut events = Vec::new();

        let mut film = engine.start(&request).unwrap();
        let error = film.next_chunk(&mut |event| events.push(event)).unwrap_err();

        assert!(matches!(error, Error::NotFinite { chunk: 0, .. }), "{error}");
        let Some(Event::PassDone { commit: true, .. }) = events.pop() else {
            panic!("{events:?} ends with something else than the commit pass")
        };
        assert_eq!(film.chunk(), 0);
    }
}
