//! Read-only files mapped into memory.
//!
//! Mapping is `unsafe` because another process may change or truncate the file
//! under the map. Model files are treated as immutable while a process runs:
//! whoever overwrites one in place may read garbage or be ended by the system
//! (SIGBUS), as in every engine that maps its weights.

use std::{fs::File, io, ops::Deref, path::Path};

use memmap2::Mmap;

/// The bytes of a file.
#[derive(Debug)]
pub struct MappedFile {
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps the file at `path`.
    ///
    /// # Errors
    ///
    /// Whatever opening or mapping reports. An empty file is no error.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        if metadata.is_dir() {
            return Err(io::Error::from(io::ErrorKind::IsADirectory));
        }
        if metadata.len() == 0 {
            return Ok(Self { map: None });
        }
        // SAFETY: model files are not modified while mapped, see the module doc.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { map: Some(map) })
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}
