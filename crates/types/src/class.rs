//! Element types and numeric classes: what decides a result's bits.

/// Type of a tensor's elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dtype {
    /// IEEE single precision.
    F32,
    /// bfloat16.
    Bf16,
}

impl Dtype {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::Bf16 => 2,
        }
    }
}

/// A numeric class: a backend, its dtypes and its kernel family. Within a class
/// results are equal to the last bit, on any box and for any split. What a class
/// means is its digests in the backend's tests, which have a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Everything in f32, fused multiply-adds in ascending order.
    CpuF32,
    /// Factors in bf16, sums in f32 by the processor's bf16 dot products
    /// (AVX512-BF16); residual rounded to bf16 after every layer.
    CpuBf16Avx512,
    /// The same with products in matrix registers (AMX), whose sums round otherwise.
    CpuBf16Amx,
}

impl Class {
    /// Every class there is.
    pub const ALL: [Self; 3] = [Self::CpuF32, Self::CpuBf16Avx512, Self::CpuBf16Amx];

    /// The class' name in records, events and messages between nodes.
    pub fn name(self) -> &'static str {
        match self {
            Self::CpuF32 => "cpu-f32",
            Self::CpuBf16Avx512 => "cpu-bf16-avx512",
            Self::CpuBf16Amx => "cpu-bf16-amx",
        }
    }

    /// The class of this name, if there is one.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|class| class.name() == name)
    }

    /// Dtype of the residual behind every layer: of hidden states that cross to another
    /// stage.
    pub fn residual(self) -> Dtype {
        match self {
            Self::CpuF32 => Dtype::F32,
            Self::CpuBf16Avx512 | Self::CpuBf16Amx => Dtype::Bf16,
        }
    }

    /// Dtype of the factors of products, and of cached rows.
    pub fn activation(self) -> Dtype {
        match self {
            Self::CpuF32 => Dtype::F32,
            Self::CpuBf16Avx512 | Self::CpuBf16Amx => Dtype::Bf16,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for class in Class::ALL {
            assert_eq!(Class::from_name(class.name()), Some(class));
        }
        assert_eq!(Class::from_name("cpu-f64"), None);
    }
}
