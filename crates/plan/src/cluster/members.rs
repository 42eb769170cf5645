//! Who is here: identities, lives, what each offers and how fast it is.
//!
//! A node keeps its identity over restarts; each start of its process is a *life*,
//! told apart by what the process drew when it began. A member whose session broke
//! is *lost*; it may come back in the same life, until its grace ends.
//!
//! ```text
//!           session broke             grace ends, or it leaves
//!    here ─────────────────▶ lost ─────────────────────────────▶ gone
//!      ▲                      │                                    │
//!      └──── the same life ───┘◀─────── a later life, or anew ─────┘
//! ```
//!
//! Who is gone is listed for [`GONE_LISTED`] longer, so that it can be seen who was
//! lost, and [`GONE_MAX`] of them at most, the latest. Then no more than the number of
//! its last life is kept: as many as ever joined.
//!
//! Invariant: at most one life of a node is here, and its number only grows.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use types::{Class, Incarnation, NodeId};

use super::classes::{ProbeDigest, tell_apart};
use crate::placement::{Limits, Link, Links, Speed, Worker};

/// How long a member is listed that is gone.
pub const GONE_LISTED: Duration = Duration::from_secs(3600);
/// Members that are gone and listed, at most.
pub const GONE_MAX: usize = 64;

/// Drawn when a process begins: tells a reconnection from a restart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Boot(pub u128);

/// What a member says of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Offer {
    /// Its name, for people.
    pub name: String,
    /// The numeric class that it computes in.
    pub class: Class,
    /// Bytes it may use.
    pub memory_bytes: u64,
    /// What its owner allows.
    pub limits: Limits,
    /// Whether it holds layers.
    pub layers: bool,
    /// Whether it encodes text.
    pub text: bool,
    /// Whether it decodes.
    pub decoder: bool,
}

/// A member.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The number of its life.
    pub incarnation: Incarnation,
    /// What it offers.
    pub offer: Offer,
    /// Whether it is here.
    pub presence: Presence,
    /// What it was measured to take, in this life.
    pub speed: Option<Speed>,
    /// What its timed layers gave, in this life.
    pub probe: Option<ProbeDigest>,
    /// Why nothing is given to it: until it opens another session, or in this life.
    pub excluded: Option<String>,
    /// Whether it is left out for the rest of its life.
    is_stuck: bool,
    /// Whether it is about to leave: nothing more is given to it.
    pub is_draining: bool,
    /// Whether it may hold what no duty of it asks for.
    pub(super) may_hold: bool,
    boot: Boot,
}

/// Whether a member is here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// Its session is open.
    Here,
    /// Its session broke then; it may come back.
    Lost(Duration),
    /// It left, or was lost for too long.
    Gone,
}

/// A session is not opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "another process with the identity of node {node} is here: stop it, or give this one a data \
     folder of its own"
)]
pub struct SessionRefused {
    /// The node.
    pub node: NodeId,
}

/// A session is opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entered {
    /// The life's number.
    pub(super) incarnation: Incarnation,
    /// Whether it was lost or here, and still has what it had.
    pub(super) is_same_life: bool,
}

/// All members, and the links between them.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Members {
    members: BTreeMap<NodeId, Member>,
    /// Those that are lost, in the order in which their grace ends.
    lost: BTreeSet<(Duration, NodeId)>,
    /// Those that are gone and listed, since when, the longest first.
    gone: VecDeque<(Duration, NodeId)>,
    /// Last lives of those that are not listed any more, or not yet.
    lives: BTreeMap<NodeId, (Incarnation, Boot)>,
    /// By who sends, then who receives; none of members that are gone.
    links: BTreeMap<NodeId, BTreeMap<NodeId, Link>>,
}

impl Members {
    pub(super) fn iter(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter().map(|(&node, member)| (node, member))
    }

    pub(super) fn get(&self, node: NodeId) -> Option<&Member> {
        self.members.get(&node)
    }

    pub(super) fn get_mut(&mut self, node: NodeId) -> Option<&mut Member> {
        self.members.get_mut(&node)
    }

    pub(super) fn is_here(&self, node: NodeId) -> bool {
        self.members.get(&node).is_some_and(|member| member.presence == Presence::Here)
    }

