//! H.264 in MP4: a stream of fragments, and the finished file.
//!
//! ```text
//! Fragmenter   pictures -> header and fragments, as bytes
//! Fragments    the same, each fragment written to a target when its chunk ends
//! Fragmented   with any writer as the target: a live stream
//! Mp4File      a file as the target; rewritten for fast start when complete
//!
//! fragmented:  ftyp moov | moof mdat | moof mdat | ...     one moof + mdat a chunk
//! fast start:  ftyp moov mdat                              tables first, then all data
//! ```
//!
//! The boxes are written here instead of by a library: sixteen kinds are needed, and the
//! well-kept library (`mp4-atom`, which the tests read them back with) brings seventeen
//! crates along.
//!
//! Sources: ISO/IEC 14496-12 (boxes), ISO/IEC 14496-15 (`avc1`, `avcC`).

mod boxes;
mod file;
mod fragmenter;
mod fragments;
mod movie;
mod stream;

#[cfg(test)]
mod file_tests;
#[cfg(test)]
mod reader;
#[cfg(test)]
mod stream_tests;

pub(crate) use file::Mp4File;
pub use fragmenter::{Fragment, Fragmenter, Position};
pub use stream::Fragmented;
