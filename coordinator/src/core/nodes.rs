//! Workers: their sessions, and what they say.

use std::{collections::BTreeSet, time::Duration};

use link::Way;
use plan::{
    cluster::{Boot, Member, Presence},
    placement::Link,
};
use proto::control::{
    self,
    wire::{self, Counters, FromWorker, ToWorker, from_worker::Kind as Said, refusal::Reason},
};
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use types::{Fence, Incarnation, NodeId};

use super::{Core, spent::Heard};
use crate::records;

/// A worker that wants to open a session.
#[derive(Debug)]
pub(crate) struct Entering {
    pub(crate) node: NodeId,
    pub(crate) hello: wire::Hello,
    pub(crate) sender: mpsc::Sender<Result<ToWorker, Status>>,
}

/// Why a worker's session is not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NotEntered {
    pub(crate) reason: Reason,
    /// A sentence that names both sides' values.
    pub(crate) message: String,
}

/// A worker's open session.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) incarnation: Incarnation,
    pub(super) sender: mpsc::Sender<Result<ToWorker, Status>>,
    pub(crate) device: String,
    pub(super) addresses: Vec<String>,
    pub(crate) heartbeat: wire::Heartbeat,
    /// Why it cannot be timed.
    pub(crate) problem: Option<String>,
    /// Since when its times are waited for, if they are.
    asked_at: Option<Duration>,
    /// Whether it will be asked for them once more.
    is_asked_again: bool,
}

/// How long a worker may take to time itself, before that counts as a problem: a large
/// model on a slow machine takes minutes.
const TIMED_WITHIN: Duration = Duration::from_secs(20 * 60);
/// When a worker that could not be timed is asked again.
const PROFILE_AGAIN_AFTER: Duration = Duration::from_secs(10);

impl Core {
    /// A node has joined, or has joined before.
    pub(crate) fn add_node(&mut self, node: NodeId, record: records::Node) {
        self.nodes.insert(node, record);
    }

    /// Whether a node has joined and was not removed.
    pub(crate) fn knows(&self, node: NodeId) -> bool {
        self.nodes.contains_key(&node)
    }

    /// A worker's session, if it is open.
    pub(crate) fn session(&self, node: NodeId) -> Option<&Session> {
        self.sessions.get(&node)
    }

    pub(super) fn enter(
        &mut self,
        entering: Entering,
        reply: oneshot::Sender<Result<Incarnation, NotEntered>>,
    ) {
        let entered = self.try_enter(entering);
        drop(reply.send(entered));
    }

    fn try_enter(&mut self, entering: Entering) -> Result<Incarnation, NotEntered> {
        let Entering { node, hello, sender } = entering;
        if !self.knows(node) {
            let message = format!("node {node} is no member of this cluster: join it with a token");
            return Err(NotEntered { reason: Reason::NotAMember, message });
        }
        let served = self.served.digest;
        if !hello.fetches && !hello.models.iter().any(|model| *model == served.0) {
            let theirs: Vec<String> = hello.models.iter().map(|bytes| hex(bytes)).collect();
            let message = format!(
                "this cluster works with model {served}, the worker has {} and fetches none",
                theirs.join(", ")
            );
            return Err(NotEntered { reason: Reason::Model, message });
        }
        let shown = |malformed: proto::Malformed| NotEntered {
            reason: Reason::Malformed,
            message: malformed.to_string(),
        };
        let boot = Boot(control::boot(&hello.boot).map_err(shown)?);
        let addresses = control::addresses(hello.addresses.clone()).map_err(shown)?;
        let offer = control::offer(&hello).map_err(shown)?;
        let now = self.now();
        let entered = self.cluster.handle_session(now, node, boot, offer);
        let before = self.nodes.get(&node).map(|record| record.incarnation);
        let incarnation = entered.map_err(|refused| NotEntered {
            reason: Reason::IdentityInUse,
            message: refused.to_string(),
        })?;
        if before != Some(incarnation.0) {
            // It may be elsewhere in this life.
            self.relayed.retain(|&(one, other)| one != node && other != node);
            self.links.retain(|&(one, other), _| one != node && other != node);
        }
        let (device, heartbeat, problem) = (hello.device, wire::Heartbeat::default(), None);
        let session = Session {
            incarnation,
            sender,
            device,
            addresses,
            heartbeat,
            problem,
            asked_at: None,
            is_asked_again: false,
        };
        self.sessions.insert(node, session);
        self.switchboard.connect(node, Way::Accept);
        self.forget_hops();
        let record =
            records::Node { name: hello.name, incarnation: incarnation.0, boot: hex(&hello.boot) };
        self.saver.save(records::node_key(node), &record);
        self.nodes.insert(node, record);
        let held = hello.held.into_iter().filter_map(|held| control::fence(Some(held)).ok());
        self.cluster.handle_held(now, node, &held.collect::<Vec<_>>());
        if hello.draining {
            self.cluster.drain(now, node);
        }
        self.tell_to_drain(node);
        Ok(incarnation)
    }

