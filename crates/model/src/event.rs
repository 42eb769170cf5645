//! What a film tells its observer. Nothing here reads a clock: the observer does.

/// Progress of a film.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A pass begins.
    PassStarted {
        /// The chunk.
        chunk: u32,
        /// Place in the chunk's list of passes.
        step: u32,
        /// Passes of the chunk, the commit pass included.
        steps: u32,
        /// Whether it is the commit pass.
        commit: bool,
    },
    /// A pass has ended, its result is there.
    PassDone {
        /// The chunk.
        chunk: u32,
        /// Place in the chunk's list of passes.
        step: u32,
        /// Passes of the chunk, the commit pass included.
        steps: u32,
        /// Whether it is the commit pass.
        commit: bool,
    },
    /// The chunk's frames go through the frame decoder.
    DecodeStarted {
        /// The chunk.
        chunk: u32,
    },
    /// The chunk's pictures are there.
    DecodeDone {
        /// The chunk.
        chunk: u32,
    },
}
