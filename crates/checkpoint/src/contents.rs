//! What a model consists of, by digest: what identifies it, and what a node that
//! does not have it must fetch.
//!
//! ```text
//!  folder ─ Checkpoint::library ─▶ Library ── contents ──▶ list of tensors and files
//!                                     └────── read(digest) ──▶ bytes, for whoever asks
//!
//!  list + blobs ─ Source::fetched ─▶ Checkpoint::open: the model again, or a stage of it
//! ```
//!
//! A *blob* is the content of a tensor or of a small file, known by its BLAKE3. A
//! tensor is listed under its canonical name, put together if its file fuses or
//! splits it, so the list does not depend on files, sharding or a family's names.
//!
//! The model digest is BLAKE3 of the text that `canonical.rs` writes: the resolved
//! configuration, the tokenizer's file and the list of tensors. Two nodes whose
//! digests agree make the same videos. It covers the tensors that the configuration
//! calls for and no others.
//!
//! Invariants: tensors are sorted by part and name, files by path. A list that came
//! from elsewhere is bounded and agrees with itself before it is used
//! ([`Contents::check`]), and makes the digest that it claims before a part is
//! opened.

use std::{collections::BTreeSet, fmt, ops::Range, str::FromStr};

use types::{Model, ModelDigest};

use crate::{
    Dtype, Error, Part, Result, canonical,
    checkpoint::{TOKENIZER_BYTES_MAX, TOKENIZERS},
    formats::check_bounds,
    manifest::{self, Manifest},
};

/// A model's content, by digest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    /// What identifies the model.
    pub digest: ModelDigest,
    /// The tensors that its configuration calls for, by part and name.
    pub tensors: Vec<TensorEntry>,
    /// Its configuration files and its tokenizer, by path.
    pub files: Vec<FileEntry>,
}

/// A tensor of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorEntry {
    /// The part that it is of.
    pub part: Part,
    /// Its canonical name, see [`manifest`].
    pub name: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Sizes of its axes, outermost first.
    pub shape: Vec<usize>,
    /// Bytes of its elements.
    pub bytes: u64,
    /// BLAKE3 of its elements, little-endian and row-major.
    pub digest: Digest,
}

/// A small file of a model, which is read whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileEntry {
    /// Where it is in the model's folder, with `/` between the parts.
    pub path: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// BLAKE3 of its content.
    pub digest: Digest,
}

/// BLAKE3 of a blob. Shown and read as 64 hex digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

/// A blob's digest and length.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Blob {
    /// What it is known by.
    pub digest: Digest,
    /// Its length in bytes.
    pub bytes: u64,
}

/// What a node is to hold of a model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    /// Layers of the transformer, if any.
    pub layers: Option<Range<usize>>,
    /// Whether it encodes text: tokenizer, text encoder and text projection.
    pub text: bool,
    /// Whether it decodes frames.
    pub decoder: bool,
}

/// The most tensors in a list, chosen: Wan's 14B model with its encoder has 2,000.
const TENSORS_MAX: usize = 1 << 17;
/// The most files in a list; this crate makes at most eight.
const FILES_MAX: usize = 32;

impl Contents {
    /// The blobs that a node needs, each once: what the parts' tensors are, and the
    /// configuration of the whole model.
    ///
    /// # Errors
    ///
    /// [`Error::NoPart`] if the model has no such part, [`Error::NoTensor`] if the
    /// list lacks a tensor.
    pub fn needed(&self, model: &Model, need: &Need) -> Result<Vec<Blob>> {
        let files = self.files.iter().filter(|file| need.text || !is_tokenizer(&file.path));
        let mut blobs: BTreeSet<Blob> = files.map(FileEntry::blob).collect();
        for (part, manifest) in needed_tensors(model, need).map_err(|part| self.no_part(part))? {
            for (name, shape) in &manifest {
                let entry = self.tensor(part, name).ok_or_else(|| self.no_tensor(name, shape))?;
                blobs.insert(entry.blob());
            }
        }
        Ok(blobs.into_iter().collect())
    }

    /// The tensor of that canonical name.
    pub fn tensor(&self, part: Part, name: &str) -> Option<&TensorEntry> {
        let key = |entry: &TensorEntry| (entry.part, entry.name.as_str()).cmp(&(part, name));
        let place = self.tensors.binary_search_by(key).ok()?;
        self.tensors.get(place)
    }

