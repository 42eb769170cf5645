//! What a cluster does: who is here, what stands where, which job runs.
//!
//! A [`Cluster`] takes what happens (`handle_*`, with the time since some start)
//! and gives back what is to be done ([`Cluster::poll_command`]). It opens no
//! socket and reads no clock, so that a thousand workers and ten thousand jobs
//! are a test.
//!
//! ```text
//!  session ─▶ member ─▶ profiled ┐
//!  session ─▶ member ─▶ profiled ┼─▶ pipeline: plan ─▶ assign ─▶ all ready
//!  session ─▶ member ─▶ profiled ┘                                  │
//!                                                                   ▼
//!  created ─▶ queued ─▶ placing ─▶ encoding ─▶ opening ─▶ running ─▶ closing ─▶ ended
//!               ▲                                            │
//!               └──────── a member is lost: again, ──────────┘
//!                          in a higher epoch
//! ```
//!
//! - [`members`]: identities, lives, what each offers and how fast it is.
//! - [`pipeline`]: which members hold what, until another plan is better.
//! - [`job`]: one job from the queue to its end.
//! - [`queue`]: which job is next.
//! - [`command`]: what is asked of the shell around.
//! - [`forecast`]: what a plan would be for other jobs, with the members of now.
//!
//! What members and jobs report is taken in `member_events` and `job_events`; both
//! end in `advance`, which does whatever can be done then.
//!
//! A job that loses a stage is made again from its first chunk: the same noise gives
//! the same bits, so chunks that are in the log already are only compared. Decoding
//! follows the log and not the stages: one that loses its decoder is made on, and
//! decoded from its first chunk when there is another.
//!
//! A coordinator that begins again is told what the one before it had written down
//! ([`Cluster::restore_member`], [`Cluster::restore`]). Jobs that were not through
//! are made again in a higher epoch; what members still hold of the lower one is
//! closed when they say so ([`Cluster::handle_held`]).
//!
//! Invariants:
//!
//! - At most one life of a node is here, and only members that are here get commands.
//! - A job is open under one epoch, which grows with every placement.
//! - A stage is opened before a message for it can come: the lead is opened last.
//! - At most `jobs_max` jobs are placed. A place is free again only when every
//!   member that lives has confirmed that it closed the job.
//! - A pipeline changes only when no job is on it.
//! - An event costs time by the jobs that are placed and the members of the
//!   pipeline, not by the jobs that wait; but for one that plans, which comes at most
//!   once in the time that members take to settle (`bench_cluster` measures both).
//!
//! - No job waits for ever for a member that is here, nor does a pipeline (`stalls`).
//!
//! Limits: `queue_max` jobs wait, and those that are made again. Commands are to be
//! drained after every event. Jobs that ended are listed until they are forgotten, and
//! members that are gone for a time ([`members::GONE_LISTED`]).

mod advance;
mod candidates;
mod classes;
pub mod command;
mod faults;
pub mod forecast;
pub mod job;
mod job_events;
mod line;
mod member_events;
pub mod members;
pub mod pipeline;
mod planned;
pub mod queue;
mod stalls;

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    num::NonZeroU32,
    time::Duration,
};

use types::{Incarnation, JobId, NodeId};

pub use classes::ProbeDigest;
pub use command::Command;
pub use forecast::{Forecast, NoForecast, Question, Snapshot};
pub use job::{Job, JobSpec, Outcome, Progress, Stages};
pub use line::{Line, Standing};
pub use members::{Boot, Member, Offer, Presence, SessionRefused};
pub use pipeline::{Duty, Pipeline};
pub use queue::QueueFull;

use crate::placement::{Link, Work};

/// What a cluster is run with.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The model's work, at its own size of pictures: pipelines are planned for it.
    pub work: Work,
    /// Jobs that may be placed at once.
    pub jobs_max: NonZeroU32,
    /// Jobs that may wait.
    pub queue_max: usize,
    /// How long members must stay as they are before a pipeline is planned.
    pub settle: Duration,
    /// How long a lost member may take to come back.
    pub grace: Duration,
    /// How long nothing may happen to a placed job, at least, and to a member that loads.
    pub patience: Duration,
    /// Placements of a job in a row that bring no chunk that it had never had, before
    /// it counts as the cause of its failures.
    pub attempts_max: u32,
    /// Chunks of a job that may be at the decoder at once.
    pub decoding_max: u32,
    /// The number of the last pipeline that a coordinator before this one can have
    /// had: a worker tells pipelines by their numbers.
    pub assignments_before: u64,
    /// The link assumed between two members until theirs is measured.
    pub assumed_link: Link,
}

