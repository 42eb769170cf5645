//! The device as a session drives it: what comes twice, late or wrong.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

use std::{
    sync::{Arc, Mutex, mpsc},
    time::Duration,
};

use backend::Cpu;
use bytes::Bytes;
use checkpoint::{Checkpoint, Ema, Source};
use plan::cluster::Duty;
use proto::data::{Kind, Message};
use tokio::sync::{Semaphore, mpsc::UnboundedSender, oneshot};
use types::{Branch, Epoch, Fence, JobId, Model, Pass, PassKind, TokenGrid};
use worker::{
    ContextUse, Opening, Order,
    device::{self, Outlet, Shared, Task, To},
    profile::{Profile, Roles},
};

const GRID: TokenGrid = TokenGrid { frames: 3, rows: 2, columns: 2 };
const FENCE: Fence = Fence { job: JobId(1), epoch: Epoch(3) };

#[test]
fn job_that_is_opened_twice_is_open_both_times_and_goes_on() {
    let bench = Bench::new(Duty { layers: Some(0..8), text: true, ..Duty::default() });
    let contexts = bench.encode();

    bench.hand_over(&contexts);
    assert_eq!(bench.open(&contexts), Ok(()));
    assert!(matches!(bench.next(), (To::Coordinator, Kind::Clean { chunk: 0 }, _)));
    // The first answer was lost with its session: all of it is asked for again.
    bench.hand_over(&contexts);
    assert_eq!(bench.open(&contexts), Ok(()));

    bench.message(Kind::Durable { chunk: 0 }, Bytes::new());
    assert!(matches!(bench.next(), (To::Coordinator, Kind::Clean { chunk: 1 }, _)));
}

#[test]
fn what_comes_for_a_job_that_was_closed_is_dropped_until_another_assignment() {
    let bench = Bench::new(Duty { decoder: true, ..Duty::default() });
    let frames = Bytes::from(vec![0; 16 * 3 * 4 * 4 * 4]);
    let decode = Kind::Decode { chunk: 0, rows: 4, columns: 4 };
    bench.message(decode.clone(), frames.clone());
    assert!(matches!(bench.next(), (To::Coordinator, Kind::Pictures { chunk: 0, .. }, _)));

    bench.close();
    bench.message(decode.clone(), frames.clone());
    assert!(bench.is_silent_for(Duration::from_secs(1)));
    bench.load(2);
    bench.message(decode, frames);

    assert!(matches!(bench.next(), (To::Coordinator, Kind::Pictures { chunk: 0, .. }, _)));
}

#[test]
fn job_is_closed_after_the_run_that_the_device_is_at_whatever_waits_behind_it() {
    let bench = Bench::new(Duty { layers: Some(4..8), text: true, ..Duty::default() });
    let contexts = bench.encode();
    bench.hand_over(&contexts);
    bench.open(&contexts).unwrap();
    let hidden = Bytes::from(vec![0; GRID.tokens() * 384 * 4]);
    let pass = Pass::whole(GRID, 0, 0, Branch::Conditional, PassKind::Denoise, 1000.0);
    let run = || bench.message(Kind::Hidden { pass: pass.clone() }, hidden.clone());
    run();
    assert!(matches!(bench.next(), (To::Lead, Kind::Velocity { .. }, _)));

    // The next run ends when the test has asked for all the rest.
    let held = bench.hold.lock().unwrap();
    (1..64).for_each(|_| run());
    let (reply, closed) = oneshot::channel();
    bench.give(Task::Close { fence: FENCE, reply });
    drop(held);
    closed.blocking_recv().unwrap();

    assert!(bench.sent.try_iter().count() <= 1, "runs of a closed job went on");
    assert_eq!(bench.permits.available_permits(), 64, "messages of a closed job are kept");
}

#[test]
fn profile_is_of_the_model_that_is_asked_for_and_is_made_once() {
    let bench = Bench::new(Duty::default());
    let checkpoint = Checkpoint::open(Source::embedded(filmloom_mini::FILES), Ema::Prefer);
    let model = checkpoint.unwrap().model().unwrap();

    let first = bench.profile(&model);

    assert_eq!(bench.profile(&model), first, "no time is the same twice");
    let mut other = model;
    other.transformer.as_mut().unwrap().layers = 4;
    assert_ne!(bench.profile(&other).probe, first.probe);
}

#[test]
fn frames_of_a_size_that_nobody_sent_are_refused_before_anything_is_made_for_them() {
    let bench = Bench::new(Duty { decoder: true, ..Duty::default() });

    bench.message(Kind::Decode { chunk: 0, rows: 16_384, columns: 16_384 }, Bytes::new());

    let failed = bench.failed.recv_timeout(PATIENCE).unwrap();
    assert!(failed.contains("clean frames"), "{failed}");
}

