//! Memory for tensors and packed weights, beginning at a cache line.
//!
//! A vector of 64 bytes that straddles two cache lines takes two reads, so
//! where a tensor begins decides how fast its rows are read. Memory comes
//! zeroed from the system, which touches its pages only when they are first
//! used; a refusal is an error, not the end of the process.

use std::{
    alloc::{Layout, alloc_zeroed, dealloc},
    fmt,
    ops::{Deref, DerefMut},
    ptr::NonNull,
};

use crate::{cpu::tile::Element, seam::Error};

/// Bytes of a cache line.
const LINE: usize = 64;

/// A fixed number of elements, the first of them at a cache line.
pub(crate) struct Aligned<E> {
    first: NonNull<E>,
    len: usize,
}

impl<E: Element> Aligned<E> {
    /// Elements that are all zero.
    ///
    /// # Errors
    ///
    /// [`Error::Memory`] if the system has no room.
    pub(crate) fn zeroed(len: usize) -> Result<Self, Error> {
        let Some(layout) = layout::<E>(len) else {
            return Err(Error::Memory { bytes: u64::MAX });
        };
        if layout.size() == 0 {
            return Ok(Self { first: NonNull::dangling(), len });
        }
        // SAFETY: the size is not zero.
        let first = unsafe { alloc_zeroed(layout) };
        match NonNull::new(first.cast()) {
            Some(first) => Ok(Self { first, len }),
            None => Err(Error::Memory { bytes: layout.size() as u64 }),
        }
    }

    /// Zeroed memory for an operation that is under way.
    ///
    /// # Panics
    ///
    /// If the system has no room, since an operation cannot fail half done. Most
    /// need a few hundred kilobytes; attention holds up to 64 MiB of keys and
    /// values, or one head's if that is more.
    pub(crate) fn scratch(len: usize) -> Self {
        Self::zeroed(len).expect("memory for an operation's own rows")
    }
}

/// `None` if so many elements exceed the address space.
fn layout<E>(len: usize) -> Option<Layout> {
    Layout::array::<E>(len).ok()?.align_to(LINE).ok()
}

impl<E> Drop for Aligned<E> {
    fn drop(&mut self) {
        let layout = layout::<E>(self.len).expect("the layout it was allocated with");
        if layout.size() != 0 {
            // SAFETY: allocated with this layout, and dropped once.
            unsafe { dealloc(self.first.as_ptr().cast(), layout) };
        }
    }
}

impl<E> Deref for Aligned<E> {
    type Target = [E];

    fn deref(&self) -> &[E] {
        // SAFETY: `len` elements were allocated; zeroed memory is a value of every
        // `Element`, the only types of which this is made.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.len) }
    }
}

impl<E> DerefMut for Aligned<E> {
    fn deref_mut(&mut self) -> &mut [E] {
        // SAFETY: as above, borrowed uniquely.
        unsafe { std::slice::from_raw_parts_mut(self.first.as_ptr(), self.len) }
    }
}

// SAFETY: it owns its elements as a `Vec` does.
unsafe impl<E: Send> Send for Aligned<E> {}
// SAFETY: as above.
unsafe impl<E: Sync> Sync for Aligned<E> {}

impl<E> fmt::Debug for Aligned<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} elements", self.len)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_zero_and_begins_at_a_cache_line() {
        for len in [0, 1, 33, 1 << 20] {
            let memory = Aligned::<f32>::zeroed(len).unwrap();
            assert_eq!(memory.len(), len);
            assert!(memory.iter().all(|&x| x == 0.0));
            assert!(len == 0 || memory.as_ptr().addr().is_multiple_of(LINE));
        }
    }

    #[test]
    fn too_much_is_an_error() {
        assert!(Aligned::<f32>::zeroed(usize::MAX).is_err());
        assert!(Aligned::<f32>::zeroed(usize::MAX / 8).is_err());
    }
}
