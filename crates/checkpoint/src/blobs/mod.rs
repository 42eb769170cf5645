//! A folder of blobs that were fetched: each a file named by its BLAKE3.
//!
//! ```text
//!  receive ─▶ <digest>.part ── write, write ... ── finish: length, BLAKE3 ─▶ <digest>
//!                  │                                  └─ not what was asked for: deleted
//!                  └─ given up or cut off: stays, and the next one goes on behind it
//!
//!  pin(digests) ─▶ not deleted while the guard lives, whether it is there already or not
//! ```
//!
//! Room for a whole blob is set aside before its first byte is taken; what was not
//! used for longest goes first. A blob is used when it is pinned, and that time is
//! its file's own, so that it outlasts the process.
//!
//! Invariants: a file under a digest's plain name was compared with it when it got
//! that name. Blobs, unfinished ones and what is set aside take `bytes_max` together
//! at most. What is pinned or being received is never deleted, but for a blob that
//! turns out to be damaged. Files of other names are left alone.
//!
//! Damage that comes later is found by [`Blobs::missing`], which reads everything
//! that is about to be used. One process uses a folder at a time: a second one would
//! break no blob, but neither knows what the other pins or writes.

mod incoming;
mod shelf;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeSet,
    fs::File,
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::SystemTime,
};

use crate::{
    Bytes,
    contents::{Blob, Digest},
    source::map,
};
pub use incoming::Incoming;
use incoming::Part;
use shelf::{Key, Shelf};

/// A folder of blobs. Clones share it.
#[derive(Clone, Debug)]
pub struct Blobs {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    folder: PathBuf,
    bytes_max: u64,
    shelf: Mutex<Shelf>,
}

/// Blobs that are not deleted while this lives.
#[derive(Debug)]
pub struct Pinned {
    blobs: Blobs,
    digests: BTreeSet<Digest>,
}

/// Why a blob could not be had.
#[derive(Debug, thiserror::Error)]
#[expect(missing_docs, reason = "the messages name the fields")]
pub enum Problem {
    /// The folder or a file in it cannot be read or written.
    #[error("{}: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    /// What is in use leaves no room.
    #[error(
        "{}: a blob of {bytes} bytes does not fit: {used_bytes} of {bytes_max} are in use: \
         allow more, or hold fewer layers", folder.display()
    )]
    Full { folder: PathBuf, bytes: u64, used_bytes: u64, bytes_max: u64 },
    /// It is being received already. Wait for that.
    #[error("blob {digest} is being received already")]
    Busy { digest: Digest },
    /// More came than was announced. It is not taken; ask another node.
    #[error("blob {digest}: more than its {bytes} bytes came: fetch it from another node")]
    TooLong { digest: Digest, bytes: u64 },
    /// Not all has come. What has is kept; ask for the rest.
    #[error("blob {digest}: {received} of {bytes} bytes came: ask for the rest")]
    Short { digest: Digest, bytes: u64, received: u64 },
    /// What came is something else. It is deleted; ask another node.
    #[error("blob {digest}: its {bytes} bytes are other ones: fetch it from another node")]
    Damaged { digest: Digest, bytes: u64 },
}

impl Blobs {
    /// The blobs in `folder`, which is made if it is not there. They may take
    /// `bytes_max` bytes.
    ///
    /// # Errors
    ///
    /// [`Problem::Io`] if the folder cannot be made or read.
    pub fn open(folder: impl Into<PathBuf>, bytes_max: u64) -> Result<Self, Problem> {
        let folder = folder.into();
        let io = |cause| Problem::Io { path: folder.clone(), cause };
        std::fs::create_dir_all(&folder).map_err(io)?;
        let shelf = Mutex::new(Shelf::read(&folder).map_err(io)?);
        Ok(Self { shared: Arc::new(Shared { folder, bytes_max, shelf }) })
    }

