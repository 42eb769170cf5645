//! Where a model's files come from: a folder, the binary itself, memory, or blobs
//! that were fetched.
//!
//! Files are named by paths relative to the model, with `/` between the parts.
//! A folder's files are mapped, not read, so opening a checkpoint of many
//! gigabytes costs nothing until a tensor is used. [`Bytes`] keeps its mapping
//! alive: it may outlive the source and be shared between threads.
//!
//! A mapped file must not be shortened while the model is in use; replacing it
//! by renaming another one over it is safe.

use std::{
    collections::BTreeMap,
    fmt,
    ops::{Deref, Range},
    path::{Path, PathBuf},
    sync::Arc,
};

use backend::MappedFile;

use crate::{Contents, Error, Pinned, Result, fetched::Fetched};

/// Where a model's files come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder on disk.
    Folder(PathBuf),
    /// Files compiled into the binary, as relative path and content.
    Embedded(&'static [(&'static str, &'static [u8])]),
    /// Files in memory, by relative path.
    Memory(Arc<BTreeMap<String, Bytes>>),
    /// Blobs of a model, or of a stage of it, that came from elsewhere.
    Fetched(Arc<Fetched>),
}

/// Shared, immutable bytes: a file or a range of one.
#[derive(Clone)]
pub struct Bytes {
    owner: Owner,
    range: Range<usize>,
}

#[derive(Clone)]
enum Owner {
    Static(&'static [u8]),
    Mapped(Arc<MappedFile>),
    Heap(Arc<[u8]>),
}

impl Source {
    /// A folder on disk.
    pub fn folder(path: impl Into<PathBuf>) -> Self {
        Self::Folder(path.into())
    }

    /// Files compiled into the binary, as relative path and content.
    pub fn embedded(files: &'static [(&'static str, &'static [u8])]) -> Self {
        Self::Embedded(files)
    }

    /// Files in memory, by relative path.
    pub fn memory(files: impl IntoIterator<Item = (String, Vec<u8>)>) -> Self {
        let files = files.into_iter().map(|(path, bytes)| (path, Bytes::from(bytes)));
        Self::Memory(Arc::new(files.collect()))
    }

    /// A model that was fetched, or a part of it: its list, and the blobs of it that
    /// are used. No other ones are.
    ///
    /// # Errors
    ///
    /// [`Error::List`] if the list contradicts itself.
    pub fn fetched(contents: Contents, blobs: Pinned) -> Result<Self> {
        Ok(Self::Fetched(Arc::new(Fetched::new(contents, blobs)?)))
    }

    /// How messages name the file at `path`.
    pub fn display(&self, path: &str) -> String {
        match self {
            Self::Folder(folder) if path.is_empty() => folder.display().to_string(),
            Self::Folder(folder) => folder.join(path).display().to_string(),
            Self::Embedded(_) => format!("<embedded model>/{path}"),
            Self::Memory(_) => format!("<model in memory>/{path}"),
            Self::Fetched(fetched) => format!("{}/{path}", fetched.contents().name()),
        }
    }

    /// Whether there is a file at `path`.
    pub fn has(&self, path: &str) -> bool {
        match self {
            Self::Folder(folder) => folder.join(path).is_file(),
            Self::Embedded(files) => files.iter().any(|(name, _)| *name == path),
            Self::Memory(files) => files.contains_key(path),
            Self::Fetched(fetched) => fetched.contents().file(path).is_some(),
        }
    }

    /// Maps the file at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`] if it is absent or cannot be read.
    pub fn read(&self, path: &str) -> Result<Bytes> {
        let absent = || std::io::Error::from(std::io::ErrorKind::NotFound);
        let found = match self {
            Self::Folder(folder) => map(&folder.join(path)),
            Self::Embedded(files) => files
                .iter()
                .find(|(name, _)| *name == path)
                .map(|(_, bytes)| Bytes::from(*bytes))
                .ok_or_else(absent),
            Self::Memory(files) => files.get(path).cloned().ok_or_else(absent),
            Self::Fetched(fetched) => fetched.read(path),
        };
        found.map_err(|cause| Error::Io { file: self.display(path), cause })
    }

    /// As [`Source::read`], for a file that is parsed whole: `what` it is, and the
    /// most bytes that it may have.
    ///
    /// # Errors
    ///
    /// As [`Source::read`], and [`Error::TooLarge`]. Nothing is read then.
    pub(crate) fn read_whole(
        &self,
        path: &str,
        what: &'static str,
        bytes_max: usize,
    ) -> Result<Bytes> {
        let content = self.read(path)?;
        match content.len() {
            bytes if bytes_max < bytes => {
                Err(Error::TooLarge { file: self.display(path), what, bytes, bytes_max })
            }
            _ => Ok(content),
        }
    }