    pub(super) fn lose(&mut self, node: NodeId, incarnation: Incarnation) {
        let session = self.sessions.get(&node);
        if session
            .is_some_and(|session| session.incarnation == incarnation && session.sender.is_closed())
        {
            self.end_session(node);
        }
    }

    pub(super) fn hear(&mut self, node: NodeId, incarnation: Incarnation, message: FromWorker) {
        let is_current =
            self.sessions.get(&node).is_some_and(|open| open.incarnation == incarnation);
        if !is_current || message.incarnation != incarnation.0 {
            return tracing::warn!(%node, "a message of another life of the node was dropped");
        }
        let Some(kind) = message.kind else { return };
        if let Err(malformed) = self.try_hear(node, incarnation, kind) {
            tracing::warn!(%node, %malformed, "a message was dropped");
        }
    }

    fn try_hear(
        &mut self,
        node: NodeId,
        incarnation: Incarnation,
        said: Said,
    ) -> Result<(), proto::Malformed> {
        let now = self.now();
        match said {
            Said::Heartbeat(heartbeat) => {
                let counters = heartbeat.counters.map(control::counters).transpose()?;
                if let Some(counters) = counters.filter(|_| self.cluster.pipeline().is_ready()) {
                    let assignment = self.cluster.pipeline().assignment();
                    let heard = Heard { incarnation, at: now, counters };
                    self.spent.hear(assignment, node, heard);
                    self.hear_tempo(node, heard);
                }
                let done = done(&counters.unwrap_or_default(), heartbeat.loading);
                self.cluster.handle_done(now, node, done);
                self.hear_links(node, &heartbeat.links)?;
                if let Some(session) = self.sessions.get_mut(&node) {
                    session.heartbeat = heartbeat;
                    session.check_timing(now);
                }
            }
            Said::Profiled(profiled) => match profiled.problem {
                None => {
                    if let Some(session) = self.sessions.get_mut(&node) {
                        (session.problem, session.asked_at) = (None, None);
                    }
                    self.cluster.handle_probed(node, control::probe(&profiled)?);
                    self.measure(node, control::speed(&profiled));
                }
                Some(problem) => self.profile_again(node, incarnation, problem),
            },
            Said::StageReady(ready) => self.cluster.handle_ready(now, node, ready.assignment),
            Said::StageFailed(failed) => {
                tracing::warn!(%node, problem = %failed.problem, "a worker cannot hold its part");
                self.cluster.handle_not_ready(now, node, failed.assignment, failed.problem);
            }
            Said::Opened(opened) => {
                let fence = control::fence(opened.fence)?;
                match opened.problem {
                    None => self.cluster.handle_opened(now, node, fence),
                    Some(problem) => self.fail(node, fence, &problem),
                }
            }
            Said::Closed(closed) => {
                self.cluster.handle_closed(now, node, control::fence(closed.fence)?);
            }
            Said::JobFailed(failed) => {
                self.fail(node, control::fence(failed.fence)?, &failed.problem)
            }
            Said::Leaving(leaving) => {
                tracing::info!(%node, reason = %leaving.reason, "a worker leaves");
                self.sessions.remove(&node);
                self.end_showings_of(node);
                self.cluster.handle_left(now, node, incarnation);
            }
            Said::LinkFailed(failed) => self.relay(node, control::node(&failed.peer)?),
            Said::LinkMeasured(measured) => {
                let peer = control::node(&measured.peer)?;
                if let Some(problem) = &measured.problem {
                    tracing::warn!(%node, %peer, %problem, "a link was not measured");
                }
                let is_measured = measured.problem.is_none() && 0.0 < measured.bytes_per_second;
                let link = is_measured.then_some(Link {
                    bytes_per_second: measured.bytes_per_second,
                    latency_seconds: measured.latency_seconds.max(0.0),
                });
                self.measured((node, peer), link);
            }
            Said::Hello(_) => {}
        }
        Ok(())
    }

    fn fail(&mut self, node: NodeId, fence: Fence, problem: &str) {
        if self.end_showing(fence.job, problem) {
            return;
        }
        let now = self.now();
        let name = self.nodes.get(&node).map_or("a worker", |record| &record.name);
        self.cluster.handle_failed(now, fence, format!("{name}: {problem}"));
    }

    /// A worker could not be timed: why, and later once more.
    fn profile_again(&mut self, node: NodeId, incarnation: Incarnation, problem: String) {
        tracing::warn!(%node, %problem, "a worker cannot be measured");
        let Some(session) = self.sessions.get_mut(&node) else { return };
        (session.problem, session.asked_at) = (Some(problem), None);
        if std::mem::replace(&mut session.is_asked_again, true) {
            return;
        }
        let handle = self.handle.clone();
        tokio::spawn(async move {
            tokio::time::sleep(PROFILE_AGAIN_AFTER).await;
            let again = handle.ask(move |core| {
                let open = core.sessions.get_mut(&node);
                if let Some(open) = open.filter(|open| open.incarnation == incarnation) {
                    open.is_asked_again = false;
                    core.profile(node);
                }
            });
            again.await
        });
    }

