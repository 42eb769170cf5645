//! The tensors of one part, by canonical name.
//!
//! A tensor is found under the name its file uses, checked against the shape
//! the caller computes with, and handed out as shared bytes. Nothing is read
//! before it is asked for. Where a file fuses or splits matrices differently,
//! a recipe of row ranges says what to put together.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use crate::{
    Error, Part, Result, Tensor, formats::StoredTensor, manifest::Manifest, names::Naming, random,
    weights::Weights,
};

/// The tensors of one part, by canonical name. Clones share everything.
#[derive(Clone, Debug)]
pub struct Tensors {
    backing: Arc<Backing>,
}

#[derive(Debug)]
enum Backing {
    Stored(Stored),
    Random { shapes: BTreeMap<String, Vec<usize>>, seed: u64 },
}

/// Counts what has been read. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Tally(Arc<AtomicU64>);

/// Tensors in files.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(crate) part: Part,
    pub(crate) weights: Weights,
    pub(crate) naming: Naming,
    /// Tensors made of rows of others, by canonical name.
    pub(crate) recipes: Recipes,
    /// Bytes of tensors that were handed out.
    pub(crate) tally: Tally,
}

/// Row ranges to put together, by canonical name.
pub(crate) type Recipes = BTreeMap<String, Vec<Rows>>;

/// Rows of a stored tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rows {
    pub(crate) stored: String,
    pub(crate) rows: Range<usize>,
}

/// Rows of a tensor that is there and fits.
struct Found<'a> {
    name: &'a str,
    tensor: &'a StoredTensor,
    rows: Range<usize>,
}

impl Tally {
    /// So much more was read.
    pub fn add(&self, bytes: u64) {
        self.0.fetch_add(bytes, Ordering::Relaxed);
    }

    /// All that was read.
    pub fn read(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Tensors {
    /// Random BF16 weights of the listed shapes: the same for the same seed,
    /// made when asked for, scaled so that activations keep their size.
    pub fn random(manifest: Manifest, seed: u64) -> Self {
        let shapes = manifest.into_iter().collect();
        Self { backing: Arc::new(Backing::Random { shapes, seed }) }
    }

    pub(crate) fn stored(stored: Stored) -> Self {
        Self { backing: Arc::new(Backing::Stored(stored)) }
    }

    /// The tensor called `name` of shape `shape`.
    ///
    /// # Errors
    ///
    /// [`Error::NoTensor`], [`Error::NoShard`], [`Error::Shape`] or
    /// [`Error::Dtype`], naming file and tensor.
    pub fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        match &*self.backing {
            Backing::Stored(stored) => stored.get(name, shape),
            Backing::Random { shapes, seed } => {
                check_random(shapes, name, shape)?;
                Ok(random::tensor(name, shape, *seed))
            }
        }
    }

    /// The values of a tensor, all of them numbers.
    ///
    /// # Errors
    ///
    /// As [`Tensors::get`], and [`Error::NotFinite`].
    pub fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>> {
        let values = self.get(name, shape)?.to_f32();
        match values.iter().all(|value| value.is_finite()) {
            true => Ok(values),
            false => {
                Err(Error::NotFinite { file: self.file(name, shape), tensor: name.to_owned() })
            }
        }
    }

    /// The file that holds a tensor.
    fn file(&self, name: &str, shape: &[usize]) -> String {
        let Backing::Stored(stored) = &*self.backing else { return "<random weights>".to_owned() };
        let found = stored.find(name, shape).ok().and_then(|parts| parts.into_iter().next());
        found.map(|part| part.tensor.file.to_string()).unwrap_or_default()
    }

    /// Checks that every listed tensor is there with its shape and an element
    /// type that can be computed with. Reads no tensor.
    ///
    /// # Errors
    ///
    /// As [`Tensors::get`], for the first tensor that does not fit.
    pub fn check(&self, manifest: &[(String, Vec<usize>)]) -> Result<()> {
        manifest.iter().try_for_each(|(name, shape)| match &*self.backing {
            Backing::Stored(stored) => stored.check(name, shape),
            Backing::Random { shapes, .. } => check_random(shapes, name, shape),
        })
    }

    /// Checks that the files hold nothing else than the listed tensors and
    /// what is known to stand beside them (the VAE's encoder).
    ///
    /// # Errors
    ///
    /// [`Error::Contradicts`] or, if none of them stands where the model's own
    /// do, [`Error::Surplus`]: with the first of the others and their number.
    pub fn check_surplus(&self, manifest: &[(String, Vec<usize>)]) -> Result<()> {
        match &*self.backing {
            Backing::Stored(stored) => stored.check_surplus(manifest),
            Backing::Random { .. } => Ok(()),
        }
    }
}

fn check_random(shapes: &BTreeMap<String, Vec<usize>>, name: &str, shape: &[usize]) -> Result<()> {
    let file = || "<random weights>".to_owned();
    let (tensor, expected) = (name.to_owned(), shape.to_vec());
    match shapes.get(name) {
        None => Err(Error::NoTensor { file: file(), tensor, expected }),
        Some(found) if found == shape => Ok(()),
        Some(found) => Err(Error::Shape { file: file(), tensor, expected, found: found.clone() }),
    }
}

impl Stored {
    fn get(&self, name: &str, shape: &[usize]) -> Result<Tensor> {
        let mut parts = Vec::new();
        for Found { name, tensor, rows } in self.find(name, shape)? {
            let part = rows_of(tensor.load(name)?, rows);
            self.tally.add(part.bytes.len() as u64);
            parts.push(part);
        }
        match <[Tensor; 1]>::try_from(parts) {
            Ok([only]) => Ok(Tensor { shape: shape.to_vec(), ..only }),
            Err(parts) => Ok(concatenate(&parts, shape)),
        }
    }

