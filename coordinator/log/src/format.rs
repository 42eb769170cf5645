//! The bytes of a job's file. Numbers are little-endian.
//!
//! A header, once:
//!
//! | byte | bytes | field |
//! | ---- | ----- | ----- |
//! | 0    | 8     | magic `FLMCHUNK` |
//! | 8    | 4     | format version, 1 |
//! | 12   | 4     | element type of x0: 0 f32, 1 bf16 |
//! | 16   | 16    | job id |
//! | 32   | 32    | model digest |
//! | 64   | 16    | shape of x0, four numbers |
//! | 80   | 1     | bytes of the numeric class' name, at most 47 |
//! | 81   | 47    | numeric class' name in UTF-8, then zeros |
//! | 128  | 32    | BLAKE3 of bytes 0 to 127 |
//!
//! Then records without space between them:
//!
//! | byte | bytes | field |
//! | ---- | ----- | ----- |
//! | 0    | 4     | magic `FLMR` |
//! | 4    | 4     | bytes of the payload |
//! | 8    | 4     | kind: 1 epoch raised, 2 chunk |
//! | 12   | 4     | chunk; 0 in an epoch record |
//! | 16   | 8     | epoch |
//! | 24   | 32    | BLAKE3 of the payload |
//! | 56   | 32    | chain: BLAKE3 of (the chain before it, bytes 0 to 55) |
//! | 88   | 8     | check: the first 8 bytes of the BLAKE3 of bytes 0 to 87 |
//! | 96   | ...   | payload: x0 of the chunk; nothing in an epoch record |
//!
//! The chain before the first record is the header's digest, so a record belongs
//! to its job and to its place. The check tells a record that was written whole
//! from one that was not, before its length is believed.

use std::fmt;

use types::{Dtype, Epoch, JobId};

/// The longest x0 that a log takes, in bytes. Chosen: six times that of a chunk of
/// the 14B model at 720x1280.
pub const X0_BYTES_MAX: u64 = 16 << 20;
/// The longest name of a numeric class, in bytes.
pub const CLASS_BYTES_MAX: usize = 47;
/// The version that is written and read.
pub const VERSION: u32 = 1;

/// Bytes of a file's header.
pub(crate) const HEADER_BYTES: usize = 160;
/// Bytes of a record's header.
pub(crate) const RECORD_BYTES: usize = 96;

const HEADER_MAGIC: [u8; 8] = *b"FLMCHUNK";
const RECORD_MAGIC: [u8; 4] = *b"FLMR";
const HEADER_HASHED: usize = 128;
const RECORD_CHAINED: usize = 56;
const RECORD_CHECKED: usize = 88;

/// A BLAKE3 digest.
pub(crate) type Digest = [u8; 32];

/// What a job's chunks are, fixed when its file is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The job.
    pub job: JobId,
    /// BLAKE3 of the model's configuration and manifest.
    pub model: [u8; 32],
    /// Name of the numeric class, at most [`CLASS_BYTES_MAX`] bytes.
    pub class: String,
    /// Shape of a chunk's x0.
    pub x0_shape: [u32; 4],
    /// Type of its elements.
    pub x0_dtype: Dtype,
}

/// Why bytes are no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoHeader {
    Magic,
    Version(u32),
    Contents,
}

/// A record without its payload and its place in the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Record {
    pub(crate) kind: Kind,
    pub(crate) epoch: Epoch,
    pub(crate) chunk: u32,
    pub(crate) payload_bytes: u32,
    pub(crate) digest: Digest,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Epoch = 1,
    Chunk = 2,
}

impl Header {
    /// Bytes of a chunk's x0.
    pub fn x0_bytes(&self) -> u64 {
        let elements = self.x0_shape.iter().map(|&n| u64::from(n)).fold(1, u64::saturating_mul);
        elements.saturating_mul(self.x0_dtype.bytes() as u64)
    }

    /// Whether a log can hold such a job.
    pub fn is_valid(&self) -> bool {
        self.class.len() <= CLASS_BYTES_MAX && (1..=X0_BYTES_MAX).contains(&self.x0_bytes())
    }

