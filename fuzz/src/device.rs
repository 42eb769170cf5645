//! Messages of other nodes on a worker's device: sizes of tensors against shapes.
//!
//! The device holds a stage of the embedded model that is not the first, and the
//! decoder; one job is open on it. Messages are frames, of that job or another one.

use std::sync::{
    Arc, Mutex, MutexGuard, OnceLock, PoisonError,
    atomic::{AtomicU64, Ordering::SeqCst},
    mpsc,
};

use backend::Cpu;
use bytes::Bytes;
use checkpoint::{Checkpoint, Ema, Source};
use link::hop::FRAME_BYTES_MAX;
use plan::cluster::Duty;
use proto::data::{Assembly, Frame, Kind, Message, frame};
use tokio::sync::{Semaphore, mpsc::UnboundedSender, oneshot};
use types::{Branch, Fence, Model, Pass, PassKind, TokenGrid};
use worker::{
    ContextUse, Opening, Order,
    device::{self, Outlet, Shared, Task, To},
};

use crate::{
    Target,
    control::fence,
    frames::{framed, messages},
    mutate::Shape,
};

/// Messages for a device.
pub(crate) const DEVICE: Target = Target {
    name: "device",
    shape: Shape::Frames,
    decode: on_device,
    seeds: || sent().into_iter().map(|message| framed(message.frames(0))).collect(),
    input_bytes_max: 64 << 10,
    held_bytes: 64 << 20,
    held_per_byte: 256,
    cases: 60,
};

const GRID: TokenGrid = TokenGrid { frames: 3, rows: 2, columns: 2 };
/// Bytes of a payload that the worker allows.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Messages of a case that may wait, at most.
const MESSAGES_MAX: usize = 16;

/// A device, and what it needs for every case.
struct Scenery {
    tasks: UnboundedSender<Task>,
    /// One for each chunk that was to be decoded, and for each failure.
    decoded: Mutex<mpsc::Receiver<()>>,
    permits: Arc<Semaphore>,
    assignments: AtomicU64,
    checkpoint: Checkpoint,
    model: Model,
    /// One case at a time.
    turn: Mutex<()>,
}

struct Counting(mpsc::Sender<()>);

impl Outlet for Counting {
    fn send(&self, _to: To, message: Message) {
        if let Kind::Pictures { .. } = message.kind {
            let _ = self.0.send(());
        }
    }

    fn failed(&self, _fence: Fence, _problem: String) {
        let _ = self.0.send(());
    }
}

fn scenery() -> &'static Scenery {
    static MADE: OnceLock<Scenery> = OnceLock::new();
    MADE.get_or_init(|| {
        let (sender, decoded) = mpsc::channel();
        let device = Arc::new(Cpu::f32(1));
        let tasks = device::start(device, Counting(sender), Shared::default());
        let checkpoint = Checkpoint::open(Source::embedded(filmloom_mini::FILES), Ema::Prefer);
        let checkpoint = checkpoint.expect("the embedded model is whole");
        Scenery {
            tasks: tasks.expect("the system has a thread"),
            decoded: Mutex::new(decoded),
            permits: Arc::new(Semaphore::new(MESSAGES_MAX)),
            assignments: AtomicU64::new(0),
            model: checkpoint.model().expect("its configuration is consistent"),
            checkpoint,
            turn: Mutex::new(()),
        }
    })
}

fn on_device(bytes: &[u8]) -> Result<(), String> {
    let scenery = scenery();
    let _turn = lock(&scenery.turn);
    scenery.open();
    let outcome = scenery.send(bytes);
    let (reply, closed) = oneshot::channel();
    scenery.give(Task::Close { fence: fence(), reply });
    closed.blocking_recv().expect("the device lives");
    outcome
}

