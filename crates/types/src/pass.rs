//! One run of a chunk through the layers, as it is planned, sent and executed.

use std::{fmt, ops::Range};

/// Tokens of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TokenGrid {
    /// Frames of a chunk.
    pub frames: usize,
    /// Token rows of a frame.
    pub rows: usize,
    /// Token columns of a frame.
    pub columns: usize,
}

impl TokenGrid {
    /// Tokens of one frame.
    pub fn frame_tokens(self) -> usize {
        self.rows * self.columns
    }

    /// Tokens of a chunk.
    pub fn tokens(self) -> usize {
        self.frames * self.frame_tokens()
    }
}

/// A prompt branch of a guided pass. Both read the conditional branch's cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Branch {
    /// The prompt.
    Conditional,
    /// The empty or negative prompt.
    Unconditional,
}

impl fmt::Display for Branch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Conditional => "conditional",
            Self::Unconditional => "unconditional",
        })
    }
}

/// What a pass is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PassKind {
    /// Predicts the velocity.
    Denoise,
    /// Leaves the clean chunk's rows in the cache.
    Commit,
    /// Replaces the rows of an already committed chunk, under another prompt.
    Rerun,
}

/// One run of a chunk through a stage. What it runs under is the job's: its
/// latents, and the context of the branch.
#[derive(Clone, Debug, PartialEq)]
pub struct Pass {
    /// The chunk.
    pub chunk: u32,
    /// Place in the chunk's list of passes.
    pub step: u32,
    /// The prompt it runs under.
    pub branch: Branch,
    /// What it is for.
    pub kind: PassKind,
    /// Time of every frame of the chunk, 0 to 1000.
    pub frame_times: Vec<f32>,
    /// Tokens of the chunk. A stage takes whole chunks.
    pub tokens: Range<usize>,
}

impl Pass {
    /// A pass over all tokens of a chunk, at one time.
    pub fn whole(
        grid: TokenGrid,
        chunk: u32,
        step: u32,
        branch: Branch,
        kind: PassKind,
        time: f32,
    ) -> Self {
        let (frame_times, tokens) = (vec![time; grid.frames], 0..grid.tokens());
        Self { chunk, step, branch, kind, frame_times, tokens }
    }
}
