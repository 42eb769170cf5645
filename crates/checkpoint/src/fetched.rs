//! A model, or a stage of it, out of blobs that were fetched: a list says what the
//! blobs are, so the model's files need not be here.
//!
//! Configuration files have their paths and are read as from any folder. Tensors
//! have no files: they bear canonical names and stand apart, one blob each.
//!
//! Invariant: only pinned blobs are used, so none vanishes while the model is in
//! use. A tensor without a pinned blob is no error until it is asked for.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind},
};

use crate::{
    Bytes, Contents, Error, Part, Pinned, Result,
    contents::{Blob, TensorEntry},
    formats::{ByName, Layout, StoredDtype, StoredTensor},
    weights::{Absent, Weights},
};

/// Blobs of a model, with the list that says what they are.
#[derive(Debug)]
pub struct Fetched {
    contents: Contents,
    blobs: Pinned,
}

impl Fetched {
    pub(crate) fn new(contents: Contents, blobs: Pinned) -> Result<Self> {
        contents.check()?;
        Ok(Self { contents, blobs })
    }

    /// What the whole model consists of.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The configuration file at `path`.
    pub(crate) fn read(&self, path: &str) -> io::Result<Bytes> {
        let file = self.contents.file(path);
        let content = file.map(|file| self.blob(file.blob())).transpose()?.flatten();
        content.ok_or_else(|| ErrorKind::NotFound.into())
    }

    /// The tensors of a part; those without a blob are absent.
    pub(crate) fn weights(&self, part: Part) -> Result<Weights> {
        let (mut tensors, mut absent, mut files) = (ByName::new(), BTreeMap::new(), Vec::new());
        for entry in self.contents.tensors.iter().filter(|entry| entry.part == part) {
            let file = self.blobs.path(&entry.digest).display().to_string();
            let content = self.blob(entry.blob());
            match content.map_err(|cause| Error::Io { file: file.clone(), cause })? {
                Some(bytes) => {
                    files.push((file.clone(), entry.bytes));
                    tensors.insert(entry.name.clone(), stored(entry, &file, bytes));
                }
                None => {
                    let index = self.contents.name();
                    absent.insert(entry.name.clone(), Absent { file, index });
                }
            }
        }
        Ok(Weights { tensors, absent, files })
    }

    /// The content of a pinned blob, of the listed length.
    fn blob(&self, blob: Blob) -> io::Result<Option<Bytes>> {
        match self.blobs.read(&blob.digest)? {
            Some(content) if content.len() as u64 != blob.bytes => {
                let found = content.len();
                let problem =
                    format!("has {found} bytes, not the {} listed: fetch it again", blob.bytes);
                Err(io::Error::new(ErrorKind::InvalidData, problem))
            }
            content => Ok(content),
        }
    }
}

fn stored(entry: &TensorEntry, file: &str, bytes: Bytes) -> StoredTensor {
    StoredTensor {
        file: file.into(),
        dtype: StoredDtype::Known(entry.dtype),
        shape: entry.shape.clone(),
        layout: Layout::Contiguous(bytes),
    }
}