    /// The file at `path`.
    pub(crate) fn file(&self, path: &str) -> Option<&FileEntry> {
        self.files.iter().find(|file| file.path == path)
    }

    /// Whether there are tensors of a part.
    pub(crate) fn has(&self, part: Part) -> bool {
        self.tensors.iter().any(|entry| entry.part == part)
    }

    /// How messages name the model.
    pub(crate) fn name(&self) -> String {
        format!("<model {}>", self.digest)
    }

    /// Checks a list that came from elsewhere: bounds, order, and bytes that are
    /// those of the shapes.
    ///
    /// # Errors
    ///
    /// [`Error::List`].
    pub fn check(&self) -> Result<()> {
        self.checked().map_err(|problem| Error::List { model: self.name(), problem })
    }

    fn checked(&self) -> Result<(), String> {
        if TENSORS_MAX < self.tensors.len() || FILES_MAX < self.files.len() {
            let (tensors, files) = (self.tensors.len(), self.files.len());
            return Err(format!("{tensors} tensors and {files} files are absurd"));
        }
        self.tensors.iter().try_for_each(TensorEntry::check)?;
        self.files.iter().try_for_each(FileEntry::check)?;
        let named = |entry: &TensorEntry| (entry.part, entry.name.clone());
        let tensors_rise = self.tensors.is_sorted_by(|a, b| named(a) < named(b));
        if !tensors_rise || !self.files.is_sorted_by(|a, b| a.path < b.path) {
            return Err("it is not in order, or names something twice".to_owned());
        }
        Ok(())
    }

    fn no_part(&self, part: Part) -> Error {
        let looked_for = "its tensors in the list".to_owned();
        Error::NoPart { source_name: self.name(), part, looked_for }
    }

    fn no_tensor(&self, name: &str, shape: &[usize]) -> Error {
        let (file, tensor, expected) = (self.name(), name.to_owned(), shape.to_vec());
        Error::NoTensor { file, tensor, expected }
    }
}

/// The tensors of all parts of a model that weights are listed for.
pub(crate) fn manifests(model: &Model) -> Vec<(Part, Manifest)> {
    let text = model.text_encoder.as_ref().map(manifest::text_encoder);
    let transformer = model.transformer.as_ref().map(manifest::whole_transformer);
    let vae = model.vae.as_ref().map(manifest::vae_decoder);
    let all = [(Part::TextEncoder, text), (Part::Transformer, transformer), (Part::Vae, vae)];
    all.into_iter().filter_map(|(part, manifest)| Some((part, manifest?))).collect()
}

/// The tensors that a node needs, or the part that is not there.
fn needed_tensors(model: &Model, need: &Need) -> Result<Vec<(Part, Manifest)>, Part> {
    let transformer = || model.transformer.as_ref().ok_or(Part::Transformer);
    let mut needed = Vec::new();
    if let Some(layers) = &need.layers {
        needed.push((Part::Transformer, manifest::transformer(transformer()?, layers.clone())));
    }
    if need.text {
        let encoder = model.text_encoder.as_ref().ok_or(Part::TextEncoder)?;
        needed.push((Part::TextEncoder, manifest::text_encoder(encoder)));
        needed.push((Part::Transformer, manifest::text_projection(transformer()?)));
    }
    if need.decoder {
        let vae = model.vae.as_ref().ok_or(Part::Vae)?;
        needed.push((Part::Vae, manifest::vae_decoder(vae)));
    }
    Ok(needed)
}

/// The digest of a model: its configuration, its tokenizer, its sorted tensors.
pub(crate) fn model_digest(
    model: &Model,
    tokenizer: Option<Digest>,
    tensors: &[TensorEntry],
) -> ModelDigest {
    let Digest(bytes) = Digest::of(canonical::text(model, tokenizer, tensors).as_bytes());
    ModelDigest(bytes)
}

fn is_tokenizer(path: &str) -> bool {
    TOKENIZERS.contains(&path)
}

