//! Why a store did not do what was asked, by what the caller does next.

use crate::record::{LeaseId, Revision};

/// Why a store did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A record is not as expected, so nothing was done. Read it and decide anew.
    #[error("{key} is not as expected, {}; read it and decide anew", found_text(*found))]
    Conflict {
        /// The first key whose expectation does not hold.
        key: String,
        /// The revision of its record, if there is one.
        found: Option<Revision>,
    },
    /// The store cannot be reached or used now. Try later; after a commit, read the
    /// keys first.
    #[error("the state store cannot be used now: {problem}; try again later")]
    #[expect(missing_docs, reason = "the message names the field")]
    Unavailable { problem: String },
    /// Records are small. Put less into it.
    #[error("{what} has {bytes} bytes, the state store takes {bytes_max}; put less into it")]
    #[expect(missing_docs, reason = "the message names the fields")]
    TooLarge { what: String, bytes: usize, bytes_max: usize },
    /// The request can never be done. Fix it.
    #[error("the request to the state store is wrong: {problem}")]
    #[expect(missing_docs, reason = "the message names the field")]
    Invalid { problem: String },
    /// The lease has expired. Grant a new one, and see what has happened to its keys.
    #[error("lease {} has expired; grant a new one", lease.0)]
    #[expect(missing_docs, reason = "the message names the field")]
    NoLease { lease: LeaseId },
    /// A watch has missed changes. List the keys, then watch anew.
    #[error("the watch has missed changes; list the keys, then watch anew")]
    Lagged,
    /// The store's contents are not what it wrote. Restore them from a copy.
    #[error("the state store is damaged: {problem}; restore it from a copy")]
    #[expect(missing_docs, reason = "the message names the field")]
    Damaged { problem: String },
}

fn found_text(found: Option<Revision>) -> String {
    found.map_or_else(|| "it is absent".to_owned(), |r| format!("its revision is {}", r.0))
}
