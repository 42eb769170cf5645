//! Whether a video that is asked for now would be made, and why not.

use plan::cluster::{Member, Presence};
use types::NodeId;

use super::Core;

/// Names shown of workers that drain.
const NAMES_SHOWN_MAX: usize = 4;

impl Core {
    /// Why a video that is asked for now would not be made, if so.
    pub(crate) fn problem(&self) -> Option<String> {
        let pipeline = self.cluster.pipeline();
        if let Some(problem) = pipeline.problem() {
            let members = self.cluster.members().map(|(_, member)| member);
            let excluded = members.filter_map(|member| {
                let why = member.excluded.as_ref()?;
                Some(format!("; {} is left out: {why}", member.offer.name))
            });
            let problem = excluded.fold(problem.to_owned(), |text, why| text + &why);
            let drained = self.drained().map(|names| format!("; {names} drained"));
            return Some(problem + &drained.unwrap_or_default());
        }
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
