//! A blob on its way into the folder.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

use super::{Blobs, Key, Problem};
use crate::contents::Blob;

/// A blob on its way into the folder. Dropping it keeps what has come.
#[derive(Debug)]
pub struct Incoming {
    blobs: Blobs,
    blob: Blob,
    part: Part,
}

/// What has come of a blob.
#[derive(Debug)]
pub(super) struct Part {
    file: File,
    hasher: blake3::Hasher,
    received: u64,
}

impl Part {
    /// Opens what is there of a blob, or a new file, and reads what has come.
    pub(super) fn open(path: &Path, blob: Blob) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let mut file = options.create(true).truncate(false).read(true).write(true).open(path)?;
        let (mut hasher, mut received) = (blake3::Hasher::new(), file.metadata()?.len());
        if received <= blob.bytes {
            hasher.update_reader(&mut file)?;
        } else {
            file.set_len(0)?;
            received = 0;
        }
        Ok(Self { file, hasher, received })
    }
}

impl Incoming {
    pub(super) fn new(blobs: Blobs, blob: Blob, part: Part) -> Self {
        Self { blobs, blob, part }
    }

    /// Bytes that have come, of this attempt and those before it.
    pub fn received(&self) -> u64 {
        self.part.received
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    ///
    /// [`Problem::TooLong`] if they are more than were announced, and nothing is
    /// taken; [`Problem::Io`].
    pub fn write(&mut self, bytes: &[u8]) -> Result<(), Problem> {
        let Blob { digest, bytes: announced } = self.blob;
        let received = self.part.received + bytes.len() as u64;
        if announced < received {
            return Err(Problem::TooLong { digest, bytes: announced });
        }
        self.part.file.write_all(bytes).map_err(|cause| self.io(cause))?;
        self.part.hasher.update(bytes);
        self.part.received = received;
        Ok(())
    }

    /// The blob is whole: it gets its name.
    ///
    /// # Errors
    ///
    /// [`Problem::Short`] if it is not, [`Problem::Damaged`] if it is another one,
    /// or [`Problem::Io`].
    pub fn finish(self) -> Result<(), Problem> {
        let (Blob { digest, bytes }, Part { file, hasher, received }) = (self.blob, &self.part);
        if *received < bytes {
            return Err(Problem::Short { digest, bytes, received: *received });
        }
        if *hasher.finalize().as_bytes() != digest.0 {
            std::fs::remove_file(self.path()).map_err(|cause| self.io(cause))?;
            return Err(Problem::Damaged { digest, bytes });
        }
        // The data is on the disk before the name says that it is whole.
        let named = file.sync_data();
        let named = named.and_then(|()| std::fs::rename(self.path(), self.blobs.path(&digest)));
        named.map_err(|cause| self.io(cause))
    }

    fn path(&self) -> PathBuf {
        Key::part(self.blob.digest).path(&self.blobs.shared.folder)
    }

    fn io(&self, cause: io::Error) -> Problem {
        Problem::Io { path: self.path(), cause }
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        self.blobs.shelf().end(&self.blobs.shared.folder, self.blob.digest);
    }
}
