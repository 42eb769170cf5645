//! A world in virtual time: workers that load, open, run, decode and break; users;
//! a store, a log and a video file that outlive the coordinator; and the shell that
//! joins them to a [`Cluster`].
//!
//! ```text
//!  agenda: what happens next ─▶ event ─▶ cluster ─▶ commands ─▶ agenda
//!                                 │
//!                                 └─▶ every invariant is checked
//! ```
//!
//! A session carries commands and answers in their order and loses both when it
//! breaks. A worker does one command after another; chunks go on beside them. All
//! times and faults are drawn from one seed.

mod checks;
mod faults;
mod random;
mod worker;

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
};

pub(super) use faults::Faults;
use random::Random;
use worker::Fake;

use super::*;

/// What a world is made of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Setting {
    pub(super) seed: u64,
    pub(super) workers: u32,
    pub(super) jobs: u32,
    /// Whether any worker holds all layers; else at least three are needed.
    pub(super) is_roomy: bool,
    pub(super) attempts_max: u32,
    pub(super) faults: Faults,
}

pub(super) struct World {
    pub(super) cluster: Cluster,
    pub(super) trace: Vec<String>,
    pub(super) store: Store,
    setting: Setting,
    random: Random,
    now: Duration,
    agenda: BTreeMap<(Duration, u64), Event>,
    /// Events so far that were put on the agenda; numbers those of one time.
    planned: u64,
    workers: BTreeMap<NodeId, Fake>,
    sessions: u64,
    /// How often the coordinator has begun.
    reign: u32,
    /// Fences placed in this reign.
    placed: BTreeSet<Fence>,
    /// Placements of a job in this reign since a chunk of it was new.
    attempts: BTreeMap<JobId, u32>,
    /// Stages that have confirmed an opening.
    opened: BTreeSet<(NodeId, Fence)>,
    /// What a member was told to close when it said that it holds it.
    excused: BTreeSet<(NodeId, Fence)>,
}

/// What outlives a coordinator.
#[derive(Default)]
pub(super) struct Store {
    pub(super) specs: BTreeMap<JobId, JobSpec>,
    pub(super) ended: BTreeMap<JobId, Outcome>,
    cancelled: BTreeSet<JobId>,
    epochs: BTreeMap<JobId, Epoch>,
    /// Chunks in the log.
    log: BTreeMap<JobId, u32>,
    /// Chunks in the video.
    pub(super) video: BTreeMap<JobId, u32>,
    lives: BTreeMap<NodeId, (Incarnation, Boot)>,
}

#[derive(Clone, Debug)]
enum Event {
    Start(NodeId),
    Connect(NodeId, Boot),
    Detected(NodeId, u64),
    Done(NodeId, u64, Command),
    Said(NodeId, u64, Answer),
    Placed(u32, Fence),
    Chunk(NodeId, Boot, Fence, u32),
    Fault,
    Create(JobId),
    Cancel(JobId),
    Timeout,
}

#[derive(Clone, Debug)]
enum Answer {
    Profiled(Speed),
    Ready(u64),
    NotReady(u64),
    Encoded(Fence),
    Opened(Fence),
    Closed(Fence),
    Pictures(Fence, u32),
    Failed(Fence),
    Left(Incarnation),
}

const JOBS_MAX: u32 = 3;
/// Faults end here, and everybody comes back.
const CALM: Duration = Duration::from_secs(6);
/// All jobs end in so much time after that.
const BOUND: Duration = Duration::from_secs(20);

impl World {
    pub(super) fn new(setting: Setting) -> Self {
        let mut world = Self {
            cluster: Cluster::new(policy(setting)),
            trace: Vec::new(),
            store: Store::default(),
            setting,
            random: Random(setting.seed),
            now: Duration::ZERO,
            agenda: BTreeMap::new(),
            planned: 0,
            workers: BTreeMap::new(),
            sessions: 0,
            reign: 0,
            placed: BTreeSet::new(),
            attempts: BTreeMap::new(),
            opened: BTreeSet::new(),
            excused: BTreeSet::new(),
        };
        for node in 0..setting.workers {
            world.after(0..300, Event::Start(NodeId(node.into())));
        }
        for job in 0..setting.jobs {
            world.after(0..3_000, Event::Create(JobId(job.into())));
        }
        world.after(10..11, Event::Fault);
        world
    }

    /// Runs until every job has ended and nothing is held of any.
    pub(super) fn run(&mut self) {
        while !self.is_over() {
            assert!(self.now < CALM + BOUND, "jobs do not end: {:?}", self.unfinished());
            let event = self.next_event();
            self.trace.push(format!("{:?} {event:?}", self.now));
            self.handle(event);
            self.carry_out();
            self.check();
        }
    }