    /// The bytes of a valid header, the digest last.
    pub(crate) fn encode(&self) -> [u8; HEADER_BYTES] {
        let class = self.class.as_bytes();
        let mut bytes = [0; HEADER_BYTES];
        bytes[..8].copy_from_slice(&HEADER_MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
        bytes[12..16].copy_from_slice(&dtype_code(self.x0_dtype).to_le_bytes());
        bytes[16..32].copy_from_slice(&self.job.0.to_le_bytes());
        bytes[32..64].copy_from_slice(&self.model);
        for (place, n) in bytes[64..80].chunks_exact_mut(4).zip(self.x0_shape) {
            place.copy_from_slice(&n.to_le_bytes());
        }
        bytes[80] = u8::try_from(class.len()).expect("a valid header's class is short");
        bytes[81..81 + class.len()].copy_from_slice(class);
        let digest = blake3::hash(&bytes[..HEADER_HASHED]);
        bytes[HEADER_HASHED..].copy_from_slice(digest.as_bytes());
        bytes
    }

    /// Reads a header whose digest is right; gives the digest too.
    pub(crate) fn decode(bytes: &[u8; HEADER_BYTES]) -> Result<(Self, Digest), NoHeader> {
        if bytes[..8] != HEADER_MAGIC {
            return Err(NoHeader::Magic);
        }
        let version = u32_at(bytes, 8);
        if version != VERSION {
            return Err(NoHeader::Version(version));
        }
        let digest = *blake3::hash(&bytes[..HEADER_HASHED]).as_bytes();
        if bytes[HEADER_HASHED..] != digest {
            return Err(NoHeader::Contents);
        }
        let class = bytes[81..HEADER_HASHED].get(..usize::from(bytes[80]));
        let class = class.and_then(|name| str::from_utf8(name).ok()).ok_or(NoHeader::Contents)?;
        let header = Self {
            job: JobId(u128::from_le_bytes(array_at(bytes, 16))),
            model: array_at(bytes, 32),
            class: class.to_owned(),
            x0_shape: [64, 68, 72, 76].map(|at| u32_at(bytes, at)),
            x0_dtype: dtype_of(u32_at(bytes, 12)).ok_or(NoHeader::Contents)?,
        };
        if header.is_valid() { Ok((header, digest)) } else { Err(NoHeader::Contents) }
    }
}

impl fmt::Display for Header {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { job, model, class, x0_shape: [a, b, c, d], x0_dtype } = self;
        let model = blake3::Hash::from_bytes(*model).to_hex();
        let job = job.0;
        write!(f, "job {job:032x}: model {model}, class {class}, x0 [{a}, {b}, {c}, {d}] ")?;
        f.write_str(match x0_dtype {
            Dtype::F32 => "f32",
            Dtype::Bf16 => "bf16",
        })
    }
}

impl Record {
    /// A record that raises a job's epoch.
    pub(crate) fn epoch(epoch: Epoch) -> Self {
        let digest = *blake3::hash(&[]).as_bytes();
        Self { kind: Kind::Epoch, epoch, chunk: 0, payload_bytes: 0, digest }
    }

    /// Bytes of the record with its payload.
    pub(crate) fn bytes(&self) -> u64 {
        RECORD_BYTES as u64 + u64::from(self.payload_bytes)
    }

    /// The record's header behind the chain so far, and the chain with it.
    pub(crate) fn encode(&self, before: &Digest) -> ([u8; RECORD_BYTES], Digest) {
        let chain = self.chain(before);
        let mut bytes = [0; RECORD_BYTES];
        bytes[..RECORD_CHAINED].copy_from_slice(&self.fields());
        bytes[RECORD_CHAINED..RECORD_CHECKED].copy_from_slice(&chain);
        let check = check(&bytes);
        bytes[RECORD_CHECKED..].copy_from_slice(&check);
        (bytes, chain)
    }

    /// Reads a record's header with the chain in it, if it was written whole.
    pub(crate) fn decode(bytes: &[u8; RECORD_BYTES]) -> Option<(Self, Digest)> {
        if bytes[..4] != RECORD_MAGIC || bytes[RECORD_CHECKED..] != check(bytes) {
            return None;
        }
        let kind = match u32_at(bytes, 8) {
            1 => Kind::Epoch,
            2 => Kind::Chunk,
            _ => return None,
        };
        let record = Self {
            kind,
            epoch: Epoch(u64::from_le_bytes(array_at(bytes, 16))),
            chunk: u32_at(bytes, 12),
            payload_bytes: u32_at(bytes, 4),
            digest: array_at(bytes, 24),
        };
        Some((record, array_at(bytes, RECORD_CHAINED)))
    }

