//! Checkpoint tensors on their way into a backend.

use backend::{Backend, Dtype, Weight};
use checkpoint::Tensors;

use crate::Error;

/// Reads tensors of a part by name and hands them to a backend.
#[derive(Debug)]
pub(crate) struct Loader<'a, B: Backend> {
    backend: &'a B,
    tensors: &'a Tensors,
}

/// How a product is to be computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Precision {
    /// In the class' activation dtype.
    Class,
    /// In f32: embeddings and heads, which cost little and decide much.
    Full,
}

impl Precision {
    /// Dtype of the factors in this backend's class.
    pub(crate) fn dtype<B: Backend>(self, backend: &B) -> Dtype {
        match self {
            Self::Class => backend.class().activation(),
            Self::Full => Dtype::F32,
        }
    }
}

impl<'a, B: Backend> Loader<'a, B> {
    pub(crate) fn new(backend: &'a B, tensors: &'a Tensors) -> Self {
        Self { backend, tensors }
    }

    /// The values of a tensor of this shape, all of them numbers.
    pub(crate) fn values(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, Error> {
        Ok(self.tensors.values(name, shape)?)
    }

    /// A vector as a tensor of one f32 row.
    pub(crate) fn row(&self, name: &str, shape: &[usize]) -> Result<B::Tensor, Error> {
        let values = self.values(name, shape)?;
        Ok(self.backend.upload(1, values.len(), &values, Dtype::F32)?)
    }

    /// `name.weight` `[n, k]` and, if `bias`, `name.bias` `[n]`.
    pub(crate) fn linear(
        &self,
        name: &str,
        n: usize,
        k: usize,
        bias: bool,
        precision: Precision,
    ) -> Result<B::Linear, Error> {
        self.shaped(name, &[n, k], bias, precision)
    }

    /// As [`Loader::linear`], for a weight whose trailing axes are flattened.
    pub(crate) fn shaped(
        &self,
        name: &str,
        shape: &[usize],
        bias: bool,
        precision: Precision,
    ) -> Result<B::Linear, Error> {
        let values = self.values(&format!("{name}.weight"), shape)?;
        let n = shape[0];
        let bias = match bias {
            true => Some(self.values(&format!("{name}.bias"), &[n])?),
            false => None,
        };
        let weight = Weight { n, k: values.len() / n, values: &values };
        let dtype = precision.dtype(self.backend);
        Ok(self.backend.load_linear(weight, bias.as_deref(), dtype)?)
    }

    /// Several weights of `k` inputs stacked into one layer, in order; biases
    /// follow where `bias` is set.
    pub(crate) fn stacked(
        &self,
        names: &[(&str, usize)],
        k: usize,
        bias: bool,
        precision: Precision,
    ) -> Result<B::Linear, Error> {
        let (mut weights, mut biases) = (Vec::new(), Vec::new());
        for (name, n) in names {
            weights.extend(self.values(&format!("{name}.weight"), &[*n, k])?);
            if bias {
                biases.extend(self.values(&format!("{name}.bias"), &[*n])?);
            }
        }
        let weight = Weight { n: weights.len() / k, k, values: &weights };
        let dtype = precision.dtype(self.backend);
        Ok(self.backend.load_linear(weight, bias.then_some(&biases[..]), dtype)?)
    }
}