const PATIENCE: Duration = Duration::from_secs(60);

type Sent = (To, Kind, Bytes);

/// A device, and what it says.
struct Bench {
    tasks: UnboundedSender<Task>,
    permits: Arc<Semaphore>,
    sent: mpsc::Receiver<Sent>,
    failed: mpsc::Receiver<String>,
    /// While it is held the device cannot say anything.
    hold: Arc<Mutex<()>>,
    duty: Duty,
}

struct Recorder {
    sent: mpsc::Sender<Sent>,
    failed: mpsc::Sender<String>,
    hold: Arc<Mutex<()>>,
}

impl Outlet for Recorder {
    fn send(&self, to: To, message: Message) {
        let _held = self.hold.lock().unwrap();
        // The test may be over.
        drop(self.sent.send((to, message.kind, message.payload)));
    }

    fn failed(&self, _fence: Fence, problem: String) {
        drop(self.failed.send(problem));
    }
}

impl Bench {
    fn new(duty: Duty) -> Self {
        let (sending, sent) = mpsc::channel();
        let (failing, failed) = mpsc::channel();
        let cpu = Arc::new(Cpu::f32(2));
        let hold = Arc::new(Mutex::new(()));
        let outlet = Recorder { sent: sending, failed: failing, hold: Arc::clone(&hold) };
        let tasks = device::start(cpu, outlet, Shared::default()).unwrap();
        let permits = Arc::new(Semaphore::new(64));
        let bench = Self { tasks, permits, sent, failed, hold, duty };
        bench.load(1);
        bench
    }

    fn load(&self, assignment: u64) {
        let source = Source::embedded(filmloom_mini::FILES);
        let checkpoint = Checkpoint::open(source, Ema::Prefer).unwrap();
        let (reply, loaded) = oneshot::channel();
        let duty = self.duty.clone();
        self.give(Task::Load { assignment, checkpoint, duty, grid: GRID, reply });
        loaded.blocking_recv().unwrap().unwrap();
    }

    fn profile(&self, model: &Model) -> Profile {
        let (reply, profile) = oneshot::channel();
        let (model, roles) = (Box::new(model.clone()), Roles { text: false, decoder: false });
        self.give(Task::Profile { model, grid: GRID, roles, reply });
        profile.blocking_recv().unwrap().unwrap()
    }

    /// What prompts become, as they come to the coordinator.
    fn encode(&self) -> Vec<(Kind, Bytes)> {
        let prompts = vec!["a red ball".to_owned()];
        self.give(Task::Encode { fence: FENCE, prompts, unconditional: true });
        let context = || {
            let (_, kind, payload) = self.next();
            (kind, payload)
        };
        vec![context(), context()]
    }

    fn hand_over(&self, contexts: &[(Kind, Bytes)]) {
        contexts.iter().for_each(|(kind, payload)| self.message(kind.clone(), payload.clone()));
    }

    fn open(&self, contexts: &[(Kind, Bytes)]) -> Result<(), String> {
        let used = contexts.iter().map(|(kind, payload)| {
            let Kind::Context { prompt, branch } = *kind else { panic!("{kind:?}") };
            let digest = *blake3::hash(payload).as_bytes();
            ContextUse { from_chunk: 0, prompt, branch, digest }
        });
        let model = Checkpoint::open(Source::embedded(filmloom_mini::FILES), Ema::Prefer);
        let opening = Opening {
            fence: FENCE,
            grid: GRID,
            uncommitted_chunks_max: 0,
            seed: 7,
            sampler: model.unwrap().model().unwrap().sampler,
            chunks: 2,
        };
        let (reply, opened) = oneshot::channel();
        self.give(Task::Open { order: Order { opening, contexts: used.collect() }, reply });
        opened.blocking_recv().unwrap()
    }

    fn close(&self) {
        let (reply, closed) = oneshot::channel();
        self.give(Task::Close { fence: FENCE, reply });
        closed.blocking_recv().unwrap();
    }

    fn message(&self, kind: Kind, payload: Bytes) {
        let permit = Arc::clone(&self.permits).try_acquire_owned().unwrap();
        self.give(Task::Message(Message { fence: FENCE, kind, payload }, permit));
    }

    fn give(&self, task: Task) {
        self.tasks.send(task).map_err(|_| "the device has ended").unwrap();
    }

    fn next(&self) -> Sent {
        self.sent.recv_timeout(PATIENCE).unwrap()
    }

    fn is_silent_for(&self, wait: Duration) -> bool {
        self.sent.recv_timeout(wait).is_err() && self.failed.try_recv().is_err()
    }
}
