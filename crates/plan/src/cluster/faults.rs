//! Members that no plan can be made with: a number that cannot be measured, a pin
//! that cannot be kept. They are left out, so that one of them stops nobody else.

use std::num::NonZeroU32;

use types::NodeId;

use super::{Policy, planned::request};
use crate::placement::{self, Error, Links, Worker};

/// Whether a request failed because of what one of its members says of itself.
pub(super) fn is_of_a_member(error: &Error) -> bool {
    matches!(
        error,
        Error::Profile { .. }
            | Error::PinOutside { .. }
            | Error::PinsOverlap { .. }
            | Error::PinTooLong { .. }
            | Error::PinsMixed { .. }
    )
}

/// Who is to be left out, and why. Where two members' pins exclude each other, the
/// one that comes first in the list keeps its own.
pub(super) fn faults(policy: &Policy, able: Vec<(NodeId, Worker)>) -> Vec<(NodeId, String)> {
    let (mut pinned, mut faults) = (Vec::new(), Vec::new());
    for (node, worker) in able {
        let is_pinned = worker.limits.layers.is_some();
        let mut workers = if is_pinned { pinned.clone() } else { Vec::new() };
        workers.push(worker);
        match fault(policy, workers.clone()) {
            Some(problem) => faults.push((node, problem)),
            None if is_pinned => pinned = workers,
            None => {}
        }
    }
    faults
}

fn fault(policy: &Policy, workers: Vec<Worker>) -> Option<String> {
    let links = Links::uniform(workers.len(), policy.assumed_link);
    let request = request(policy.work, workers, links, NonZeroU32::MIN);
    let error = placement::plan(&request).err().filter(is_of_a_member);
    error.map(|error| error.to_string())
}