    /// Names of the files directly in `folder` (`""` is the root), sorted.
    /// Empty if there is no such folder.
    pub fn list(&self, folder: &str) -> Vec<String> {
        let mut names: Vec<String> = match self {
            Self::Folder(root) => std::fs::read_dir(root.join(folder))
                .into_iter()
                .flatten()
                .filter_map(|entry| {
                    let entry = entry.ok()?;
                    let is_file = entry.path().is_file();
                    is_file.then(|| entry.file_name().into_string().ok()).flatten()
                })
                .collect(),
            Self::Embedded(files) => {
                files.iter().filter_map(|(path, _)| child(folder, path)).collect()
            }
            Self::Memory(files) => files.keys().filter_map(|path| child(folder, path)).collect(),
            Self::Fetched(fetched) => {
                let files = fetched.contents().files.iter();
                files.filter_map(|file| child(folder, &file.path)).collect()
            }
        };
        names.sort();
        names
    }
}

/// Maps the file at `path`.
pub(crate) fn map(path: &Path) -> std::io::Result<Bytes> {
    let file = MappedFile::open(path)?;
    let range = 0..file.len();
    Ok(Bytes { owner: Owner::Mapped(Arc::new(file)), range })
}

/// The file name, if `path` is directly in `folder`.
fn child(folder: &str, path: &str) -> Option<String> {
    let (parent, name) = path.rsplit_once('/').unwrap_or(("", path));
    (parent == folder).then(|| name.to_owned())
}

/// `name` in `folder`, where `""` is the root.
pub(crate) fn join(folder: &str, name: &str) -> String {
    if folder.is_empty() { name.to_owned() } else { format!("{folder}/{name}") }
}

impl Bytes {
    /// The part of these bytes at `range`, which is counted from their start.
    /// `None` if it reaches past their end.
    pub fn slice(&self, range: Range<usize>) -> Option<Self> {
        let start = self.range.start.checked_add(range.start)?;
        let end = self.range.start.checked_add(range.end)?;
        let inside = start <= end && end <= self.range.end;
        inside.then(|| Self { owner: self.owner.clone(), range: start..end })
    }
}

impl Deref for Bytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        let whole: &[u8] = match &self.owner {
            Owner::Static(bytes) => bytes,
            Owner::Mapped(file) => file,
            Owner::Heap(bytes) => bytes,
        };
        &whole[self.range.clone()]
    }
}

impl fmt::Debug for Bytes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Bytes({})", self.range.len())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { owner: Owner::Heap(bytes.into()), range }
    }
}

impl From<&'static [u8]> for Bytes {
    fn from(bytes: &'static [u8]) -> Self {
        Self { owner: Owner::Static(bytes), range: 0..bytes.len() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_lists_and_reads_alike() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("vae")).unwrap();
        std::fs::write(folder.path().join("vae/b"), b"two").unwrap();
        std::fs::write(folder.path().join("a"), b"").unwrap();
        let sources = [
            Source::folder(folder.path()),
            Source::embedded(&[("vae/b", b"two"), ("a", b"")]),
            Source::memory([("vae/b".into(), b"two".to_vec()), ("a".into(), Vec::new())]),
        ];

        for source in sources {
            assert_eq!(source.list(""), ["a"], "{source:?}");
            assert_eq!(source.list("vae"), ["b"]);
            assert_eq!(source.list("absent"), [""; 0]);
            assert_eq!(&*source.read("vae/b").unwrap(), b"two");
            assert_eq!(&*source.read("a").unwrap(), b"");
            assert!(source.has("a") && !source.has("vae"));
            let error = source.read("vae/c").unwrap_err().to_string();
            assert!(error.starts_with(&source.display("vae/c")), "{error}");
        }
    }

    #[test]
    fn slices_are_counted_from_the_slice_and_stay_inside_it() {
        let bytes = Bytes::from(vec![0, 1, 2, 3, 4]);
        let inner = bytes.slice(1..4).unwrap();

        assert_eq!(&*inner.slice(1..3).unwrap(), [2, 3]);
        assert!(inner.slice(2..4).is_none());
        assert!(inner.slice(usize::MAX - 1..usize::MAX).is_none());
    }
}
