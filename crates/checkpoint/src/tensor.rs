//! A tensor as it is stored: element type, shape and shared bytes.
//!
//! Bytes are little-endian and row-major and may stand at any address, so they
//! are read element by element; the loops compile to vector code. Conversions
//! round to nearest, ties to even, and are exact wherever the target can hold
//! the value (F16 and BF16 to f32 always are).

use half::{bf16, f16};

use crate::Bytes;

/// An element type that can be computed with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dtype {
    /// IEEE 754 single precision.
    F32,
    /// IEEE 754 half precision.
    F16,
    /// The upper half of an F32.
    Bf16,
    /// IEEE 754 double precision.
    F64,
}

/// A tensor as it is stored.
#[derive(Clone, Debug)]
pub struct Tensor {
    /// Element type of `bytes`.
    pub dtype: Dtype,
    /// Sizes of the axes, outermost first.
    pub shape: Vec<usize>,
    /// Elements, little-endian and row-major, without gaps.
    pub bytes: Bytes,
}

impl Dtype {
    /// Bytes of one element.
    pub fn bytes(self) -> usize {
        match self {
            Self::F16 | Self::Bf16 => 2,
            Self::F32 => 4,
            Self::F64 => 8,
        }
    }

    /// The element type of that name.
    pub fn named(name: &str) -> Option<Self> {
        [Self::F32, Self::F16, Self::Bf16, Self::F64].into_iter().find(|dtype| dtype.name() == name)
    }

    /// The name that safetensors files use.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "F32",
            Self::F16 => "F16",
            Self::Bf16 => "BF16",
            Self::F64 => "F64",
        }
    }
}

impl Tensor {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.bytes.len() / self.dtype.bytes()
    }

    /// The elements as f32. Exact but for F64, which is rounded.
    pub fn to_f32(&self) -> Vec<f32> {
        match self.dtype {
            Dtype::F32 => self.map(f32::from_le_bytes),
            Dtype::F16 => self.map(|bytes| f16::from_le_bytes(bytes).to_f32()),
            Dtype::Bf16 => self.map(|bytes| f32_of_bf16(u16::from_le_bytes(bytes))),
            Dtype::F64 => self.map(|bytes| f32_of_f64(f64::from_le_bytes(bytes))),
        }
    }

    /// The elements as the bits of BF16 numbers. Exact for BF16, else rounded.
    pub fn to_bf16_bits(&self) -> Vec<u16> {
        match self.dtype {
            Dtype::Bf16 => self.map(u16::from_le_bytes),
            Dtype::F32 => self.map(|bytes| bf16::from_f32(f32::from_le_bytes(bytes)).to_bits()),
            Dtype::F16 => {
                self.map(|bytes| bf16::from_f32(f16::from_le_bytes(bytes).to_f32()).to_bits())
            }
            Dtype::F64 => self.map(|bytes| bf16_of_f64(f64::from_le_bytes(bytes)).to_bits()),
        }
    }

    fn map<const WIDTH: usize, T>(&self, convert: impl Fn([u8; WIDTH]) -> T) -> Vec<T> {
        let (elements, _) = self.bytes.as_chunks::<WIDTH>();
        elements.iter().map(|bytes| convert(*bytes)).collect()
    }
}

fn f32_of_bf16(bits: u16) -> f32 {
    f32::from_bits(u32::from(bits) << 16)
}

#[expect(clippy::cast_possible_truncation, reason = "rounding is what is asked for")]
fn f32_of_f64(value: f64) -> f32 {
    value as f32
}

/// Rounds once. (`bf16::from_f64` of half 2.7 ignores the lower 32 bits.)
fn bf16_of_f64(value: f64) -> bf16 {
    let near = f32_of_f64(value);
    if f64::from(near) == value || near.is_nan() {
        return bf16::from_f32(near);
    }
    // An inexact value becomes the odd one of its two neighbours, which lies
    // on the same side of every BF16 midpoint as the value itself.
    let away = value.abs() < f64::from(near).abs();
    bf16::from_f32(f32::from_bits((near.to_bits() - u32::from(away)) | 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_dtype_converts_to_the_nearest_value() {
        // Halfway between two BF16 numbers; the even one is 1.
        let value = 1.0 + 1.0 / 256.0;
        let stored = [
            (Dtype::F32, (1.0f32 + 1.0 / 256.0).to_le_bytes().to_vec()),
            (Dtype::F16, f16::from_f64(value).to_le_bytes().to_vec()),
            (Dtype::F64, value.to_le_bytes().to_vec()),
        ];
        for (dtype, bytes) in stored {
            let tensor = Tensor { dtype, shape: vec![1], bytes: bytes.into() };
            assert_eq!(tensor.to_f32(), [1.0 + 1.0 / 256.0], "{dtype:?}");
            assert_eq!(tensor.to_bf16_bits(), [0x3f80], "{dtype:?}");
        }
    }

    #[test]
    fn dtypes_are_found_by_the_names_that_they_have() {
        for dtype in [Dtype::F32, Dtype::F16, Dtype::Bf16, Dtype::F64] {
            assert_eq!(Dtype::named(dtype.name()), Some(dtype));
        }
        assert_eq!(Dtype::named("bf16"), None);
    }

    #[test]
    fn doubles_are_rounded_once() {
        // On, above and below the middle of two BF16 numbers; an F32 cannot tell.
        let middle = 1.0 + 2f64.powi(-8);
        let values = [middle, middle + 2f64.powi(-40), middle - 2f64.powi(-40), -1e300, f64::NAN];
        let bytes = values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>();
        let tensor = Tensor { dtype: Dtype::F64, shape: vec![5], bytes: bytes.into() };

        let bits = tensor.to_bf16_bits();
        assert_eq!(bits[..4], [0x3f80, 0x3f81, 0x3f80, 0xff80]);
        assert!(bf16::from_bits(bits[4]).is_nan());
    }

    #[test]
    fn bf16_bits_pass_unchanged_at_odd_addresses() {
        let bytes = Bytes::from(vec![9, 0x80, 0x3f, 0x00, 0xc0]).slice(1..5).unwrap();
        let tensor = Tensor { dtype: Dtype::Bf16, shape: vec![2], bytes };

        assert_eq!(tensor.to_bf16_bits(), [0x3f80, 0xc000]);
        assert_eq!(tensor.to_f32(), [1.0, -2.0]);
        assert_eq!(tensor.elements(), 2);
    }
}
