//! What goes into a store and comes out of it, and the limits of both.

use std::time::Duration;

/// Bytes of a value at most.
pub const VALUE_BYTES_MAX: usize = 512 << 10;
/// Bytes of the keys and values of a commit at most; etcd refuses 1.5 MiB.
pub const COMMIT_BYTES_MAX: usize = 1 << 20;
/// Writes of a commit at most; etcd refuses more than 128.
pub const WRITES_MAX: usize = 64;
/// Bytes of a key at most.
pub const KEY_BYTES_MAX: usize = 512;
/// Records of a page at most.
pub const LIST_MAX: usize = 100;
/// The shortest lease, which is also the unit that etcd counts in.
pub const TTL_MIN: Duration = Duration::from_secs(1);
/// The longest lease. Chosen: what is kept longer wants no lease.
pub const TTL_MAX: Duration = Duration::from_secs(3_600);

/// The number of a commit. It is of the whole store and only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revision(pub u64);

/// A lease. It is not reused as long as its store is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u64);

/// A key with its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// One to [`KEY_BYTES_MAX`] printable ASCII characters without spaces.
    pub key: String,
    /// At most [`VALUE_BYTES_MAX`] bytes.
    pub value: Vec<u8>,
    /// The commit that wrote it.
    pub revision: Revision,
}

/// Which records to list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct List {
    /// What their keys begin with; all keys begin with nothing.
    pub prefix: String,
    /// The key that they come after.
    pub after: Option<String>,
    /// How many at most; 1 to [`LIST_MAX`].
    pub limit: usize,
}

/// Records in the order of their keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Page {
    /// As many as were asked for, if there are.
    pub records: Vec<Record>,
    /// What to list after for the next page, if there is more.
    pub next: Option<String>,
    /// The store's revision when the page was read. Of a list in several pages, watch
    /// after that of the first.
    pub revision: Revision,
}

/// What happened to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// The key.
    pub key: String,
    /// Its value, unless it was deleted.
    pub value: Option<Vec<u8>>,
    /// The commit that did it.
    pub revision: Revision,
}

/// One write of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The key.
    pub key: String,
    /// What must be true of it before.
    pub expect: Expect,
    /// What is done to it.
    pub action: Action,
}

/// What must be true of a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// There is no record.
    Absent,
    /// There is a record of this revision.
    Revision(Revision),
    /// Nothing.
    Any,
}

/// What is done to a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// It gets a value.
    Put {
        /// The value.
        value: Vec<u8>,
        /// A lease that the record ends with.
        lease: Option<LeaseId>,
    },
    /// Its record goes, if there is one.
    Delete,
    /// Nothing: only the expectation counts.
    Check,
}

impl Write {
    /// Gives a key a value.
    pub fn put(key: &str, value: &[u8], expect: Expect) -> Self {
        let action = Action::Put { value: value.to_vec(), lease: None };
        Self { key: key.to_owned(), expect, action }
    }

    /// Gives a key a value that ends with a lease.
    pub fn put_leased(key: &str, value: &[u8], expect: Expect, lease: LeaseId) -> Self {
        let action = Action::Put { value: value.to_vec(), lease: Some(lease) };
        Self { key: key.to_owned(), expect, action }
    }

    /// Deletes a key.
    pub fn delete(key: &str, expect: Expect) -> Self {
        Self { key: key.to_owned(), expect, action: Action::Delete }
    }

    /// Checks a key.
    pub fn check(key: &str, expect: Expect) -> Self {
        Self { key: key.to_owned(), expect, action: Action::Check }
    }
}

impl Expect {
    /// Whether it is true of a record that was found.
    pub fn holds(self, found: Option<Revision>) -> bool {
        match self {
            Self::Absent => found.is_none(),
            Self::Revision(expected) => found == Some(expected),
            Self::Any => true,
        }
    }
}
