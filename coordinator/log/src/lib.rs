//! The chunk log: clean frames of every committed chunk, durable and hash-chained.
//!
//! It is the truth of every job. A chunk is committed when [`ChunkLog::append`]
//! has returned; everything else that a job has made (latents, pictures, video)
//! can be made again from here.
//!
//! ```text
//!  folder/lock                 held by the one process that uses the folder
//!  folder/<job hex>.chunks     header | record | record | record ...   append only
//!            append ─▶ due? ─▶ room? ─▶ write ─▶ fsync ─▶ in memory ─▶ acknowledged
//!            open   ─▶ lock ─▶ scan every file: whole | cut at the end | damaged
//! ```
//!
//! - [`log`]: the folder with its lock and its cap; what callers use.
//! - [`mod@format`]: the bytes of a file.
//! - [`error`]: why something was refused.
//!
//! Invariants:
//!
//! - What was acknowledged is on the disk, and is never written again.
//! - A job's epoch only grows, across restarts too; what carries a lower one is
//!   refused.
//! - Chunks come in order without gaps; a chunk that is there is taken again only
//!   if its bytes are equal.
//! - Nothing is read back without its digest being checked; a file that cannot be
//!   proven whole is refused, and no other job with it.
//! - A write that failed is never tried again on the same file as if it were clean:
//!   its job is refused until the file has been scanned again.
//!
//! One doubt is left to the format: a last record with wrong bytes may be one whose
//! writing was cut short, or one that was acknowledged and has rotted. It is taken
//! for the first, cut off and reported in [`ChunkLog::cuts`]; whoever knows of more
//! committed chunks than are here learns it by comparing.
//!
//! Calls block on the disk. There is no clock, no thread and no retry in here.

pub mod error;
pub mod format;
pub mod log;

mod contents;
mod disk;
mod job;
mod scan;

#[cfg(test)]
mod tests;

pub use error::{Damage, Error, Problem};
pub use format::{Header, X0_BYTES_MAX};
pub use log::{Appended, ChunkLog, Cut, Limits};
