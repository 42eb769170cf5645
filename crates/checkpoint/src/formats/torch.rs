//! Torch's `.pt` and `.pth` files: a zip archive of a pickle and raw storages.
//!
//! ```text
//! name/data.pkl    the pickle: dictionaries of tensors
//! name/data/0      storage 0: raw elements
//! name/byteorder   "little"
//! ```
//!
//! Training checkpoints keep their weights in a dictionary within a
//! dictionary. Taken is, in the order of public loaders: `generator_ema`,
//! `generator`, `model`, `state_dict`, or the outermost dictionary itself.
//!
//! The format before torch 1.6 (a bare pickle) is refused by name.

use std::sync::Arc;

use super::{
    ByName, Layout, StoredTensor, check_bounds,
    pickle::{Id, Pickle, TensorRef, Value},
    zip,
};
use crate::{Bytes, Error, Result, weights::Ema};

const WRAPPERS: [&str; 3] = ["generator", "model", "state_dict"];
const AVERAGE: &str = "generator_ema";
/// Dictionaries within dictionaries above the weights.
const WRAPPERS_DEEP_MAX: usize = 4;
/// Keys that a message shows, and characters of each.
const KEYS_SHOWN_MAX: usize = 8;
const KEY_SHOWN_MAX: usize = 64;

/// The tensors of a file; `file` is its name in messages.
///
/// # Errors
///
/// [`Error::Corrupt`] or [`Error::Refused`].
pub(crate) fn read(file: &str, bytes: &Bytes, ema: Ema) -> Result<ByName> {
    let corrupt = |problem: String| Error::Corrupt { file: file.to_owned(), problem };
    let refused = |problem: String| Error::Refused { file: file.to_owned(), problem };
    if !bytes.starts_with(b"PK") {
        return Err(match bytes.first() {
            Some(0x80) => {
                refused("the format before torch 1.6: save it again with a newer torch".into())
            }
            _ => corrupt("is no torch file (a zip archive): fetch it again".into()),
        });
    }
    let archive = Archive::open(bytes).map_err(corrupt)?;
    let pickle = Pickle::read(archive.pickle()).map_err(refused)?;
    let weights = find_weights(&pickle, ema).map_err(corrupt)?;
    let name: Arc<str> = file.into();
    let mut tensors = ByName::new();
    for (tensor, id) in pickle.entries(weights) {
        if let Value::Tensor(found) = pickle.value(id) {
            check_bounds(tensor, found.shape.len()).map_err(corrupt)?;
            let layout = archive
                .layout(found)
                .map_err(|problem| corrupt(format!("tensor `{tensor}` {problem}")))?;
            let stored = StoredTensor {
                file: Arc::clone(&name),
                dtype: found.storage.dtype.clone(),
                shape: found.shape.clone(),
                layout,
            };
            tensors.insert(tensor.to_owned(), stored);
        }
    }
    Ok(tensors)
}

/// The dictionary that holds the weights.
fn find_weights(pickle: &Pickle, ema: Ema) -> Result<Id, String> {
    let mut place = pickle.root();
    for _ in 0..WRAPPERS_DEEP_MAX {
        if pickle.entries(place).any(|(_, id)| matches!(pickle.value(id), Value::Tensor(_))) {
            return Ok(place);
        }
        let average = (ema == Ema::Prefer).then_some(AVERAGE);
        let inner = average.into_iter().chain(WRAPPERS).find_map(|wanted| {
            let (_, id) = pickle.entries(place).find(|(key, _)| *key == wanted)?;
            matches!(pickle.value(id), Value::Dict(pairs) if !pairs.is_empty()).then_some(id)
        });
        let Some(inner) = inner else { break };
        place = inner;
    }
    let short = |(key, _): (&str, Id)| key.chars().take(KEY_SHOWN_MAX).collect();
    let keys: Vec<String> = pickle.entries(place).take(KEYS_SHOWN_MAX).map(short).collect();
    Err(format!(
        "holds no weights: expected tensors, or a dictionary of them under generator_ema, \
         generator, model or state_dict, found the keys {keys:?}"
    ))
}

