//! A file that appears at its name only when it is worth having.
//!
//! ```text
//! create    .ball.mp4.filmloom-part   locked, empty; ball.mp4 (if any) untouched
//! append    .ball.mp4.filmloom-part   grows by whole parts; a failed append leaves no trace
//! publish   ball.mp4                  renamed over what was there, may grow further
//! drop      -                         an unpublished part is removed
//! ```
//!
//! The part stands in the folder of the final file, so that a rename suffices; its name
//! is one that nobody else uses, as a part left by a killed process is overwritten
//! (browsers keep half a download in `ball.mp4.part`). Where the folder does not hold a
//! name that long, the part is called by a hash of it.
//!
//! Links are followed: the file that the last one names is replaced, or made if it is not
//! there yet, and the link stays. A replaced file's rights pass on. The lock
//! ([`LockFile`]) keeps two processes from writing one name.

use std::{
    ffi::OsString,
    fs,
    io::{self, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
};

use crate::{
    Error,
    format::ends_in_separator,
    lock_file::{self, LockFile},
};

/// End of every part's name.
const SUFFIX: &str = ".filmloom-part";

/// Links that may follow one another. Chosen: as many as Linux follows.
const LINKS_MAX: usize = 40;

/// A file being written: under its part name until published, then under its own.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("x0.bin");
/// let mut file = video::PartFile::create(&path)?;
/// file.append(b"all of it")?;
/// file.sync()?;
/// file.publish()?;
/// # assert_eq!(std::fs::read(path)?, b"all of it");
/// # Ok(())
/// # }
/// ```
///
/// Dropped before [`publish`](Self::publish), it leaves nothing behind.
pub struct PartFile {
    file: LockFile,
    /// Final name, links followed.
    path: PathBuf,
    part: PathBuf,
    bytes: u64,
}

impl PartFile {
    /// Opens the part of `path` and checks that `path` itself can be made or replaced.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] if `path` names anything but a regular file or cannot be written;
    /// [`Error::Busy`] if another process writes it. Nothing has been changed then.
    pub fn create(path: &Path) -> Result<Self, Error> {
        Self::open(path).map_err(|reason| Error::open(path, reason))
    }

    /// As [`PartFile::create`]; a busy file gives [`io::ErrorKind::WouldBlock`].
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let path = follow_links(path)?;
        check_replaceable(&path)?;
        let (file, part) = open_part(&path)?;
        // Again, as another process may have published its part just before.
        check_replaceable(&path)?;
        Self::start(file, path, part)
    }

    /// Opens a second part beside a published file, to replace it.
    pub(crate) fn successor(&self) -> io::Result<Self> {
        Self::start(LockFile::open(self.part.clone())?, self.path.clone(), self.part.clone())
    }

    /// Empties the part and gives it the rights of the file that it will replace, if any.
    fn start(file: LockFile, path: PathBuf, part: PathBuf) -> io::Result<Self> {
        file.file().set_len(0)?;
        if let Ok(replaced) = fs::metadata(&path) {
            // A file system without rights has none to lose.
            let _ = file.file().set_permissions(replaced.permissions());
        }
        Ok(Self { file, path, part, bytes: 0 })
    }

    /// Appends all of `bytes`, or on failure none of them.
    ///
    /// # Errors
    ///
    /// What the operating system says, such as a full disk; the file can still be
    /// published with what it has.
    pub fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
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

    /// Gives the file its final name, replacing what was there. Once is enough.
    ///
    /// # Errors
    ///
    /// What the operating system says; what was there stays then.
    pub fn publish(&mut self) -> io::Result<()> {
        if self.is_published() { Ok(()) } else { self.file.rename(&self.path) }
    }

    /// Waits until everything written would survive a loss of power; a name given since
    /// may not.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub fn sync(&self) -> io::Result<()> {
        self.file.file().sync_all()
    }

    /// Whether the file has its final name.
    pub(crate) fn is_published(&self) -> bool {
        self.file.is_renamed()
    }

    /// Final name: the one given, links followed.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Size in bytes.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// The file that `path` names, which need not exist.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let (mut path, mut links) = (path.to_path_buf(), 0);
    while is_link(&path)? {
        links += 1;
        if LINKS_MAX < links {
            return Err(io::Error::other(format!("over {LINKS_MAX} links follow one another")));
        }
        path = path.parent().unwrap_or(Path::new("")).join(fs::read_link(&path)?);
    }
    if ends_in_separator(&path) || path.file_name().is_none() {
        return Err(io::Error::other("it names a folder"));
    }
    Ok(path)
}