    /// Whether a record that was written whole begins anywhere in these bytes.
    pub(crate) fn is_in(bytes: &[u8]) -> bool {
        bytes.array_windows().any(|window| Self::decode(window).is_some())
    }

    /// The chain with this record at its end.
    pub(crate) fn chain(&self, before: &Digest) -> Digest {
        let mut hasher = blake3::Hasher::new();
        hasher.update(before).update(&self.fields());
        *hasher.finalize().as_bytes()
    }

    fn fields(&self) -> [u8; RECORD_CHAINED] {
        let mut bytes = [0; RECORD_CHAINED];
        bytes[..4].copy_from_slice(&RECORD_MAGIC);
        bytes[4..8].copy_from_slice(&self.payload_bytes.to_le_bytes());
        bytes[8..12].copy_from_slice(&(self.kind as u32).to_le_bytes());
        bytes[12..16].copy_from_slice(&self.chunk.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.epoch.0.to_le_bytes());
        bytes[24..].copy_from_slice(&self.digest);
        bytes
    }
}

fn check(record: &[u8; RECORD_BYTES]) -> [u8; RECORD_BYTES - RECORD_CHECKED] {
    array_at(blake3::hash(&record[..RECORD_CHECKED]).as_bytes(), 0)
}

fn dtype_code(dtype: Dtype) -> u32 {
    match dtype {
        Dtype::F32 => 0,
        Dtype::Bf16 => 1,
    }
}

fn dtype_of(code: u32) -> Option<Dtype> {
    [Dtype::F32, Dtype::Bf16].into_iter().find(|&dtype| dtype_code(dtype) == code)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(array_at(bytes, at))
}

fn array_at<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes[at..at + N].try_into().expect("the slice is N long")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Pins the format: a change of any byte needs a new version.
    #[test]
    fn bytes_are_those_of_version_1() {
        let header = Header {
            job: JobId(0x0102),
            model: [7; 32],
            class: "cpu-f32".to_owned(),
            x0_shape: [1, 2, 3, 4],
            x0_dtype: Dtype::F32,
        };
        let bytes = header.encode();
        let (record, _) = Record {
            kind: Kind::Chunk,
            epoch: Epoch(3),
            chunk: 5,
            payload_bytes: 96,
            digest: [9; 32],
        }
        .encode(&[1; 32]);

        assert_eq!(bytes[..20], *b"FLMCHUNK\x01\0\0\0\0\0\0\0\x02\x01\0\0");
        assert_eq!(bytes[64..89], *b"\x01\0\0\0\x02\0\0\0\x03\0\0\0\x04\0\0\0\x07cpu-f32\0");
        assert_eq!(record[..25], *b"FLMR\x60\0\0\0\x02\0\0\0\x05\0\0\0\x03\0\0\0\0\0\0\0\x09");
        let all = [&bytes[..], &record[..]].concat();
        let digest = blake3::hash(&all).to_hex();
        assert_eq!(
            digest.as_str(),
            "9cdefee3de1d815181e52ff0161773734831ac753e4cbc8d9160331f23f708a7"
        );
        assert_eq!(Header::decode(&bytes).unwrap().0, header);
    }

    #[test]
    fn headers_that_no_log_can_hold_are_not_valid() {
        let header = |x0_shape, class: &str| {
            let (job, class) = (JobId(1), class.to_owned());
            Header { job, model: [0; 32], class, x0_shape, x0_dtype: Dtype::Bf16 }
        };

        assert!(header([1 << 20, 8, 1, 1], "c").is_valid());
        assert!(!header([1 << 20, 8, 1, 2], "c").is_valid(), "x0 is too long");
        assert!(!header([u32::MAX; 4], "c").is_valid(), "the product overflows");
        assert!(!header([1, 0, 1, 1], "c").is_valid(), "x0 is empty");
        assert!(header([1; 4], &"c".repeat(47)).is_valid());
        assert!(!header([1; 4], &"c".repeat(48)).is_valid(), "the class is too long");
    }
}
