//! Why a model could not be loaded or run.

use std::ops::Range;

/// Why a model could not be loaded or run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The files are not what they should be. The message names file and tensor.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The device has no room, or failed.
    #[error(transparent)]
    Backend(#[from] backend::Error),
    /// The window cannot be laid out or moved. Correct the model's window.
    #[error(transparent)]
    Slots(#[from] plan::slots::Error),
    /// The sampler's steps make no list of passes. Correct the model's sampler.
    #[error(transparent)]
    Passes(#[from] plan::passes::Error),
    /// An input has another shape than the model. Correct the input.
    #[error("{what} have shape {found:?}, the model takes {expected:?}")]
    Shape {
        /// What has the wrong shape.
        what: &'static str,
        /// The model's shape.
        expected: Vec<usize>,
        /// The input's shape.
        found: Vec<usize>,
    },
    /// An input has another number of axes. Correct the input.
    #[error("{what} have shape {found:?}, [{axes}] is needed")]
    Axes {
        /// What has the wrong axes.
        what: &'static str,
        /// Names of the axes.
        axes: &'static str,
        /// The input's shape.
        found: Vec<usize>,
    },
    /// A number of an input is outside its range. Correct the input.
    #[error("{what} is {found}, {least} to {most} is needed")]
    Range {
        /// The input's name.
        what: &'static str,
        /// The number found.
        found: String,
        /// The least number taken.
        least: f64,
        /// The largest number taken.
        most: f64,
    },
    /// The pass does not fit the job or the stage. Drop it.
    #[error("pass refused: {problem}")]
    Pass {
        /// What is wrong.
        problem: String,
    },
    /// The prompt or the tokenizer cannot be used.
    #[error(transparent)]
    Text(#[from] crate::text::Error),
    /// The model makes no pictures of this size. Choose a multiple.
    #[error(
        "pictures of {width}x{height} cannot be made: \
         width must be a multiple of {column_pixels}, height of {row_pixels}"
    )]
    Size {
        /// Width asked for.
        width: usize,
        /// Height asked for.
        height: usize,
        /// What the width must be a multiple of.
        column_pixels: usize,
        /// What the height must be a multiple of.
        row_pixels: usize,
    },
    /// The layers are not on this stage. Ask the stage that has them.
    #[error("layers {layers:?} are not on this stage, which has {stage:?}")]
    Layers {
        /// The layers asked for.
        layers: Range<usize>,
        /// Those that are here.
        stage: Range<usize>,
    },
    /// A page of a video begun elsewhere has not been written. Fetch it.
    #[error("the page of chunk {chunk} in layer {layer} is missing")]
    NoPage {
        /// The layer.
        layer: usize,
        /// The chunk.
        chunk: u32,
    },
    /// The window was run again since, under another prompt. Restart the job.
    #[error(
        "cannot roll back to chunk {to_chunk}: the window was run again before chunk {rerun_at}"
    )]
    Rerun {
        /// The chunk asked for.
        to_chunk: u32,
        /// The chunk that was in generation then.
        rerun_at: u32,
    },
    /// The model has no window, so it makes one chunk of a known length. Say how long.
    #[error(
        "a model without a window makes all its frames at once: give their number, and one chunk"
    )]
    NoWindow,
    /// A chunk's clean frames are no numbers. Use the f32 class, or other weights.
    #[error(
        "chunk {chunk} came out as no numbers in {class}: compute in f32, or fetch the weights again"
    )]
    NotFinite {
        /// The chunk.
        chunk: u32,
        /// The numeric class.
        class: &'static str,
    },
    /// The chunk's rows are not in the cache. Fetch its pages, or rebuild them.
    #[error("chunk {chunk} is not resident")]
    NotResident {
        /// The chunk.
        chunk: u32,
    },
}
