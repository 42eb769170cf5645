//! Weight files as they lie on disk: safetensors, and torch's zipped pickles.
//!
//! Each format turns one file into [`StoredTensor`]s by the names written in
//! it. Nothing is copied or converted here, and no tensor data is touched.

mod pickle;
pub(crate) mod safetensors;
pub(crate) mod torch;
mod zip;

#[cfg(test)]
mod fixtures;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use crate::{Bytes, Dtype, Error, Result, Tensor};

/// Bytes of a name; the longest that wrapped training checkpoints have are
/// about 150 long. Longer ones would be repeated in every message and look-up.
const NAME_BYTES_MAX: usize = 1 << 10;
/// Axes of a tensor; weights have at most five.
const AXES_MAX: usize = 8;

/// Tensors by the names written in a file.
pub(crate) type ByName = BTreeMap<String, StoredTensor>;

/// A tensor in a weight file.
#[derive(Clone, Debug)]
pub(crate) struct StoredTensor {
    /// The file, as messages name it.
    pub(crate) file: Arc<str>,
    pub(crate) dtype: StoredDtype,
    pub(crate) shape: Vec<usize>,
    pub(crate) layout: Layout,
}

/// An element type, or the file's own name of one that is not computed with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum StoredDtype {
    Known(Dtype),
    Other(String),
}

/// Where a tensor's elements are.
#[derive(Clone, Debug)]
pub(crate) enum Layout {
    /// Row-major, without gaps.
    Contiguous(Bytes),
    /// Spread over a storage that was checked to hold all of them. Offset and
    /// strides count elements.
    Strided { storage: Bytes, offset: usize, strides: Vec<usize> },
}

impl StoredTensor {
    /// The tensor under the name `tensor`, which is used in messages only.
    /// Strided elements are gathered into fresh memory.
    ///
    /// # Errors
    ///
    /// [`Error::Dtype`] if its elements cannot be computed with.
    pub(crate) fn load(&self, tensor: &str) -> Result<Tensor> {
        let dtype = self.known_dtype(tensor)?;
        let bytes = match &self.layout {
            Layout::Contiguous(bytes) => bytes.clone(),
            Layout::Strided { storage, offset, strides } => {
                gather(storage, dtype.bytes(), *offset, &self.shape, strides).into()
            }
        };
        Ok(Tensor { dtype, shape: self.shape.clone(), bytes })
    }

    /// The element type.
    ///
    /// # Errors
    ///
    /// [`Error::Dtype`] if it cannot be computed with.
    pub(crate) fn known_dtype(&self, tensor: &str) -> Result<Dtype> {
        match &self.dtype {
            StoredDtype::Known(dtype) => Ok(*dtype),
            StoredDtype::Other(found) => Err(Error::Dtype {
                file: self.file.to_string(),
                tensor: tensor.to_owned(),
                found: found.clone(),
            }),
        }
    }
}

impl StoredDtype {
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Known(dtype) => dtype.name(),
            Self::Other(name) => name,
        }
    }
}

/// Checks a tensor's name and number of axes; the problem is the end of a
/// sentence about the file.
pub(crate) fn check_bounds(tensor: &str, axes: usize) -> Result<(), String> {
    if NAME_BYTES_MAX < tensor.len() {
        return Err(format!("names a tensor in {} bytes", tensor.len()));
    }
    if AXES_MAX < axes {
        return Err(format!("holds `{tensor}` with {axes} axes"));
    }
    Ok(())
}

/// Copies strided elements into row-major order.
fn gather(
    storage: &[u8],
    width: usize,
    offset: usize,
    shape: &[usize],
    strides: &[usize],
) -> Vec<u8> {
    let elements: usize = shape.iter().product();
    let mut bytes = Vec::with_capacity(elements * width);
    let mut index = vec![0; shape.len()];
    for _ in 0..elements {
        let place: usize = index.iter().zip(strides).map(|(at, stride)| at * stride).sum();
        let start = (offset + place) * width;
        bytes.extend_from_slice(&storage[start..start + width]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    bytes
}
