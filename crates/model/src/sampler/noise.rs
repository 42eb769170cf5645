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

/// A film's noise, drawn from for one chunk after the other.
#[derive(Debug)]
pub struct Draws {
    noise: Noise,
    /// Draws so far. Only given noise depends on it.
    count: usize,
}

impl Draws {
    /// Nothing has been drawn yet.
    pub fn new(noise: Noise) -> Self {
        Self { noise, count: 0 }
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
                let Some(values) = draws.get(self.count) else {
                    return wrong("draws of noise", self.count + 1, draws.len());
                };
                if values.len() != rows * columns {
                    return wrong("values of a draw of noise", rows * columns, values.len());
                }
                backend.upload(rows, columns, values, Dtype::F32)?
            }
        };
        self.count += 1;
        Ok(drawn)
    }
}
