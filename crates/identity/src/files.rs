//! Small text files that are either whole or not there, and secrets that only
//! their owner can read.
//!
//! A file is written under another name in the same folder, made durable, then
//! renamed. A secret one has mode 0600 before its first byte. A secret that others
//! could have read is refused on loading, as ssh does: it may have been copied,
//! and silently narrowing its mode would hide that.
//!
//! Invariant: at most [`FILE_BYTES_MAX`] bytes are read, whatever the file holds.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

use crate::Error;

/// Bytes of a file that is read here; the longest that is written has about 1,000.
const FILE_BYTES_MAX: u64 = 64 << 10;

/// Why a file of an identity could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// It is not there: the machine has not joined a cluster yet. Join.
    #[error("{} is missing: join a cluster, or restore it from a copy", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused. Act on what it says.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// Others may have read the secret. Narrow its mode if they have not, else
    /// make a new one.
    #[error(
        "{} can be read by others (mode {mode:03o}): run 'chmod 600' on it, \
         or join again if it may have been copied",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is some other file. Restore it.
    #[error(
        "{} has more than {FILE_BYTES_MAX} bytes, so it is some other file: restore it",
        path.display()
    )]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// What it holds cannot be used.
    #[error("{}: {source}", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        source: Error,
    },
}

/// Who may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readers {
    Owner,
    Everyone,
}

/// Writes a file that only its owner can read, whole or not at all.
///
/// A file that is there is replaced, and so is its mode. The folder must be there.
///
/// # Errors
///
/// [`FileError::Io`] if the system refuses; what was there before is unharmed.
pub fn write_secret_file(path: &Path, text: &str) -> Result<(), FileError> {
    write(path, text, Readers::Owner)
}

pub(crate) fn write(path: &Path, text: &str, readers: Readers) -> Result<(), FileError> {
    let failed = |source| FileError::Io { action: "write", path: path.to_owned(), source };
    let part = part_path(path).map_err(failed)?;
    let written = write_part(&part, text, readers).and_then(|()| fs::rename(&part, path));
    if written.is_err() {
        // Best effort: the error that is reported is why it was not written.
        let _ = fs::remove_file(&part);
    }
    written.and_then(|()| sync_folder(path)).map_err(failed)
}

pub(crate) fn read(path: &Path, readers: Readers) -> Result<String, FileError> {
    let failed = |source: io::Error| {
        let path = path.to_owned();
        let is_missing = source.kind() == io::ErrorKind::NotFound;
        if is_missing {
            FileError::Missing { path }
        } else {
            FileError::Io { action: "read", path, source }
        }
    };
    let file = File::open(path).map_err(failed)?;
    let mode = mode(&file).map_err(failed)?;
    if readers == Readers::Owner && mode & 0o077 != 0 {
        return Err(FileError::Exposed { path: path.to_owned(), mode });
    }
    let mut text = String::new();
    file.take(FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if FILE_BYTES_MAX < text.len() as u64 {
        return Err(FileError::TooLong { path: path.to_owned() });
    }
    Ok(text)
}

/// Reads a file and makes something of its text.
pub(crate) fn read_as<T>(
    path: &Path,
    readers: Readers,
    parse: impl FnOnce(&str) -> Result<T, Error>,
) -> Result<T, FileError> {
    parse(&read(path, readers)?)
        .map_err(|source| FileError::Invalid { path: path.to_owned(), source })
}

/// Removes a file, if it is there.
pub(crate) fn remove(path: &Path) -> Result<(), FileError> {
    match fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(FileError::Io { action: "remove", path: path.to_owned(), source })
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes a folder and those above it, if they are not there.
pub(crate) fn create_folder(folder: &Path) -> Result<(), FileError> {
    fs::create_dir_all(folder).map_err(|source| FileError::Io {
        action: "create",
        path: folder.to_owned(),
        source,
    })
}

/// A name that no other writer of the same file has.
fn part_path(path: &Path) -> io::Result<PathBuf> {
    let name = path.file_name().ok_or(io::ErrorKind::InvalidFilename)?;
    let number = getrandom::u64().map_err(io::Error::other)?;
    Ok(path.with_file_name(format!(".{}.{number:016x}.part", name.display())))
}

fn write_part(part: &Path, text: &str, readers: Readers) -> io::Result<()> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(
        &mut options,
        match readers {
            Readers::Owner => 0o600,
            Readers::Everyone => 0o644,
        },
    );
    #[cfg(not(unix))]
    let _ = readers;
    let mut file = options.open(part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()
}

/// Makes a rename durable.
#[cfg(unix)]
fn sync_folder(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Makes a rename durable; a folder cannot be opened here.
#[cfg(not(unix))]
fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(unix)]
fn mode(file: &File) -> io::Result<u32> {
    Ok(std::os::unix::fs::PermissionsExt::mode(&file.metadata()?.permissions()) & 0o777)
}

/// The folder's owner decides who reads its files here.
#[cfg(not(unix))]
fn mode(_file: &File) -> io::Result<u32> {
    Ok(0o600)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_and_nothing_else_stays_in_the_folder() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("join.token");
        write_secret_file(&path, "a longer text than the next").unwrap();
        write_secret_file(&path, "short").unwrap();

        assert_eq!(read(&path, Readers::Owner).unwrap(), "short");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_failed_write_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("taken");
        fs::create_dir(&path).unwrap();

        let error = write_secret_file(&path, "text").unwrap_err();

        assert!(matches!(error, FileError::Io { action: "write", .. }), "{error}");
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_is_its_owners_even_where_an_open_file_was() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        write(&path, "public", Readers::Everyone).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();

        write_secret_file(&path, "secret").unwrap();

        assert_eq!(mode(&File::open(&path).unwrap()).unwrap(), 0o600);
    }

    #[cfg(unix)]
    #[test]
    fn a_secret_that_others_can_read_is_refused_with_advice() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("node.key");
        write_secret_file(&path, "secret").unwrap();
        for mode in [0o640, 0o604, 0o660, 0o601] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();

            let error = read(&path, Readers::Owner).unwrap_err();

            assert!(error.to_string().contains("chmod 600"), "{error}");
            assert!(error.to_string().contains("node.key"), "{error}");
            assert!(read(&path, Readers::Everyone).is_ok());
        }
    }

    #[test]
    fn missing_and_overlong_files_are_told_apart() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ca.crt");
        let missing = read(&path, Readers::Everyone).unwrap_err();
        assert!(matches!(missing, FileError::Missing { .. }), "{missing}");

        fs::write(&path, "x".repeat((64 << 10) + 1)).unwrap();
        let long = read(&path, Readers::Everyone).unwrap_err();
        assert!(matches!(long, FileError::TooLong { .. }), "{long}");

        fs::write(&path, "x".repeat(64 << 10)).unwrap();
        assert!(read(&path, Readers::Everyone).is_ok());
    }
}
