//! Jobs that nothing happens to: a member is here and does not do its part.
//!
//! ```text
//!  encoding, opening, closing, only decoding ─▶ whoever is waited for is stuck
//!  running                                   ─▶ made again: who does not close it is stuck
//!  placing, no pictures to come              ─▶ nobody's fault: wait on
//! ```
//!
//! Nothing happens to a job if it stays where it is, and the devices that are at it do
//! nothing. It is left alone for [`Policy::patience`], and for [`TIMES`] times as long as
//! all placed jobs take for a chunk and this one for its first, at their sizes. A member
//! that is stuck is left out for the rest of its life, as one whose device has failed:
//! that it still has a session shows only that its process has not ended.
//!
//! [`Policy::patience`]: super::Policy::patience

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use types::{JobId, NodeId};

use super::{Cluster, Job, Stages, job::Mark};

/// How many times as long as planned a step may take. Chosen: a machine that also does
/// something else is slower, hardly ever that much.
const TIMES: f64 = 10.0;

/// What the devices of pipelines' members have done: numbers that grow as they do
/// something.
pub(super) type Done = BTreeMap<NodeId, u64>;

/// How far placed jobs were when something happened to them last, and when that was.
#[derive(Clone, Debug, Default)]
pub(super) struct Stalls(BTreeMap<JobId, (Mark, Duration)>);

impl Cluster {
    /// A member's device has done so much in this life.
    pub fn handle_done(&mut self, now: Duration, node: NodeId, done: u64) {
        let is_held = self.pipeline.duty(node).is_some();
        if is_held && self.done.insert(node, done) != Some(done) {
            self.mark(now);
        }
    }

    /// Ends what waits for a member that is stuck.
    pub(super) fn end_stalls(&mut self, now: Duration) {
        self.mark(now);
        let ends = self.stall_ends().filter(|&(_, end)| end <= now);
        for id in ends.map(|(id, _)| id).collect::<Vec<_>>() {
            self.stalls.0.remove(&id);
            self.end_stall(now, id);
        }
        self.mark(now);
    }

    /// When a job will have waited for too long.
    pub(super) fn next_stall(&self) -> Option<Duration> {
        self.stall_ends().map(|(_, end)| end).min()
    }

    fn stall_ends(&self) -> impl Iterator<Item = (JobId, Duration)> {
        let seen = self.stalls.0.iter();
        seen.map(|(&id, (_, since))| (id, since.saturating_add(self.patience(id))))
    }

    /// Notes which placed jobs something has happened to.
    pub(super) fn mark(&mut self, now: Duration) {
        self.stalls.0.retain(|id, _| self.placed.contains(id));
        for id in &self.placed {
            let Some(job) = self.jobs.get(id) else { continue };
            let at_it = self.at_it(job);
            let mark = job.mark(at_it.iter().filter_map(|node| self.done.get(node)).sum());
            let seen = self.stalls.0.entry(*id).or_insert((mark, now));
            if seen.0 != mark {
                *seen = (mark, now);
            }
        }
    }

    fn patience(&self, id: JobId) -> Duration {
        let times = |id: &JobId| self.jobs.get(id).map_or(1.0, |job| job.spec.times.max(1.0));
        let planned = self.pipeline.plan().map_or(0.0, |plan| {
            let prediction = &plan.prediction;
            let turns: f64 = self.placed.iter().map(times).sum();
            times(&id) * prediction.first_chunk_seconds + turns * prediction.seconds_per_chunk
        });
        let planned = Duration::try_from_secs_f64(TIMES * planned).unwrap_or(Duration::MAX);
        planned.max(self.policy.patience)
    }

    fn end_stall(&mut self, now: Duration, id: JobId) {
        let Some(job) = self.jobs.get(&id) else { return };
        let stuck = match &job.stages {
            Stages::Running => return self.make_again(id),
            Stages::Idle => job.awaited_decoder().into_iter().collect(),
            Stages::Placing
            | Stages::Encoding
            | Stages::Opening { .. }
            | Stages::Closing { .. } => self.at_it(job),
        };
        // Who is away has a grace of its own.
        for node in stuck {
            if self.members.is_here(node) {
                self.members.stick(node, STUCK.to_owned());
                self.lose(now, node);
            }
        }
    }

    /// Members that a job waits for.
    fn at_it(&self, job: &Job) -> BTreeSet<NodeId> {
        let stages = self.pipeline.stages();
        match &job.stages {
            Stages::Placing => BTreeSet::new(),
            Stages::Encoding => self.pipeline.text().into_iter().collect(),
            Stages::Opening { waiting } if waiting.is_empty() => {
                stages.first().copied().into_iter().collect()
            }
            Stages::Opening { waiting } | Stages::Closing { waiting } => waiting.clone(),
            Stages::Running => stages.iter().copied().collect(),
            Stages::Idle => job.decoder().into_iter().collect(),
        }
    }
}

const STUCK: &str = "it has done nothing for too long: look what its process is at, and start it \
                     again";
