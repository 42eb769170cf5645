//! Weights in the form in which they are loaded.
//!
//! One list of them answers both how many parameters a file has and how many
//! bytes an engine holds, so the two cannot disagree.

use super::{decoder::Kind, layout::Precision};
use crate::units::sum;

/// Weights that are loaded together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weight {
    /// So many numbers in full: norms, modulation, position tables.
    Vector(u64),
    /// A matrix of `n` outputs and `k` inputs.
    Matrix { n: u64, k: u64, bias: Bias, precision: Precision },
    /// A matrix without bias per head.
    Heads { heads: u64, n: u64, k: u64 },
    /// The same where attention may turn it around: the larger form counts.
    HeadsEitherWay { heads: u64, n: u64, k: u64 },
    /// A convolution's kernel and bias, with `n` outputs as its file counts them.
    Kernel { kind: Kind, n: u64, channels: u64 },
    /// A table that stays in its file: only the rows asked for are read.
    Table { elements: u64 },
}

/// Whether a matrix has a bias in its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bias {
    /// One number per output.
    Yes,
    /// None.
    No,
}

impl Weight {
    /// A matrix of factors with a bias.
    pub(super) fn linear(n: u64, k: u64) -> Self {
        Self::Matrix { n, k, bias: Bias::Yes, precision: Precision::Factor }
    }

    /// A matrix of factors without.
    pub(super) fn bare(n: u64, k: u64) -> Self {
        Self::Matrix { n, k, bias: Bias::No, precision: Precision::Factor }
    }

    /// A matrix in full, with a bias.
    pub(super) fn full(n: u64, k: u64) -> Self {
        Self::Matrix { n, k, bias: Bias::Yes, precision: Precision::Full }
    }

    fn elements(&self) -> u64 {
        match *self {
            Self::Vector(elements) | Self::Table { elements } => elements,
            Self::Matrix { n, k, bias, .. } => {
                let bias = if bias == Bias::Yes { n } else { 0 };
                sum([n.saturating_mul(k), bias])
            }
            Self::Heads { heads, n, k } | Self::HeadsEitherWay { heads, n, k } => {
                heads.saturating_mul(n).saturating_mul(k)
            }
            Self::Kernel { kind, n, channels } => {
                sum([kind.taps().saturating_mul(n).saturating_mul(channels), n])
            }
        }
    }
}

/// Numbers in the files of these weights.
pub(super) fn elements(weights: &[Weight]) -> u64 {
    sum(weights.iter().map(Weight::elements))
}
