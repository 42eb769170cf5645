//! A whole model that is handed out piece by piece: its list, and every blob of it.
//!
//! Making one reads and hashes every tensor that the configuration calls for, one
//! after the other; mapped pages may leave memory again at once. It is done once,
//! when a model is first served or joined with.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    Bytes, Checkpoint, Error, Part, Result, Source, Tensors,
    contents::{Blob, Contents, Digest, FileEntry, TensorEntry, manifests, model_digest},
};

/// A whole model's blobs.
#[derive(Debug)]
pub struct Library {
    contents: Contents,
    parts: BTreeMap<Part, Tensors>,
    source: Source,
    places: BTreeMap<Digest, Place>,
}

/// Where a blob is: an index into one of the two lists.
#[derive(Clone, Copy, Debug)]
enum Place {
    Tensor(usize),
    File(usize),
}

impl Checkpoint {
    /// The whole model, to hand it out. Hashes every tensor.
    ///
    /// # Errors
    ///
    /// Everything in [`crate::Error`]: all parts that are there must be whole.
    pub fn library(&self) -> Result<Library> {
        let model = self.model()?;
        let (mut parts, mut tensors) = (BTreeMap::new(), Vec::new());
        for (part, manifest) in manifests(&model) {
            let opened = self.open_tensors(part)?;
            for (name, shape) in &manifest {
                tensors.push(entry(part, name, shape, &opened)?);
            }
            parts.insert(part, opened);
        }
        tensors.sort_by(|a, b| (a.part, &a.name).cmp(&(b.part, &b.name)));
        let files = self.small_files()?;
        let tokenizer = self.tokenizer_digest(&files);
        let digest = model_digest(&model, tokenizer, &tensors);
        Ok(Library::new(Contents { digest, tensors, files }, parts, self.source().clone()))
    }

    /// What the model consists of. Hashes every tensor, but where the model was
    /// fetched: there the list is at hand, and was compared with its digest.
    ///
    /// # Errors
    ///
    /// As [`Checkpoint::library`].
    pub fn contents(&self) -> Result<Contents> {
        match self.source() {
            Source::Fetched(fetched) => Ok(fetched.contents().clone()),
            Source::Folder(_) | Source::Embedded(_) | Source::Memory(_) => {
                self.library().map(|library| library.contents)
            }
        }
    }

    /// Compares a fetched model with the digest that it was listed under.
    pub(crate) fn check_digest(&self) -> Result<()> {
        let Source::Fetched(fetched) = self.source() else { return Ok(()) };
        let Contents { digest, tensors, files } = fetched.contents();
        let found = model_digest(&self.model()?, self.tokenizer_digest(files), tensors);
        if found == *digest {
            return Ok(());
        }
        Err(Error::OtherModel { model: self.name(), found })
    }

    /// The digest of the tokenizer, one of `files`.
    fn tokenizer_digest(&self, files: &[FileEntry]) -> Option<Digest> {
        let path = self.tokenizer_path()?;
        files.iter().find(|file| file.path == path).map(|file| file.digest)
    }

    fn open_tensors(&self, part: Part) -> Result<Tensors> {
        Ok(match part {
            Part::TextEncoder => self.open_text_encoder()?.tensors,
            Part::Vae => self.open_vae()?.tensors,
            Part::Transformer | Part::Tokenizer => self.open_transformer(None)?.tensors,
        })
    }

    fn small_files(&self) -> Result<Vec<FileEntry>> {
        let paths: BTreeSet<&str> = self.small_paths().collect();
        let entry = |path: &str| {
            let content = self.source().read(path)?;
            let (bytes, digest) = (content.len() as u64, Digest::of(&content));
            Ok(FileEntry { path: path.to_owned(), bytes, digest })
        };
        paths.into_iter().map(entry).collect()
    }
}

fn entry(part: Part, name: &str, shape: &[usize], tensors: &Tensors) -> Result<TensorEntry> {
    let tensor = tensors.get(name, shape)?;
    Ok(TensorEntry {
        part,
        name: name.to_owned(),
        dtype: tensor.dtype,
        shape: tensor.shape,
        bytes: tensor.bytes.len() as u64,
        digest: Digest::of(&tensor.bytes),
    })
}

impl Library {
    fn new(contents: Contents, parts: BTreeMap<Part, Tensors>, source: Source) -> Self {
        let tensors = contents.tensors.iter().enumerate();
        let tensors = tensors.map(|(place, entry)| (entry.digest, Place::Tensor(place)));
        let files = contents.files.iter().enumerate();
        let files = files.map(|(place, entry)| (entry.digest, Place::File(place)));
        let places = tensors.chain(files).collect();
        Self { contents, parts, source, places }
    }

    /// What the model consists of.
    pub fn contents(&self) -> &Contents {
        &self.contents
    }

    /// The content of a blob; `None` if it is not of this model. The receiver
    /// compares it with the digest.
    ///
    /// # Errors
    ///
    /// [`crate::Error`] if the model's files have changed.
    pub fn read(&self, blob: &Blob) -> Result<Option<Bytes>> {
        let content = match self.places.get(&blob.digest) {
            None => return Ok(None),
            Some(&Place::File(place)) => self.source.read(&self.contents.files[place].path)?,
            Some(&Place::Tensor(place)) => {
                let TensorEntry { part, name, shape, .. } = &self.contents.tensors[place];
                let Some(tensors) = self.parts.get(part) else { return Ok(None) };
                tensors.get(name, shape)?.bytes
            }
        };
        Ok((content.len() as u64 == blob.bytes).then_some(content))
    }
}
