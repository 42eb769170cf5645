//! Bytes of a fixed length as hex digits: the text of every id here.
//!
//! Only lower-case digits are read, so one id has one text.

use std::fmt;

/// A text is not the hex digits of what it should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a {what} is written as {digits} lower-case hex digits")]
pub struct ParseHexError {
    /// What was to be read.
    pub what: &'static str,
    /// Digits that it has.
    pub digits: usize,
}

/// Gives a newtype over something with fixed bytes its text: display, parsing,
/// and the conversions by which serde stores it as a string.
macro_rules! hex_text {
    ($name:ident, $what:literal, $to_bytes:expr, $from_bytes:expr) => {
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                $crate::hex::write(f, &$to_bytes(self.0))
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::hex::ParseHexError;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                let (what, digits) = ($what, 2 * size_of::<Self>());
                let bytes = $crate::hex::read(text);
                let bytes = bytes.ok_or($crate::hex::ParseHexError { what, digits })?;
                Ok(Self($from_bytes(bytes)))
            }
        }

        impl TryFrom<String> for $name {
            type Error = $crate::hex::ParseHexError;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(value: $name) -> Self {
                value.to_string()
            }
        }
    };
}

pub(crate) use hex_text;

/// Writes two digits a byte.
pub(crate) fn write(f: &mut fmt::Formatter<'_>, bytes: &[u8]) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

/// Reads exactly `2 * N` digits.
pub(crate) fn read<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = (digit(pair[0])? << 4) | digit(pair[1])?;
    }
    Some(bytes)
}

fn digit(character: u8) -> Option<u8> {
    match character {
        b'0'..=b'9' => Some(character - b'0'),
        b'a'..=b'f' => Some(character - b'a' + 10),
        _ => None,
    }
}
