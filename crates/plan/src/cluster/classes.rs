//! Whose results are the same: the class that a member names, and what it really gave.
//!
//! A member names its numeric class. What its timed layers gave, with seeded weights on
//! seeded noise, shows whether that is so: members of one class that gave different
//! results, say of versions whose kernels differ, count as of different classes, and
//! no pipeline stands on both.

use std::collections::{BTreeMap, BTreeSet};

use types::NodeId;

use crate::placement::Worker;

/// What a member's timed layers gave: the beginning of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProbeDigest(pub u64);

/// Tells members of one class apart that did not give the same.
pub(super) fn tell_apart(
    workers: &mut [(NodeId, Worker)],
    probe: impl Fn(NodeId) -> Option<ProbeDigest>,
) {
    let mut given: BTreeMap<String, BTreeSet<Option<ProbeDigest>>> = BTreeMap::new();
    for (node, worker) in workers.iter() {
        given.entry(worker.class.clone()).or_default().insert(probe(*node));
    }
    for (node, worker) in workers {
        if given.get(&worker.class).is_some_and(|given| 1 < given.len()) {
            worker.class = match probe(*node) {
                Some(ProbeDigest(probe)) => format!("{} ({probe:016x})", worker.class),
                None => format!("{} (unproven)", worker.class),
            };
        }
    }
}
