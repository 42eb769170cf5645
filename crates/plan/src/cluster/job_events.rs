//! What is reported of jobs: from being asked for to being forgotten.

use std::time::Duration;

use types::{Fence, JobId, NodeId};

use super::{Cluster, Command, Job, JobSpec, Outcome, QueueFull, Stages};

impl Cluster {
    /// A job is to be made. One that there is already stays as it is.
    ///
    /// # Errors
    ///
    /// [`QueueFull`] with what is ahead.
    pub fn handle_created(
        &mut self,
        now: Duration,
        job: JobId,
        spec: JobSpec,
    ) -> Result<(), QueueFull> {
        if self.jobs.contains_key(&job) {
            return Ok(());
        }
        let waiting = self.queue.len();
        if self.policy.queue_max <= waiting {
            return Err(QueueFull { waiting });
        }
        let (priority, user) = (spec.priority, spec.user);
        let created = Job::new(spec);
        // A job of no chunks is complete as it is.
        if created.outcome().is_none() {
            self.queue.push(job, priority, user);
        }
        self.jobs.insert(job, created);
        self.commands.push_back(Command::Changed { job });
        self.advance(now);
        Ok(())
    }

    /// A job is to end. It has once [`Job::outcome`] says so: every stage has
    /// stopped then.
    pub fn handle_cancelled(&mut self, now: Duration, job: JobId) {
        self.end(job, Outcome::Cancelled);
        self.advance(now);
    }

    /// A job failed somewhere, of its own.
    pub fn handle_failed(&mut self, now: Duration, fence: Fence, problem: String) {
        if self.is_current(fence) {
            self.end(fence.job, Outcome::Failed(problem));
            self.advance(now);
        }
    }

    /// A job's placement is written down.
    pub fn handle_placed(&mut self, now: Duration, fence: Fence) {
        if let Some(node) = self.pipeline.text()
            && self.step(fence, &Stages::Placing, Stages::Encoding)
        {
            self.tell(node, Command::Encode { node, fence });
        }
        self.advance(now);
    }

    /// A job's prompts are encoded.
    pub fn handle_encoded(&mut self, now: Duration, fence: Fence) {
        let stages = self.pipeline.live_stages();
        if let Some((&lead, others)) = stages.split_first() {
            let opening = Stages::Opening { waiting: others.iter().copied().collect() };
            if self.step(fence, &Stages::Encoding, opening) {
                let first = if others.is_empty() { &[lead] } else { others };
                for &node in first {
                    self.open(node, fence);
                }
            }
        }
        self.advance(now);
    }

    /// A job is open on a stage.
    pub fn handle_opened(&mut self, now: Duration, node: NodeId, fence: Fence) {
        let lead = self.pipeline.stages().first().copied();
        if let Some(lead) = lead.filter(|_| self.is_current(fence))
            && let Some(job) = self.jobs.get_mut(&fence.job)
            && let Stages::Opening { waiting } = &mut job.stages
        {
            let was_waiting = waiting.remove(&node);
            match (waiting.is_empty(), node == lead) {
                (true, true) => {
                    job.stages = Stages::Running;
                    self.commands.push_back(Command::Changed { job: fence.job });
                }
                (true, false) if was_waiting => self.open(lead, fence),
                _ => {}
            }
        }
        self.advance(now);
    }

    /// A chunk is in the log.
    pub fn handle_committed(&mut self, now: Duration, fence: Fence, chunk: u32) {
        if !self.is_current(fence) {
            return;
        }
        let Some(job) = self.jobs.get_mut(&fence.job) else { return };
        let is_last = job.commit(chunk);
        self.commands.push_back(Command::Changed { job: fence.job });
        if is_last {
            self.close(fence.job);
        }
        self.advance(now);
    }

    /// A chunk's pictures came from the decoder, and are on their way into the video.
    pub fn handle_pictures(&mut self, now: Duration, fence: Fence, chunk: u32) {
        if self.is_current(fence) {
            self.jobs.entry(fence.job).and_modify(|job| job.arrive(chunk));
            self.advance(now);
        }
    }

    /// A chunk's pictures are in the video.
    pub fn handle_published(&mut self, now: Duration, job: JobId, chunk: u32) {
        let Some(found) = self.jobs.get_mut(&job) else { return };
        found.publish(chunk);
        let is_complete = found.is_complete();
        self.commands.push_back(Command::Changed { job });
        if is_complete {
            self.end(job, Outcome::Completed);
        }
        self.advance(now);
    }

    /// A member has closed a job.
    pub fn handle_closed(&mut self, now: Duration, node: NodeId, fence: Fence) {
        if let Some(job) = self.jobs.get_mut(&fence.job)
            && job.epoch == fence.epoch
        {
            job.closed(node);
            self.settle(fence.job);
        }
        self.advance(now);
    }

    /// Forgets a job that has ended, once nothing is held of it.
    pub fn forget(&mut self, job: JobId) {
        let Some(found) = self.jobs.get_mut(&job).filter(|job| job.outcome().is_some()) else {
            return;
        };
        found.is_forgotten = true;
        if !self.placed.contains(&job) {
            self.jobs.remove(&job);
        }
    }

    pub(super) fn open(&mut self, node: NodeId, fence: Fence) {
        let assignment = self.pipeline.assignment();
        self.tell(node, Command::Open { node, fence, assignment });
    }

    /// Moves a job's stages on, if they are where the event says.
    fn step(&mut self, fence: Fence, from: &Stages, to: Stages) -> bool {
        let job = self.jobs.get_mut(&fence.job);
        let job = job.filter(|job| job.epoch == fence.epoch && job.stages == *from);
        job.map(|job| job.stages = to).is_some()
    }
}
