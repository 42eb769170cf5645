//! Matrices in main memory.

use std::ops::Range;

use crate::{
    cpu::{
        lanes,
        level::Usable,
        memory::Aligned,
        rounding,
        tile::{Bf16, Element},
    },
    seam::{Dtype, Error, Tensor},
};

/// A row-major matrix without padding.
#[derive(Debug)]
pub struct Matrix {
    rows: usize,
    columns: usize,
    pub(crate) data: Data,
}

/// The elements of a matrix.
#[derive(Debug)]
pub(crate) enum Data {
    F32(Aligned<f32>),
    Bf16(Aligned<Bf16>),
}

impl Tensor for Matrix {
    fn rows(&self) -> usize {
        self.rows
    }

    fn columns(&self) -> usize {
        self.columns
    }

    fn dtype(&self) -> Dtype {
        match self.data {
            Data::F32(_) => Dtype::F32,
            Data::Bf16(_) => Dtype::Bf16,
        }
    }
}

impl Matrix {
    pub(crate) fn zeros(rows: usize, columns: usize, dtype: Dtype) -> Result<Self, Error> {
        let len = rows.checked_mul(columns).ok_or(Error::Memory { bytes: u64::MAX })?;
        let data = match dtype {
            Dtype::F32 => Data::F32(Aligned::zeroed(len)?),
            Dtype::Bf16 => Data::Bf16(Aligned::zeroed(len)?),
        };
        Ok(Self { rows, columns, data })
    }

    pub(crate) fn from_f32(
        rows: usize,
        columns: usize,
        values: &[f32],
        dtype: Dtype,
    ) -> Result<Self, Error> {
        assert_eq!(values.len(), rows * columns, "values for a {rows} x {columns} tensor");
        let mut matrix = Self::zeros(rows, columns, dtype)?;
        match &mut matrix.data {
            Data::F32(data) => data.copy_from_slice(values),
            Data::Bf16(data) => {
                for (to, &from) in data.iter_mut().zip(values) {
                    *to = Bf16::from_f32(from);
                }
            }
        }
        Ok(matrix)
    }

    pub(crate) fn to_f32(&self) -> Vec<f32> {
        match &self.data {
            Data::F32(data) => data.to_vec(),
            Data::Bf16(data) => data.iter().map(|x| x.to_f32()).collect(),
        }
    }

    pub(crate) fn row_bytes(&self, rows: Range<usize>) -> Vec<u8> {
        let range = rows.start * self.columns..rows.end * self.columns;
        match &self.data {
            Data::F32(data) => data[range].iter().flat_map(|x| x.to_le_bytes()).collect(),
            Data::Bf16(data) => data[range].iter().flat_map(|x| x.0.to_le_bytes()).collect(),
        }
    }

    pub(crate) fn set_row_bytes(&mut self, first_row: usize, bytes: &[u8]) {
        let row_bytes = self.columns * self.dtype().bytes();
        assert!(bytes.len().is_multiple_of(row_bytes), "whole rows of {row_bytes} bytes");
        let first = first_row * self.columns;
        match &mut self.data {
            Data::F32(data) => {
                let (values, _) = bytes.as_chunks::<4>();
                let to = &mut data[first..first + values.len()];
                for (to, from) in to.iter_mut().zip(values) {
                    *to = f32::from_le_bytes(*from);
                }
            }
            Data::Bf16(data) => {
                let (values, _) = bytes.as_chunks::<2>();
                let to = &mut data[first..first + values.len()];
                for (to, from) in to.iter_mut().zip(values) {
                    *to = Bf16(u16::from_le_bytes(*from));
                }
            }
        }
    }

    /// The values of an f32 matrix.
    pub(crate) fn f32s(&self) -> &[f32] {
        match &self.data {
            Data::F32(data) => data,
            Data::Bf16(_) => panic!("an f32 tensor is needed here"),
        }
    }

    /// The values of an f32 matrix, to be written.
    pub(crate) fn f32s_mut(&mut self) -> &mut [f32] {
        match &mut self.data {
            Data::F32(data) => data,
            Data::Bf16(_) => panic!("an f32 tensor is needed here"),
        }
    }
}

/// A slice that tasks of one parallel region write in disjoint parts.
pub(crate) struct Parts<'a, T> {
    first: *mut T,
    len: usize,
    slice: std::marker::PhantomData<&'a mut [T]>,
}

// SAFETY: parts are disjoint by the contract of `Parts::part`.
unsafe impl<T: Send> Sync for Parts<'_, T> {}

impl<'a, T> Parts<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Self { first: slice.as_mut_ptr(), len: slice.len(), slice: std::marker::PhantomData }
    }

    /// Part of the slice.
    ///
    /// # Safety
    ///
    /// No other part that is in use overlaps `range`.
    #[expect(clippy::mut_from_ref, reason = "parts are disjoint by contract")]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.len, "part inside the slice");
        // SAFETY: inside the slice, and disjoint from other parts by contract.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(range.start), range.len()) }
    }
}

/// Elements that a matrix can hold.
pub(crate) trait Stored: Element {
    /// The elements of a matrix of this type.
    fn of(x: &Matrix) -> &[Self];

    /// The elements of a matrix of this type, to be written.
    fn of_mut(x: &mut Matrix) -> &mut [Self];

    /// Rounds values to this type.
    fn round(level: Usable, from: &[f32], to: &mut [Self]);

    /// Values in this type: themselves if they need no rounding, else in `room`.
    fn rounded<'a>(level: Usable, from: &'a [f32], room: &'a mut [Self]) -> &'a [Self];
}

impl Stored for f32 {
    fn of(x: &Matrix) -> &[Self] {
        x.f32s()
    }

    fn of_mut(x: &mut Matrix) -> &mut [Self] {
        x.f32s_mut()
    }

    #[inline(always)]
    fn round(_: Usable, from: &[f32], to: &mut [Self]) {
        lanes::set(to, from);
    }

    #[inline(always)]
    fn rounded<'a>(_: Usable, from: &'a [f32], _: &'a mut [Self]) -> &'a [Self] {
        from
    }
}

impl Stored for Bf16 {
    fn of(x: &Matrix) -> &[Self] {
        match &x.data {
            Data::Bf16(data) => data,
            Data::F32(_) => panic!("a bf16 tensor is needed here"),
        }
    }

    fn of_mut(x: &mut Matrix) -> &mut [Self] {
        match &mut x.data {
            Data::Bf16(data) => data,
            Data::F32(_) => panic!("a bf16 tensor is needed here"),
        }
    }

    #[inline(always)]
    fn round(level: Usable, from: &[f32], to: &mut [Self]) {
        rounding::round(level, from, to);
    }

    #[inline(always)]
    fn rounded<'a>(level: Usable, from: &'a [f32], room: &'a mut [Self]) -> &'a [Self] {
        rounding::round(level, from, room);
        room
    }
}
