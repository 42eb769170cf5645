//! What can be done now: a pipeline placed, jobs begun, chunks decoded, jobs closed.

use std::time::Duration;

use types::{Fence, JobId, NodeId};

use super::{Cluster, Command, Job, JobSpec, Outcome};
use crate::placement::Work;

impl Cluster {
    /// Does whatever can be done now.
    pub(super) fn advance(&mut self, now: Duration) {
        self.plan(now);
        self.admit();
        self.decode();
        self.mark(now);
        if self.members.forget_gone(now) {
            self.done.retain(|&node, _| self.members.get(node).is_some());
        }
    }

    fn plan(&mut self, now: Duration) {
        if self.pipeline.due(self.policy.settle).is_some_and(|due| due <= now) {
            self.pipeline.consider(&self.policy, &mut self.members);
        }
        let is_busy = self.placed_jobs_now().any(Job::is_on_pipeline);
        if is_busy || !self.pipeline.adopt() {
            return;
        }
        let holders = self.members.iter().filter(|(_, member)| member.may_hold);
        for node in holders.map(|(node, _)| node).collect::<Vec<_>>() {
            self.release(node);
        }
        for node in self.pipeline.waiting().collect::<Vec<_>>() {
            self.assign(node);
        }
    }

    /// Begins the jobs that there is room for.
    fn admit(&mut self) {
        // A better pipeline waits until this one is empty.
        if !self.pipeline.is_ready() || self.pipeline.is_changing() {
            return;
        }
        while self.placed.len() < self.policy.jobs_max.get() as usize {
            let users: Vec<_> = self.placed_jobs_now().map(|job| job.spec.user).collect();
            let Some(id) = self.queue.next(&users) else { return };
            let Some(job) = self.jobs.get(&id) else { return };
            let works = self.placed_jobs_now().chain([job]).map(|job| &job.spec.work);
            let works: Vec<&Work> = works.collect();
            let (fits, is_alone) = (self.pipeline.fits(&works), works.len() == 1);
            match (fits, is_alone) {
                (true, _) => self.place(id),
                (false, true) => self.end(id, Outcome::Failed(NO_ROOM.to_owned())),
                (false, false) => return,
            }
        }
    }

    fn place(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let fence = job.place(id);
        self.queue.begin(id);
        self.placed.insert(id);
        self.commands.push_back(Command::Place { fence });
        self.commands.push_back(Command::Changed { job: id });
    }

    /// Keeps the decoder fed.
    fn decode(&mut self) {
        let Some(decoder) = self.pipeline.ready_decoder() else { return };
        for &id in &self.placed {
            let Some(job) = self.jobs.get_mut(&id) else { continue };
            let fence = job.fence(id);
            while let Some(chunk) = job.poll_decode(decoder, self.policy.decoding_max) {
                self.commands.push_back(Command::Decode { node: decoder, fence, chunk });
            }
        }
    }

    /// Ends a job: out of the queue at once, else when every stage has closed it.
    pub(super) fn end(&mut self, id: JobId, outcome: Outcome) {
        let Some(job) = self.jobs.get_mut(&id).filter(|job| job.ending.is_none()) else { return };
        (job.ending, job.is_again) = (Some(outcome), false);
        self.queue.remove(id);
        self.commands.push_back(Command::Changed { job: id });
        self.close(id);
    }

    /// Closes a job wherever it is open.
    pub(super) fn close(&mut self, id: JobId) {
        let (stages, decoder) = (self.pipeline.live_stages(), self.pipeline.live_decoder());
        let Some(job) = self.jobs.get_mut(&id) else { return };
        let fence = job.fence(id);
        for node in job.begin_to_close(&stages, decoder) {
            self.tell(node, Command::Close { node, fence });
        }
        self.settle(id);
    }

    /// Back into the queue, once it is closed, before what came later.
    pub(super) fn make_again(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if self.policy.attempts_max <= job.attempts {
            let attempts = job.attempts;
            let problem = format!(
                "workers were lost, or did nothing, in {attempts} attempts in a row to make more \
                 of this video: look at the cluster's state, and ask again"
            );
            return self.end(id, Outcome::Failed(problem));
        }
        job.is_again = true;
        self.commands.push_back(Command::Changed { job: id });
        self.close(id);
    }

    /// Takes a job's place back if nothing is held of it any more.
    pub(super) fn settle(&mut self, id: JobId) {
        let Some(job) = self.jobs.get_mut(&id) else { return };
        if job.holds_place() || !self.placed.remove(&id) {
            return;
        }
        self.commands.push_back(Command::Changed { job: id });
        if job.is_again {
            job.is_again = false;
            let JobSpec { priority, user, .. } = job.spec;
            self.queue.push_again(id, priority, user);
        } else if job.is_forgotten {
            self.jobs.remove(&id);
        }
    }

    pub(super) fn assign(&mut self, node: NodeId) {
        let assignment = self.pipeline.assignment();
        let Some(duty) = self.pipeline.duty(node).cloned() else { return };
        if self.tell(node, Command::Assign { node, assignment, duty })
            && let Some(member) = self.members.get_mut(node)
        {
            member.may_hold = true;
        }
    }

    /// Releases a member that may hold what nothing asks for. While there is no
    /// pipeline only those that drain are: the next one may ask for the same.
    pub(super) fn release(&mut self, node: NodeId) {
        let Some(member) = self.members.get(node) else { return };
        let is_asked_for = match self.pipeline.plan() {
            Some(_) => self.pipeline.duty(node).is_some(),
            None => !member.is_draining,
        };
        if member.may_hold
            && !is_asked_for
            && self.tell(node, Command::Release { node })
            && let Some(member) = self.members.get_mut(node)
        {
            member.may_hold = false;
        }
    }

    /// Gives a command to a member that is here. Gives whether it is.
    pub(super) fn tell(&mut self, node: NodeId, command: Command) -> bool {
        let is_here = self.members.is_here(node);
        if is_here {
            self.commands.push_back(command);
        }
        is_here
    }

    pub(super) fn is_current(&self, fence: Fence) -> bool {
        self.jobs.get(&fence.job).is_some_and(|job| job.epoch == fence.epoch)
    }

    /// The identities of jobs that have a place.
    pub(super) fn placed_jobs(&self) -> Vec<JobId> {
        self.placed.iter().copied().collect()
    }

    fn placed_jobs_now(&self) -> impl Iterator<Item = &Job> {
        self.placed.iter().filter_map(|id| self.jobs.get(id))
    }
}

pub(super) const NO_ROOM: &str = "the workers have no memory for pictures of this size: ask for smaller \
                       ones, or add workers";
