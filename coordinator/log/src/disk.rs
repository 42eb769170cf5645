//! The few operations that change a disk, so that tests can make each of them fail.

use std::{
    fmt::Debug,
    fs::{self, File},
    io::{self, Write},
    path::Path,
};

/// A disk.
pub(crate) trait Disk: Debug + Send + Sync {
    /// Makes an empty file, or empties one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>>;

    /// Opens a file that is there, to add to it.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Output>>;

    /// Gives a file another name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Deletes a file; one that is not there is fine.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Makes names in a folder durable.
    fn sync_folder(&self, folder: &Path) -> io::Result<()>;
}

/// A file that grows.
pub(crate) trait Output {
    /// Its length.
    fn bytes(&self) -> io::Result<u64>;

    /// Adds bytes to its end.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Drops what is behind this length.
    fn cut(&mut self, bytes: u64) -> io::Result<()>;

    /// Makes all of it durable.
    fn sync(&mut self) -> io::Result<()>;
}

/// The operating system's files.
#[derive(Debug)]
pub(crate) struct Files;

impl Disk for Files {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        File::create(path)?;
        self.open(path)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        Ok(Box::new(File::options().append(true).open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        // Elsewhere a folder cannot be opened as a file, and renaming is durable.
        if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
    }
}

impl Output for File {
    fn bytes(&self) -> io::Result<u64> {
        Ok(self.metadata()?.len())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.set_len(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}
