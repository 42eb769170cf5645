//! Whom a certificate names, as a URI among its alternative names.
//!
//! ```text
//! filmloom://coordinator
//! filmloom://node/<32 hex digits>
//! filmloom://client/<name>
//! filmloom://administrator
//! ```
//!
//! One subject has one URI: what is read back differently from how it is written
//! here names nobody.

use std::{fmt, str::FromStr};

use types::NodeId;

use crate::hex;

/// Letters that open the URI of every subject.
pub(crate) const SCHEME: &str = "filmloom://";

/// Letters of a client's name. With its role before it, it must fit into the 64
/// letters of a certificate's common name.
const CLIENT_NAME_LETTERS_MAX: usize = 48;

/// The holder of a certificate.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// The one that plans, schedules and signs.
    Coordinator,
    /// A machine that holds stages. It is the same for as long as it keeps its key.
    Node(NodeId),
    /// A program that asks for videos. It serves nobody.
    Client(ClientName),
    /// Who manages the cluster. Only who holds the authority's key makes such a
    /// certificate: for itself, for as long as a command takes.
    Administrator,
}

/// The name of a client: 1 to 48 of `a-z`, `A-Z`, `0-9`, `.`, `_` and `-`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientName(String);

/// A text names no member of a cluster.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseSubjectError {
    /// Choose another name.
    #[error(
        "a client's name is 1 to {CLIENT_NAME_LETTERS_MAX} of the letters a-z, A-Z, 0-9, \
         '.', '_' and '-'"
    )]
    ClientName,
    /// The certificate is of a version that knows more roles, or of no cluster at
    /// all. Use the newer program on this side too, or join again.
    #[error(
        "{uri:?} names neither coordinator, node, client nor administrator: update this program \
         or join again"
    )]
    Unknown {
        /// The URI, cut if it is long.
        uri: String,
    },
}

/// The id of the node that holds the private key to this public key, given as DER
/// of its subject public key info.
///
/// An id that follows from the key needs no one to hand it out, is the same when
/// the node joins again, and cannot be asked for by another node.
pub fn node_id(public_key: &[u8]) -> NodeId {
    let digest = blake3::derive_key("filmloom node id of a public key, version 1", public_key);
    let (half, _) = digest.as_chunks::<16>();
    NodeId(u128::from_be_bytes(half[0]))
}

impl Subject {
    /// Whether others may open connections to it.
    pub fn is_server(&self) -> bool {
        match self {
            Self::Coordinator | Self::Node(_) => true,
            Self::Client(_) | Self::Administrator => false,
        }
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Coordinator => write!(f, "{SCHEME}coordinator"),
            Self::Node(id) => write!(f, "{SCHEME}node/{id}"),
            Self::Client(name) => write!(f, "{SCHEME}client/{name}"),
            Self::Administrator => write!(f, "{SCHEME}administrator"),
        }
    }
}

impl FromStr for Subject {
    type Err = ParseSubjectError;

    fn from_str(uri: &str) -> Result<Self, Self::Err> {
        let path = uri.strip_prefix(SCHEME);
        let subject = match path.map(|path| path.split_once('/').unwrap_or((path, ""))) {
            Some(("coordinator", _)) => Some(Self::Coordinator),
            Some(("node", id)) => {
                hex::read(id).map(|id| Self::Node(NodeId(u128::from_be_bytes(id))))
            }
            Some(("administrator", _)) => Some(Self::Administrator),
            Some(("client", name)) => name.parse().ok().map(Self::Client),
            _ => None,
        };
        subject
            .filter(|subject| subject.to_string() == uri)
            .ok_or_else(|| ParseSubjectError::Unknown { uri: uri.chars().take(80).collect() })
    }
}

impl fmt::Display for ClientName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for ClientName {
    type Err = ParseSubjectError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        let fits = (1..=CLIENT_NAME_LETTERS_MAX).contains(&text.len());
        if !fits || !text.bytes().all(is_letter) {
            return Err(ParseSubjectError::ClientName);
        }
        Ok(Self(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_subject_is_read_back_from_its_uri() {
        let client = Subject::Client("lab.py-2_b".parse().unwrap());
        let node = Subject::Node(NodeId(0x2a));
        for subject in [Subject::Coordinator, node, client, Subject::Administrator] {
            assert_eq!(subject.to_string().parse(), Ok(subject));
        }
        let uri = "filmloom://node/0000000000000000000000000000002a";
        assert_eq!(Subject::Node(NodeId(0x2a)).to_string(), uri);
    }

    #[test]
    fn other_spellings_name_nobody() {
        let digits = "0123456789abcdef0123456789abcdef";
        for uri in [
            "".to_owned(),
            "filmloom://".to_owned(),
            "filmloom://coordinator/".to_owned(),
            "filmloom://coordinator/x".to_owned(),
            "Filmloom://coordinator".to_owned(),
            "https://coordinator".to_owned(),
            "filmloom://client/".to_owned(),
            "filmloom://client/a/b".to_owned(),
            format!("filmloom://client/{}", "a".repeat(49)),
            format!("filmloom://node/{}", digits.to_uppercase()),
            format!("filmloom://node/{}", &digits[1..]),
            format!("filmloom://node/{digits}/"),
            format!("filmloom://admin/{digits}"),
            "filmloom://administrator/x".to_owned(),
            "filmloom://client/../administrator".to_owned(),
        ] {
            assert!(uri.parse::<Subject>().is_err(), "{uri}");
        }
    }

    #[test]
    fn different_keys_have_different_ids() {
        assert_eq!(node_id(b"a key"), node_id(b"a key"));
        assert_ne!(node_id(b"a key"), node_id(b"another"));
    }

    proptest! {
        #[test]
        fn every_node_is_read_back_from_its_uri(id: u128) {
            let node = Subject::Node(NodeId(id));
            prop_assert_eq!(node.to_string().parse(), Ok(node));
        }

        #[test]
        fn whatever_is_read_is_written_the_same(
            uri in "filmloom://(node|client|coordinator|administrator)?/?.{0,40}",
        ) {
            if let Ok(subject) = uri.parse::<Subject>() {
                prop_assert_eq!(subject.to_string(), uri);
            }
        }
    }
}
