//! Values as they cross the wire, little-endian: hidden states in the dtype of their
//! class' residual, all others in f32.

use bytemuck::NoUninit;
use bytes::Bytes;
use proto::data::{Kind, Message as Sent};
use types::{Dtype, Fence};

use crate::message::Message;

const _: () = assert!(cfg!(target_endian = "little"), "values are sent as they lie in memory");

/// The bytes of f32 values, without a copy.
pub(crate) fn bytes(values: Vec<f32>) -> Bytes {
    owned(values)
}

fn owned<T: NoUninit + Send + 'static>(values: Vec<T>) -> Bytes {
    struct Values<T>(Vec<T>);
    impl<T: NoUninit> AsRef<[u8]> for Values<T> {
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

/// The bytes of a hidden state in its class' dtype: nothing of it is lost.
///
/// # Errors
///
/// A sentence if a value is none of that dtype.
fn hidden(values: Vec<f32>, residual: Dtype) -> Result<Bytes, String> {
    match residual {
        Dtype::F32 => Ok(bytes(values)),
        Dtype::Bf16 => {
            let half = |value: f32| match value.to_bits() {
                bits if bits & 0xffff == 0 => Ok((bits >> 16) as u16),
                _ => Err(format!(
                    "{value} of a hidden state is no bf16 value: this worker does not compute in \
                     its class; start it with another --precision, and report it"
                )),
            };
            values.into_iter().map(half).collect::<Result<Vec<u16>, _>>().map(owned)
        }
    }
}

/// The values of a hidden state.
///
/// # Errors
///
/// A sentence if its bytes are no whole number of values.
pub(crate) fn hidden_values(bytes: &[u8], residual: Dtype) -> Result<Vec<f32>, String> {
    match residual {
        Dtype::F32 => values(bytes),
        Dtype::Bf16 => {
            let (halves, rest) = bytes.as_chunks::<2>();
            if !rest.is_empty() {
                return Err(format!("{} bytes are no whole number of bf16 values", bytes.len()));
            }
            let value = |&half: &[u8; 2]| f32::from_bits(u32::from(u16::from_le_bytes(half)) << 16);
            Ok(halves.iter().map(value).collect())
        }
    }
}

/// An executor's message on its way to another worker of the same class.
///
/// # Errors
///
/// A sentence if a hidden state is not of the dtype of its class.
pub(crate) fn sent(message: Message, residual: Dtype) -> Result<Sent, String> {
    Ok(match message {
        Message::Hidden { fence, pass, values } => {
            Sent { fence, kind: Kind::Hidden { pass }, payload: hidden(values, residual)? }
        }
        Message::Velocity { fence, chunk, step, branch, values } => {
            Sent { fence, kind: Kind::Velocity { chunk, step, branch }, payload: bytes(values) }
        }
    })
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

    #[test]
    fn hidden_states_of_a_bf16_class_cross_in_half_the_bytes_and_lose_nothing() {
        let bits = [0, 0x8000_0000, 0x7f80_0000, 0x7fc1_0000, 0x3f81_0000, 0x0001_0000];
        let there: Vec<f32> = bits.into_iter().map(f32::from_bits).collect();

        let crossed = hidden(there.clone(), Dtype::Bf16).unwrap();

        assert_eq!((crossed.len(), hidden(there, Dtype::F32).unwrap().len()), (12, 24));
        let back = hidden_values(&crossed, Dtype::Bf16).unwrap();
        assert!(back.into_iter().map(f32::to_bits).eq(bits));
        let narrower = hidden(vec![1.0, 1.001], Dtype::Bf16).unwrap_err();
        assert!(narrower.contains("1.001"), "{narrower}");
        assert!(hidden_values(&[1, 2, 3], Dtype::Bf16).unwrap_err().contains("3 bytes"));
    }
}