    /// Keeps blobs from being deleted, those still to come too. They count as used
    /// at `now`.
    pub fn pin(&self, digests: impl IntoIterator<Item = Digest>, now: SystemTime) -> Pinned {
        let digests: BTreeSet<Digest> = digests.into_iter().collect();
        let mut shelf = self.shelf();
        for digest in &digests {
            // A time that cannot be written only makes the blob look older, later on.
            if shelf.pin(*digest, now)
                && let Ok(file) = File::open(self.path(digest))
            {
                let _ = file.set_modified(now);
            }
        }
        drop(shelf);
        Pinned { blobs: self.clone(), digests }
    }

    /// Which of the wanted blobs are not here, whole and intact. Those that are here
    /// are read and compared; damaged ones are deleted. Pin them first.
    ///
    /// # Errors
    ///
    /// [`Problem::Io`] if one cannot be read or deleted.
    pub fn missing(&self, wanted: &[Blob]) -> Result<Vec<Blob>, Problem> {
        let mut missing = Vec::new();
        for blob in wanted {
            let path = self.path(&blob.digest);
            match is_intact(&path, *blob) {
                Ok(true) => continue,
                Ok(false) => self.remove(&blob.digest, path)?,
                Err(cause) if cause.kind() == ErrorKind::NotFound => {}
                Err(cause) => return Err(Problem::Io { path, cause }),
            }
            missing.push(*blob);
        }
        Ok(missing)
    }

    /// Begins to receive a blob, or goes on where the last attempt ended, after
    /// [`Incoming::received`] bytes.
    ///
    /// # Errors
    ///
    /// [`Problem::Full`] if it cannot fit, [`Problem::Busy`], or [`Problem::Io`].
    pub fn receive(&self, blob: Blob) -> Result<Incoming, Problem> {
        let Shared { folder, bytes_max, .. } = &*self.shared;
        let mut shelf = self.shelf();
        shelf.begin(blob)?;
        let begun = shelf.make_room(folder, *bytes_max, blob).and_then(|()| {
            let path = Key::part(blob.digest).path(folder);
            Part::open(&path, blob).map_err(|cause| Problem::Io { path, cause })
        });
        match begun {
            Ok(part) => Ok(Incoming::new(self.clone(), blob, part)),
            Err(problem) => {
                shelf.end(folder, blob.digest);
                Err(problem)
            }
        }
    }

    /// The content of a blob, mapped; `None` if it is not here.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn read(&self, digest: &Digest) -> io::Result<Option<Bytes>> {
        match map(&self.path(digest)) {
            Ok(content) => Ok(Some(content)),
            Err(cause) if cause.kind() == ErrorKind::NotFound => Ok(None),
            Err(cause) => Err(cause),
        }
    }

    /// Bytes of all files, and of what is set aside for blobs on their way.
    pub fn bytes(&self) -> u64 {
        self.shelf().bytes()
    }

    /// Where a whole blob is.
    fn path(&self, digest: &Digest) -> PathBuf {
        Key::whole(*digest).path(&self.shared.folder)
    }

    fn remove(&self, digest: &Digest, path: PathBuf) -> Result<(), Problem> {
        std::fs::remove_file(&path).map_err(|cause| Problem::Io { path, cause })?;
        self.shelf().forget(&Key::whole(*digest));
        Ok(())
    }

    /// Every change of the shelf is whole before anything in it can panic.
    fn shelf(&self) -> MutexGuard<'_, Shelf> {
        self.shared.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pinned {
    /// The content of a blob; `None` if it is not pinned here, or did not come yet.
    ///
    /// # Errors
    ///
    /// If it cannot be read.
    pub fn read(&self, digest: &Digest) -> io::Result<Option<Bytes>> {
        if !self.digests.contains(digest) {
            return Ok(None);
        }
        self.blobs.read(digest)
    }

    /// Where a blob is, or would be.
    pub(crate) fn path(&self, digest: &Digest) -> PathBuf {
        self.blobs.path(digest)
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        self.blobs.shelf().unpin(&self.digests);
    }
}

fn is_intact(path: &Path, blob: Blob) -> io::Result<bool> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() != blob.bytes {
        return Ok(false);
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(&mut file)?;
    Ok(*hasher.finalize().as_bytes() == blob.digest.0)
}
