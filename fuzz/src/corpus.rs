//! Valid messages in files, from which damage begins.
//!
//! ```text
//!  corpus/NAME/valid-00      made by the code itself; taken
//!  corpus/NAME/found-...     what once broke the decoder; refused
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::Target;

/// A file of the corpus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Whether it is to be taken.
    pub is_valid: bool,
    /// Its content.
    pub bytes: Vec<u8>,
}

/// The files of a target's corpus, by name.
///
/// # Errors
///
/// The system's, if one cannot be read.
pub fn read(target: &Target) -> io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for file in fs::read_dir(folder(target))? {
        let path = file?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let is_valid = name.starts_with("valid-");
        entries.push(Entry { name, is_valid, bytes: fs::read(&path)? });
    }
    entries.sort_by(|one, other| one.name.cmp(&other.name));
    Ok(entries)
}

/// Makes a target's valid messages anew. What was found once stays.
///
/// # Errors
///
/// The system's, if one cannot be written.
pub fn write(target: &Target) -> io::Result<()> {
    let folder = folder(target);
    fs::create_dir_all(&folder)?;
    for entry in read(target)?.into_iter().filter(|entry| entry.is_valid) {
        fs::remove_file(folder.join(entry.name))?;
    }
    for (number, bytes) in (target.seeds)().into_iter().enumerate() {
        fs::write(folder.join(format!("valid-{number:02}")), bytes)?;
    }
    Ok(())
}

fn folder(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}
