//! What the coordinator keeps of a join token, and whether one may still be used.
//!
//! ```text
//! issued ──▶ good ──▶ used up | expired | revoked
//! ```
//!
//! Only a digest of the secret is kept, so who reads the records cannot join. The
//! secret has 256 random bits; a plain digest of it cannot be guessed. Digests are
//! compared in constant time.
//!
//! A node that asks again with the same key is let in again, and not counted again:
//! the answer to its first question may have been lost. The last [`JOINED_MAX`]
//! nodes are remembered for that.
//!
//! Invariant: nothing but the right secret learns whether a token is expired, used
//! up or revoked; a revoked one lets nobody in, whoever joined by it before. A change is made in one call, but stored by the caller: it must
//! be durable before the answer that it allowed goes out.

use blake3::Hash;
use serde::{Deserialize, Serialize};
use types::NodeId;

use crate::{
    hex::hex_text,
    token::{JoinToken, TokenId},
};

/// Nodes of a token that may ask again. Chosen: answers are lost soon or not at all,
/// and a record stays small.
const JOINED_MAX: usize = 256;

/// A token that was given out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRecord {
    /// Which token.
    pub id: TokenId,
    /// What its secret must have.
    pub secret_digest: SecretDigest,
    /// Machines that may still join by it; no limit if absent.
    pub uses_left: Option<u32>,
    /// When it ends; never if absent.
    pub expires_unix: Option<u64>,
    /// Whether it was taken back.
    pub revoked: bool,
    /// When it was made; absent in records that are older than this.
    #[serde(default)]
    pub created_unix: Option<u64>,
    /// The last nodes that a use was counted for, the latest last.
    #[serde(default)]
    joined: Vec<Joined>,
}

/// What a token is given out for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// When it is made.
    pub created_unix: u64,
    /// Machines that may join by it; no limit if absent.
    pub uses: Option<u32>,
    /// When it ends; never if absent.
    pub expires_unix: Option<u64>,
}

/// A node that has joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
struct Joined(NodeId);

hex_text!(Joined, "node id", node_bytes, node_of);

/// BLAKE3 of a token's secret. Equality takes the same time wherever they differ.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct SecretDigest(Hash);

hex_text!(SecretDigest, "secret digest", <[u8; 32]>::from, Hash::from_bytes);

/// Why a token lets nobody in. Refuse the join.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// It was made by another cluster, or its record was deleted.
    #[error("join token {id} is unknown here: get one from this cluster's coordinator")]
    Unknown {
        /// The token shown.
        id: TokenId,
    },
    /// The id is known, the secret is not its own: a forgery.
    #[error("the secret of join token {id} is wrong: get a token from the coordinator")]
    Wrong {
        /// The token shown.
        id: TokenId,
    },
    /// It is too late.
    #[error("join token {id} expired at Unix time {expired_unix}: create a new one")]
    Expired {
        /// The token shown.
        id: TokenId,
        /// When it ended.
        expired_unix: u64,
    },
    /// As many machines as it was for have joined.
    #[error("join token {id} is used up: create a new one")]
    UsedUp {
        /// The token shown.
        id: TokenId,
    },
    /// Somebody took it back.
    #[error("join token {id} was revoked: create a new one")]
    Revoked {
        /// The token shown.
        id: TokenId,
    },
}

impl TokenRecord {
    /// The record of a token that is given out.
    pub fn new(token: &JoinToken, terms: Terms) -> Self {
        Self {
            id: token.id,
            secret_digest: SecretDigest::of(token),
            uses_left: terms.uses,
            expires_unix: terms.expires_unix,
            revoked: false,
            created_unix: Some(terms.created_unix),
            joined: Vec::new(),
        }
    }

    /// Whether the token lets another machine in now.
    ///
    /// # Errors
    ///
    /// [`TokenError`] says why not.
    pub fn verify(&self, token: &JoinToken, now_unix: u64) -> Result<(), TokenError> {
        self.verify_good(token, now_unix)?;
        match self.uses_left {
            Some(0) => Err(TokenError::UsedUp { id: token.id }),
            Some(_) | None => Ok(()),
        }
    }

    /// Verifies the token, and counts that this node joined by it, unless that was
    /// counted before.
    ///
    /// # Errors
    ///
    /// [`TokenError`] if it lets the node not in; nothing is counted then.
    pub fn use_once(
        &mut self,
        token: &JoinToken,
        node: NodeId,
        now_unix: u64,
    ) -> Result<(), TokenError> {
        self.verify_good(token, now_unix)?;
        if self.joined.contains(&Joined(node)) {
            return Ok(());
        }
        self.verify(token, now_unix)?;
        let Some(uses) = &mut self.uses_left else { return Ok(()) };
        *uses -= 1;
        if self.joined.len() == JOINED_MAX {
            self.joined.remove(0);
        }
        self.joined.push(Joined(node));
        Ok(())
    }

    /// Whether the token is this one, and still good for those whose use was counted.
    fn verify_good(&self, token: &JoinToken, now_unix: u64) -> Result<(), TokenError> {
        let id = token.id;
        if self.id != id {
            return Err(TokenError::Unknown { id });
        }
        if self.secret_digest != SecretDigest::of(token) {
            return Err(TokenError::Wrong { id });
        }
        if self.revoked {
            return Err(TokenError::Revoked { id });
        }
        if let Some(expired_unix) = self.expires_unix.filter(|&expires| expires <= now_unix) {
            return Err(TokenError::Expired { id, expired_unix });
        }
        Ok(())
    }
}

