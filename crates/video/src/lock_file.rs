//! A locked file of ours beside somebody's files.
//!
//! Whoever holds it may write; everybody else is told to wait. The lock is advisory and
//! the kernel releases it even after kill -9, so a file left by a killed process is taken
//! over. File systems without locks are used without.

use std::{
    fs::{self, File, OpenOptions, TryLockError},
    io,
    path::{Path, PathBuf},
};

/// A file that is locked as long as it is open, and removed then unless it was renamed.
pub(crate) struct LockFile {
    file: File,
    path: PathBuf,
    renamed: bool,
}

impl LockFile {
    /// Opens the file, or makes it, and locks it. What was in it stays.
    ///
    /// Fails with [`io::ErrorKind::WouldBlock`] if another process has the lock.
    pub(crate) fn open(path: PathBuf) -> io::Result<Self> {
        if path.symlink_metadata().is_ok_and(|found| !found.is_file()) {
            let message = format!("{} is in the way and not a regular file", path.display());
            return Err(io::Error::other(message));
        }
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path)?;
        held(file.try_lock())?;
        // Whoever had the lock up to now may have renamed the file: it is the video then.
        if is_at(&file, &path) { Ok(Self { file, path, renamed: false }) } else { Err(busy()) }
    }

    /// Gives the file another name, replacing what was there; it stays when closed.
    pub(crate) fn rename(&mut self, path: &Path) -> io::Result<()> {
        fs::rename(&self.path, path)?;
        self.path = path.into();
        self.renamed = true;
        Ok(())
    }

    /// Whether the file has been given another name.
    pub(crate) fn is_renamed(&self) -> bool {
        self.renamed
    }

    /// The open file.
    pub(crate) fn file(&self) -> &File {
        &self.file
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        if !self.renamed {
            // Nobody is left to tell; the next process takes the file over.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Refuses a file that cannot be written, or that another process has locked.
pub(crate) fn check_free(path: &Path) -> io::Result<()> {
    // Shared, so that two checks at the same moment do not take each other for a writer.
    held(OpenOptions::new().write(true).open(path)?.try_lock_shared())
}

fn held(locked: Result<(), TryLockError>) -> io::Result<()> {
    match locked {
        Err(TryLockError::WouldBlock) => Err(busy()),
        Ok(()) | Err(TryLockError::Error(_)) => Ok(()),
    }
}

fn busy() -> io::Error {
    io::Error::new(io::ErrorKind::WouldBlock, "another process is writing it")
}

/// Whether `path` still names the open file.
#[cfg(unix)]
fn is_at(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let place = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    let named = path.symlink_metadata().map(place);
    file.metadata().map(place).is_ok_and(|open| named.is_ok_and(|named| named == open))
}

/// Whether `path` still names the open file; the standard library cannot tell here.
#[cfg(not(unix))]
fn is_at(_file: &File, _path: &Path) -> bool {
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_is_locked_while_open_and_gone_when_closed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lock");
        fs::write(&path, "left by a killed process").unwrap();
        let first = LockFile::open(path.clone()).unwrap();

        let error = LockFile::open(path.clone()).err().unwrap();

        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert_eq!(check_free(&path).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        drop(first);
        assert!(!path.exists());
        assert!(LockFile::open(path).is_ok());
    }

    #[test]
    fn renamed_file_stays_and_is_locked_until_closed() {
        let folder = tempfile::tempdir().unwrap();
        let (before, after) = (folder.path().join("before"), folder.path().join("after"));
        let mut file = LockFile::open(before.clone()).unwrap();
        file.rename(&after).unwrap();

        assert!(check_free(&after).is_err());
        assert!(!is_at(file.file(), &before) && is_at(file.file(), &after));
        drop(file);
        assert!(check_free(&after).is_ok());
    }

    #[cfg(unix)]
    #[test]
    fn link_in_the_way_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (victim, path) = (folder.path().join("victim"), folder.path().join("lock"));
        fs::write(&victim, "kept").unwrap();
        std::os::unix::fs::symlink(&victim, &path).unwrap();

        let error = LockFile::open(path.clone()).err().unwrap();

        assert!(error.to_string().contains("not a regular file"), "{error}");
        assert!(path.is_symlink() && victim.exists());
    }
}
