//! What workers do with their commands.

use std::collections::{BTreeMap, BTreeSet};

use super::*;

/// A worker's process.
pub(super) struct Fake {
    pub(super) boot: Boot,
    pub(super) is_alive: bool,
    /// Whether its device does nothing any more.
    pub(super) is_hung: bool,
    pub(super) session: Option<u64>,
    pub(super) assignment: u64,
    /// Whether it holds what it was assigned.
    pub(super) is_ready: bool,
    /// An assignment that failed, until somebody has heard of it.
    pub(super) failed: Option<u64>,
    pub(super) stages: BTreeMap<JobId, Epoch>,
    /// The next chunk of every job that it decodes.
    pub(super) decoding: BTreeMap<JobId, (Epoch, u32)>,
    /// Until when it is busy with commands.
    pub(super) busy: Duration,
}

impl World {
    pub(super) fn send(&mut self, command: Command) {
        let node = command.node().unwrap();
        let member = self.cluster.members.get(node).unwrap();
        assert_eq!(member.presence, Presence::Here, "only who is here is told: {command:?}");
        if let &Command::Open { node, fence, .. } = &command {
            self.check_opening(node, fence);
        }
        let Some(fake) = self.workers.get_mut(&node) else { return };
        let Some(session) = fake.session else { return };
        let work = match command {
            Command::Profile { .. } => 5..20,
            Command::Assign { .. } => 20..80,
            Command::Decode { .. } | Command::Encode { .. } => 3..15,
            Command::Open { .. } | Command::Close { .. } | Command::Release { .. } => 1..6,
            Command::Place { .. } | Command::Changed { .. } => unreachable!("not for a member"),
        };
        let took = self.random.between(work);
        let fake = self.workers.get_mut(&node).unwrap();
        fake.busy = fake.busy.max(self.now) + took;
        let done = fake.busy;
        self.at(done, Event::Done(node, session, command));
    }

    /// A worker has done what it was told.
    pub(super) fn done(&mut self, node: NodeId, session: u64, command: Command) {
        let fails = self.is_stormy() && self.random.hits(self.setting.faults.load);
        let Some(fake) = self.workers.get_mut(&node) else { return };
        if fake.session != Some(session) || fake.is_hung {
            return;
        }
        let answer = match command {
            Command::Profile { .. } => {
                let layer_seconds = 0.01 + node.0 as f64 * 1e-3;
                Some(Answer::Profiled(Speed { layer_seconds, ..speed() }))
            }
            Command::Assign { assignment, .. } => {
                fake.let_go(assignment, |fence| self.excused.contains(&(node, fence)));
                Some(fake.load(assignment, fails))
            }
            Command::Release { .. } => {
                fake.let_go(0, |fence| self.excused.contains(&(node, fence)));
                let member = self.cluster.members.get(node).unwrap();
                member.is_draining.then_some(Answer::Left(member.incarnation))
            }
            Command::Encode { fence, .. } => fake.is_ready.then_some(Answer::Encoded(fence)),
            Command::Open { fence, assignment, .. } => self.open(node, fence, assignment),
            Command::Close { fence, .. } => {
                fake.close(fence);
                Some(Answer::Closed(fence))
            }
            Command::Decode { fence, chunk, .. } => fake.decode(fence, chunk),
            Command::Place { .. } | Command::Changed { .. } => unreachable!("not for a member"),
        };
        if let Some(answer) = answer {
            self.say(node, session, answer);
        }
    }

    fn open(&mut self, node: NodeId, fence: Fence, assignment: u64) -> Option<Answer> {
        let is_lead = self.cluster.pipeline().stages().first() == Some(&node);
        let fake = self.workers.get_mut(&node).unwrap();
        if !fake.is_ready || fake.assignment != assignment {
            return Some(Answer::NotReady(assignment));
        }
        let before = fake.stages.insert(fence.job, fence.epoch);
        assert!(before.is_none_or(|epoch| epoch == fence.epoch), "one epoch is open per stage");
        assert!(fake.stages.len() <= JOBS_MAX as usize, "no more jobs are open than may be");
        let boot = fake.boot;
        if is_lead && before.is_none() {
            self.after(5..20, Event::Chunk(node, boot, fence, 0));
        }
        Some(Answer::Opened(fence))
    }

