//! Which lease is due when, and which keys go with it.
//!
//! Invariant: a key is under one lease at most, the one of its latest write.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    error::Error,
    record::{Action, LeaseId, Write},
};

/// Leases at a time. Chosen: four for each of a thousand nodes.
const LEASES_MAX: usize = 4_096;

/// The leases of a store.
#[derive(Debug, Default)]
pub(super) struct Leases {
    granted: BTreeMap<LeaseId, Lease>,
    lease_of: BTreeMap<String, LeaseId>,
    last: u64,
}

#[derive(Debug)]
struct Lease {
    ttl: Duration,
    deadline: Instant,
    keys: BTreeSet<String>,
}

impl Leases {
    pub(super) fn grant(&mut self, ttl: Duration, now: Instant) -> Result<LeaseId, Error> {
        if LEASES_MAX <= self.granted.len() {
            let problem = format!("{LEASES_MAX} leases are granted, which is the limit");
            return Err(Error::Unavailable { problem });
        }
        self.last += 1;
        let lease = LeaseId(self.last);
        let keys = BTreeSet::new();
        self.granted.insert(lease, Lease { ttl, deadline: now + ttl, keys });
        Ok(lease)
    }

    /// A lease that is due is not kept alive, even if its records are still there.
    pub(super) fn keep_alive(&mut self, lease: LeaseId, now: Instant) -> Result<(), Error> {
        let granted = self.granted.get_mut(&lease).filter(|granted| now < granted.deadline);
        let granted = granted.ok_or(Error::NoLease { lease })?;
        granted.deadline = now + granted.ttl;
        Ok(())
    }

    /// Checks that the leases of these writes are there.
    pub(super) fn check(&self, writes: &[Write], now: Instant) -> Result<(), Error> {
        for write in writes {
            let Action::Put { lease: Some(lease), .. } = write.action else { continue };
            if self.granted.get(&lease).is_none_or(|granted| granted.deadline <= now) {
                return Err(Error::NoLease { lease });
            }
        }
        Ok(())
    }

    /// A key was written under a lease, or under none.
    pub(super) fn attach(&mut self, key: &str, lease: Option<LeaseId>) {
        let before = self.lease_of.remove(key);
        if let Some(before) = before.and_then(|before| self.granted.get_mut(&before)) {
            before.keys.remove(key);
        }
        let Some(lease) = lease else { return };
        if let Some(granted) = self.granted.get_mut(&lease) {
            granted.keys.insert(key.to_owned());
            self.lease_of.insert(key.to_owned(), lease);
        }
    }

    /// Keys under a lease.
    pub(super) fn keys(&self, lease: LeaseId) -> impl Iterator<Item = &str> {
        self.granted.get(&lease).into_iter().flat_map(|lease| lease.keys.iter().map(String::as_str))
    }

    /// Forgets a lease whose keys are gone.
    pub(super) fn remove(&mut self, lease: LeaseId) {
        self.granted.remove(&lease);
    }

    /// Leases whose time is over.
    pub(super) fn due(&self, now: Instant) -> Vec<LeaseId> {
        let is_due = |lease: &Lease| lease.deadline <= now;
        self.granted.iter().filter(|(_, lease)| is_due(lease)).map(|(&id, _)| id).collect()
    }

    pub(super) fn first_deadline(&self) -> Option<Instant> {
        self.granted.values().map(|lease| lease.deadline).min()
    }
}