/// A cluster's state.
#[derive(Debug)]
pub struct Cluster {
    policy: Policy,
    members: members::Members,
    pipeline: Pipeline,
    jobs: BTreeMap<JobId, Job>,
    /// Jobs that have a place: from the queue until nothing is held of them.
    placed: BTreeSet<JobId>,
    queue: queue::Queue,
    commands: VecDeque<Command>,
    stalls: stalls::Stalls,
    done: stalls::Done,
}

impl Cluster {
    /// Nobody is here.
    pub fn new(policy: Policy) -> Self {
        Self {
            members: members::Members::default(),
            pipeline: Pipeline::after(policy.assignments_before),
            policy,
            jobs: BTreeMap::new(),
            placed: BTreeSet::new(),
            queue: queue::Queue::default(),
            commands: VecDeque::new(),
            stalls: stalls::Stalls::default(),
            done: stalls::Done::new(),
        }
    }

    /// A member that a coordinator before this one knew in this life.
    pub fn restore_member(&mut self, node: NodeId, incarnation: Incarnation, boot: Boot) {
        self.members.restore(node, incarnation, boot);
    }

    /// A job that a coordinator before this one had, in the order in which they came.
    /// What was not all in the log is made again from its first chunk, in an epoch
    /// above the one it had; else only its pictures are.
    pub fn restore(&mut self, job: JobId, spec: JobSpec, progress: Progress) {
        let (priority, user) = (spec.priority, spec.user);
        let restored = Job::restored(spec, progress);
        if restored.holds_place() {
            self.placed.insert(job);
        } else if restored.outcome().is_none() {
            match progress.epoch.0 {
                0 => self.queue.push(job, priority, user),
                _ => self.queue.push_again(job, priority, user),
            }
        }
        self.jobs.insert(job, restored);
    }

    /// Time has passed.
    pub fn handle_timeout(&mut self, now: Duration) {
        for node in self.members.end_lost(now, self.policy.grace) {
            self.lose(now, node);
        }
        self.end_stalls(now);
        self.advance(now);
    }

    /// What is to be done next.
    pub fn poll_command(&mut self) -> Option<Command> {
        self.commands.pop_front()
    }

    /// When time itself is the next event.
    pub fn poll_timeout(&self) -> Option<Duration> {
        let lost = self.members.next_end(self.policy.grace);
        let plan = self.pipeline.due(self.policy.settle);
        let forgotten = self.members.next_forgotten();
        [lost, plan, forgotten, self.next_stall()].into_iter().flatten().min()
    }

    /// What it is run with.
    pub fn policy(&self) -> &Policy {
        &self.policy
    }

    /// Who is here, or was and is not forgotten yet.
    pub fn members(&self) -> impl Iterator<Item = (NodeId, &Member)> {
        self.members.iter()
    }

    /// One of them.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.get(node)
    }

    /// What stands where.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// A job.
    pub fn job(&self, job: JobId) -> Option<&Job> {
        self.jobs.get(&job)
    }

    /// Jobs that wait, the next one first.
    pub fn queue(&self) -> impl Iterator<Item = JobId> {
        self.queue.in_order()
    }

    /// Jobs that wait.
    pub fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Jobs that have a place, of which there are [`Policy::jobs_max`].
    pub fn placed(&self) -> usize {
        self.placed.len()
    }

    /// Jobs that are to be closed before this member may go; none if it has no duty.
    pub fn jobs_on(&self, node: NodeId) -> Vec<JobId> {
        if self.pipeline.duty(node).is_none() {
            return Vec::new();
        }
        let is_open = |id: &JobId| self.jobs.get(id).is_some_and(Job::is_on_pipeline);
        self.placed.iter().copied().filter(is_open).collect()
    }

    /// Whether a job has a place: until no member holds anything of it.
    pub fn is_placed(&self, job: JobId) -> bool {
        self.placed.contains(&job)
    }
}

#[cfg(test)]
mod tests;
