//! Bytes of nested boxes: a size, four letters, a body; numbers big-endian.
//!
//! Source: ISO/IEC 14496-12, section 4.2.

/// A buffer that boxes are appended to.
#[derive(Default)]
pub(super) struct Boxes {
    bytes: Vec<u8>,
}

impl Boxes {
    /// Appends a box whose body is what `body` appends.
    pub(super) fn boxed(&mut self, kind: &[u8; 4], body: impl FnOnce(&mut Self)) {
        let start = self.bytes.len();
        self.u32(0);
        self.raw(kind);
        body(self);
        let size = u32::try_from(self.bytes.len() - start)
            .expect("fragments are bounded, and a finished file's mdat has a 64-bit header");
        self.patch_u32(start, size);
    }

    /// Appends a box that starts with a version and flags of 24 bits.
    pub(super) fn full(
        &mut self,
        kind: &[u8; 4],
        version: u8,
        flags: u32,
        body: impl FnOnce(&mut Self),
    ) {
        self.boxed(kind, |boxes| {
            boxes.u32(u32::from(version) << 24 | flags);
            body(boxes);
        });
    }

    /// Appends bytes as they are.
    pub(super) fn raw(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Appends `count` zero bytes.
    pub(super) fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len() + count, 0);
    }

    pub(super) fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    pub(super) fn u16(&mut self, value: u16) {
        self.raw(&value.to_be_bytes());
    }

    pub(super) fn u32(&mut self, value: u32) {
        self.raw(&value.to_be_bytes());
    }

    /// Appends numbers of 32 bits.
    pub(super) fn u32s(&mut self, values: &[u32]) {
        values.iter().for_each(|&value| self.u32(value));
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.raw(&value.to_be_bytes());
    }

    /// Replaces four bytes written earlier.
    pub(super) fn patch_u32(&mut self, at: usize, value: u32) {
        self.bytes[at..at + 4].copy_from_slice(&value.to_be_bytes());
    }

    /// Bytes written so far.
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    pub(super) fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_cover_the_nested_boxes() {
        let mut boxes = Boxes::default();
        boxes.boxed(b"outr", |boxes| {
            boxes.full(b"innr", 1, 2, |boxes| boxes.u16(7));
            boxes.u8(9);
        });

        assert_eq!(boxes.into_bytes(), b"\0\0\0\x17outr\0\0\0\x0einnr\x01\0\0\x02\0\x07\x09");
    }
}
