//! Values as they cross the wire: little-endian f32.

use bytes::Bytes;
use proto::data::{Kind, Message as Sent};
use types::Fence;

use crate::message::Message;

const _: () = assert!(cfg!(target_endian = "little"), "values are sent as they lie in memory");

/// The bytes of f32 values, without a copy.
pub(crate) fn bytes(values: Vec<f32>) -> Bytes {
    struct Values(Vec<f32>);
    impl AsRef<[u8]> for Values {
        fn as_ref(&self) -> &[u8] {
            bytemuck::cast_slice(&self.0)
        }
    }
    Bytes::from_owner(Values(values))
}

/// The f32 values of bytes.
///
/// # Errors
///
/// A sentence if their number is not a multiple of 4.
pub(crate) fn values(bytes: &[u8]) -> Result<Vec<f32>, String> {
    if !bytes.len().is_multiple_of(4) {
        return Err(format!("{} bytes are no whole number of f32 values", bytes.len()));
    }
    Ok(bytemuck::pod_collect_to_vec(bytes))
}

/// An executor's message on its way to another worker.
pub(crate) fn sent(message: Message) -> Sent {
    match message {
        Message::Hidden { fence, pass, values } => {
            Sent { fence, kind: Kind::Hidden { pass }, payload: bytes(values) }
        }
        Message::Velocity { fence, chunk, step, branch, values } => {
            Sent { fence, kind: Kind::Velocity { chunk, step, branch }, payload: bytes(values) }
        }
    }
}

/// A chunk's clean frames on their way to the log.
pub(crate) fn clean(fence: Fence, chunk: u32, values: Vec<f32>) -> Sent {
    Sent { fence, kind: Kind::Clean { chunk }, payload: bytes(values) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_to_the_bit() {
        let bits = [0, 1, 0x8000_0000, 0x7f80_0000, 0x7fc0_1234, 0x3f80_0001];
        let there: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();

        let back = values(&bytes(there)).unwrap();

        assert!(back.into_iter().map(f32::to_bits).eq(bits));
        assert!(values(&[1, 2, 3]).unwrap_err().contains("3 bytes"));
    }
}
