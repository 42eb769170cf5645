//! The text by which a machine may join a cluster.
//!
//! ```text
//! fl1.<id 8 bytes | secret 32 | fingerprint 32 | checksum 4>   base32, 122 letters
//! ```
//!
//! The id finds the [`TokenRecord`](crate::TokenRecord), the secret proves the
//! right to join, the fingerprint tells whom to believe. The checksum is the start
//! of the BLAKE3 of what is before it, so a letter lost in copying is found where
//! the token is typed, and is not taken for a wrong secret.
//!
//! Base32 in lower case (RFC 4648, unpadded) has no letter that a terminal or a
//! shell takes for the end of a word. Invariant: one token has one text.

use std::{convert::identity, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{Error, Fingerprint, hex::hex_text};

/// The one version of tokens.
const VERSION: u32 = 1;

const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Bytes before the checksum.
const CONTENT_BYTES: usize = 8 + 32 + 32;

const BYTES: usize = CONTENT_BYTES + 4;

/// Letters that `BYTES` have, five bits each.
const LETTERS: usize = (8 * BYTES).div_ceil(5);

/// The right to join a cluster, as long as its record says.
#[derive(Clone)]
pub struct JoinToken {
    /// Which record it has.
    pub id: TokenId,
    /// The authority of the cluster.
    pub fingerprint: Fingerprint,
    secret: [u8; 32],
}

/// Names a token without giving away its secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct TokenId(pub [u8; 8]);

hex_text!(TokenId, "token id", identity, identity);

/// Why a text is no token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTokenError {
    /// Give one.
    #[error("the join token is empty: copy it from the file join.token of the coordinator")]
    Empty,
    /// Something else was given.
    #[error("this is not a join token, which begins with \"fl{VERSION}.\": copy it again")]
    NotAToken,
    /// It lost or changed a letter.
    #[error("the join token is damaged: copy it again, all of its {} letters", LETTERS + 4)]
    Damaged,
    /// This program is too old.
    #[error("the join token is of version {version}, this program knows {VERSION}: update it")]
    Newer {
        /// The token's version.
        version: u32,
    },
}

impl JoinToken {
    /// Makes a token for the cluster with this authority.
    ///
    /// # Errors
    ///
    /// [`Error::Crypto`] if the system gives no randomness.
    pub fn create(fingerprint: Fingerprint) -> Result<Self, Error> {
        let (mut id, mut secret) = ([0; 8], [0; 32]);
        getrandom::fill(&mut id)
            .and_then(|()| getrandom::fill(&mut secret))
            .map_err(|error| Error::Crypto { problem: error.to_string() })?;
        Ok(Self { id: TokenId(id), fingerprint, secret })
    }

    pub(crate) fn secret(&self) -> &[u8; 32] {
        &self.secret
    }
}

/// The token itself, secret and all.
impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fl{VERSION}.{}", encode(&self.to_bytes()))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("JoinToken");
        debug.field("id", &format_args!("{}", self.id));
        debug.field("fingerprint", &format_args!("{}", self.fingerprint));
        debug.finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = ParseTokenError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        if text.is_empty() {
            return Err(ParseTokenError::Empty);
        }
        let (version, letters) = text
            .strip_prefix("fl")
            .and_then(|rest| rest.split_once('.'))
            .ok_or(ParseTokenError::NotAToken)?;
        match read_version(version) {
            Some(VERSION) => {}
            Some(version) => return Err(ParseTokenError::Newer { version }),
            None => return Err(ParseTokenError::NotAToken),
        }
        let bytes = decode(letters.as_bytes()).ok_or(ParseTokenError::Damaged)?;
        Self::from_bytes(&bytes).ok_or(ParseTokenError::Damaged)
    }
}

impl JoinToken {
    fn to_bytes(&self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        let (content, sum) = bytes.split_at_mut(CONTENT_BYTES);
        content.copy_from_slice(&[&self.id.0[..], &self.secret, &self.fingerprint.0].concat());
        sum.copy_from_slice(&checksum(content));
        bytes
    }

    fn from_bytes(bytes: &[u8; BYTES]) -> Option<Self> {
        let (content, sum) = bytes.split_at(CONTENT_BYTES);
        if checksum(content) != *sum {
            return None;
        }
        let (id, rest) = content.split_first_chunk()?;
        let (secret, rest) = rest.split_first_chunk()?;
        let fingerprint = Fingerprint(*rest.first_chunk()?);
        Some(Self { id: TokenId(*id), fingerprint, secret: *secret })
    }
}

/// A version from 1 on, as it is written.
fn read_version(text: &str) -> Option<u32> {
    let version: u32 = text.parse().ok().filter(|&version| VERSION <= version)?;
    (version.to_string() == text).then_some(version)
}

fn checksum(content: &[u8]) -> [u8; 4] {
    let digest = blake3::derive_key("filmloom join token checksum, version 1", content);
    [digest[0], digest[1], digest[2], digest[3]]
}

fn encode(bytes: &[u8; BYTES]) -> String {
    let bit =
        |place: usize| bytes.get(place / 8).is_some_and(|byte| (byte >> (7 - place % 8)) & 1 == 1);
    let letter = |index: usize| {
        let places = 5 * index..5 * (index + 1);
        ALPHABET[places.fold(0, |value, place| (value << 1) | usize::from(bit(place)))]
    };
    (0..LETTERS).map(|index| char::from(letter(index))).collect()
}

