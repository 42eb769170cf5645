//! What names a job and its placement in every message.

/// One video in the making.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u128);

/// The number of a placement of a job. It only grows, and whoever holds state of
/// the job refuses what carries a lower one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// What a message is about, and the placement it is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fence {
    /// The job.
    pub job: JobId,
    /// Its placement.
    pub epoch: Epoch,
}