impl Scenery {
    /// Opens the job, on a device that holds nothing else of any job.
    fn open(&self) {
        let (reply, loaded) = oneshot::channel();
        let assignment = self.assignments.fetch_add(1, SeqCst);
        let duty = Duty { layers: Some(6..8), decoder: true, ..Duty::default() };
        let checkpoint = self.checkpoint.clone();
        self.give(Task::Load { assignment, checkpoint, duty, grid: GRID, reply });
        loaded.blocking_recv().expect("the device lives").expect("it holds the model");
        let mut contexts = Vec::new();
        for branch in [Branch::Conditional, Branch::Unconditional] {
            let payload = self.context();
            let digest = *blake3::hash(&payload).as_bytes();
            contexts.push(ContextUse { from_chunk: 0, prompt: 0, branch, digest });
            self.message(Message { payload, ..context(branch) });
        }
        let opening = Opening {
            fence: fence(),
            grid: GRID,
            uncommitted_chunks_max: 1,
            seed: 7,
            sampler: self.model.sampler.clone(),
            chunks: 2,
        };
        let (reply, opened) = oneshot::channel();
        self.give(Task::Open { order: Order { opening, contexts }, reply });
        opened.blocking_recv().expect("the device lives").expect("the job is a good one");
    }

    /// Puts messages together and hands them over; waits for what is to be decoded.
    fn send(&self, bytes: &[u8]) -> Result<(), String> {
        let mut assembly = Assembly::new(PAYLOAD_BYTES_MAX);
        let (decoded, mut to_decode) = (lock(&self.decoded), 0);
        while decoded.try_recv().is_ok() {}
        let mut outcome = Ok(());
        for message in messages::<Frame>(bytes, FRAME_BYTES_MAX) {
            match message.and_then(|frame| take(&mut assembly, frame)) {
                Ok(None) => {}
                Ok(Some(message)) => {
                    let decodes = matches!(message.kind, Kind::Decode { .. });
                    to_decode += usize::from(self.message(message) && decodes);
                }
                Err(problem) => outcome = Err(problem),
            }
        }
        // A run that fails is counted too: then the last chunks are not waited for.
        for _ in 0..to_decode {
            decoded.recv().expect("the device lives");
        }
        outcome
    }

    /// Hands a message over, if not too many wait.
    fn message(&self, message: Message) -> bool {
        let permit = Arc::clone(&self.permits).try_acquire_owned();
        let permit = permit.map(|permit| self.give(Task::Message(message, permit)));
        permit.is_ok()
    }

    fn give(&self, task: Task) {
        assert!(self.tasks.send(task).is_ok(), "the device lives");
    }

    fn context(&self) -> Bytes {
        let config = self.model.transformer.as_ref().expect("it has a transformer");
        vec![0; config.text_len * config.dim * 4].into()
    }
}

fn take(assembly: &mut Assembly, frame: Frame) -> Result<Option<Message>, String> {
    let taken = match frame.kind {
        Some(frame::Kind::Head(head)) => assembly.head(head),
        Some(frame::Kind::Part(part)) => assembly.part(&part),
        Some(frame::Kind::Hello(_) | frame::Kind::Refusal(_) | frame::Kind::Taken(_)) | None => {
            return Err("no part of a message".to_owned());
        }
    };
    let taken = taken.map_err(|error| error.to_string())?;
    Ok(taken.map(|(_, message)| message))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn context(branch: Branch) -> Message {
    let kind = Kind::Context { prompt: 0, branch };
    Message { fence: fence(), kind, payload: Bytes::new() }
}

/// A run of the job, a chunk to decode, and what is small.
fn sent() -> Vec<Message> {
    let config = scenery().model.transformer.as_ref().expect("it has a transformer");
    let frame_times = vec![500.0; GRID.frames];
    let pass = Pass {
        chunk: 0,
        step: 0,
        branch: Branch::Conditional,
        kind: PassKind::Denoise,
        frame_times,
        tokens: 0..GRID.tokens(),
    };
    let commit = Pass { kind: PassKind::Commit, frame_times: vec![0.0; 3], ..pass.clone() };
    let hidden = GRID.tokens() * config.dim * 4;
    let frames = config.in_channels * GRID.tokens() * config.patch.iter().product::<usize>() * 4;
    let kinds = [
        (Kind::Hidden { pass }, hidden),
        (Kind::Hidden { pass: commit }, hidden),
        (Kind::Decode { chunk: 0, rows: 4, columns: 4 }, frames),
        (Kind::Velocity { chunk: 0, step: 0, branch: Branch::Conditional }, 64),
        (Kind::Context { prompt: 0, branch: Branch::Conditional }, 64),
        (Kind::Durable { chunk: 0 }, 0),
    ];
    let message = |(kind, bytes)| {
        let payload = Bytes::from(vec![0; bytes]);
        Message { fence: fence(), kind, payload }
    };
    kinds.into_iter().map(message).collect()
}
