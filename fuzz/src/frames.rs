//! Messages one behind the other, as gRPC frames them.
//!
//! ```text
//!  0 | length, 4 bytes, big-endian | message | 0 | length | message | ...
//! ```

use prost::Message;

/// Bytes before a message.
const PREFIX_BYTES: usize = 5;

/// Frames messages.
pub fn framed<M: Message>(messages: impl IntoIterator<Item = M>) -> Vec<u8> {
    join(messages.into_iter().map(|message| message.encode_to_vec()))
}

/// Frames the bytes of messages.
pub(crate) fn join(messages: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut bytes = Vec::new();
    for message in messages {
        let length = u32::try_from(message.len()).unwrap_or(u32::MAX);
        bytes.push(0);
        bytes.extend(length.to_be_bytes());
        bytes.extend(message);
    }
    bytes
}

/// Reads framed messages of at most so many bytes each, as a server does: the first
/// one that is too long, or none, is the last.
pub fn messages<M: Message + Default>(
    mut bytes: &[u8],
    message_bytes_max: usize,
) -> impl Iterator<Item = Result<M, String>> {
    let mut has_ended = false;
    std::iter::from_fn(move || {
        if has_ended || bytes.is_empty() {
            return None;
        }
        let (next, rest) = split(bytes, message_bytes_max);
        (bytes, has_ended) = (rest, next.is_err());
        Some(next.and_then(decoded))
    })
}

/// Reads one message.
///
/// # Errors
///
/// A sentence, if the bytes are none.
pub fn decoded<M: Message + Default>(bytes: &[u8]) -> Result<M, String> {
    M::decode(bytes).map_err(|error| error.to_string())
}

/// The bytes of all messages, if all are framed.
pub(crate) fn split_all(mut bytes: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut all = Vec::new();
    while !bytes.is_empty() {
        let (message, rest) = split(bytes, usize::MAX);
        all.push(message.ok()?.to_vec());
        bytes = rest;
    }
    Some(all)
}

fn split(bytes: &[u8], message_bytes_max: usize) -> (Result<&[u8], String>, &[u8]) {
    let Some((prefix, rest)) = bytes.split_first_chunk::<PREFIX_BYTES>() else {
        return (Err("a frame ends within its length".to_owned()), &[]);
    };
    let [flag, length @ ..] = *prefix;
    let length = u32::from_be_bytes(length) as usize;
    match rest.split_at_checked(length) {
        _ if flag != 0 => (Err("a compressed message".to_owned()), &[]),
        _ if message_bytes_max < length => (Err(format!("a message of {length} bytes")), &[]),
        Some((message, rest)) => (Ok(message), rest),
        None => (Err("a frame ends early".to_owned()), &[]),
    }
}

#[cfg(test)]
mod tests {
    use proto::control::wire::Close;

    use super::*;

    #[test]
    fn frames_are_read_as_they_are_written_and_end_at_the_first_that_is_wrong() {
        let bytes = framed([Close { fence: None }, Close { fence: Some(Default::default()) }]);
        let read = |bytes: &[u8], most| messages::<Close>(bytes, most).collect::<Vec<_>>();

        let whole = read(&bytes, 2);
        assert_eq!(whole.len(), 2);
        assert!(whole.iter().all(Result::is_ok), "{whole:?}");
        assert!(read(&bytes, 1)[1].is_err(), "it is too long");
        assert!(read(&bytes[..bytes.len() - 1], 2)[1].is_err(), "it is cut");
        assert_eq!(read(&[&[1], &bytes[..]].concat(), 2).len(), 1, "nothing follows");
    }
}
