//! Join tokens: made here, shown once, kept as digests.
//!
//! ```text
//!  a node joins ──────────── use_once ──┐
//!  whoever manages ─ create, page, revoke ─┼─▶ Tokens ──▶ store: tokens/<id>
//!  the coordinator starts ── keep_file ─┘     └──────▶ DATA/join.token
//! ```
//!
//! `join.token` holds a token for any number of machines. When that is revoked, a new
//! one is made and takes its place at once, so the file always has one that opens the
//! door; one that somebody narrowed stays, used up or not.
//!
//! Invariants: a use and a revocation are in the store before anyone hears of them,
//! and each is written over just the record that it was decided by. So after a
//! revocation no use is counted, whoever asked first.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use identity::{FileError, Fingerprint, JoinToken, Terms, TokenError, TokenId, TokenRecord};
use store::{Embedded, Error as StoreError, Expect, List, Store, record::LIST_MAX};
use tokio::sync::Mutex;
use types::NodeId;

use crate::{core::unix_now, records};

/// The file of a data folder that has the token for everyone.
pub(crate) const TOKEN_FILE: &str = "join.token";

/// Attempts to change a record while others change it.
const ATTEMPTS_MAX: usize = 16;

/// The tokens of a cluster.
#[derive(Debug)]
pub struct Tokens {
    store: Arc<dyn Store>,
    authority: Fingerprint,
    file: PathBuf,
    /// Records are changed one after the other: many machines may join at once.
    turn: Mutex<()>,
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TokenUse {
    /// How many nodes may join with it; `None` for any number.
    pub uses: Option<u32>,
    /// How long it lasts, in seconds; `None` for ever.
    pub lifetime_s: Option<u64>,
}

/// A token without its secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListedToken {
    /// Which.
    pub id: TokenId,
    /// Machines that may still join with it; `None` for any number.
    pub uses_left: Option<u32>,
    /// When it ends; `None` for never.
    pub expires_unix: Option<u64>,
    /// Whether it was taken back.
    pub revoked: bool,
    /// When it was made, if that is known.
    pub created_unix: Option<u64>,
}

/// Tokens in the order of their ids.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenPage {
    /// At most as many as the store gives at once.
    pub tokens: Vec<ListedToken>,
    /// What the next page begins after, if there is more.
    pub next_after: Option<TokenId>,
}

