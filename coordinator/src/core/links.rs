//! Links between workers, measured one after the other: two at once would slow
//! each other.
//!
//! A worker that was timed is planned with once its links to the others are known.
//! In a large cluster pairs are too many; then links are assumed. Those that carry
//! something show how fast they are at work, which counts from then on.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use plan::{
    cluster::Presence,
    placement::{Link, Speed},
};
use proto::{
    Malformed,
    control::{
        self,
        wire::{self, to_worker::Kind as Asked},
    },
};
use types::NodeId;

use super::Core;

/// Members up to which every pair is measured.
const MEMBERS_MAX: usize = 16;
/// What a worker may take to measure a link.
const MEASURE_TIMEOUT: Duration = Duration::from_secs(20);

/// How much faster or slower than what is known a link must be to be news: what links
/// carry varies.
const NEWS_TIMES: f64 = 1.25;
/// Attempts to measure a pair; then its link is assumed.
const ATTEMPTS_MAX: u32 = 3;

/// What is to be measured.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Pairs that wait, in order.
    waiting: VecDeque<(NodeId, NodeId)>,
    /// The pair that is being measured, and until when.
    current: Option<((NodeId, NodeId), Duration)>,
    /// How often pairs could not be measured, in a row.
    failed: BTreeMap<(NodeId, NodeId), u32>,
    /// Workers that were timed, whose pairs wait.
    timed: Vec<(NodeId, Speed)>,
}

impl Survey {
    /// When the current pair has taken too long.
    pub(super) fn due(&self) -> Option<Duration> {
        self.current.map(|(_, until)| until)
    }

    /// Whom this worker is being measured with.
    pub(super) fn partner(&self, node: NodeId) -> Option<NodeId> {
        let ((from, to), _) = self.current?;
        match (from == node, to == node) {
            (true, _) => Some(to),
            (_, true) => Some(from),
            (false, false) => None,
        }
    }

    /// Whether it is this worker that measures.
    pub(super) fn is_measuring(&self, node: NodeId) -> bool {
        self.current.is_some_and(|((from, _), _)| from == node)
    }

    /// A pair could not be measured: another assignment may have come in between.
    fn fail(&mut self, pair: (NodeId, NodeId)) {
        let failed = self.failed.entry(pair).or_default();
        *failed += 1;
        if *failed < ATTEMPTS_MAX {
            self.waiting.push_back(pair);
        } else {
            self.failed.remove(&pair);
        }
    }
}

impl Core {
    /// A worker was timed: its links are next.
    pub(super) fn measure(&mut self, node: NodeId, speed: Speed) {
        let members = self.cluster.members();
        let here = members.filter(|(_, member)| member.presence == Presence::Here);
        let others: Vec<_> = here.map(|(other, _)| other).filter(|&other| other != node).collect();
        let timed: Vec<_> = self.survey.timed.iter().map(|&(other, _)| other).collect();
        let is_known = |other: &NodeId| timed.contains(other) || self.is_timed(*other);
        if others.len() < MEMBERS_MAX {
            let pairs = others
                .into_iter()
                .filter(is_known)
                .flat_map(|other| [(node, other), (other, node)]);
            let pairs: Vec<_> = pairs.collect();
            let waiting = &mut self.survey.waiting;
            for pair in pairs {
                if !waiting.contains(&pair) {
                    waiting.push_back(pair);
                }
            }
        }
        self.survey.timed.retain(|&(other, _)| other != node);
        self.survey.timed.push((node, speed));
        self.survey_next();
    }

    /// A pair was measured, or cannot be.
    pub(super) fn measured(&mut self, pair: (NodeId, NodeId), link: Option<Link>) {
        // Only what was asked for: a worker may say anything.
        if self.survey.current.is_none_or(|(current, _)| current != pair) {
            return;
        }
        match link.filter(|link| link.bytes_per_second.is_finite()) {
            Some(link) => {
                self.know_link(pair, link);
                self.survey.failed.remove(&pair);
            }
            None => self.survey.fail(pair),
        }
        self.survey.current = None;
        self.survey_next();
    }

    /// What a worker's traffic shows of its links to its neighbours.
    pub(super) fn hear_links(
        &mut self,
        node: NodeId,
        links: &[wire::LinkSeen],
    ) -> Result<(), Malformed> {
        for seen in links {
            let peer = control::node(&seen.peer)?;
            let is_measured = self.survey.partner(node) == Some(peer);
            if is_measured || !self.are_neighbours(node, peer) {
                continue;
            }
            let assumed = self.cluster.policy().assumed_link;
            let known = self.links.get(&(node, peer)).copied().unwrap_or(assumed);
            let bytes_per_second = seen.bytes_per_second;
            let times = bytes_per_second / known.bytes_per_second;
            if !times.is_finite() || (NEWS_TIMES.recip()..=NEWS_TIMES).contains(&times) {
                continue;
            }
            // Where no round trip was seen it is within the speed.
            let latency_seconds = seen.latency_seconds.unwrap_or(0.0);
            self.know_link((node, peer), Link { bytes_per_second, latency_seconds });
        }
        Ok(())
    }

    fn know_link(&mut self, (from, to): (NodeId, NodeId), link: Link) {
        let now = self.now();
        self.cluster.handle_link(now, from, to, link);
        self.links.insert((from, to), link);
    }

    /// The current pair may have taken too long.
    pub(super) fn survey_timeout(&mut self) {
        let now = self.now();
        if let Some((pair, due)) = self.survey.current
            && due <= now
        {
            self.survey.fail(pair);
            self.survey.current = None;
            self.survey_next();
        }
    }

    fn is_timed(&self, node: NodeId) -> bool {
        self.cluster.member(node).is_some_and(|member| member.speed.is_some())
    }

    /// Goes on with the next pair; plans with those whose pairs are all known.
    fn survey_next(&mut self) {
        while self.survey.current.is_none() {
            let Some(pair) = self.survey.waiting.pop_front() else { break };
            let (node, peer) = pair;
            if self.session(node).is_none() || self.session(peer).is_none() {
                continue;
            }
            self.survey.current = Some((pair, self.now() + MEASURE_TIMEOUT));
            let (to_peer, to_node) = (self.peer(node, peer, true), self.peer(peer, node, false));
            self.tell(peer, Asked::Connect(wire::Connect { peer: Some(to_node) }));
            self.tell(node, Asked::MeasureLink(wire::MeasureLink { peer: Some(to_peer) }));
        }
        let pairs: Vec<_> = self
            .survey
            .waiting
            .iter()
            .copied()
            .chain(self.survey.current.map(|(pair, _)| pair))
            .collect();
        let waits = |node: NodeId| pairs.iter().any(|&(one, other)| one == node || other == node);
        let (waiting, known): (Vec<_>, Vec<_>) =
            self.survey.timed.drain(..).partition(|&(node, _)| waits(node));
        self.survey.timed = waiting;
        let now = self.now();
        for (node, speed) in known {
            self.cluster.handle_profiled(now, node, speed);
        }
    }
}
