//! A file that appears at its name only when it is worth having.
//!
//! ```text
//! create    ball.mp4.part   locked, empty; ball.mp4 (if any) untouched
//! append    ball.mp4.part   grows by whole parts; a failed append leaves no trace
//! publish   ball.mp4        renamed over what was there, still open, may grow further
//! drop      -               an unpublished part is removed
//! ```
//!
//! The lock (advisory, released by the kernel even after kill -9) keeps two processes
//! from writing one name; a part left by a killed process is taken over. File systems
//! without locks are used without.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::Error;

/// A file being written: under its part name until published.
pub(crate) struct PartFile {
    file: File,
    path: PathBuf,
    part: PathBuf,
    bytes: u64,
    published: bool,
}

impl PartFile {
    /// Opens the part beside `path` and checks that `path` itself may be replaced.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        let open_error = |reason| Error::Open { path: path.into(), reason };
        if target.exists() {
            check_replaceable(path, &target)?;
        }
        let part = part_path(&target);
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(&part)
            .map_err(open_error)?;
        lock(&file, path)?;
        file.set_len(0).map_err(open_error)?;
        Ok(Self { file, path: target, part, bytes: 0, published: false })
    }

    /// Opens a second part beside a published file, to replace it.
    pub(crate) fn create_successor(published: &Self) -> io::Result<Self> {
        let (path, part) = (published.path.clone(), published.part.clone());
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&part)?;
        Ok(Self { file, path, part, bytes: 0, published: false })
    }

    /// Appends all of `bytes`, or on failure none of them.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let written = self.file.write_all(bytes);
        match written {
            Ok(()) => self.bytes += bytes.len() as u64,
            Err(_) => {
                self.file.set_len(self.bytes)?;
                self.file.seek(SeekFrom::Start(self.bytes))?;
            }
        }
        written
    }

    /// Replaces bytes that were appended before.
    pub(crate) fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert!(offset + bytes.len() as u64 <= self.bytes, "only written bytes are replaced");
        self.file.seek(SeekFrom::Start(offset))?;
        self.file.write_all(bytes)?;
        self.file.seek(SeekFrom::Start(self.bytes))?;
        Ok(())
    }

    /// Appends bytes `offset..offset + bytes` of `source`. A failure leaves a torn end.
    pub(crate) fn append_from(&mut self, source: &Self, offset: u64, bytes: u64) -> io::Result<()> {
        let mut reader = &source.file;
        reader.seek(SeekFrom::Start(offset))?;
        let copied = io::copy(&mut io::Read::take(reader, bytes), &mut self.file)?;
        if copied < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives the file its final name, replacing what was there.
    pub(crate) fn publish(&mut self) -> io::Result<()> {
        if !self.published {
            fs::rename(&self.part, &self.path)?;
            self.published = true;
        }
        Ok(())
    }

    /// Waits until everything written would survive a loss of power.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    /// Whether the file has its final name.
    pub(crate) fn is_published(&self) -> bool {
        self.published
    }

    /// Final name.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

impl Drop for PartFile {
    fn drop(&mut self) {
        if !self.published {
            // Nobody is left to tell; the next writer takes the part over.
            let _ = fs::remove_file(&self.part);
        }
    }
}

/// Refuses a target that is no regular file, cannot be written, or is being written.
fn check_replaceable(path: &Path, target: &Path) -> Result<(), Error> {
    let open_error = |reason| Error::Open { path: path.into(), reason };
    if !target.is_file() {
        return Err(open_error(io::Error::other("it exists and is not a regular file")));
    }
    let existing = OpenOptions::new().write(true).open(target).map_err(open_error)?;
    lock(&existing, path)
}

fn lock(file: &File, path: &Path) -> Result<(), Error> {
    match file.try_lock() {
        Err(TryLockError::WouldBlock) => Err(Error::Busy { path: path.into() }),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

/// `ball.mp4` becomes `ball.mp4.part`, in the same folder, so that a rename suffices.
fn part_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".part");
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn existing_file_stays_until_published() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gif");
        fs::write(&path, "old").unwrap();

        let mut part = PartFile::create(&path).unwrap();
        part.append(b"new").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"old");
        part.publish().unwrap();
        part.append(b"er").unwrap();
        part.overwrite(0, b"N").unwrap();

        assert_eq!(fs::read(&path).unwrap(), b"Newer");
        assert_eq!(folder.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn unpublished_part_is_removed_and_a_stale_one_taken_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gif");
        fs::write(part_path(&path), "left by a killed process").unwrap();

        let mut part = PartFile::create(&path).unwrap();
        part.append(b"x").unwrap();
        assert_eq!(fs::read(part_path(&path)).unwrap(), b"x");
        drop(part);

        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn link_is_written_through_and_a_device_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real.gif"), folder.path().join("link.gif"));
        fs::write(&real, "old").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();

        let mut part = PartFile::create(&link).unwrap();
        part.append(b"new").unwrap();
        part.publish().unwrap();

        assert_eq!(fs::read(&real).unwrap(), b"new");
        assert!(link.is_symlink());
        let error = PartFile::create(Path::new("/dev/null")).err().unwrap();
        assert!(error.to_string().contains("not a regular file"), "{error}");
    }
}