    /// A life that a coordinator before this one knew.
    pub(super) fn restore(&mut self, node: NodeId, incarnation: Incarnation, boot: Boot) {
        self.lives.insert(node, (incarnation, boot));
    }

    /// A process opens a session.
    pub(super) fn enter(
        &mut self,
        node: NodeId,
        boot: Boot,
        offer: Offer,
    ) -> Result<Entered, SessionRefused> {
        if let Some(member) = self.members.get_mut(&node) {
            if member.boot == boot && member.presence != Presence::Gone {
                // What it was told may not have reached it.
                (member.offer, member.may_hold) = (offer, true);
                member.excluded = member.excluded.take().filter(|_| member.is_stuck);
                let incarnation = member.incarnation;
                self.set_presence(node, Presence::Here);
                return Ok(Entered { incarnation, is_same_life: true });
            }
            if member.presence == Presence::Here {
                return Err(SessionRefused { node });
            }
        }
        let incarnation = self.begin_life(node, boot, offer);
        Ok(Entered { incarnation, is_same_life: false })
    }

    /// Gives whether it was here.
    pub(super) fn lose(&mut self, now: Duration, node: NodeId, incarnation: Incarnation) -> bool {
        let was_here = self
            .get(node)
            .is_some_and(|m| m.presence == Presence::Here && m.incarnation == incarnation);
        if was_here {
            self.set_presence(node, Presence::Lost(now));
        }
        was_here
    }

    /// Gives whether it was here, or could have come back.
    pub(super) fn leave(&mut self, now: Duration, node: NodeId, incarnation: Incarnation) -> bool {
        let was_here = self
            .get(node)
            .is_some_and(|m| m.presence != Presence::Gone && m.incarnation == incarnation);
        if was_here {
            self.go(now, node);
        }
        was_here
    }

    /// Gives those that were lost for too long, which are gone from here on.
    pub(super) fn end_lost(&mut self, now: Duration, grace: Duration) -> Vec<NodeId> {
        let ends = self.lost.iter().take_while(|(since, _)| since.saturating_add(grace) <= now);
        let gone: Vec<_> = ends.map(|&(_, node)| node).collect();
        for &node in &gone {
            self.go(now, node);
        }
        gone
    }

    /// When the next of them is.
    pub(super) fn next_end(&self, grace: Duration) -> Option<Duration> {
        self.lost.first().map(|(since, _)| since.saturating_add(grace))
    }

    /// No longer lists those that have been gone for too long, or are too many. The
    /// numbers of their lives are kept. Gives whether there were any.
    pub(super) fn forget_gone(&mut self, now: Duration) -> bool {
        let listed = self.gone.len();
        while self.next_forgotten().is_some_and(|due| due <= now) || GONE_MAX < self.gone.len() {
            let Some((_, node)) = self.gone.pop_front() else { break };
            if let Some(Member { incarnation, boot, .. }) = self.members.remove(&node) {
                self.lives.insert(node, (incarnation, boot));
            }
        }
        self.gone.len() < listed
    }

    /// When the next of them is.
    pub(super) fn next_forgotten(&self) -> Option<Duration> {
        self.gone.front().map(|(since, _)| since.saturating_add(GONE_LISTED))
    }

    pub(super) fn prove(&mut self, node: NodeId, probe: Option<ProbeDigest>) {
        if let Some(member) = self.members.get_mut(&node) {
            member.probe = probe;
        }
    }

    /// Gives whether it is news.
    pub(super) fn profile(&mut self, node: NodeId, speed: Speed) -> bool {
        let member = self.members.get_mut(&node);
        let Some(member) = member.filter(|member| member.presence != Presence::Gone) else {
            return false;
        };
        let is_news = member.speed != Some(speed);
        member.speed = Some(speed);
        is_news
    }

    pub(super) fn link(&mut self, from: NodeId, to: NodeId, link: Link) {
        let is_known = |node| self.get(node).is_some_and(|m| m.presence != Presence::Gone);
        if is_known(from) && is_known(to) {
            self.links.entry(from).or_default().insert(to, link);
        }
    }

    pub(super) fn exclude(&mut self, node: NodeId, problem: String) {
        if let Some(member) = self.members.get_mut(&node) {
            member.excluded = Some(problem);
        }
    }

