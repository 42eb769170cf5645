//! What goes wrong.

use std::ops::Range;

use super::*;

/// What goes wrong: how often in a thousand draws, one every ten milliseconds.
#[derive(Clone, Copy, Debug)]
pub(in super::super) struct Faults {
    pub(in super::super) session: u64,
    pub(in super::super) crash: u64,
    pub(in super::super) stage: u64,
    /// A device that does nothing any more; its session stays.
    pub(in super::super) hang: u64,
    pub(in super::super) drain: u64,
    pub(in super::super) coordinator: u64,
    /// In a thousand loads.
    pub(in super::super) load: u64,
    /// In a thousand chunks.
    pub(in super::super) job: u64,
    /// In a thousand jobs.
    pub(in super::super) cancel: u64,
}

/// Machines from here on do not come back when their process ends.
const LASTING: NodeId = NodeId(4);

impl World {
    pub(super) fn fault(&mut self) {
        self.after(10..11, Event::Fault);
        if !self.is_stormy() {
            return self.help();
        }
        let node = NodeId(self.random.below(self.setting.workers.into()).into());
        let Faults { session, crash, stage, hang, drain, coordinator, .. } = self.setting.faults;
        if self.random.hits(session) {
            self.break_session(node, 1..500);
        }
        if self.random.hits(crash) {
            self.crash(node);
        }
        if self.random.hits(stage) {
            self.fail_stage(node);
        }
        if self.random.hits(hang)
            && let Some(fake) = self.workers.get_mut(&node)
        {
            fake.is_hung = true;
        }
        if self.random.hits(drain) {
            self.cluster.drain(self.now, node);
        }
        if self.random.hits(coordinator) {
            self.restart_coordinator();
        }
    }

    /// People start again what has ended, and what the cluster says is stuck.
    fn help(&mut self) {
        let stuck = self.workers.iter().filter(|&(&node, fake)| fake.is_hung && self.is_told(node));
        for node in stuck.map(|(&node, _)| node).collect::<Vec<_>>() {
            self.crash(node);
        }
        let lasting = self.workers.range(..LASTING).map(|(&node, _)| node);
        for node in lasting.collect::<Vec<_>>() {
            self.after(0..50, Event::Start(node));
        }
    }

    /// Whether people see that a member does nothing: nobody waits for it then.
    fn is_told(&self, node: NodeId) -> bool {
        self.cluster.members.get(node).is_some_and(|member| {
            member.excluded.is_some() || member.speed.is_none() || member.is_draining
        })
    }

    /// A session breaks; the worker opens another one after some time.
    pub(super) fn break_session(&mut self, node: NodeId, away: Range<u64>) {
        let Some(fake) = self.workers.get_mut(&node) else { return };
        let boot = fake.boot;
        if let Some(session) = fake.session.take() {
            self.after(1..100, Event::Detected(node, session));
            self.after(away, Event::Connect(node, boot));
        }
    }

    /// A process ends with all it held, and another begins, if its machine lasts.
    pub(super) fn crash(&mut self, node: NodeId) {
        let Some(fake) = self.workers.get_mut(&node).filter(|fake| fake.is_alive) else { return };
        fake.is_alive = false;
        fake.stages.clear();
        fake.decoding.clear();
        if let Some(session) = fake.session.take() {
            self.after(1..100, Event::Detected(node, session));
        }
        if node < LASTING {
            self.after(20..800, Event::Start(node));
        }
    }

    fn fail_stage(&mut self, node: NodeId) {
        let Some(fake) = self.workers.get_mut(&node).filter(|fake| fake.is_ready) else { return };
        let assignment = fake.assignment;
        fake.fail();
        if let Some(session) = fake.session {
            self.say(node, session, Answer::NotReady(assignment));
        }
    }

    fn restart_coordinator(&mut self) {
        self.reign += 1;
        self.placed.clear();
        self.attempts.clear();
        self.excused.clear();
        self.cluster = Cluster::new(policy(self.setting));
        for (&node, &(incarnation, boot)) in &self.store.lives {
            self.cluster.restore_member(node, incarnation, boot);
        }
        for (&job, spec) in &self.store.specs {
            if self.store.ended.contains_key(&job) {
                continue;
            }
            let count = |counts: &BTreeMap<JobId, u32>| counts.get(&job).copied().unwrap_or(0);
            let epoch = self.store.epochs.get(&job).copied().unwrap_or(Epoch(0));
            let (committed, published) = (count(&self.store.log), count(&self.store.video));
            let progress = Progress { epoch, committed, published };
            self.cluster.restore(job, spec.clone(), progress);
            if self.cluster.job(job).unwrap().outcome().is_some() {
                self.store.ended.insert(job, Outcome::Completed);
            }
        }
        for &job in &self.store.cancelled {
            self.cluster.handle_cancelled(self.now, job);
        }
        for node in self.workers.keys().copied().collect::<Vec<_>>() {
            let fake = self.workers.get_mut(&node).unwrap();
            fake.session = None;
            let boot = fake.boot;
            self.after(1..300, Event::Connect(node, boot));
        }
    }
}
