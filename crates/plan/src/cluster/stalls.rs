//! Jobs that nothing happens to: a member is here and does not do its part.
//!
//! ```text
//!  encoding, opening, closing, only decoding ─▶ whoever is waited for is stuck
//!  running                                   ─▶ made again: who does not close it is stuck
//!  placing, no decoder                       ─▶ nobody's fault: wait on
//! ```
//!
//! A job is left alone for [`Policy::patience`], and for [`TIMES`] times as long as the
//! plan says that all placed jobs take for a chunk and this one for its first. A member
//! that is stuck is left out for the rest of its life, as one whose device has failed:
//! that it still has a session shows only that its process has not ended.
//!
//! [`Policy::patience`]: super::Policy::patience

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use types::{JobId, NodeId};

use super::{Cluster, Stages, job::Mark};

/// How many times as long as planned a step may take. Chosen: a machine that also does
/// something else is slower, hardly ever that much.
const TIMES: f64 = 10.0;

/// How far placed jobs were when something happened to them last, and when that was.
#[derive(Clone, Debug, Default)]
pub(super) struct Stalls(BTreeMap<JobId, (Mark, Duration)>);

impl Cluster {
    /// Ends what waits for a member that is stuck.
    pub(super) fn end_stalls(&mut self, now: Duration) {
        self.mark(now);
        let patience = self.patience();
        let stalled = |&(_, since): &(Mark, Duration)| since.saturating_add(patience) <= now;
        let stalled = self.stalls.0.iter().filter(|(_, seen)| stalled(seen));
        for id in stalled.map(|(&id, _)| id).collect::<Vec<_>>() {
            self.stalls.0.remove(&id);
            self.end_stall(now, id);
        }
        self.mark(now);
    }

    /// When a job will have waited for too long.
    pub(super) fn next_stall(&self) -> Option<Duration> {
        let patience = self.patience();
        self.stalls.0.values().map(|(_, since)| since.saturating_add(patience)).min()
    }

    /// Notes which placed jobs something has happened to.
    pub(super) fn mark(&mut self, now: Duration) {
        self.stalls.0.retain(|id, _| self.placed.contains(id));
        for id in &self.placed {
            let Some(mark) = self.jobs.get(id).map(|job| job.mark()) else { continue };
            let seen = self.stalls.0.entry(*id).or_insert((mark, now));
            if seen.0 != mark {
                *seen = (mark, now);
            }
        }
    }

    fn patience(&self) -> Duration {
        let planned = self.pipeline.plan().map_or(0.0, |plan| {
            let prediction = &plan.prediction;
            prediction.first_chunk_seconds + self.placed.len() as f64 * prediction.seconds_per_chunk
        });
        let planned = Duration::try_from_secs_f64(TIMES * planned).unwrap_or(Duration::MAX);
        planned.max(self.policy.patience)
    }

    fn end_stall(&mut self, now: Duration, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let lead = self.pipeline.stages().first().copied();
        let stuck: BTreeSet<NodeId> = match &job.stages {
            Stages::Placing => return,
            Stages::Running => return self.make_again(id),
            Stages::Encoding => self.pipeline.text().into_iter().collect(),
            Stages::Opening { waiting } if waiting.is_empty() => lead.into_iter().collect(),
            Stages::Opening { waiting } | Stages::Closing { waiting } => waiting.clone(),
            Stages::Idle => job.decoder().into_iter().collect(),
        };
        // Who is away has a grace of its own.
        for node in stuck {
            if self.members.is_here(node) {
                self.members.stick(node, STUCK.to_owned());
                self.lose(now, node);
            }
        }
    }
}

const STUCK: &str = "it has done nothing for too long: look what its process is at, and start it \
                     again";
