//! What nothing happens to: a member is here and does not do its part.
//!
//! ```text
//!  loading                                   ─▶ whoever loads nothing is stuck
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
//! Loading takes as long as it takes: a member that is to hold its duty is left alone
//! for as long as it fetches and reads weights, and for [`Policy::patience`] after that.
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

/// What the pipelines' members have done, loading included: numbers that grow as they
/// do something.
pub(super) type Done = BTreeMap<NodeId, u64>;

/// How far placed jobs, and members that load, were when something happened to them
/// last, and when that was.
#[derive(Clone, Debug, Default)]
pub(super) struct Stalls {
    jobs: BTreeMap<JobId, (Mark, Duration)>,
    loading: BTreeMap<NodeId, (Loaded, Duration)>,
}

/// How far a member is with its duty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loaded {
    assignment: u64,
    done: Option<u64>,
}

impl Cluster {
    /// A member has done so much in this life: its device, and what loads it.
    pub fn handle_done(&mut self, now: Duration, node: NodeId, done: u64) {
        let is_held = self.pipeline.duty(node).is_some();
        if is_held && self.done.insert(node, done) != Some(done) {
            self.mark(now);
        }
    }

    /// Ends what waits for a member that is stuck.
    pub(super) fn end_stalls(&mut self, now: Duration) {
        self.mark(now);
        let ends = self.load_ends().filter(|&(_, end)| end <= now);
        for node in ends.map(|(node, _)| node).collect::<Vec<_>>() {
            self.stalls.loading.remove(&node);
            self.stick(now, node, LOADS_NOTHING);
        }
        let ends = self.job_ends().filter(|&(_, end)| end <= now);
        for id in ends.map(|(id, _)| id).collect::<Vec<_>>() {
            self.stalls.jobs.remove(&id);
            self.end_stall(now, id);
        }
        self.mark(now);
    }

    /// When a job, or a duty, will have been waited for too long.
    pub(super) fn next_stall(&self) -> Option<Duration> {
        let jobs = self.job_ends().map(|(_, end)| end);
        jobs.chain(self.load_ends().map(|(_, end)| end)).min()
    }

    fn job_ends(&self) -> impl Iterator<Item = (JobId, Duration)> {
        let seen = self.stalls.jobs.iter();
        seen.map(|(&id, (_, since))| (id, since.saturating_add(self.patience(id))))
    }

    fn load_ends(&self) -> impl Iterator<Item = (NodeId, Duration)> {
        let seen = self.stalls.loading.iter();
        seen.map(|(&node, (_, since))| (node, since.saturating_add(self.policy.patience)))
    }

    /// Notes what something has happened to.
    pub(super) fn mark(&mut self, now: Duration) {
        self.mark_loading(now);
        self.stalls.jobs.retain(|id, _| self.placed.contains(id));
        for id in &self.placed {
            let Some(job) = self.jobs.get(id) else { continue };
            let at_it = self.at_it(job);
            let mark = job.mark(at_it.iter().filter_map(|node| self.done.get(node)).sum());
            let seen = self.stalls.jobs.entry(*id).or_insert((mark, now));
            if seen.0 != mark {
                *seen = (mark, now);
            }
        }
    }

    fn mark_loading(&mut self, now: Duration) {
        let before = std::mem::take(&mut self.stalls.loading);
        let assignment = self.pipeline.assignment();
        for node in self.pipeline.awaited() {
            let loaded = Loaded { assignment, done: self.done.get(&node).copied() };
            let is_same = |seen: &&(Loaded, Duration)| seen.0 == loaded;
            let seen = before.get(&node).filter(is_same).copied().unwrap_or((loaded, now));
            self.stalls.loading.insert(node, seen);
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
        for node in stuck {
            self.stick(now, node, STUCK);
        }
    }

    /// Leaves a member out. Who is away has a grace of its own.
    fn stick(&mut self, now: Duration, node: NodeId, problem: &str) {
        if self.members.is_here(node) {
            self.members.stick(node, problem.to_owned());
            self.lose(now, node);
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

const LOADS_NOTHING: &str = "it was to load its part and has fetched and read nothing for too \
                             long: look what its process is at, and start it again";
const STUCK: &str = "it has done nothing for too long: look what its process is at, and start it \
                     again";