    /// Leaves a member out for the rest of its life.
    pub(super) fn stick(&mut self, node: NodeId, problem: String) {
        if let Some(member) = self.members.get_mut(&node) {
            (member.excluded, member.is_stuck) = (Some(problem), true);
        }
    }

    /// Gives whether that is news.
    pub(super) fn drain(&mut self, node: NodeId) -> bool {
        let member = self.members.get_mut(&node);
        let Some(member) = member.filter(|m| m.presence != Presence::Gone && !m.is_draining) else {
            return false;
        };
        (member.is_draining, member.may_hold) = (true, true);
        true
    }

    /// Those that a plan can count on, in the order of their identities.
    pub(super) fn able(&self) -> Vec<(NodeId, Worker)> {
        let able = self.members.iter().map(|(&node, member)| Some((node, member.worker()?)));
        let mut able = able.flatten().collect::<Vec<_>>();
        tell_apart(&mut able, |node| self.get(node)?.probe);
        able
    }

    /// A member as the planner sees it, if a plan can count on it.
    pub(super) fn worker(&self, node: NodeId) -> Option<Worker> {
        self.get(node)?.worker()
    }

    /// The links between members.
    pub(super) fn links(&self, nodes: &[NodeId], assumed: Link) -> Links {
        let measured = |from, to| self.links.get(&from)?.get(&to).copied();
        let link = |from: usize, to: usize| measured(nodes[from], nodes[to]).unwrap_or(assumed);
        Links::from_fn(nodes.len(), |from, to| Some(link(from, to)))
    }

    /// Whether the link from one member to another was measured.
    pub(super) fn has_link(&self, from: NodeId, to: NodeId) -> bool {
        self.links.get(&from).is_some_and(|links| links.contains_key(&to))
    }

    fn begin_life(&mut self, node: NodeId, boot: Boot, offer: Offer) -> Incarnation {
        let last = self.get(node).map(|member| (member.incarnation, member.boot));
        let last = last.or_else(|| self.lives.remove(&node));
        // It lived on while the coordinator did not, or while it was taken for gone.
        let lived_on = last.is_some_and(|(_, known)| known == boot);
        let incarnation = match last {
            Some((incarnation, _)) if lived_on => incarnation,
            Some((Incarnation(last), _)) => Incarnation(last + 1),
            None => Incarnation(1),
        };
        self.set_presence(node, Presence::Gone);
        self.gone.retain(|&(_, gone)| gone != node);
        let member = Member {
            incarnation,
            offer,
            presence: Presence::Here,
            speed: None,
            probe: None,
            excluded: None,
            is_stuck: false,
            is_draining: false,
            may_hold: lived_on,
            boot,
        };
        self.members.insert(node, member);
        incarnation
    }

    fn go(&mut self, now: Duration, node: NodeId) {
        self.set_presence(node, Presence::Gone);
        self.gone.push_back((now, node));
        self.links.remove(&node);
        for links in self.links.values_mut() {
            links.remove(&node);
        }
    }

    fn set_presence(&mut self, node: NodeId, presence: Presence) {
        let Some(member) = self.members.get_mut(&node) else { return };
        if let Presence::Lost(since) = member.presence {
            self.lost.remove(&(since, node));
        }
        member.presence = presence;
        if let Presence::Lost(since) = presence {
            self.lost.insert((since, node));
        }
    }
}

impl Member {
    /// The process that lives this life.
    pub fn boot(&self) -> Boot {
        self.boot
    }

    /// The member as the planner sees it, if a plan can count on it.
    fn worker(&self) -> Option<Worker> {
        let is_able =
            self.presence == Presence::Here && self.excluded.is_none() && !self.is_draining;
        let mut speed = self.speed.filter(|_| is_able)?;
        let Offer { name, class, memory_bytes, limits, layers, text, decoder } = &self.offer;
        let mut limits = limits.clone();
        if !layers {
            limits.layers_share_max = Some(0.0);
        }
        speed.decode_seconds = speed.decode_seconds.filter(|_| *decoder);
        speed.text_seconds = speed.text_seconds.filter(|_| *text);
        let (name, residual) = (name.clone(), class.residual());
        let (class, memory_bytes) = (class.name().to_owned(), *memory_bytes);
        Some(Worker { name, class, residual, speed, memory_bytes, limits })
    }
}
