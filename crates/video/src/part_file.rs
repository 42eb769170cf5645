//! A file that appears at its name only when it is worth having.
//!
//! ```text
//! create    ball.mp4.part   locked, empty; ball.mp4 (if any) untouched
//! append    ball.mp4.part   grows by whole parts; a failed append leaves no trace
//! publish   ball.mp4        renamed over what was there, still open, may grow further
//! drop      -               an unpublished part is removed
//! ```
//!
//! The lock ([`LockFile`]) keeps two processes from writing one name.

use std::{
    fs,
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::{
    Error,
    lock_file::{self, LockFile},
};

/// A file being written: under its part name until published.
pub(crate) struct PartFile {
    file: LockFile,
    path: PathBuf,
    part: PathBuf,
    bytes: u64,
}

impl PartFile {
    /// Opens the part beside `path` and checks that `path` itself may be replaced.
    pub(crate) fn create(path: &Path) -> Result<Self, Error> {
        let target = fs::canonicalize(path).unwrap_or_else(|_| path.into());
        Self::open(target).map_err(|reason| Error::open(path, reason))
    }

    fn open(path: PathBuf) -> io::Result<Self> {
        check_replaceable(&path)?;
        let part = part_path(&path);
        let file = LockFile::open(part.clone())?;
        // Again, as another process may have published its part just before.
        check_replaceable(&path)?;
        file.file().set_len(0)?;
        Ok(Self { file, path, part, bytes: 0 })
    }

    /// Opens a second part beside a published file, to replace it.
    pub(crate) fn create_successor(published: &Self) -> io::Result<Self> {
        let file = LockFile::open(published.part.clone())?;
        file.file().set_len(0)?;
        Ok(Self { file, path: published.path.clone(), part: published.part.clone(), bytes: 0 })
    }

    /// Appends all of `bytes`, or on failure none of them.
    pub(crate) fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let mut file = self.file.file();
        file.seek(SeekFrom::Start(self.bytes))?;
        let written = file.write_all(bytes);
        match written {
            Ok(()) => self.bytes += bytes.len() as u64,
            Err(_) => {
                // The write's own error is the one to tell. What cannot be cut off is
                // overwritten by the next bytes.
                let _ = file.set_len(self.bytes);
            }
        }
        written
    }

    /// Replaces bytes that were appended before.
    pub(crate) fn overwrite(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        assert!(offset + bytes.len() as u64 <= self.bytes, "only written bytes are replaced");
        let mut file = self.file.file();
        file.seek(SeekFrom::Start(offset))?;
        file.write_all(bytes)
    }

    /// Appends bytes `offset..offset + bytes` of `source`. A failure leaves a torn end.
    pub(crate) fn append_from(&mut self, source: &Self, offset: u64, bytes: u64) -> io::Result<()> {
        let (mut reader, mut writer) = (source.file.file(), self.file.file());
        reader.seek(SeekFrom::Start(offset))?;
        writer.seek(SeekFrom::Start(self.bytes))?;
        let copied = io::copy(&mut io::Read::take(reader, bytes), &mut writer)?;
        if copied < bytes {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.bytes += bytes;
        Ok(())
    }

    /// Gives the file its final name, replacing what was there.
    pub(crate) fn publish(&mut self) -> io::Result<()> {
        if self.is_published() { Ok(()) } else { self.file.rename(&self.path) }
    }

    /// Waits until everything written would survive a loss of power.
    pub(crate) fn sync(&self) -> io::Result<()> {
        self.file.file().sync_all()
    }

    /// Whether the file has its final name.
    pub(crate) fn is_published(&self) -> bool {
        self.file.is_renamed()
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

/// Refuses a target that is no regular file, cannot be written, or is being written.
fn check_replaceable(target: &Path) -> io::Result<()> {
    if !target.exists() {
        return Ok(());
    }
    if !target.is_file() {
        return Err(io::Error::other("it exists and is not a regular file"));
    }
    lock_file::check_free(target)
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
