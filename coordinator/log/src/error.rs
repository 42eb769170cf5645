//! Why something was refused, and what to do about it.

use std::{io, path::PathBuf};

use types::{Epoch, JobId};

use crate::format::{CLASS_BYTES_MAX, Header, VERSION, X0_BYTES_MAX};

/// Why the log did not do what was asked. Except after [`Error::Io`], nothing has
/// changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The disk failed. If it was in a write, the job is [`Error::Broken`] from
    /// here on.
    #[error("cannot {what} {path}: {source}; mend the disk or its rights, then try again")]
    #[expect(missing_docs, reason = "the message names the fields")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    /// The folder belongs to another process.
    #[error("{folder} is in use by another process; stop that one, or give another folder")]
    #[expect(missing_docs, reason = "the message names the field")]
    Locked { folder: PathBuf },
    /// The cap would be exceeded. Committed chunks are never deleted for room.
    #[error(
        "the chunk log is full: {need_bytes} bytes more than the {used_bytes} in use exceed the \
         cap of {max_bytes}; remove jobs that are no longer needed, or raise the cap"
    )]
    #[expect(missing_docs, reason = "the message names the fields")]
    Full { need_bytes: u64, used_bytes: u64, max_bytes: u64 },
    /// No such job. Create it first.
    #[error("job {:032x} is not in the chunk log; create it first", job.0)]
    #[expect(missing_docs, reason = "the message names the field")]
    UnknownJob { job: JobId },
    /// The header cannot be kept. Fix the request.
    #[error(
        "{header} cannot be kept: x0 may have 1 to {X0_BYTES_MAX} bytes, the class' name at most \
         {CLASS_BYTES_MAX}"
    )]
    #[expect(missing_docs, reason = "the message names the field")]
    InvalidHeader { header: Box<Header> },
    /// The job is here as something else. Take another job id, or remove this job.
    #[error("the chunk log holds {held}; refused was {offered}; take another job id")]
    #[expect(missing_docs, reason = "the message names the fields")]
    HeaderDiffers { held: Box<Header>, offered: Box<Header> },
    /// The message is of a placement that was replaced. Stop working for the job.
    #[error(
        "epoch {} of job {:032x} was replaced by epoch {}; stop working for it",
        found.0, job.0, current.0
    )]
    #[expect(missing_docs, reason = "the message names the fields")]
    Stale { job: JobId, found: Epoch, current: Epoch },
    /// Chunks before this one are not there. Send the expected one.
    #[error("chunk {found} of job {:032x} came, chunk {expected} is due; send that one", job.0)]
    #[expect(missing_docs, reason = "the message names the fields")]
    Gap { job: JobId, found: u32, expected: u32 },
    /// The chunk is here with other bytes, so whoever sent it computes otherwise.
    /// Take it out of the job.
    #[error(
        "chunk {chunk} of job {:032x} is committed with digest {held}, refused was {offered}; \
         the sender computes otherwise than the first one did: take it out of the job",
        job.0
    )]
    #[expect(missing_docs, reason = "the message names the fields")]
    Differs { job: JobId, chunk: u32, held: blake3::Hash, offered: blake3::Hash },
    /// The payload is not an x0 of the job's shape. Fix the request.
    #[error(
        "{found_bytes} bytes came for chunk {chunk} of job {:032x}, its x0 has {expected_bytes}; \
         send a whole one",
        job.0
    )]
    #[expect(missing_docs, reason = "the message names the fields")]
    PayloadBytes { job: JobId, chunk: u32, expected_bytes: u64, found_bytes: u64 },
    /// The chunk to be read is not committed. Wait for it.
    #[error("chunk {chunk} of job {:032x} is not committed, {committed} are; wait for it", job.0)]
    #[expect(missing_docs, reason = "the message names the fields")]
    NotCommitted { job: JobId, chunk: u32, committed: u32 },
    /// The job's file cannot be proven whole. Put a good copy in its place and
    /// reopen the job, or remove it.
    #[error(
        "the file of job {:032x} is damaged {damage}; put a good copy in its place and reopen \
         the job, or remove it",
        job.0
    )]
    #[expect(missing_docs, reason = "the message names the fields")]
    Damaged { job: JobId, damage: Damage },
    /// An earlier write failed, so it is not known what is on the disk. Reopen the
    /// job.
    #[error(
        "an earlier write to job {:032x} failed; mend the disk, then reopen the job", job.0
    )]
    #[expect(missing_docs, reason = "the message names the field")]
    Broken { job: JobId },
}

/// Where a file is damaged, and how.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("at byte {at}: {problem}")]
#[expect(missing_docs, reason = "the message names the fields")]
pub struct Damage {
    pub at: u64,
    pub problem: Problem,
}

/// How a file is damaged.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Problem {
    /// It is some other file.
    #[error("it does not begin as a chunk log does")]
    Magic,
    /// It is of a later version, or the version's bytes are wrong.
    #[error("it is of format version {found}, this program reads version {VERSION}")]
    #[expect(missing_docs, reason = "the message names the field")]
    Version { found: u32 },
    /// The header is cut short or its digest is wrong.
    #[error("the header is not whole")]
    Header,
    /// It was moved here from another job.
    #[error("it is the file of job {:032x}", found.0)]
    #[expect(missing_docs, reason = "the message names the field")]
    OtherJob { found: JobId },
    /// A record that has others behind it is not whole.
    #[error("a record is not whole, though others follow it")]
    Record,
    /// A whole record does not continue the chain.
    #[error("a record does not continue the chain of those before it")]
    Chain,
    /// A record of the chain says what cannot follow.
    #[error("a record's epoch, chunk or length cannot follow those before it")]
    Order,
    /// A payload that has records behind it has another digest.
    #[error("a payload's digest is wrong")]
    Payload,
    /// It could not be read, or its unfinished end not be cut off.
    #[error("the disk failed: {problem}")]
    #[expect(missing_docs, reason = "the message names the field")]
    Disk { problem: String },
}

impl Problem {
    pub(crate) fn disk(error: &io::Error) -> Self {
        Self::Disk { problem: error.to_string() }
    }

    /// The damage at a place.
    pub(crate) fn at(self, at: u64) -> Damage {
        Damage { at, problem: self }
    }
}