struct Archive<'a> {
    bytes: &'a Bytes,
    directory: zip::Directory,
    /// Folder of all entries, with its slash.
    prefix: String,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a Bytes) -> Result<Self, String> {
        let directory = zip::read(bytes)?;
        let mut prefixes = directory.keys().filter_map(|name| name.strip_suffix("data.pkl"));
        let prefix = match (prefixes.next(), prefixes.next()) {
            (Some(prefix), None) if prefix.is_empty() || prefix.ends_with('/') => prefix.to_owned(),
            (_, Some(_)) => return Err("holds more than one data.pkl".into()),
            (_, None) => return Err("holds no data.pkl: it was not written by torch".into()),
        };
        let archive = Self { bytes, directory, prefix };
        match archive.entry("byteorder") {
            None | Some(b"little") => Ok(archive),
            Some(_) => Err("was written on a big-endian machine".into()),
        }
    }

    fn entry(&self, name: &str) -> Option<&[u8]> {
        let range = self.directory.get(&format!("{}{name}", self.prefix))?;
        self.bytes.get(range.clone())
    }

    fn pickle(&self) -> &[u8] {
        self.entry("data.pkl").unwrap_or_default()
    }

    /// Where a tensor's elements are, all of them inside its storage.
    fn layout(&self, tensor: &TensorRef) -> Result<Layout, String> {
        let storage = &tensor.storage;
        let entry = format!("{}data/{}", self.prefix, storage.key);
        let range =
            self.directory.get(&entry).ok_or(format!("is in `{entry}`, which is not there"))?;
        let expected = storage.elements.checked_mul(storage.width);
        if expected != Some(range.len()) {
            let (elements, width, found) = (storage.elements, storage.width, range.len());
            return Err(format!(
                "is in `{entry}`: expected {elements} elements of {width} bytes, found {found} bytes"
            ));
        }
        let outside = || format!("reaches past the end of `{entry}`");
        let elements = tensor
            .shape
            .iter()
            .try_fold(1usize, |product, &size| product.checked_mul(size))
            .ok_or_else(outside)?;
        let end = end(tensor, elements).filter(|&end| end <= storage.elements);
        let end = end.ok_or_else(outside)?;
        if storage.elements < elements {
            // Gathered, a few bytes could become any number of them.
            let stored = storage.elements;
            return Err(format!("spreads {stored} stored elements over {elements} places"));
        }
        let whole = self.bytes.slice(range.clone()).ok_or_else(outside)?;
        if is_contiguous(tensor) {
            let width = storage.width;
            let start = if elements == 0 { end } else { tensor.offset };
            let data = whole.slice(start * width..end * width).ok_or_else(outside)?;
            return Ok(Layout::Contiguous(data));
        }
        Ok(Layout::Strided {
            storage: whole,
            offset: tensor.offset,
            strides: tensor.strides.clone(),
        })
    }
}

/// One past the last element of the storage that the tensor uses.
fn end(tensor: &TensorRef, elements: usize) -> Option<usize> {
    if elements == 0 {
        return Some(0);
    }
    let axes = tensor.shape.iter().zip(&tensor.strides);
    let last = axes.map(|(size, stride)| (size - 1).checked_mul(*stride));
    last.into_iter()
        .try_fold(tensor.offset, |sum, distance| sum.checked_add(distance?))?
        .checked_add(1)
}

/// Whether elements, of which there are not too many to count, lie row-major
/// without gaps. Strides of axes of one element do not matter, nor do any where
/// there is no element.
fn is_contiguous(tensor: &TensorRef) -> bool {
    if tensor.shape.contains(&0) {
        return true;
    }
    let mut expected = 1;
    for (&size, &stride) in tensor.shape.iter().zip(&tensor.strides).rev() {
        if size != 1 && stride != expected {
            return false;
        }
        expected *= size;
    }
    true
}