    /// Nothing waits for those any more that are gone for good.
    fn forget_hops(&self) {
        let alive = self.cluster.members().filter(|(_, member)| member.presence != Presence::Gone);
        let alive: BTreeSet<NodeId> = alive.map(|(node, _)| node).collect();
        self.switchboard.retain(|node| alive.contains(&node));
    }

    /// Two workers that are here cannot reach each other: their messages go by this
    /// node, as long as both live.
    fn relay(&mut self, one: NodeId, other: NodeId) {
        if !self.sessions.contains_key(&one) || !self.sessions.contains_key(&other) {
            return;
        }
        // A hop that was only measured may end on one side before the other knows.
        if !self.are_neighbours(one, other) && self.survey.partner(one) != Some(other) {
            return;
        }
        self.relayed.insert((one.min(other), one.max(other)));
        tracing::warn!(%one, %other, "two workers cannot reach each other: messages go by here");
        for (node, peer) in [(one, other), (other, one)] {
            let peer = Some(self.peer(node, peer, false));
            self.tell(node, wire::to_worker::Kind::Connect(wire::Connect { peer }));
        }
    }

    /// How `node` reaches `peer`. `is_first` if it stands before it, and dials if
    /// both could.
    pub(super) fn peer(&self, node: NodeId, peer: NodeId, is_first: bool) -> wire::Peer {
        let addresses = |node| {
            let session: Option<&Session> = self.sessions.get(&node);
            session.map_or(&[][..], |session| &session.addresses)
        };
        let (own, theirs) = (addresses(node), addresses(peer));
        let is_relayed = self.relayed.contains(&(node.min(peer), node.max(peer)));
        let way = match (is_relayed, own.is_empty(), theirs.is_empty()) {
            (true, _, _) | (_, true, true) => wire::peer::Way::Relay,
            (_, true, false) => wire::peer::Way::Dial,
            (_, false, true) => wire::peer::Way::Accept,
            (_, false, false) if is_first => wire::peer::Way::Dial,
            (_, false, false) => wire::peer::Way::Accept,
        };
        let addresses = match way {
            wire::peer::Way::Dial => theirs.to_vec(),
            wire::peer::Way::Accept | wire::peer::Way::Relay | wire::peer::Way::Unspecified => {
                Vec::new()
            }
        };
        wire::Peer { node: control::node_bytes(peer), way: way.into(), addresses }
    }
}

impl Session {
    /// It was asked for its times.
    pub(super) fn ask_for_times(&mut self, now: Duration) {
        self.asked_at.get_or_insert(now);
    }

    /// A worker that hangs while it times itself is not waited for any more.
    fn check_timing(&mut self, now: Duration) {
        let is_late = |asked| TIMED_WITHIN <= now.saturating_sub(asked);
        if self.problem.is_none() && self.asked_at.is_some_and(is_late) {
            let problem = "it has not said how fast it is: look what its process is at, and start \
                           it again";
            self.problem = Some(problem.to_owned());
        }
    }
}

/// Whether a member is here, in a word.
pub(crate) fn presence(member: &Member) -> &'static str {
    match (member.presence, &member.excluded) {
        (Presence::Gone, _) => "gone",
        (Presence::Lost(_), _) => "suspected",
        (Presence::Here, _) if member.is_draining => "draining",
        (Presence::Here, Some(_)) => "failed",
        (Presence::Here, None) if member.speed.is_none() => "measuring",
        (Presence::Here, None) => "ready",
    }
}

/// A number that grows as a worker's device, or what it is loaded with, does something.
fn done(counters: &Counters, loading: u64) -> u64 {
    let milliseconds =
        |seconds: f64| Duration::try_from_secs_f64(seconds).map_or(0, |d| d.as_millis());
    let other = milliseconds(counters.decode_seconds) + milliseconds(counters.text_seconds);
    let other = u64::try_from(other).unwrap_or(u64::MAX);
    counters.runs.saturating_add(other).saturating_add(loading)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_a_worker_does_counts_as_done() {
        let idle = Counters { wait_seconds: 9.0, ..Counters::default() };
        let each = [
            done(&Counters { runs: 1, ..idle }, 0),
            done(&Counters { decode_seconds: 0.5, ..idle }, 0),
            done(&Counters { text_seconds: 0.5, ..idle }, 0),
            done(&idle, 1),
        ];

        assert_eq!(done(&idle, 0), 0);
        assert!(each.iter().all(|&done| 0 < done), "{each:?}");
        assert_eq!(done(&Counters { runs: 7, ..idle }, u64::MAX), u64::MAX);
    }
}