fn is_link(path: &Path) -> io::Result<bool> {
    match path.symlink_metadata() {
        Ok(found) => Ok(found.is_symlink()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
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

/// Opens the part of `path` under the longer of its two names that the folder holds.
fn open_part(path: &Path) -> io::Result<(LockFile, PathBuf)> {
    let name = path.file_name().expect("followed links end at a file");
    let mut long = OsString::from(".");
    long.push(name);
    long.push(SUFFIX);
    let long = path.with_file_name(long);
    match LockFile::open(long.clone()) {
        Err(error) if error.kind() == io::ErrorKind::InvalidFilename => {
            let short = format!(".{:016x}{SUFFIX}", hash(name.as_encoded_bytes()));
            let short = path.with_file_name(short);
            LockFile::open(short.clone()).map(|file| (file, short))
        }
        opened => opened.map(|file| (file, long)),
    }
}

/// FNV-1a, the same in every process, so that two writers of one name meet.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
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
        let part = folder.path().join(".a.gif.filmloom-part");
        fs::write(&part, "left by a killed process").unwrap();

        let mut file = PartFile::create(&path).unwrap();
        file.append(b"x").unwrap();
        assert_eq!(fs::read(&part).unwrap(), b"x");
        drop(file);

        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn half_a_download_beside_the_file_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let (path, download) = (folder.path().join("a.mp4"), folder.path().join("a.mp4.part"));
        fs::write(&download, "of a browser").unwrap();

        write(&path, b"video").unwrap();

        assert_eq!(fs::read(&download).unwrap(), b"of a browser");
        assert_eq!(folder.path().read_dir().unwrap().count(), 2);
    }

    #[test]
    fn longest_name_that_a_folder_holds_can_be_written() {
        let folder = tempfile::tempdir().unwrap();
        for bytes in [240, 241, 255] {
            let path = folder.path().join("n".repeat(bytes));

            let mut file = PartFile::create(&path).unwrap();
            let second = PartFile::create(&path).err().unwrap();
            file.append(b"video").unwrap();
            file.publish().unwrap();

            assert!(matches!(second, Error::Busy { .. }), "{bytes}: {second}");
            assert_eq!(fs::read(&path).unwrap(), b"video");
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 3);
        let error = PartFile::create(&folder.path().join("n".repeat(256))).err().unwrap();
        assert!(matches!(error, Error::Open { .. }), "{error}");
    }

    #[test]
    fn name_of_a_folder_is_refused_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["new/", "..", "."] {
            let error = PartFile::create(&folder.path().join(name)).err().unwrap();

            assert!(matches!(error, Error::Open { .. }), "{name}: {error}");
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[cfg(unix)]
    #[test]
    fn links_are_written_through_to_a_file_that_may_be_missing() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let [real, link, outer, round] =
            ["real.gif", "link.gif", "outer.gif", "round.gif"].map(|name| folder.path().join(name));
        symlink("real.gif", &link).unwrap();
        symlink(&link, &outer).unwrap();
        symlink("round.gif", &round).unwrap();

        for bytes in [b"made", b"over"] {
            write(&outer, bytes).unwrap();

            assert!(link.is_symlink() && outer.is_symlink());
            assert_eq!(fs::read(&real).unwrap(), bytes);
        }
        let error = write(&round, b"").unwrap_err();
        assert!(error.to_string().contains("links follow one another"), "{error}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 4);
    }

    #[cfg(unix)]
    #[test]
    fn replaced_file_keeps_its_rights() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gif");
        let mode = || path.metadata().unwrap().permissions().mode() & 0o777;
        write(&path, b"old").unwrap();
        fs::set_permissions(&path, PermissionsExt::from_mode(0o604)).unwrap();

        write(&path, b"new").unwrap();

        assert_eq!(mode(), 0o604);
    }

    #[cfg(unix)]
    #[test]
    fn device_is_refused() {
        let error = PartFile::create(Path::new("/dev/null")).err().unwrap();

        assert!(error.to_string().contains("not a regular file"), "{error}");
    }

    fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
        let mut file = PartFile::create(path)?;
        file.append(bytes).and_then(|()| file.publish()).map_err(|reason| Error::open(path, reason))
    }
}
