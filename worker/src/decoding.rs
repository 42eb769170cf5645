//! Pictures of the jobs that are decoded here, each with the causal history of
//! the chunks before.

use std::{collections::BTreeMap, sync::Arc};

use backend::{Backend, Dtype};
use checkpoint::Checkpoint;
use model::{
    Error,
    vae::{Decoder, Stream},
};
use types::{Epoch, Fence, JobId};

/// A decoder with its jobs.
#[derive(Debug)]
pub(crate) struct Decodings<B: Backend> {
    backend: Arc<B>,
    decoder: Decoder<B>,
    channels: usize,
    films: BTreeMap<JobId, Film<B>>,
}

#[derive(Debug)]
struct Film<B: Backend> {
    epoch: Epoch,
    next: u32,
    stream: Stream<B>,
}

/// A chunk to decode.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frames<'a> {
    /// The job.
    pub(crate) fence: Fence,
    /// The chunk.
    pub(crate) chunk: u32,
    /// Rows of the frame tensor.
    pub(crate) rows: usize,
    /// Columns of the frame tensor.
    pub(crate) columns: usize,
    /// f32 `[channels, frames, rows, columns]`, normalised.
    pub(crate) values: &'a [f32],
}

/// Decoded pictures: RGB8, one after the other.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) count: usize,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) rgb: Vec<u8>,
}

impl<B: Backend> Decodings<B> {
    pub(crate) fn load(backend: Arc<B>, checkpoint: &Checkpoint) -> Result<Self, Error> {
        let vae = checkpoint.open_vae()?;
        let decoder = Decoder::load(&*backend, &vae.tensors, &vae.config)?;
        let (channels, films) = (vae.config.z_dim, BTreeMap::new());
        Ok(Self { backend, decoder, channels, films })
    }

    /// Decodes a chunk; the first one of a job begins its history anew.
    ///
    /// # Errors
    ///
    /// [`Error::Pass`] if a chunk before it is missing, [`Error::Shape`] if its
    /// values are not of its size, [`Error::Backend`] if the device has no room.
    pub(crate) fn decode(&mut self, frames: Frames<'_>) -> Result<Shown, Error> {
        let Frames { fence, chunk, rows, columns, values } = frames;
        let backend = &*self.backend;
        let frame = self.channels * rows * columns;
        if values.is_empty() || !values.len().is_multiple_of(frame) {
            let (expected, found) = (vec![frame], vec![values.len()]);
            return Err(Error::Shape { what: "values of clean frames", expected, found });
        }
        if chunk == 0 {
            let stream = self.decoder.stream(backend, rows, columns)?;
            let film = Film { epoch: fence.epoch, next: 0, stream };
            self.films.insert(fence.job, film);
        }
        let film = self.films.get_mut(&fence.job);
        let film = film.filter(|film| film.epoch == fence.epoch && film.next == chunk);
        let Some(film) = film else {
            let problem = format!("chunk {chunk} came to the decoder without the ones before it");
            return Err(Error::Pass { problem });
        };
        let pixels = values.len() / self.channels;
        let tensor = backend.upload(self.channels, pixels, values, Dtype::F32)?;
        let pictures = self.decoder.decode(backend, &mut film.stream, &tensor)?;
        film.next += 1;
        Ok(Shown {
            count: pictures.count,
            width: pictures.columns,
            height: pictures.rows,
            rgb: pictures.bytes(backend)?,
        })
    }

    /// Forgets every job.
    pub(crate) fn clear(&mut self) {
        self.films.clear();
    }

    /// Forgets a job, unless it is of a later epoch.
    pub(crate) fn close(&mut self, fence: Fence) {
        if self.films.get(&fence.job).is_some_and(|film| film.epoch <= fence.epoch) {
            self.films.remove(&fence.job);
        }
    }
}