/// Refuses other letters, and bits after the last byte.
fn decode(letters: &[u8]) -> Option<[u8; BYTES]> {
    if letters.len() != LETTERS {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (index, letter) in letters.iter().enumerate() {
        let value = ALPHABET.iter().position(|known| known == letter)?;
        for bit in (0..5).filter(|bit| (value >> (4 - bit)) & 1 == 1) {
            let place = 5 * index + bit;
            *bytes.get_mut(place / 8)? |= 1 << (7 - place % 8);
        }
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use proptest::{prelude::*, sample::Index};

    use super::*;

    #[test]
    fn tokens_differ_and_are_read_back() {
        let fingerprint = Fingerprint([7; 32]);
        let (first, second) = (created(fingerprint), created(fingerprint));
        assert_ne!(first.id, second.id);
        assert_ne!(first.secret, second.secret);

        let read: JoinToken = format!(" {first}\n").parse().unwrap();

        assert_eq!((read.id, read.secret), (first.id, first.secret));
        assert_eq!(read.fingerprint, fingerprint);
    }

    #[test]
    fn what_is_wrong_with_a_text_is_told_apart() {
        let text = created(Fingerprint([7; 32])).to_string();
        let letters = text.strip_prefix("fl1.").unwrap();
        for (text, error) in [
            (String::new(), ParseTokenError::Empty),
            (" \n".to_owned(), ParseTokenError::Empty),
            ("token".to_owned(), ParseTokenError::NotAToken),
            (letters.to_owned(), ParseTokenError::NotAToken),
            (format!("fl.{letters}"), ParseTokenError::NotAToken),
            (format!("fl0.{letters}"), ParseTokenError::NotAToken),
            (format!("fl01.{letters}"), ParseTokenError::NotAToken),
            (format!("fl2.{letters}"), ParseTokenError::Newer { version: 2 }),
            ("fl3.".to_owned(), ParseTokenError::Newer { version: 3 }),
            ("fl1.".to_owned(), ParseTokenError::Damaged),
            (text.to_uppercase().replace("FL1", "fl1"), ParseTokenError::Damaged),
            (format!("fl1.{}", &letters[1..]), ParseTokenError::Damaged),
            (format!("{text}a"), ParseTokenError::Damaged),
            (format!("fl1.{}", "ä".repeat(61)), ParseTokenError::Damaged),
        ] {
            assert_eq!(text.parse::<JoinToken>().err(), Some(error), "{text}");
        }
    }

    #[test]
    fn every_changed_bit_is_damage() {
        let text = created(Fingerprint([7; 32])).to_string();
        for (place, bit) in (4..4 + LETTERS).flat_map(|place| (0..5).map(move |bit| (place, bit))) {
            let mut letters = text.clone().into_bytes();
            let value = ALPHABET.iter().position(|&known| known == letters[place]).unwrap();
            letters[place] = ALPHABET[value ^ (1 << bit)];
            let changed = String::from_utf8(letters).unwrap();
            assert_eq!(
                changed.parse::<JoinToken>().err(),
                Some(ParseTokenError::Damaged),
                "{changed}"
            );
        }
    }

    #[test]
    fn debug_output_hides_the_secret() {
        let token = JoinToken { secret: [0xab; 32], ..created(Fingerprint([7; 32])) };
        let shown = format!("{token:?}");
        assert!(shown.contains(&token.id.to_string()), "{shown}");
        assert!(!shown.contains("abab") && !shown.contains("171"), "{shown}");
    }

    #[test]
    fn letters_are_those_of_the_standard() {
        // RFC 4648 section 10 has BASE32("foobar") = "MZXW6YTBOI======".
        let mut bytes = [0; BYTES];
        bytes[..6].copy_from_slice(b"foobar");
        assert!(encode(&bytes).starts_with("mzxw6ytboi"), "{}", encode(&bytes));
    }

    proptest! {
        #[test]
        fn every_token_is_read_back_from_its_text(token in tokens()) {
            let read: JoinToken = token.to_string().parse().unwrap();
            prop_assert_eq!(read.to_string(), token.to_string());
            prop_assert_eq!(read.secret, token.secret);
        }

        #[test]
        fn a_changed_letter_is_an_error(token in tokens(), place: Index, letter in any::<char>()) {
            let text = token.to_string();
            let mut letters: Vec<char> = text.chars().collect();
            let place = place.index(letters.len());
            prop_assume!(letters[place] != letter && !letter.is_whitespace());
            letters[place] = letter;
            let changed: String = letters.into_iter().collect();
            prop_assert!(changed.parse::<JoinToken>().is_err());
        }

        #[test]
        fn a_lost_or_doubled_letter_is_damage(token in tokens(), place in 4..LETTERS + 4) {
            let text = token.to_string();
            let (before, after) = text.split_at(place);
            let lost = format!("{before}{}", &after[1..]);
            let doubled = format!("{before}{}{after}", &after[..1]);
            for changed in [lost, doubled] {
                prop_assert_eq!(changed.parse::<JoinToken>().err(), Some(ParseTokenError::Damaged));
            }
        }

        #[test]
        fn no_text_is_a_panic(text in "(fl[0-9]{0,12}[.]?)?.{0,140}") {
            prop_assert!(text.parse::<JoinToken>().is_err());
        }
    }

    fn created(fingerprint: Fingerprint) -> JoinToken {
        JoinToken::create(fingerprint).unwrap()
    }

    fn tokens() -> impl Strategy<Value = JoinToken> {
        any::<([u8; 8], [u8; 32], [u8; 32])>().prop_map(|(id, secret, fingerprint)| JoinToken {
            id: TokenId(id),
            secret,
            fingerprint: Fingerprint(fingerprint),
        })
    }
}