impl TensorEntry {
    /// Checks an entry that came from elsewhere: its name and shape are bounded, and
    /// its bytes are those of its shape.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub fn check(&self) -> Result<(), String> {
        let Self { name, dtype, shape, bytes, .. } = self;
        check_bounds(name, shape.len())?;
        let elements = shape.iter().try_fold(1_usize, |size, axis| size.checked_mul(*axis));
        let expected = elements.and_then(|elements| elements.checked_mul(dtype.bytes()));
        if expected.map(|bytes| bytes as u64) != Some(*bytes) {
            return Err(format!("tensor `{name}` {shape:?} is said to have {bytes} bytes"));
        }
        Ok(())
    }

    /// Its content's digest and length.
    pub fn blob(&self) -> Blob {
        Blob { digest: self.digest, bytes: self.bytes }
    }
}

impl FileEntry {
    /// Checks an entry that came from elsewhere: its path is bounded, and its content
    /// is a small file's.
    ///
    /// # Errors
    ///
    /// A sentence.
    pub fn check(&self) -> Result<(), String> {
        let Self { path, bytes, .. } = self;
        check_bounds(path, 0)?;
        if TOKENIZER_BYTES_MAX as u64 <= *bytes {
            return Err(format!("the file {path} of {bytes} bytes is absurd"));
        }
        Ok(())
    }

    /// Its content's digest and length.
    pub fn blob(&self) -> Blob {
        Blob { digest: self.digest, bytes: self.bytes }
    }
}

impl Digest {
    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self(*blake3::hash(bytes).as_bytes())
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not 64 lower-case hex digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest has 64 hex digits, 0 to 9 and a to f")]
pub struct NoDigest;

impl FromStr for Digest {
    type Err = NoDigest;

    fn from_str(text: &str) -> Result<Self, NoDigest> {
        let (pairs, rest) = text.as_bytes().as_chunks::<2>();
        let value = |digit: u8| match digit {
            b'0'..=b'9' => Ok(digit - b'0'),
            b'a'..=b'f' => Ok(digit - b'a' + 10),
            _ => Err(NoDigest),
        };
        let byte = |[high, low]: &[u8; 2]| Ok(value(*high)? << 4 | value(*low)?);
        let bytes = pairs.iter().map(byte).collect::<Result<Vec<u8>, _>>()?;
        match <[u8; 32]>::try_from(bytes) {
            Ok(bytes) if rest.is_empty() => Ok(Self(bytes)),
            _ => Err(NoDigest),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digests_are_read_as_they_are_shown() {
        let digest = Digest::of(b"a");
        let shown = digest.to_string();

        assert_eq!(shown.parse(), Ok(digest));
        let wrong = ["", "ab", &shown[1..], &format!("{shown}0"), &shown.replace('a', "A")];
        for wrong in wrong {
            assert_eq!(wrong.parse::<Digest>(), Err(NoDigest), "{wrong}");
        }
    }

    #[test]
    fn a_list_that_contradicts_itself_is_refused() {
        let tensor = |name: &str| TensorEntry {
            part: Part::Vae,
            name: name.to_owned(),
            dtype: Dtype::F16,
            shape: vec![2, 3],
            bytes: 12,
            digest: Digest([0; 32]),
        };
        let file =
            |path: &str, bytes| FileEntry { path: path.to_owned(), bytes, digest: Digest([0; 32]) };
        let list =
            |tensors, files| Contents { digest: ModelDigest([0; 32]), tensors, files }.check();
        assert!(list(vec![tensor("a"), tensor("b")], vec![file("a", 1), file("b", 1)]).is_ok());

        let wrong = [
            (list(vec![tensor("a"), tensor("a")], vec![]), "twice"),
            (list(vec![], vec![file("b", 1), file("a", 1)]), "order"),
            (list(vec![TensorEntry { bytes: 13, ..tensor("a") }], vec![]), "13 bytes"),
            (list(vec![TensorEntry { shape: vec![usize::MAX; 2], ..tensor("a") }], vec![]), "12"),
            (list(vec![tensor(&"a".repeat(1025))], vec![]), "1025 bytes"),
            (list(vec![], vec![file("a", 1 << 30)]), "absurd"),
            (list(vec![], (10..43).map(|i| file(&i.to_string(), 1)).collect()), "33 files"),
        ];
        for (found, problem) in wrong {
            let error = found.unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }
}
