//! What members report: sessions, speeds, what they hold.

use std::time::Duration;

use types::{Fence, Incarnation, JobId, NodeId};

use super::{Boot, Cluster, Command, Offer, ProbeDigest, SessionRefused, Stages};
use crate::placement::{Link, Speed};

impl Cluster {
    /// A member opens its session. What it missed while it had none is said again.
    /// What it holds is to be told at once, by [`Self::handle_held`].
    ///
    /// # Errors
    ///
    /// [`SessionRefused`] if another process with its identity is here.
    pub fn handle_session(
        &mut self,
        now: Duration,
        node: NodeId,
        boot: Boot,
        offer: Offer,
    ) -> Result<Incarnation, SessionRefused> {
        let entered = self.members.enter(node, boot, offer)?;
        if entered.is_same_life {
            self.pipeline.find(node);
            self.pipeline.members_changed(now);
            self.resume(node);
        } else {
            // What another life of it held is gone.
            self.lose(now, node);
            self.tell(node, Command::Profile { node });
        }
        self.advance(now);
        Ok(entered.incarnation)
    }

    /// All jobs that a member held something of when it opened its session. What is not
    /// current is closed; a job that should be there and is not is made again.
    pub fn handle_held(&mut self, now: Duration, node: NodeId, held: &[Fence]) {
        let stages = self.pipeline.live_stages();
        for &fence in held {
            let job = self.jobs.get(&fence.job).filter(|job| job.epoch == fence.epoch);
            if !job.is_some_and(|job| job.may_be_held(node, &stages)) {
                self.tell(node, Command::Close { node, fence });
            }
        }
        for id in self.placed_jobs() {
            let Some(job) = self.jobs.get(&id) else { continue };
            if job.must_be_held(node, &stages) && !held.contains(&job.fence(id)) {
                self.make_again(id);
            }
        }
        self.advance(now);
    }

    /// A member's session broke, and it has no other one. It may come back.
    pub fn handle_lost(&mut self, now: Duration, node: NodeId, incarnation: Incarnation) {
        if self.members.lose(now, node, incarnation) {
            self.pipeline.miss(node);
            if self.pipeline.counts_on(node) {
                self.pipeline.members_changed(now);
            }
        }
        self.advance(now);
    }

    /// A member leaves for good, or what it held is gone.
    pub fn handle_left(&mut self, now: Duration, node: NodeId, incarnation: Incarnation) {
        if self.members.leave(now, node, incarnation) {
            self.lose(now, node);
            self.advance(now);
        }
    }

    /// A member is to leave: it takes part in no other pipeline. When no job is open
    /// on it any more it is released, and may go.
    pub fn drain(&mut self, now: Duration, node: NodeId) {
        if !self.members.drain(node) {
            return;
        }
        if self.pipeline.duty(node).is_some() {
            self.pipeline.end();
        }
        self.pipeline.members_changed(now);
        self.release(node);
        self.advance(now);
    }

    /// A member was asked to show what it computes: what its layers gave. Its speed
    /// comes next.
    pub fn handle_probed(&mut self, node: NodeId, probe: Option<ProbeDigest>) {
        self.members.prove(node, probe);
    }

    /// A member's speed is known.
    pub fn handle_profiled(&mut self, now: Duration, node: NodeId, speed: Speed) {
        if self.members.profile(node, speed) {
            self.pipeline.members_changed(now);
        }
        self.advance(now);
    }

    /// A link between two members was measured. It counts from the next plan on; if
    /// both hold something, that is considered again. What cannot be measured is not
    /// taken.
    pub fn handle_link(&mut self, now: Duration, from: NodeId, to: NodeId, link: Link) {
        let Link { bytes_per_second, latency_seconds } = link;
        let is_timed = latency_seconds.is_finite() && 0.0 <= latency_seconds;
        if is_timed && bytes_per_second.is_finite() && 0.0 < bytes_per_second {
            self.members.link(from, to, link);
            if self.pipeline.duty(from).is_some() && self.pipeline.duty(to).is_some() {
                self.pipeline.members_changed(now);
            }
        }
    }

    /// A member holds what it was assigned.
    pub fn handle_ready(&mut self, now: Duration, node: NodeId, assignment: u64) {
        self.pipeline.ready(node, assignment);
        self.advance(now);
    }

    /// A member cannot hold what it was assigned, or not any more; nor does it hold
    /// anything of any job then. It is left out until it opens another session.
    pub fn handle_not_ready(
        &mut self,
        now: Duration,
        node: NodeId,
        assignment: u64,
        problem: String,
    ) {
        if self.pipeline.assignment() == assignment && self.pipeline.duty(node).is_some() {
            self.members.exclude(node, problem);
            self.lose(now, node);
            self.advance(now);
        }
    }

    /// A member is gone with all it held: jobs that cannot go on without it are made
    /// again.
    pub(super) fn lose(&mut self, now: Duration, node: NodeId) {
        if self.pipeline.counts_on(node) {
            self.pipeline.members_changed(now);
        }
        let duty = self.pipeline.duty(node).cloned().unwrap_or_default();
        self.pipeline.lose(node);
        for id in self.placed_jobs() {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            job.lose(node);
            let lacks_stage = duty.layers.is_some() && job.needs_stages();
            let lacks_text = duty.text && job.needs_text();
            if lacks_stage || lacks_text {
                self.make_again(id);
            }
            self.settle(id);
        }
    }

    /// Says again what a member has not answered.
    fn resume(&mut self, node: NodeId) {
        if self.members.get(node).is_some_and(|member| member.speed.is_none()) {
            self.tell(node, Command::Profile { node });
        }
        self.release(node);
        if self.pipeline.waiting().any(|waiting| waiting == node) {
            self.assign(node);
        }
        for id in self.placed_jobs() {
            self.resume_job(node, id);
        }
    }

    fn resume_job(&mut self, node: NodeId, id: JobId) {
        let lead = self.pipeline.stages().first().copied();
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.decoder() == Some(node) {
            job.decode_again();
        }
        let fence = job.fence(id);
        match &job.stages {
            Stages::Encoding if self.pipeline.text() == Some(node) => {
                self.tell(node, Command::Encode { node, fence });
            }
            Stages::Opening { waiting } => {
                let is_lead_due = waiting.is_empty() && lead == Some(node);
                if is_lead_due || waiting.contains(&node) {
                    self.open(node, fence);
                }
            }
            Stages::Closing { waiting } if waiting.contains(&node) => {
                self.tell(node, Command::Close { node, fence });
            }
            Stages::Idle
            | Stages::Placing
            | Stages::Encoding
            | Stages::Running
            | Stages::Closing { .. } => {}
        }
    }
}