    fn is_over(&self) -> bool {
        let all = self.setting.jobs as usize;
        CALM <= self.now
            && self.store.ended.len() == all
            && self.workers.values().all(|w| w.stages.is_empty() && w.decoding.is_empty())
            && self.cluster.placed() == 0
    }

    fn unfinished(&self) -> Vec<(JobId, &Stages)> {
        let jobs = self.cluster.jobs.iter().map(|(&id, job)| (id, &job.stages));
        jobs.filter(|(id, _)| !self.store.ended.contains_key(id)).collect()
    }

    fn next_event(&mut self) -> Event {
        let agenda = self.agenda.first_key_value().map(|(&(time, _), _)| time);
        let timeout = self.cluster.poll_timeout().map(|time| time.max(self.now));
        match (agenda, timeout) {
            (Some(time), timeout) if timeout.is_none_or(|timeout| time < timeout) => {
                self.now = time;
                self.agenda.pop_first().unwrap().1
            }
            (_, Some(timeout)) => {
                self.now = timeout;
                Event::Timeout
            }
            (_, None) => panic!("nothing will ever happen: {:?}", self.unfinished()),
        }
    }

    fn handle(&mut self, event: Event) {
        match event {
            Event::Start(node) => self.start(node),
            Event::Connect(node, boot) => self.connect(node, boot),
            Event::Detected(node, session) => self.detect(node, session),
            Event::Done(node, session, command) => self.done(node, session, command),
            Event::Said(node, session, answer) => self.said(node, session, answer),
            Event::Placed(reign, fence) if reign == self.reign => {
                self.store.epochs.insert(fence.job, fence.epoch);
                self.cluster.handle_placed(self.now, fence);
            }
            Event::Placed(..) => {}
            Event::Chunk(node, boot, fence, chunk) => self.chunk(node, boot, fence, chunk),
            Event::Fault => self.fault(),
            Event::Create(job) => self.create(job),
            Event::Cancel(job) => {
                self.store.cancelled.insert(job);
                self.cluster.handle_cancelled(self.now, job);
            }
            Event::Timeout => self.cluster.handle_timeout(self.now),
        }
    }

    fn create(&mut self, job: JobId) {
        let spec = JobSpec {
            work: self.cluster.policy.work,
            chunks: u32::try_from(1 + self.random.below(5)).unwrap(),
            times: 1.0,
            priority: i32::from(self.random.hits(500)),
            user: self.random.below(3),
        };
        self.cluster.handle_created(self.now, job, spec.clone()).unwrap();
        self.store.specs.insert(job, spec);
        if self.random.hits(self.setting.faults.cancel) {
            self.after(0..1_500, Event::Cancel(job));
        }
    }

    fn start(&mut self, node: NodeId) {
        if self.workers.get(&node).is_some_and(|fake| fake.is_alive) {
            return;
        }
        let boot = Boot(u128::from(self.random.below(u64::MAX)));
        self.workers.insert(node, Fake::new(boot));
        self.after(1..5, Event::Connect(node, boot));
    }

    fn connect(&mut self, node: NodeId, boot: Boot) {
        let offer = self.offer(node);
        let Some(fake) = self.workers.get_mut(&node) else { return };
        if !fake.is_alive || fake.boot != boot || fake.session.is_some() {
            return;
        }
        let Ok(incarnation) = self.cluster.handle_session(self.now, node, boot, offer) else {
            return self.after(20..60, Event::Connect(node, boot));
        };
        if let Some(&(last, life)) = self.store.lives.get(&node) {
            assert_eq!(incarnation.0, last.0 + u64::from(life != boot), "lives are counted");
        }
        self.store.lives.insert(node, (incarnation, boot));
        self.sessions += 1;
        let session = self.sessions;
        fake.session = Some(session);
        fake.busy = self.now;
        let failed = fake.failed;
        let held = fake.held();
        self.carry_out();
        self.cluster.handle_held(self.now, node, &held);
        for command in &self.cluster.commands {
            if let &Command::Close { node, fence } = command {
                self.excused.insert((node, fence));
            }
        }
        if let Some(assignment) = failed {
            self.say(node, session, Answer::NotReady(assignment));
        }
    }

    /// The coordinator notices that a session is broken, unless there is another.
    fn detect(&mut self, node: NodeId, session: u64) {
        let is_other = |fake: &Fake| fake.session.is_some_and(|other| other != session);
        if self.workers.get(&node).is_some_and(is_other) {
            return;
        }
        if let Some(&(incarnation, _)) = self.store.lives.get(&node) {
            self.cluster.handle_lost(self.now, node, incarnation);
        }
    }