impl SecretDigest {
    fn of(token: &JoinToken) -> Self {
        Self(blake3::hash(token.secret()))
    }
}

fn node_bytes(node: NodeId) -> [u8; 16] {
    node.0.to_be_bytes()
}

fn node_of(bytes: [u8; 16]) -> NodeId {
    NodeId(u128::from_be_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fingerprint;

    #[test]
    fn a_token_without_limits_stays_good() {
        let (token, mut record) = issued(None, None);
        for node in 0..3 {
            assert_eq!(record.use_once(&token, NodeId(node), u64::MAX), Ok(()));
        }
        assert_eq!(record.joined, [], "nothing is counted, so nobody is remembered");
    }

    #[test]
    fn a_token_is_used_up_after_its_uses_and_not_before() {
        let (token, mut record) = issued(Some(2), None);
        assert_eq!(record.use_once(&token, A, 0), Ok(()));
        assert_eq!(record.use_once(&token, B, 0), Ok(()));
        let used_up = Err(TokenError::UsedUp { id: token.id });
        assert_eq!(record.use_once(&token, NodeId(3), 0), used_up);
        assert_eq!(record.uses_left, Some(0));
    }

    #[test]
    fn a_node_that_asks_again_is_let_in_and_not_counted_again() {
        let (token, mut record) = issued(Some(2), Some(1000));
        for node in [A, A, B, A] {
            assert_eq!(record.use_once(&token, node, 0), Ok(()));
        }
        assert_eq!(record.uses_left, Some(0));

        let expired = TokenError::Expired { id: token.id, expired_unix: 1000 };
        assert_eq!(record.use_once(&token, A, 1000), Err(expired));
        record.revoked = true;
        assert_eq!(record.use_once(&token, A, 0), Err(TokenError::Revoked { id: token.id }));
    }

    #[test]
    fn so_many_nodes_are_remembered_and_the_first_are_forgotten() {
        let (token, mut record) = issued(Some(u32::MAX), None);
        let nodes_max = JOINED_MAX as u128;
        for node in 0..=nodes_max {
            assert_eq!(record.use_once(&token, NodeId(node), 0), Ok(()));
        }
        let before = record.clone();

        assert_eq!(record.use_once(&token, NodeId(1), 0), Ok(()));
        assert_eq!(record, before);
        assert_eq!(record.use_once(&token, NodeId(0), 0), Ok(()));
        assert_eq!(record.uses_left, before.uses_left.map(|uses| uses - 1));
        assert_eq!(record.joined.len(), JOINED_MAX);
    }

    #[test]
    fn a_token_expires_at_its_second() {
        let (token, record) = issued(None, Some(1000));
        let expired = TokenError::Expired { id: token.id, expired_unix: 1000 };
        assert_eq!(record.verify(&token, 999), Ok(()));
        assert_eq!(record.verify(&token, 1000), Err(expired));
    }

    #[test]
    fn a_revoked_token_lets_nobody_in() {
        let (token, mut record) = issued(None, None);
        record.revoked = true;
        assert_eq!(record.verify(&token, 0), Err(TokenError::Revoked { id: token.id }));
    }

    #[test]
    fn a_wrong_secret_learns_nothing_and_uses_nothing() {
        let (token, mut record) = issued(Some(0), Some(0));
        record.revoked = true;
        let (mut forged, _) = issued(None, None);
        forged.id = token.id;
        let before = record.clone();

        assert_eq!(record.use_once(&forged, A, 1), Err(TokenError::Wrong { id: token.id }));

        assert_eq!(record, before);
    }

    #[test]
    fn a_token_of_another_record_is_unknown() {
        let ((_, record), (other, _)) = (issued(None, None), issued(None, None));
        assert_eq!(record.verify(&other, 0), Err(TokenError::Unknown { id: other.id }));
    }

    #[test]
    fn a_record_is_read_back_from_json_and_holds_no_secret() {
        let (token, mut record) = issued(Some(3), Some(1000));
        record.use_once(&token, A, 0).unwrap();
        let json = serde_json::to_string(&record).unwrap();

        assert_eq!(serde_json::from_str::<TokenRecord>(&json).unwrap(), record);
        let secret: String = token.secret().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(json.contains(&token.id.to_string()) && !json.contains(&secret), "{json}");
    }

    #[test]
    fn a_record_of_an_earlier_version_is_read() {
        let (token, record) = issued(Some(3), None);
        let mut json = serde_json::to_value(&record).unwrap();
        let fields = json.as_object_mut().unwrap();
        fields.remove("created_unix");
        fields.remove("joined");

        let mut read: TokenRecord = serde_json::from_value(json).unwrap();

        assert_eq!(read, TokenRecord { created_unix: None, ..record });
        assert_eq!(read.use_once(&token, A, 0), Ok(()));
    }

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);

    fn issued(uses: Option<u32>, expires_unix: Option<u64>) -> (JoinToken, TokenRecord) {
        let token = JoinToken::create(Fingerprint([7; 32])).unwrap();
        let record = TokenRecord::new(&token, Terms { created_unix: 500, uses, expires_unix });
        (token, record)
    }
}
