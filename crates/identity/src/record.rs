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
//! Invariant: nothing but the right secret learns whether a token is expired, used
//! up or revoked. A change is made in one call, but stored by the caller: it must
//! be durable before the answer that it allowed goes out.

use blake3::Hash;
use serde::{Deserialize, Serialize};

use crate::{
    hex::hex_text,
    token::{JoinToken, TokenId},
};

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
}

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
    pub fn new(token: &JoinToken, uses_left: Option<u32>, expires_unix: Option<u64>) -> Self {
        let secret_digest = SecretDigest::of(token);
        Self { id: token.id, secret_digest, uses_left, expires_unix, revoked: false }
    }

    /// Whether the token lets a machine in now.
    ///
    /// # Errors
    ///
    /// [`TokenError`] says why not.
    pub fn verify(&self, token: &JoinToken, now_unix: u64) -> Result<(), TokenError> {
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
        if self.uses_left == Some(0) {
            return Err(TokenError::UsedUp { id });
        }
        Ok(())
    }

    /// Verifies the token, and counts that a machine joined by it.
    ///
    /// # Errors
    ///
    /// [`TokenError`] if it lets nobody in; nothing is counted then.
    pub fn use_once(&mut self, token: &JoinToken, now_unix: u64) -> Result<(), TokenError> {
        self.verify(token, now_unix)?;
        self.uses_left = self.uses_left.map(|uses| uses - 1);
        Ok(())
    }
}

impl SecretDigest {
    fn of(token: &JoinToken) -> Self {
        Self(blake3::hash(token.secret()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Fingerprint;

    #[test]
    fn a_token_without_limits_stays_good() {
        let (token, mut record) = issued(None, None);
        for _ in 0..3 {
            assert_eq!(record.use_once(&token, u64::MAX), Ok(()));
        }
    }

    #[test]
    fn a_token_is_used_up_after_its_uses_and_not_before() {
        let (token, mut record) = issued(Some(2), None);
        assert_eq!(record.use_once(&token, 0), Ok(()));
        assert_eq!(record.use_once(&token, 0), Ok(()));
        assert_eq!(record.use_once(&token, 0), Err(TokenError::UsedUp { id: token.id }));
        assert_eq!(record.uses_left, Some(0));
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

        assert_eq!(record.use_once(&forged, 1), Err(TokenError::Wrong { id: token.id }));

        assert_eq!(record, before);
    }

    #[test]
    fn a_token_of_another_record_is_unknown() {
        let ((_, record), (other, _)) = (issued(None, None), issued(None, None));
        assert_eq!(record.verify(&other, 0), Err(TokenError::Unknown { id: other.id }));
    }

    #[test]
    fn a_record_is_read_back_from_json_and_holds_no_secret() {
        let (token, record) = issued(Some(3), Some(1000));
        let json = serde_json::to_string(&record).unwrap();

        assert_eq!(serde_json::from_str::<TokenRecord>(&json).unwrap(), record);
        let secret: String = token.secret().iter().map(|byte| format!("{byte:02x}")).collect();
        assert!(json.contains(&token.id.to_string()) && !json.contains(&secret), "{json}");
    }

    fn issued(uses_left: Option<u32>, expires_unix: Option<u64>) -> (JoinToken, TokenRecord) {
        let token = JoinToken::create(Fingerprint([7; 32])).unwrap();
        let record = TokenRecord::new(&token, uses_left, expires_unix);
        (token, record)
    }
}
