//! Frames on a stream of bytes, without HTTP.
//!
//! ```text
//!  byte    0      1 .. 4                 5 ..
//!          kind   bytes, little-endian   as many bytes
//!          1      0 to 16 KiB            a Frame             all but payloads
//!          2      1 to 1 MiB             as they are         the next bytes of a payload
//! ```
//!
//! A Frame of no bytes says that its sender lives, and nothing else. Payloads
//! stay outside of protobuf, so that they can be written from where they are and read
//! to where they go. Nothing is allocated for a frame before its header was found
//! good.

use bytes::{Bytes, BytesMut};
use prost::Message as _;

use super::{Frame, frame, wire::Part};
use crate::{
    Malformed, PART_BYTES_MAX,
    field::{count, within},
};

/// Bytes of a header.
pub const HEADER_BYTES: usize = 5;

/// Bytes of a Frame without payload, at most: a head with a time for every frame of
/// the longest chunk is a third of it.
pub const FRAME_BYTES_MAX: usize = 16 << 10;

const FRAME: u8 = 1;
const PART: u8 = 2;

/// What comes next on the stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Header {
    /// A Frame of so many bytes.
    Frame(usize),
    /// So many bytes of a payload.
    Part(usize),
}

impl Header {
    /// Before nothing: its sender lives.
    pub const ALIVE: Self = Self::Frame(0);

    /// Reads a header.
    ///
    /// # Errors
    ///
    /// [`Malformed`] if there is no such kind, or what follows is too long for it.
    /// End the connection: where the next frame begins is not known.
    pub fn read([kind, length @ ..]: [u8; HEADER_BYTES]) -> Result<Self, Malformed> {
        let bytes = u32::from_le_bytes(length) as usize;
        match kind {
            FRAME => within("frame", bytes, 0..=FRAME_BYTES_MAX).map(Self::Frame),
            PART => within("data", bytes, 1..=PART_BYTES_MAX).map(Self::Part),
            _ => Err(Malformed::new("frame", format!("is of kind {kind}, which is none"))),
        }
    }

    /// The same on the stream.
    pub fn bytes(self) -> [u8; HEADER_BYTES] {
        let (kind, bytes) = match self {
            Self::Frame(bytes) => (FRAME, bytes),
            Self::Part(bytes) => (PART, bytes),
        };
        let [a, b, c, d] = count(bytes).to_le_bytes();
        [kind, a, b, c, d]
    }
}

/// Adds a frame to `heads`, all but the bytes of a part: those come after it.
pub fn put(frame: Frame, heads: &mut BytesMut) -> Bytes {
    if let Some(frame::Kind::Part(Part { data })) = frame.kind {
        heads.extend_from_slice(&Header::Part(data.len()).bytes());
        return data;
    }
    let bytes = frame.encode_to_vec();
    heads.extend_from_slice(&Header::Frame(bytes.len()).bytes());
    heads.extend_from_slice(&bytes);
    Bytes::new()
}

/// Reads what came after [`Header::Frame`].
///
/// # Errors
///
/// [`Malformed`] if it is no Frame.
pub fn take(bytes: Bytes) -> Result<Frame, Malformed> {
    Frame::decode(bytes).map_err(|error| Malformed::new("frame", format!("is none: {error}")))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::wire::{Head, Hidden, head};

    proptest! {
        #[test]
        fn any_header_is_itself_again_or_refused(bytes: [u8; HEADER_BYTES], kind in 0u8..4) {
            let bytes = [kind, bytes[1], bytes[2], bytes[3] & 1, 0];
            if let Ok(header) = Header::read(bytes) {
                prop_assert_eq!(header.bytes(), bytes);
            }
        }
    }

    #[test]
    fn lengths_have_bounds() {
        let header = |kind, bytes: usize| {
            let [a, b, c, d] = u32::try_from(bytes).unwrap().to_le_bytes();
            Header::read([kind, a, b, c, d])
        };
        assert_eq!(header(FRAME, 0), Ok(Header::ALIVE));
        assert_eq!(header(FRAME, FRAME_BYTES_MAX), Ok(Header::Frame(FRAME_BYTES_MAX)));
        assert_eq!(header(PART, PART_BYTES_MAX), Ok(Header::Part(PART_BYTES_MAX)));
        let refused = [
            (FRAME, FRAME_BYTES_MAX + 1, "frame is 16385"),
            (PART, 0, "data is 0"),
            (PART, PART_BYTES_MAX + 1, "data is 1048577"),
            (0, 0, "of kind 0"),
            (3, 1, "of kind 3"),
        ];
        for (kind, bytes, part) in refused {
            let refused = header(kind, bytes).unwrap_err().to_string();
            assert!(refused.contains(part), "{refused}");
        }
    }

    #[test]
    fn the_largest_head_has_room() {
        let hidden = Hidden {
            chunk: u32::MAX,
            step: u32::MAX,
            branch: i32::MAX,
            kind: i32::MAX,
            frame_times: vec![1.0; super::super::FRAMES_MAX],
            first_token: u64::MAX,
            end_token: u64::MAX,
        };
        let kind = Some(head::Kind::Hidden(hidden));
        let head = Head { number: u64::MAX, job: vec![0; 16], epoch: u64::MAX, kind, bytes: 1 };
        let mut heads = BytesMut::new();

        let part = put(frame(frame::Kind::Head(head)), &mut heads);

        assert!(part.is_empty());
        assert!(heads.len() - HEADER_BYTES <= FRAME_BYTES_MAX / 3, "{}", heads.len());
    }
}
