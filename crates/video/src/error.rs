//! What can go wrong between a picture and a file.
//!
//! Variants are divided by what the caller does next: choose another name or size
//! (what [`create`](crate::create) returns), mend the pictures it pushes, or stop and say
//! how much is safe ([`Error::Write`], [`Error::Encoder`]).

use std::{
    io,
    path::{Path, PathBuf},
};

use crate::{Format, format::KNOWN_NAMES};

/// A refused name, size or picture, or a write that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Choose a name from the list.
    #[error("{}: unknown video format; give a name that ends in {KNOWN_NAMES}", .path.display())]
    UnknownFormat {
        /// The name as given.
        path: PathBuf,
    },

    /// Choose another format or size.
    #[error("{format} cannot hold {width}x{height} pictures; it needs {needs}")]
    Size {
        /// Format that was asked for.
        format: Format,
        /// Picture width in pixels.
        width: u32,
        /// Picture height in pixels.
        height: u32,
        /// What the format can hold.
        needs: &'static str,
    },

    /// Choose another rate.
    #[error("{format} cannot play {pictures_per_second} pictures a second; give 1 to {rate_max}")]
    Rate {
        /// Format that was asked for.
        format: Format,
        /// Rate as given.
        pictures_per_second: u32,
        /// Highest rate that players of the format keep to.
        rate_max: u32,
    },

    /// Choose a place that can be written. Found before the first picture.
    #[error("cannot write {}: {reason}; give a path in an existing, writable folder", .path.display())]
    Open {
        /// File or folder as given.
        path: PathBuf,
        /// What the operating system said.
        reason: io::Error,
    },

    /// Wait for the other process, or choose another name.
    #[error("another process is writing {}; wait for it or give another name", .path.display())]
    Busy {
        /// File or folder as given.
        path: PathBuf,
    },

    /// Choose a new or empty folder: old and new pictures would make one mixed video.
    #[error("{} already holds {picture}; give a new or an empty folder", .path.display())]
    FolderInUse {
        /// Folder as given.
        path: PathBuf,
        /// A numbered picture found there.
        picture: String,
    },

    /// Mend the caller: the buffer does not hold the picture it claims to.
    #[error("a {width}x{height} RGB picture has {expected} bytes, found {found}")]
    PictureBytes {
        /// Claimed width in pixels.
        width: u32,
        /// Claimed height in pixels.
        height: u32,
        /// Bytes such a picture has.
        expected: u64,
        /// Bytes given.
        found: u64,
    },

    /// Mend the caller: one video has one size.
    #[error("the video is {}x{}, but a {}x{} picture was given", .expected.0, .expected.1, .found.0, .found.1)]
    PictureSize {
        /// Width and height of the video.
        expected: (u32, u32),
        /// Width and height of the refused picture.
        found: (u32, u32),
    },

    /// Stop pushing and call `finish`. Everything up to `pictures_safe` can be played.
    #[error("cannot write {target}: {reason}; the first {pictures_safe} pictures are safe")]
    Write {
        /// File or stream that was written.
        target: String,
        /// Pictures that can be played.
        pictures_safe: u64,
        /// What the operating system said.
        reason: io::Error,
    },

    /// Call `finish`: an earlier picture failed, and its place is not for later ones.
    #[error("no picture can follow one that failed; finish the video")]
    Closed,

    /// Report it: the encoder refused a picture that it should take. `finish` keeps the
    /// pictures before it.
    #[error("{format} encoder failed: {message}")]
    Encoder {
        /// Format whose encoder it is.
        format: Format,
        /// What the encoder said.
        message: String,
    },
}

impl Error {
    /// Why `path` cannot be opened, as the operating system or a lock says it.
    pub(crate) fn open(path: &Path, reason: io::Error) -> Self {
        if reason.kind() == io::ErrorKind::WouldBlock {
            Self::Busy { path: path.into() }
        } else {
            Self::Open { path: path.into(), reason }
        }
    }
}