    /// Commands leave for their members.
    fn carry_out(&mut self) {
        while let Some(command) = self.cluster.poll_command() {
            self.trace.push(format!("{:?}   {command:?}", self.now));
            if let Command::Place { fence } = command {
                self.place(fence);
            } else if let Command::Changed { job } = command {
                self.note(job);
            } else {
                self.send(command);
            }
        }
    }

    fn place(&mut self, fence: Fence) {
        let before = self.store.epochs.get(&fence.job).copied();
        assert!(before < Some(fence.epoch), "an epoch only grows");
        assert!(self.placed.insert(fence), "an epoch is of one placement");
        let attempts = self.attempts.entry(fence.job).or_default();
        assert!(*attempts < self.setting.attempts_max, "a job is not tried for ever: {fence:?}");
        *attempts += 1;
        self.after(1..20, Event::Placed(self.reign, fence));
    }

    fn note(&mut self, id: JobId) {
        let Some(job) = self.cluster.job(id) else { return };
        let Some(outcome) = job.outcome().cloned() else { return };
        if outcome == Outcome::Cancelled && self.placed.contains(&job.fence(id)) {
            let holders = self.holders(job.fence(id));
            assert_eq!(holders, [], "a cancelled job is held by nobody");
        }
        if matches!(&outcome, Outcome::Failed(problem) if problem.contains("attempts in a row")) {
            let attempts = self.attempts.get(&id);
            assert_eq!(attempts, Some(&self.setting.attempts_max), "{id:?} got further");
        }
        if outcome == Outcome::Completed {
            assert_eq!(self.store.video.get(&id), Some(&job.spec.chunks), "a video is whole");
        }
        self.store.ended.entry(id).or_insert(outcome);
        self.cluster.forget(id);
    }

    /// An answer reaches the coordinator.
    fn said(&mut self, node: NodeId, session: u64, answer: Answer) {
        let now = self.now;
        let Some(fake) = self.workers.get_mut(&node) else { return };
        if fake.session != Some(session) {
            return;
        }
        match answer {
            Answer::Profiled(speed) => self.cluster.handle_profiled(now, node, speed),
            Answer::Ready(assignment) => self.cluster.handle_ready(now, node, assignment),
            Answer::NotReady(assignment) => {
                fake.failed = None;
                let problem = "it broke".to_owned();
                self.cluster.handle_not_ready(now, node, assignment, problem);
                self.break_session(node, 50..400);
            }
            Answer::Encoded(fence) => self.cluster.handle_encoded(now, fence),
            Answer::Opened(fence) => {
                self.opened.insert((node, fence));
                self.cluster.handle_opened(now, node, fence);
            }
            Answer::Closed(fence) => self.cluster.handle_closed(now, node, fence),
            Answer::Pictures(fence, chunk) => {
                let video = self.store.video.entry(fence.job).or_default();
                assert!(chunk <= *video, "a video has no gap");
                *video = (*video).max(chunk + 1);
                self.cluster.handle_published(now, fence.job, chunk);
            }
            Answer::Failed(fence) => {
                self.cluster.handle_failed(now, fence, "the job broke it".to_owned());
            }
            Answer::Left(incarnation) => {
                fake.session = None;
                self.cluster.handle_left(now, node, incarnation);
                self.crash(node);
            }
        }
    }

    fn offer(&self, node: NodeId) -> Offer {
        let memory_bytes = if self.setting.is_roomy { 1_000 } else { 33 };
        let side = node.0.is_multiple_of(2);
        Offer { memory_bytes, layers: node.0 != 0, text: side, decoder: side, ..offer() }
    }

    fn is_stormy(&self) -> bool {
        self.now < CALM
    }

    fn after(&mut self, time: Range<u64>, event: Event) {
        let time = self.now + self.random.between(time);
        self.at(time, event);
    }

    fn at(&mut self, time: Duration, event: Event) {
        self.planned += 1;
        self.agenda.insert((time, self.planned), event);
    }
}

fn policy(setting: Setting) -> Policy {
    Policy {
        work: Work { layers: 8, ..work() },
        jobs_max: NonZeroU32::new(JOBS_MAX).unwrap(),
        queue_max: 100,
        settle: Duration::from_millis(50),
        grace: Duration::from_millis(200),
        patience: Duration::from_millis(600),
        attempts_max: setting.attempts_max,
        assignments_before: 0,
        ..super::policy()
    }
}