    fn check(&self, name: &str, shape: &[usize]) -> Result<()> {
        self.find(name, shape).map(|_| ())
    }

    /// Where the tensor called `canonical` is; at least one range of rows, all
    /// of one element type, together of the expected shape.
    fn find(&self, canonical: &str, expected: &[usize]) -> Result<Vec<Found<'_>>> {
        let Some(recipe) = self.recipes.get(canonical) else {
            let found = self.find_whole(canonical, expected)?;
            return Ok(vec![found]);
        };
        let mut parts = Vec::with_capacity(recipe.len());
        for Rows { stored, rows } in recipe {
            let (name, tensor) = self
                .weights
                .tensors
                .get_key_value(stored)
                .expect("recipes are made from the tensors that are there");
            parts.push(Found { name, tensor, rows: rows.clone() });
        }
        let first = parts.first().expect("a recipe has a part");
        let dtype = first.tensor.known_dtype(first.name)?;
        for part in &parts {
            if part.tensor.known_dtype(part.name)? != dtype {
                let problem = format!(
                    "`{canonical}` would mix element types: `{}` is {}, `{}` is {}",
                    first.name,
                    first.tensor.dtype.name(),
                    part.name,
                    part.tensor.dtype.name()
                );
                return Err(Error::Corrupt { file: first.tensor.file.to_string(), problem });
            }
        }
        let mut found = first.tensor.shape.clone();
        found[0] = parts.iter().map(|part| part.rows.len()).sum();
        if found != expected {
            return Err(shape_error(first.tensor, canonical, expected, found));
        }
        Ok(parts)
    }

    fn find_whole(&self, canonical: &str, expected: &[usize]) -> Result<Found<'_>> {
        let stored = self.naming.stored(canonical);
        if let Some(absent) = self.weights.absent.get(&stored) {
            let (file, index) = (absent.file.clone(), absent.index.clone());
            return Err(Error::NoShard { file, index, tensor: stored });
        }
        let Some((name, tensor)) = self.weights.tensors.get_key_value(&stored) else {
            let expected = expected.to_vec();
            return Err(Error::NoTensor {
                file: self.weights.some_file(),
                tensor: stored,
                expected,
            });
        };
        tensor.known_dtype(name)?;
        if tensor.shape != expected {
            return Err(shape_error(tensor, name, expected, tensor.shape.clone()));
        }
        let rows = 0..tensor.shape.first().copied().unwrap_or(1);
        Ok(Found { name, tensor, rows })
    }

    fn check_surplus(&self, manifest: &[(String, Vec<usize>)]) -> Result<()> {
        let mut known = BTreeSet::new();
        for (canonical, _) in manifest {
            match self.recipes.get(canonical) {
                Some(recipe) => known.extend(recipe.iter().map(|part| part.stored.clone())),
                None => _ = known.insert(self.naming.stored(canonical)),
            }
        }
        let surplus =
            |name: &String| !known.contains(name) && !self.naming.knows_beside(name, self.part);
        let others: Vec<_> =
            self.weights.tensors.iter().filter(|(name, _)| surplus(name)).collect();
        let mut own = others.iter().filter(|(name, _)| self.naming.is_own(name, self.part));
        if let Some((name, tensor)) = own.next() {
            let (file, tensor, found) =
                (tensor.file.to_string(), (*name).clone(), tensor.shape.clone());
            return Err(Error::Contradicts { file, tensor, found, count: 1 + own.count() });
        }
        match others.first() {
            None => Ok(()),
            Some((name, tensor)) => Err(Error::Surplus {
                file: tensor.file.to_string(),
                tensor: (*name).clone(),
                found: tensor.shape.clone(),
                count: others.len(),
            }),
        }
    }
}

fn shape_error(tensor: &StoredTensor, name: &str, expected: &[usize], found: Vec<usize>) -> Error {
    Error::Shape {
        file: tensor.file.to_string(),
        tensor: name.to_owned(),
        expected: expected.to_vec(),
        found,
    }
}

/// The asked rows of a tensor, which has at least as many.
fn rows_of(whole: Tensor, rows: Range<usize>) -> Tensor {
    let count = whole.shape.first().copied().unwrap_or(1);
    if rows == (0..count) {
        return whole;
    }
    let row_bytes = whole.bytes.len() / count.max(1);
    let range = rows.start * row_bytes..rows.end * row_bytes;
    let bytes = whole.bytes.slice(range).expect("recipes keep to the rows that are there");
    Tensor { bytes, ..whole }
}

/// Rows one after the other. All parts have one element type.
fn concatenate(parts: &[Tensor], shape: &[usize]) -> Tensor {
    let mut bytes = Vec::with_capacity(parts.iter().map(|part| part.bytes.len()).sum());
    for part in parts {
        bytes.extend_from_slice(&part.bytes);
    }
    Tensor { dtype: parts[0].dtype, shape: shape.to_vec(), bytes: bytes.into() }
}
