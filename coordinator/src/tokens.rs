//! Join tokens: made here, shown once, kept as digests.

use identity::{Fingerprint, JoinToken, TokenRecord};
use store::{Expect, Store};

use crate::{core::unix_now, records};

/// What a token is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUse {
    /// How many nodes may join with it; `None` for any number.
    pub uses: Option<u32>,
    /// How long it lasts, in seconds; `None` for ever.
    pub lifetime_s: Option<u64>,
}

/// Makes a token and writes its record down.
///
/// # Errors
///
/// A sentence, if the system gives no random numbers or the store does not take it.
pub async fn create_token(
    store: &dyn Store,
    authority: Fingerprint,
    TokenUse { uses, lifetime_s }: TokenUse,
) -> Result<JoinToken, String> {
    let token = JoinToken::create(authority).map_err(|error| error.to_string())?;
    let expires = lifetime_s.map(|lifetime| unix_now().saturating_add(lifetime));
    let record = TokenRecord::new(&token, uses, expires);
    let key = format!("{}{}", records::TOKENS, token.id);
    let value = serde_json::to_vec(&record).map_err(|error| error.to_string())?;
    store.put(&key, &value, Expect::Absent).await.map_err(|error| error.to_string())?;
    Ok(token)
}