/// Why nothing was done with a token.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It lets this node not in. Refuse the join.
    #[error(transparent)]
    Refused(#[from] TokenError),
    /// Look at the list.
    #[error("there is no join token {id}: `filmloom token list` shows all that there are")]
    Unknown {
        /// The token asked for.
        id: TokenId,
    },
    /// Ask for a token that is good for something.
    #[error("a token is for at least one machine, and lasts at least a second")]
    Nothing,
    /// Others changed it at the same time, each time. Try again.
    #[error("others use join token {id} at the same time: try again")]
    Busy {
        /// The token.
        id: TokenId,
    },
    /// The store did not answer, or refused. It is not known whether it was done.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The record is damaged. Restore the store from a copy.
    #[error("the record of join token {id} cannot be read: {source}; restore it from a copy")]
    Record {
        /// The token.
        id: TokenId,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// The token is revoked, and the file with the next one was not written.
    #[error("{0}; the next start of `serve` writes a new join token")]
    File(#[from] FileError),
    /// The system gives no random numbers.
    #[error("no join token could be made: {0}")]
    Random(#[from] identity::Error),
}

impl Tokens {
    /// The tokens in a store, for the authority and the data folder of a coordinator.
    pub(crate) fn new(store: Arc<dyn Store>, authority: Fingerprint, data: &Path) -> Self {
        Self { store, authority, file: data.join(TOKEN_FILE), turn: Mutex::new(()) }
    }

    /// The tokens in the records of a data folder, whose coordinator does not run.
    ///
    /// # Errors
    ///
    /// The store's: it is in use, or damaged.
    pub async fn open(data: &Path, authority: Fingerprint) -> Result<Self, StoreError> {
        let store = Embedded::open(&data.join(records::FILE)).await?;
        Ok(Self::new(Arc::new(store), authority, data))
    }

    /// Makes a token and writes its record down.
    ///
    /// # Errors
    ///
    /// [`TokensError::Nothing`], [`TokensError::Random`], [`TokensError::Store`].
    pub async fn create(&self, wanted: TokenUse) -> Result<JoinToken, TokensError> {
        let TokenUse { uses, lifetime_s } = wanted;
        if uses == Some(0) || lifetime_s == Some(0) {
            return Err(TokensError::Nothing);
        }
        let token = JoinToken::create(self.authority)?;
        let created_unix = unix_now();
        let expires_unix = lifetime_s.map(|lifetime| created_unix.saturating_add(lifetime));
        let record = TokenRecord::new(&token, Terms { created_unix, uses, expires_unix });
        self.store.put(&key(token.id), &written(&record)?, Expect::Absent).await?;
        Ok(token)
    }

    /// Tokens after this one, or the first ones.
    ///
    /// # Errors
    ///
    /// [`TokensError::Store`]. A record that cannot be read is left out.
    pub async fn page(&self, after: Option<TokenId>) -> Result<TokenPage, TokensError> {
        let list =
            List { prefix: records::TOKENS.to_owned(), after: after.map(key), limit: LIST_MAX };
        let page = self.store.list(&list).await?;
        let mut tokens = Vec::new();
        for record in &page.records {
            match serde_json::from_slice::<TokenRecord>(&record.value) {
                Ok(token) => tokens.push(token.into()),
                Err(error) => {
                    tracing::error!(key = %record.key, %error, "a record cannot be read");
                }
            }
        }
        let next = page.next.as_deref().and_then(|key| key.strip_prefix(records::TOKENS));
        Ok(TokenPage { tokens, next_after: next.and_then(|id| id.parse().ok()) })
    }

    /// Takes a token back: it lets nobody in any more. Gives whether it was the one in
    /// `join.token`, which has another one then.
    ///
    /// # Errors
    ///
    /// [`TokensError`]; only after [`TokensError::File`] it is revoked.
    pub async fn revoke(&self, id: TokenId) -> Result<bool, TokensError> {
        let _turn = self.turn.lock().await;
        let revoke = |record: &mut TokenRecord| {
            record.revoked = true;
            Ok(())
        };
        self.change(id, revoke).await?.ok_or(TokensError::Unknown { id })?;
        self.keep_file().await
    }

    /// Counts that a node joins by a token.
    ///
    /// # Errors
    ///
    /// [`TokensError::Refused`] if it may not; else it is not known whether it is
    /// counted, and the node may ask again.
    pub(crate) async fn use_once(
        &self,
        token: &JoinToken,
        node: NodeId,
    ) -> Result<(), TokensError> {
        let (id, _turn) = (token.id, self.turn.lock().await);
        let used = self.change(id, |record| Ok(record.use_once(token, node, unix_now())?)).await?;
        Ok(used.ok_or(TokenError::Unknown { id })?)
    }

    /// Writes a token for everyone to `join.token`, unless one is there that the store
    /// knows (the folder may have had another store before) and nobody revoked. Gives
    /// whether it did.
    ///
    /// # Errors
    ///
    /// Those of [`Tokens::create`], and [`TokensError::File`].
    pub(crate) async fn keep_file(&self) -> Result<bool, TokensError> {
        let token = fs::read_to_string(&self.file).ok();
        if let Some(token) = token.and_then(|text| text.parse::<JoinToken>().ok())
            && let Some(record) = self.store.get(&key(token.id)).await?
            && !read(token.id, &record.value)?.revoked
        {
            return Ok(false);
        }
        let token = self.create(TokenUse::default()).await?;
        identity::write_secret_file(&self.file, &format!("{token}\n"))?;
        Ok(true)
    }

    /// Changes a token's record; `None` if there is none.
    async fn change(
        &self,
        id: TokenId,
        change: impl Fn(&mut TokenRecord) -> Result<(), TokensError>,
    ) -> Result<Option<()>, TokensError> {
        let key = key(id);
        for _ in 0..ATTEMPTS_MAX {
            let Some(found) = self.store.get(&key).await? else { return Ok(None) };
            let mut record = read(id, &found.value)?;
            change(&mut record)?;
            let expect = Expect::Revision(found.revision);
            match self.store.put(&key, &written(&record)?, expect).await {
                Ok(_) => return Ok(Some(())),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(TokensError::Busy { id })
    }
}

impl From<TokenRecord> for ListedToken {
    fn from(record: TokenRecord) -> Self {
        let TokenRecord { id, uses_left, expires_unix, revoked, created_unix, .. } = record;
        Self { id, uses_left, expires_unix, revoked, created_unix }
    }
}

fn key(id: TokenId) -> String {
    format!("{}{id}", records::TOKENS)
}

fn read(id: TokenId, value: &[u8]) -> Result<TokenRecord, TokensError> {
    serde_json::from_slice(value).map_err(|source| TokensError::Record { id, source })
}

fn written(record: &TokenRecord) -> Result<Vec<u8>, TokensError> {
    serde_json::to_vec(record).map_err(|source| TokensError::Record { id: record.id, source })
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[tokio::test]
    async fn revoked_token_lets_nobody_in_not_even_who_has_joined_by_it() {
        let (_data, tokens) = tokens().await;
        tokens.keep_file().await.unwrap();
        let token = tokens.create(TokenUse { uses: Some(2), lifetime_s: None }).await.unwrap();
        tokens.use_once(&token, A).await.unwrap();

        assert!(!tokens.revoke(token.id).await.unwrap());

        for node in [A, B] {
            let refused = tokens.use_once(&token, node).await.unwrap_err();
            assert!(is_refused(&refused, TokenError::Revoked { id: token.id }), "{refused}");
        }
        assert!(!tokens.revoke(token.id).await.unwrap(), "revoking twice is fine");
    }

    #[tokio::test]
    async fn node_that_lost_the_answer_asks_again_and_takes_no_other_use() {
        let (_data, tokens) = tokens().await;
        let token = tokens.create(TokenUse { uses: Some(1), lifetime_s: None }).await.unwrap();

        for _ in 0..2 {
            tokens.use_once(&token, A).await.unwrap();
        }

        let refused = tokens.use_once(&token, B).await.unwrap_err();
        assert!(is_refused(&refused, TokenError::UsedUp { id: token.id }), "{refused}");
    }

    #[tokio::test]
    async fn revoked_join_token_is_replaced_at_once_and_another_one_stays() {
        let (data, tokens) = tokens().await;
        assert!(tokens.keep_file().await.unwrap());
        let first = in_file(&data);
        assert!(!tokens.keep_file().await.unwrap());
        assert_eq!(in_file(&data).id, first.id);

        assert!(tokens.revoke(first.id).await.unwrap());

        let second = in_file(&data);
        assert_ne!(second.id, first.id);
        tokens.use_once(&second, A).await.unwrap();
        assert!(tokens.use_once(&first, B).await.is_err());
    }

    #[tokio::test]
    async fn join_token_that_was_narrowed_stays_and_one_of_another_store_does_not() {
        let (data, tokens) = tokens().await;
        let (_other, elsewhere) = self::tokens().await;
        let narrow = tokens.create(TokenUse { uses: Some(1), lifetime_s: None }).await.unwrap();
        let foreign = elsewhere.create(TokenUse::default()).await.unwrap();
        tokens.use_once(&narrow, A).await.unwrap();

        fs::write(data.path().join(TOKEN_FILE), narrow.to_string()).unwrap();
        assert!(!tokens.keep_file().await.unwrap());
        fs::write(data.path().join(TOKEN_FILE), foreign.to_string()).unwrap();
        assert!(tokens.keep_file().await.unwrap());
    }

    #[tokio::test]
    async fn all_tokens_are_listed_page_by_page() {
        let (_data, tokens) = tokens().await;
        let mut made = Vec::new();
        // With the one in join.token there are more than a page has.
        tokens.keep_file().await.unwrap();
        for _ in 0..LIST_MAX {
            made.push(tokens.create(TokenUse { uses: Some(3), lifetime_s: None }).await.unwrap());
        }
        let mut ids: Vec<_> = made.iter().map(|token| token.id).collect();
        ids.sort();
        tokens.revoke(ids[1]).await.unwrap();

        let first = tokens.page(None).await.unwrap();
        let rest = tokens.page(first.next_after).await.unwrap();

        assert_eq!((first.tokens.len(), rest.tokens.len()), (LIST_MAX, 1));
        assert_eq!(rest.next_after, None);
        let listed = [first.tokens, rest.tokens].concat();
        let is_own = |token: &&ListedToken| ids.contains(&token.id);
        let own: Vec<_> = listed.iter().filter(is_own).collect();
        assert!(own.iter().map(|token| token.id).eq(ids.iter().copied()));
        assert!(own.iter().all(|token| token.uses_left == Some(3) && token.created_unix.is_some()));
        let revoked = listed.iter().filter(|token| token.revoked);
        assert!(revoked.map(|token| token.id).eq([ids[1]]));
    }

    #[tokio::test]
    async fn token_for_nobody_is_not_made() {
        let (_data, tokens) = tokens().await;
        for (uses, lifetime_s) in [(Some(0), None), (None, Some(0))] {
            let refused = tokens.create(TokenUse { uses, lifetime_s }).await.unwrap_err();
            assert!(matches!(refused, TokensError::Nothing), "{refused}");
        }
        let unknown = TokenId([7; 8]);
        let refused = tokens.revoke(unknown).await.unwrap_err();
        assert!(matches!(refused, TokensError::Unknown { id } if id == unknown), "{refused}");
    }

    const A: NodeId = NodeId(0xa);
    const B: NodeId = NodeId(0xb);

    async fn tokens() -> (TempDir, Tokens) {
        let data = tempfile::tempdir().unwrap();
        let tokens = Tokens::open(data.path(), Fingerprint([7; 32])).await.unwrap();
        (data, tokens)
    }

    fn in_file(data: &TempDir) -> JoinToken {
        fs::read_to_string(data.path().join(TOKEN_FILE)).unwrap().parse().unwrap()
    }

    fn is_refused(error: &TokensError, why: TokenError) -> bool {
        matches!(error, TokensError::Refused(refused) if *refused == why)
    }
}
