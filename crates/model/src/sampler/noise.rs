//! Where a chunk's noise comes from.

use backend::{Backend, Dtype, PatchGrid, philox::Draw};

use crate::Error;

/// Where a film's noise comes from.
#[derive(Clone, Debug)]
pub enum Noise {
    /// Drawn for this seed.
    Seed(u64),
    /// Given: `[draws][channels * pixels]`, used one after the other.
    Given(Vec<Vec<f32>>),
}

/// Noise that is drawn from, one chunk after the other.
#[derive(Debug)]
pub(super) struct Source {
    noise: Noise,
    /// Draws so far. Only given noise depends on it.
    draws: usize,
}

impl Source {
    pub(super) fn new(noise: Noise) -> Self {
        Self { noise, draws: 0 }
    }

    /// Noise for a step of a chunk, f32 `[channels, pixels]`.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] if the device has no room, [`Error::Shape`] if given
    /// noise is used up or has another size.
    pub(super) fn draw<B: Backend>(
        &mut self,
        backend: &B,
        frames: PatchGrid,
        chunk: u32,
        step: u32,
    ) -> Result<B::Tensor, Error> {
        let (rows, columns) = (frames.channels, frames.pixels());
        let drawn = match &self.noise {
            Noise::Seed(seed) => {
                let mut drawn = backend.zeros(rows, columns, Dtype::F32)?;
                backend.noise(Draw { seed: *seed, chunk, step, domain: 0 }, &mut drawn);
                drawn
            }
            Noise::Given(draws) => {
                let wrong = |what, expected: usize, found: usize| {
                    let (expected, found) = (vec![expected], vec![found]);
                    Err(Error::Shape { what, expected, found })
                };
                let Some(values) = draws.get(self.draws) else {
                    return wrong("draws of noise", self.draws + 1, draws.len());
                };
                if values.len() != rows * columns {
                    return wrong("values of a draw of noise", rows * columns, values.len());
                }
                backend.upload(rows, columns, values, Dtype::F32)?
            }
        };
        self.draws += 1;
        Ok(drawn)
    }
}
