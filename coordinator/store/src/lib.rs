//! The state store: nodes, jobs and their owners behind one trait, embedded or in etcd.
//!
//! ```text
//!            coordinator
//!                │ dyn Store
//!        ┌───────┴────────┐
//!     Embedded          Etcd (feature `etcd`)
//!     one file,         a cluster's records, shared by
//!     one process       several coordinators
//! ```
//!
//! Records are small: JSON under keys such as `jobs/<hex>`. Clean frames, pages and
//! progress never come here.
//!
//! - [`record`]: what goes in and comes out, and how large it may be.
//! - [`error`]: why something was refused.
//! - [`embedded`]: the store of a single coordinator, in a file.
//! - `etcd`: the store of a cluster.
//!
//! Invariants, which one suite of tests asks of both:
//!
//! - A commit is durable when it returns, and is done as a whole or not at all.
//! - Revisions are of the whole store and only grow; a record's revision is that of
//!   the commit that wrote it last.
//! - A watch gives every change after its revision once and in order, or says that
//!   it cannot.
//! - A record under a lease is gone soon after the lease has expired, and not before.

pub mod embedded;
pub mod error;
#[cfg(feature = "etcd")]
pub mod etcd;
pub mod record;

mod check;

#[cfg(test)]
mod tests;

use std::{fmt::Debug, time::Duration};

use async_trait::async_trait;

pub use embedded::Embedded;
pub use error::Error;
#[cfg(feature = "etcd")]
pub use etcd::Etcd;
pub use record::{Action, Change, Expect, LeaseId, List, Page, Record, Revision, Write};

/// A state store. Calls may be made from many tasks at once.
#[async_trait]
pub trait Store: Debug + Send + Sync {
    /// The record of a key, if there is one.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], [`Error::Unavailable`], [`Error::Damaged`].
    async fn get(&self, key: &str) -> Result<Option<Record>, Error>;

    /// Records whose key has a prefix, in the order of their keys.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    async fn list(&self, list: &List) -> Result<Page, Error>;

    /// Does all of these writes, or none. Gives the store's revision after it, which
    /// is a new one if anything has changed.
    ///
    /// # Errors
    ///
    /// [`Error::Conflict`] if an expectation does not hold; [`Error::NoLease`];
    /// [`Error::TooLarge`]; [`Error::Invalid`] for a key that is written twice, too
    /// many writes, or none; [`Error::Unavailable`], after which it is not known
    /// whether the writes were done: read the keys.
    async fn commit(&self, writes: &[Write]) -> Result<Revision, Error>;

    /// Watches the keys with a prefix for changes after a revision.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`], [`Error::Unavailable`].
    async fn watch(&self, prefix: &str, after: Revision) -> Result<Box<dyn Watch>, Error>;

    /// Grants a lease. A store may make it last longer than asked for, by seconds.
    ///
    /// # Errors
    ///
    /// [`Error::Invalid`] if the time is not within the limits;
    /// [`Error::Unavailable`].
    async fn grant(&self, ttl: Duration) -> Result<LeaseId, Error>;

    /// Starts a lease's time anew.
    ///
    /// # Errors
    ///
    /// [`Error::NoLease`] if it has expired; [`Error::Unavailable`].
    async fn keep_alive(&self, lease: LeaseId) -> Result<(), Error>;

    /// Ends a lease at once; one that has ended is fine.
    ///
    /// # Errors
    ///
    /// [`Error::Unavailable`].
    async fn revoke(&self, lease: LeaseId) -> Result<(), Error>;

    /// Writes one record.
    ///
    /// # Errors
    ///
    /// As [`Store::commit`].
    async fn put(&self, key: &str, value: &[u8], expect: Expect) -> Result<Revision, Error> {
        self.commit(&[Write::put(key, value, expect)]).await
    }

    /// Deletes one record. With [`Expect::Any`] it need not be there.
    ///
    /// # Errors
    ///
    /// As [`Store::commit`].
    async fn delete(&self, key: &str, expect: Expect) -> Result<Revision, Error> {
        self.commit(&[Write::delete(key, expect)]).await
    }
}

/// A watch of a prefix.
#[async_trait]
pub trait Watch: Debug + Send {
    /// Waits for the next change. May be dropped and called again: no change is lost.
    ///
    /// # Errors
    ///
    /// [`Error::Lagged`] if changes were missed: list the keys, then watch anew;
    /// [`Error::Unavailable`] if the store was closed.
    async fn next(&mut self) -> Result<Change, Error>;
}
