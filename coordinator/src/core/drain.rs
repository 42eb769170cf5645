//! Workers that are to leave.
//!
//! ```text
//!  drain ─▶ Drain: remember it            the worker goes on with what is open
//!           ... the pipeline is empty ─▶ Drain, Release ─▶ the worker: Leaving, exit
//! ```
//!
//! When a worker may go is decided by `plan::cluster`. A release means to go only to a
//! worker that knows that it drains, so it is told that before every release, and in
//! every session; a worker that knows it says so in `Hello`, to a coordinator that
//! was started anew.

use plan::cluster::Presence;
use proto::control::wire::{self, to_worker::Kind as Asked};
use types::NodeId;

use super::Core;

/// Ids that are shown of workers with one name.
const IDS_SHOWN_MAX: usize = 8;

/// A worker that drains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Drained {
    pub(crate) node: NodeId,
    pub(crate) name: String,
    /// Videos that are to be finished first.
    pub(crate) open_videos: usize,
}

/// Why no worker drains.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotDrained {
    /// Look at the list.
    #[error("no worker here is called {worker:?}: `filmloom status` shows those that are")]
    Unknown {
        /// Whom it was asked of.
        worker: String,
    },
    /// Give an id.
    #[error("several workers are called {worker:?}: give the id of one: {ids}")]
    Ambiguous {
        /// Whom it was asked of.
        worker: String,
        /// Their ids, the first ones.
        ids: String,
    },
}

impl Core {
    /// Has a worker, of this id or else of this name, finish what is open and leave.
    pub(crate) fn drain(&mut self, worker: &str) -> Result<Drained, NotDrained> {
        let here = self.cluster.members().filter(|(_, member)| member.presence != Presence::Gone);
        let here: Vec<_> = here.map(|(node, member)| (node, member.offer.name.as_str())).collect();
        let node = find(&here, worker)?;
        let name = here.iter().find(|&&(other, _)| other == node).map_or("", |&(_, name)| name);
        let name = name.to_owned();
        let jobs = self.cluster.jobs_on(node);
        let is_video = |job| self.films.get(job).is_some_and(|film| !film.wish.is_probe);
        let open_videos = jobs.iter().filter(|job| is_video(job)).count();
        tracing::info!(%node, %name, open_videos, "a worker drains");
        let now = self.now();
        self.cluster.drain(now, node);
        self.tell_to_drain(node);
        Ok(Drained { node, name, open_videos })
    }

    /// Tells a worker that drains that it does.
    pub(super) fn tell_to_drain(&mut self, node: NodeId) {
        if self.cluster.member(node).is_some_and(|member| member.is_draining) {
            self.tell(node, Asked::Drain(wire::Drain {}));
        }
    }
}

/// The worker of this id, else the only one of this name.
fn find(here: &[(NodeId, &str)], worker: &str) -> Result<NodeId, NotDrained> {
    if let Some(&(node, _)) = here.iter().find(|(node, _)| node.to_string() == worker) {
        return Ok(node);
    }
    let named: Vec<_> = here.iter().filter(|&&(_, name)| name == worker).collect();
    let worker = worker.to_owned();
    match named[..] {
        [] => Err(NotDrained::Unknown { worker }),
        [&(node, _)] => Ok(node),
        _ => {
            let ids = named.iter().take(IDS_SHOWN_MAX).map(|(node, _)| node.to_string());
            let ids = ids.collect::<Vec<_>>().join(", ");
            Err(NotDrained::Ambiguous { worker, ids })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn worker_is_found_by_its_id_and_by_a_name_that_no_other_has() {
        let (a, b, c) = (NodeId(0xa), NodeId(0xb), NodeId(0xc));
        let id_of_a = a.to_string();
        let here = [(a, "box"), (b, "box"), (c, id_of_a.as_str())];

        assert_eq!(find(&here, &b.to_string()), Ok(b));
        assert_eq!(find(&here, &id_of_a), Ok(a), "an id goes before a name");
        assert_eq!(find(&[(a, "box"), (b, "tower")], "tower"), Ok(b));
        let unknown = NotDrained::Unknown { worker: "tower".to_owned() };
        assert_eq!(find(&here, "tower"), Err(unknown));
        let ambiguous = find(&here, "box").unwrap_err().to_string();
        assert!(ambiguous.contains(&id_of_a) && ambiguous.contains(&b.to_string()), "{ambiguous}");
        assert!(!ambiguous.contains(&c.to_string()), "{ambiguous}");
    }
}
