//! Whether a load fits into what a machine has, said before anything is loaded.

use serde::Serialize;

use super::{Memory, Term};
use crate::units::Bytes;

/// What a machine has to offer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Budget {
    /// Bytes that may be used.
    pub available_bytes: u64,
    /// Bytes of them that must stay free.
    pub headroom_bytes: u64,
}

/// The model does not fit. Follow the advice, or use a bigger machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize)]
#[error(
    "{} are needed and {} must stay free, but {} are available, {} too few; the largest part \
     is {largest}: {advice}",
    Bytes(*need_bytes), Bytes(budget.headroom_bytes), Bytes(budget.available_bytes),
    Bytes(*missing_bytes)
)]
pub struct DoesNotFit {
    /// Bytes needed, without the headroom.
    pub need_bytes: u64,
    /// What the machine offers.
    pub budget: Budget,
    /// Bytes that are missing.
    pub missing_bytes: u64,
    /// The term that weighs most.
    pub largest: &'static str,
    /// What makes that term smaller.
    pub advice: &'static str,
}

impl Memory {
    /// Whether the total fits beside the headroom: the bytes left over.
    ///
    /// # Errors
    ///
    /// [`DoesNotFit`] with all numbers, and what to do about the largest term.
    pub fn fits(&self, budget: Budget) -> Result<u64, DoesNotFit> {
        let need_bytes = self.total_bytes;
        let with_headroom = need_bytes.saturating_add(budget.headroom_bytes);
        if with_headroom <= budget.available_bytes {
            return Ok(budget.available_bytes - with_headroom);
        }
        let missing_bytes = with_headroom - budget.available_bytes;
        let [first, others @ ..] = self.shared.terms();
        let larger = |a: Term, b: Term| if a.1 < b.1 { b } else { a };
        let others = others.into_iter().chain(self.per_job.terms());
        let (largest, _) = others.fold(first, larger);
        Err(DoesNotFit { need_bytes, budget, missing_bytes, largest, advice: advice(largest) })
    }
}

fn advice(largest: &str) -> &'static str {
    match largest {
        "text encoder" | "text projection" | "transformer" | "VAE decoder" => {
            "use a narrower element type, or a smaller model"
        }
        "cache slots" => "make the window shorter or the pictures smaller",
        "cross-attention" => "use a narrower element type, or no guidance",
        _ => "make the pictures smaller",
    }
}
