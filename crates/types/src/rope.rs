//! Rotary positions: which frequencies rotate which pairs of a head.
//!
//! A rotated vector is a list of adjacent pairs `(x0, x1), (x2, x3), ...`; the
//! first pairs turn with the frame, the next with the row, the last with the
//! column of a token. Pair `i` of an axis turns by
//! `position * theta^(-2 i / denominator)` radians.
//!
//! The denominator is usually the axis' own width (twice its pairs). VideoMLA
//! keeps only the first, fastest pairs of Wan's wider axes, so there the two
//! differ (arXiv:2605.30351, section 3: 6 of 22, 5 of 21 and 5 of 21 pairs).

/// Rotary positions of a transformer.
#[derive(Clone, Debug, PartialEq)]
pub struct Rope {
    /// Frame, row and column axes, in the order of their pairs.
    pub axes: [Axis; 3],
    /// What counts as a frame's position.
    pub positions: Positions,
}

/// The pairs of one axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Axis {
    /// Number of pairs.
    pub pairs: usize,
    /// Base of the frequencies.
    pub theta: f64,
    /// Denominator of the frequencies' exponents.
    pub denominator: f64,
}

/// What counts as a frame's position.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Positions {
    /// The frame's index in the video.
    Absolute,
    /// The frame's place in the attended window, counted from its first frame.
    Window,
}

impl Rope {
    /// Pairs of all axes.
    pub fn pairs(&self) -> usize {
        self.axes.iter().map(|axis| axis.pairs).sum()
    }
}

impl Axis {
    /// An axis of `pairs` pairs whose denominator is its own width.
    pub fn full(pairs: usize, theta: f64) -> Self {
        #[expect(clippy::cast_precision_loss, reason = "a head has few pairs")]
        Self { pairs, theta, denominator: (2 * pairs) as f64 }
    }
}
