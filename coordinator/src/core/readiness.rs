//! Whether a video that is asked for now would be made, and why not.

use std::time::Duration;

use api::Refusal;
use plan::cluster::{Member, Presence};
use types::NodeId;

use super::Core;

/// Names shown of workers that drain.
const NAMES_SHOWN_MAX: usize = 4;
/// How long a coordinator that has just begun takes videos for workers that are not here:
/// those of the life before come back by themselves. Chosen: twice what that takes.
pub(super) const EXPECTED_WITHIN: Duration = Duration::from_secs(10);

impl Core {
    /// Why a video that is asked for now would not be made, if so.
    pub(crate) fn problem(&self) -> Option<String> {
        if let Some(unplaced) = self.unplaced() {
            return Some(unplaced);
        }
        let pipeline = self.cluster.pipeline();
        if pipeline.plan().is_none() {
            return Some("no worker has joined yet, or none is measured yet".to_owned());
        }
        if let Some(draining) = self.draining() {
            return Some(draining);
        }
        if !pipeline.is_ready() {
            return Some("workers are loading the model".to_owned());
        }
        match self.probe.as_ref().map(|probe| &probe.outcome) {
            Some(Some(Ok(()))) => None,
            Some(Some(Err(problem))) => {
                Some(format!("the first chunk of these workers failed: {problem}"))
            }
            Some(None) | None => {
                Some("a first chunk is being made to see that all is well".to_owned())
            }
        }
    }

    /// Whether the workers that are here could make a video, as far as that is known:
    /// not while one of them is away for a moment, or not measured yet.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooFewWorkers`] with what is missing.
    pub(super) fn staffed(&self) -> Result<(), Refusal> {
        let pipeline = self.cluster.pipeline();
        if pipeline.plan().is_some() || self.now() < EXPECTED_WITHIN {
            return Ok(());
        }
        let refused = |problem: &str| {
            let message = format!(
                "{problem}; nothing more is taken until then, and videos that were asked for \
                 before wait"
            );
            Err(Refusal::TooFewWorkers { message })
        };
        let members = self.cluster.members();
        let mut here = members.filter(|(_, member)| member.presence != Presence::Gone).peekable();
        if here.peek().is_none() {
            return refused("no worker is here: start one with `filmloom worker`");
        }
        let is_settled =
            pipeline.is_settled() && here.all(|(node, member)| self.is_known(node, member));
        match self.unplaced().filter(|_| is_settled) {
            Some(problem) => refused(&problem),
            None => Ok(()),
        }
    }

    /// Whether a member is here, and what it can do is known.
    fn is_known(&self, node: NodeId, member: &Member) -> bool {
        let is_hopeless = self.session(node).is_some_and(|session| session.problem.is_some());
        let is_judged = member.speed.is_some() || member.excluded.is_some() || is_hopeless;
        member.presence == Presence::Here && is_judged
    }

    /// Why nothing can be placed, if so: what the planner says, and of whom it does not.
    fn unplaced(&self) -> Option<String> {
        let pipeline = self.cluster.pipeline();
        let members = self.cluster.members();
        let left = members.filter(|(_, member)| member.presence != Presence::Gone);
        let missed: Vec<_> = left.filter_map(|(node, member)| self.missed(node, member)).collect();
        let nobody = || "no worker can be planned with".to_owned();
        let none = pipeline.plan().is_none() && !missed.is_empty();
        let planned = pipeline.problem().map(str::to_owned);
        let problem = planned.or_else(|| none.then(nobody))?;
        let problem = missed.into_iter().fold(problem, |text, why| text + "; " + &why);
        let drained = self.drained().map(|names| format!("; {names} drained"));
        Some(problem + &drained.unwrap_or_default())
    }

    /// Why a worker is not planned with, if there is something wrong with it.
    fn missed(&self, node: NodeId, member: &Member) -> Option<String> {
        let name = &member.offer.name;
        let excluded = member.excluded.as_ref().map(|why| format!("{name} is left out: {why}"));
        let untimed = || {
            let why = self.session(node)?.problem.as_ref()?;
            Some(format!("{name} cannot be measured: {why}"))
        };
        excluded.or_else(untimed)
    }

    /// Why videos wait for workers that drain, if they do.
    fn draining(&self) -> Option<String> {
        let duties = self.cluster.pipeline().duties().map(|(node, _)| node);
        let holders: Vec<_> = duties.collect();
        let names = names(self.cluster.members().filter(|(node, member)| {
            member.is_draining && member.presence != Presence::Gone && holders.contains(node)
        }));
        names.map(|names| {
            format!(
                "{names} drains: other videos wait until those that are open on it are finished"
            )
        })
    }

    /// Who has drained and is missed.
    fn drained(&self) -> Option<String> {
        names(self.cluster.members().filter(|(_, member)| member.is_draining))
    }
}

fn names<'a>(members: impl Iterator<Item = (NodeId, &'a Member)>) -> Option<String> {
    let names: Vec<_> = members.map(|(_, member)| member.offer.name.as_str()).collect();
    let shown = names[..names.len().min(NAMES_SHOWN_MAX)].join(", ");
    match names.len().saturating_sub(NAMES_SHOWN_MAX) {
        _ if names.is_empty() => None,
        0 => Some(shown),
        more => Some(format!("{shown} and {more} more")),
    }
}
