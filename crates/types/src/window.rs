//! Which finished frames a chunk attends to.
//!
//! ```text
//! frame   0    | 1 2  | 3 4 5 6 7 8 | 9 10 11
//!         sink | gone | recent      | chunk in generation
//! ```
//!
//! Published code counts windows in three ways: the embedded model's
//! `window_frames` is `recent`; Self-Forcing's `local_attn_size` includes the
//! sink and the current chunk; the VideoMLA paper's "1 + 6" includes neither
//! the current chunk nor the sink. [`Window`] is the resolved form of all.

use std::ops::Range;

/// Frames attended to besides the chunk itself, all counted in frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// First frames of the video, which never leave.
    pub sink: usize,
    /// Latest finished frames, counting neither the sink nor the chunk.
    pub recent: usize,
    /// Frames generated together.
    pub chunk: usize,
}

impl Window {
    /// The resolved form of `local_attn_size` and `sink_size` as counted in
    /// Self-Forcing, LongLive and Infinity-RoPE, where the size includes the
    /// sink and the current chunk. `None` if the size is too small for both.
    pub fn from_local_attention(size: usize, sink: usize, chunk: usize) -> Option<Self> {
        let recent = size.checked_sub(sink)?.checked_sub(chunk)?;
        Some(Self { sink, recent, chunk })
    }

    /// Frames kept per layer while a chunk is in generation, at the most.
    /// Saturates.
    pub fn frames_max(&self) -> usize {
        self.sink.saturating_add(self.recent).saturating_add(self.chunk)
    }

    /// Finished frames that a chunk attends to when `committed` frames exist:
    /// the sink, then the recent frames. Both are ranges of frame indices.
    pub fn attended(&self, committed: usize) -> [Range<usize>; 2] {
        let sink = 0..self.sink.min(committed);
        let recent = committed.saturating_sub(self.recent).max(sink.end)..committed;
        [sink, recent]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sink_stays_and_the_middle_is_skipped() {
        let window = Window { sink: 1, recent: 6, chunk: 3 };
        assert_eq!(window.attended(0), [0..0, 0..0]);
        assert_eq!(window.attended(3), [0..1, 1..3]);
        assert_eq!(window.attended(12), [0..1, 6..12]);
    }

    #[test]
    fn public_code_counts_sink_and_chunk_in_its_window() {
        let window = Window::from_local_attention(6, 1, 3);
        assert_eq!(window, Some(Window { sink: 1, recent: 2, chunk: 3 }));
        assert_eq!(Window::from_local_attention(3, 1, 3), None);
    }
}