    /// A lead has made a chunk, if all stages took part.
    pub(super) fn chunk(&mut self, node: NodeId, boot: Boot, fence: Fence, chunk: u32) {
        let is_led = self.workers.get(&node).is_some_and(|fake| {
            fake.is_alive && fake.boot == boot && fake.stages.get(&fence.job) == Some(&fence.epoch)
        });
        let is_refused = Some(&fence.epoch) < self.store.epochs.get(&fence.job);
        if !is_led || is_refused {
            return;
        }
        if self.is_stormy() && self.random.hits(self.setting.faults.job) {
            return self.fail_job(node, fence);
        }
        let holds =
            |fake: &Fake| !fake.is_hung && fake.stages.get(&fence.job) == Some(&fence.epoch);
        let stages = self.cluster.pipeline().stages();
        let is_whole = stages.iter().all(|stage| self.workers.get(stage).is_some_and(holds));
        if !is_whole || self.workers[&node].session.is_none() {
            return self.after(20..21, Event::Chunk(node, boot, fence, chunk));
        }
        let log = self.store.log.entry(fence.job).or_default();
        assert!(chunk <= *log, "a log has no gap");
        if *log < chunk + 1 {
            *log = chunk + 1;
            self.attempts.remove(&fence.job);
        }
        self.cluster.handle_committed(self.now, fence, chunk);
        if chunk + 1 < self.store.specs[&fence.job].chunks {
            self.after(5..20, Event::Chunk(node, boot, fence, chunk + 1));
        }
    }

    /// A job fails of its own; its worker closes it, and may not be heard.
    fn fail_job(&mut self, node: NodeId, fence: Fence) {
        let Some(fake) = self.workers.get_mut(&node) else { return };
        fake.close(fence);
        if let Some(session) = fake.session {
            self.say(node, session, Answer::Failed(fence));
        }
        if self.random.hits(300) {
            self.break_session(node, 1..500);
        }
    }

    pub(super) fn say(&mut self, node: NodeId, session: u64, answer: Answer) {
        // Answers of one session keep their order, since they take the same time.
        self.after(2..3, Event::Said(node, session, answer));
    }
}

impl Fake {
    pub(super) fn new(boot: Boot) -> Self {
        Self {
            boot,
            is_alive: true,
            is_hung: false,
            session: None,
            assignment: 0,
            is_ready: false,
            failed: None,
            stages: BTreeMap::new(),
            decoding: BTreeMap::new(),
            busy: Duration::ZERO,
        }
    }

    pub(super) fn held(&self) -> Vec<Fence> {
        let stages = self.stages.iter().map(|(&job, &epoch)| Fence { job, epoch });
        let decoding = self.decoding.iter().map(|(&job, &(epoch, _))| Fence { job, epoch });
        stages.chain(decoding).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// Ends what it has of another assignment. No job may be on it, but for one that
    /// it was told to close when it said that it holds it.
    pub(super) fn let_go(&mut self, assignment: u64, is_excused: impl Fn(Fence) -> bool) {
        if self.assignment == assignment {
            return;
        }
        let all_excused = self.held().into_iter().all(is_excused);
        assert!(all_excused, "a pipeline changes while no job is on it: {:?}", self.held());
        self.is_ready = false;
        self.stages.clear();
        self.decoding.clear();
    }

    pub(super) fn load(&mut self, assignment: u64, fails: bool) -> Answer {
        if self.is_ready && self.assignment == assignment {
            return Answer::Ready(assignment);
        }
        self.assignment = assignment;
        if fails {
            self.fail();
            return Answer::NotReady(assignment);
        }
        (self.is_ready, self.failed) = (true, None);
        Answer::Ready(assignment)
    }

    pub(super) fn fail(&mut self) {
        (self.is_ready, self.failed) = (false, Some(self.assignment));
        self.stages.clear();
        self.decoding.clear();
    }

    pub(super) fn close(&mut self, fence: Fence) {
        if self.stages.get(&fence.job) == Some(&fence.epoch) {
            self.stages.remove(&fence.job);
        }
        if self.decoding.get(&fence.job).is_some_and(|&(epoch, _)| epoch == fence.epoch) {
            self.decoding.remove(&fence.job);
        }
    }

    pub(super) fn decode(&mut self, fence: Fence, chunk: u32) -> Option<Answer> {
        if !self.is_ready {
            return None;
        }
        if chunk == 0 {
            self.decoding.insert(fence.job, (fence.epoch, 0));
        }
        let (_, next) = self.decoding.get_mut(&fence.job)?;
        assert_eq!(*next, chunk, "chunks are decoded in order");
        *next += 1;
        Some(Answer::Pictures(fence, chunk))
    }
}
