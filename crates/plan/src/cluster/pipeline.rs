//! Which members hold what, until another plan is better.
//!
//! ```text
//!  something changed ─▶ settled ─▶ considered ─▶ stays as it is
//!                                      │
//!                                      └─▶ another is next: no more jobs here,
//!                                          it is placed when none is open
//! ```
//!
//! A pipeline that has all its members stays unless another is clearly better. One
//! that lost a member, or whose member cannot hold its duty or is to leave, is
//! *ending*: it takes no more jobs, and whatever can be planned takes its place.
//! While a member is only away, nothing is considered: it may come back.
//!
//! Invariant: what is placed changes only in `Pipeline::adopt`.

use std::{collections::BTreeSet, time::Duration};

use types::NodeId;

pub use super::planned::Duty;
use super::{
    Policy,
    faults::{faults, is_of_a_member},
    members::Members,
    planned::Planned,
};
use crate::placement::{Plan, Work};

/// The members' duties, and how far they are with them.
#[derive(Clone, Debug, Default)]
pub struct Pipeline {
    /// Grows with every set of duties, and with every life of the coordinator.
    assignment: u64,
    placed: Option<Placed>,
    /// What is to be placed when no job is open, or why nothing can be.
    next: Option<Result<Planned, String>>,
    /// Why nothing is placed.
    problem: Option<String>,
    changed: Option<Changed>,
}

#[derive(Clone, Debug)]
struct Placed {
    planned: Planned,
    /// Who is not ready.
    waiting: BTreeSet<NodeId>,
    /// Whose session is broken.
    away: BTreeSet<NodeId>,
    /// Whose life, in which it held something of this, is over.
    gone: BTreeSet<NodeId>,
    /// Whether it takes no more jobs.
    is_ending: bool,
}

/// When something happened that may ask for another plan, and has not led to one.
#[derive(Clone, Copy, Debug)]
struct Changed {
    first: Duration,
    last: Duration,
}

/// Members that never settle are planned for after so many times the time that they
/// should settle for. Chosen.
const SETTLES_MAX: u32 = 8;

impl Pipeline {
    /// Nothing is placed; numbers begin after this one.
    pub(super) fn after(assignment: u64) -> Self {
        Self { assignment, ..Self::default() }
    }

    /// Its number.
    pub fn assignment(&self) -> u64 {
        self.assignment
    }

    /// What was planned.
    pub fn plan(&self) -> Option<&Plan> {
        Some(&self.planned()?.plan)
    }

    /// The member that the plan's index means.
    pub fn node(&self, index: usize) -> Option<NodeId> {
        self.planned()?.nodes.get(index).copied()
    }

    /// Why nothing is placed, a sentence.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Whether what stands, or the problem, is all that can be said of the members of now.
    pub fn is_settled(&self) -> bool {
        self.changed.is_none() && self.next.is_none()
    }

    /// Whether every member of it is here and ready, and it takes jobs.
    pub fn is_ready(&self) -> bool {
        self.placed.as_ref().is_some_and(|placed| {
            placed.waiting.is_empty() && placed.away.is_empty() && !placed.is_ending
        })
    }

    /// Jobs that it has room for at once, of the model's own size.
    pub fn jobs(&self) -> u32 {
        self.planned().map_or(0, |planned| planned.jobs.get())
    }

    /// What every member of it holds.
    pub fn duties(&self) -> impl Iterator<Item = (NodeId, &Duty)> {
        let duties = self.planned().into_iter().flat_map(|planned| &planned.duties);
        duties.map(|(&node, duty)| (node, duty))
    }

    /// Holders of layers, the lead first.
    pub fn stages(&self) -> Vec<NodeId> {
        self.planned().into_iter().flat_map(Planned::stages).collect()
    }

    /// Who encodes text.
    pub fn text(&self) -> Option<NodeId> {
        self.node(self.plan()?.placement.text)
    }

    /// Who decodes.
    pub fn decoder(&self) -> Option<NodeId> {
        self.node(self.plan()?.placement.decoder)
    }

    /// What a member holds of it.
    pub(super) fn duty(&self, node: NodeId) -> Option<&Duty> {
        self.planned()?.duties.get(&node)
    }

    /// Holders of layers whose life is not over, the lead first.
    pub(super) fn live_stages(&self) -> Vec<NodeId> {
        let Some(placed) = &self.placed else { return Vec::new() };
        placed.planned.stages().filter(|node| !placed.gone.contains(node)).collect()
    }

    /// The decoder, if its life is not over.
    pub(super) fn live_decoder(&self) -> Option<NodeId> {
        let gone = &self.placed.as_ref()?.gone;
        self.decoder().filter(|node| !gone.contains(node))
    }

    /// The decoder, if it can be sent something.
    pub(super) fn ready_decoder(&self) -> Option<NodeId> {
        let Placed { waiting, away, .. } = self.placed.as_ref()?;
        self.live_decoder().filter(|node| !waiting.contains(node) && !away.contains(node))
    }

    /// Members that do not hold their duty yet.
    pub(super) fn waiting(&self) -> impl Iterator<Item = NodeId> {
        self.placed.iter().flat_map(|placed| &placed.waiting).copied()
    }

    /// Members that are here, as far as is known, and do not hold their duty yet, if
    /// jobs wait for that.
    pub(super) fn awaited(&self) -> impl Iterator<Item = NodeId> {
        let placed = self.placed.as_ref().filter(|placed| !placed.is_ending);
        placed.into_iter().flat_map(|placed| placed.waiting.difference(&placed.away)).copied()
    }

    /// Whether a member that is leaving changes what is placed, or what is next.
    pub(super) fn counts_on(&self, node: NodeId) -> bool {
        let next = self.next.iter().flatten().any(|next| next.duties.contains_key(&node));
        next || self.duty(node).is_some()
    }

    /// Whether jobs of these works fit beside each other.
    pub(super) fn fits(&self, works: &[&Work]) -> bool {
        self.planned().is_some_and(|planned| planned.fits(works))
    }

    /// Whether another one waits for this one to be empty.
    pub(super) fn is_changing(&self) -> bool {
        self.next.is_some()
    }

    /// When it is to be considered again.
    pub(super) fn due(&self, settle: Duration) -> Option<Duration> {
        let Changed { first, last } = self.changed?;
        let is_held_up =
            self.placed.as_ref().is_some_and(|placed| !placed.is_ending && !placed.away.is_empty());
        let latest = first.saturating_add(settle.saturating_mul(SETTLES_MAX));
        (!is_held_up).then(|| last.saturating_add(settle).min(latest))
    }

    pub(super) fn members_changed(&mut self, now: Duration) {
        let first = self.changed.map_or(now, |changed| changed.first);
        self.changed = Some(Changed { first, last: now });
    }

    /// It takes no more jobs.
    pub(super) fn end(&mut self) {
        if let Some(placed) = &mut self.placed {
            placed.is_ending = true;
        }
    }

    /// A member's life is over.
    pub(super) fn lose(&mut self, node: NodeId) {
        if let Some(placed) = self.placed_with(node) {
            placed.away.remove(&node);
            placed.waiting.remove(&node);
            placed.gone.insert(node);
            placed.is_ending = true;
        }
    }

    /// A member's session is broken.
    pub(super) fn miss(&mut self, node: NodeId) {
        if let Some(placed) = self.placed_with(node) {
            placed.away.insert(node);
        }
    }

    /// It is there again.
    pub(super) fn find(&mut self, node: NodeId) {
        if let Some(placed) = self.placed_with(node) {
            placed.away.remove(&node);
        }
    }

    pub(super) fn ready(&mut self, node: NodeId, assignment: u64) {
        if assignment == self.assignment
            && let Some(placed) = self.placed_with(node)
        {
            placed.waiting.remove(&node);
        }
    }

    /// Plans with the members that are here, and decides whether that is to be placed.
    /// Members that cannot take part in any plan are excluded.
    pub(super) fn consider(&mut self, policy: &Policy, members: &mut Members) {
        self.changed = None;
        let mut next = Planned::new(policy, members, members.able());
        if next.as_ref().is_err_and(is_of_a_member) {
            // Those that hold something have the better right to their layers.
            let mut able = members.able();
            able.sort_by_key(|&(node, _)| self.duty(node).is_none());
            for (node, problem) in faults(policy, able) {
                members.exclude(node, problem);
            }
            next = Planned::new(policy, members, members.able());
        }
        let next = next.map_err(|error| error.to_string());
        let standing = self.placed.as_mut().filter(|placed| !placed.is_ending);
        self.next = match (standing, next) {
            (Some(placed), Ok(next)) if placed.planned.duties == next.duties => {
                placed.planned = next;
                None
            }
            (Some(placed), Ok(next)) if !next.beats(&placed.planned, policy, members) => None,
            // One that came may ask for what cannot be; the others go on without it.
            (Some(placed), Err(_)) if placed.planned.can_stay(policy, members) => None,
            (_, next) => Some(next),
        };
    }

    /// Places what is next, while no job is open. Gives whether anything changed.
    pub(super) fn adopt(&mut self) -> bool {
        // What is next may count on a member that has left meanwhile.
        let Some(next) = self.next.take_if(|_| self.changed.is_none()) else { return false };
        self.problem = next.as_ref().err().cloned();
        self.placed = next.ok().map(|planned| Placed {
            waiting: planned.duties.keys().copied().collect(),
            away: BTreeSet::new(),
            gone: BTreeSet::new(),
            is_ending: false,
            planned,
        });
        self.assignment += u64::from(self.placed.is_some());
        true
    }

    fn planned(&self) -> Option<&Planned> {
        self.placed.as_ref().map(|placed| &placed.planned)
    }

    /// What is placed, if this member holds some of it in the life that it has.
    fn placed_with(&mut self, node: NodeId) -> Option<&mut Placed> {
        let is_of_it = |placed: &&mut Placed| {
            placed.planned.duties.contains_key(&node) && !placed.gone.contains(&node)
        };
        self.placed.as_mut().filter(is_of_it)
    }
}
