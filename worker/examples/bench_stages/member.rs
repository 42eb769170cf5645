//! One of the processes that are measured: a worker whose coordinator is the
//! process that measures. It does what a line says, and answers with one.
//!
//! ```text
//!  order                        answer
//!  (none)                       where it listens, or nothing
//!  link                         bytes a second, seconds one way
//!  profile                      seconds of a layer, of the embedding, of the head
//!  open JOB SEED ACKNOWLEDGED   opened
//!  go CHUNKS JOB ...            made JOB CHUNK SECONDS DIGEST ... done
//!  compute                      seconds for which its device has computed
//! ```
//!
//! A job stops where no more chunks are asked for, since no chunk may wait to be
//! durable: the next one begins once this one is acknowledged.
//!
//! The process ends when its orders do. Invariant: at most one clean chunk of each
//! job waits to be taken, and at most `MESSAGES_MAX` messages wait for the device.

use std::{collections::BTreeMap, io::BufRead, ops::Range, sync::Arc};

use backend::{Backend, Cpu};
use bytes::Bytes;
use checkpoint::Checkpoint;
use link::{Arrival, Way};
use model::text::Contexts;
use plan::{
    cluster::Duty,
    memory::{Size, grid as frame_grid},
};
use proto::data::{Kind, Message};
use tokio::{
    runtime::Builder,
    sync::{Semaphore, mpsc, oneshot},
    time::Instant,
};
use types::{Branch, Epoch, Fence, JobId, Model, PassKind, TokenGrid};
use worker::{
    ContextUse, Opening, Order,
    device::{self, MESSAGES_MAX, Outlet, Shared, Task, To},
    profile::Roles,
};

use crate::hop::{NODES, Peer, listen, meet};

/// The first argument of a member's process.
pub(crate) const COMMAND: &str = "member";

const EPOCH: Epoch = Epoch(1);
const ASSIGNMENT: u64 = 1;
/// More chunks than any run asks for.
const CHUNKS: u32 = 1 << 20;
const PROMPT: &str =
    "a large red ball bouncing on a checkerboard floor and a small blue star spinning";

/// When a chunk counts as durable, so that the next one can begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Acknowledged {
    /// Once its clean frames are out of the lead.
    AtOnce,
    /// Once its commit run is out of the last stage.
    AfterCommit,
}

impl Acknowledged {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::AtOnce => "at-once",
            Self::AfterCommit => "after-commit",
        }
    }

    fn of(name: &str) -> Self {
        let known = [Self::AtOnce, Self::AfterCommit];
        known.into_iter().find(|known| known.name() == name).unwrap()
    }
}

/// Runs a member until its orders end.
pub(crate) fn run(arguments: &[String]) {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut member = Member::start(arguments).await;
        let mut orders = orders();
        loop {
            tokio::select! {
                Some(order) = orders.recv() => member.obey(&order).await,
                said = member.said.recv() => {
                    member.hear(said.expect("the device's thread goes on"));
                }
                Some(arrival) = member.arrivals.recv() => member.take(arrival.message),
            }
        }
    });
}

/// Lines of standard input. Its end is the end of the process.
fn orders() -> mpsc::Receiver<String> {
    let (sender, orders) = mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if sender.blocking_send(line).is_err() {
                break;
            }
        }
        std::process::exit(0);
    });
    orders
}

struct Member {
    tasks: mpsc::UnboundedSender<Task>,
    permits: Arc<Semaphore>,
    shared: Shared,
    said: mpsc::UnboundedReceiver<(Instant, Message)>,
    arrivals: mpsc::Receiver<Arrival>,
    /// The other half.
    peer: Option<Peer>,
    checkpoint: Checkpoint,
    model: Model,
    duty: Duty,
    grid: TokenGrid,
    contexts: Vec<(Branch, Bytes)>,
    films: BTreeMap<JobId, Film>,
    asked: Asked,
}

/// A job, as whoever acknowledges its chunks sees it.
struct Film {
    acknowledged: Acknowledged,
    /// Chunks that may be made.
    allowed: u32,
    /// Chunks that were made.
    made: u32,
    /// The chunk that may be acknowledged.
    due: Option<u32>,
}

/// What the last order to go asked for.
struct Asked {
    at: Instant,
    jobs: Vec<JobId>,
    made: Vec<String>,
}

/// What the device says, into the loop above or to the other half.
struct Wires {
    peer: Option<Peer>,
    said: mpsc::UnboundedSender<(Instant, Message)>,
}

impl Outlet for Wires {
    fn send(&self, to: To, message: Message) {
        match (to, &self.peer) {
            (To::Coordinator, _) => self.said.send((Instant::now(), message)).unwrap(),
            (To::Next | To::Lead, Some(peer)) => peer.send(message),
            (To::Next | To::Lead, None) => panic!("this process holds all layers"),
        }
    }

    fn failed(&self, _: Fence, problem: String) {
        panic!("{problem}");
    }
}

impl Member {
    async fn start(arguments: &[String]) -> Self {
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        let (sender, arrivals) = mpsc::channel(1);
        let (layers, peer, address) = match arguments[..] {
            ["solo", layers] => (layers, None, String::new()),
            ["lead", layers, folder, last] => {
                let way = Way::Dial(vec![last.to_owned()]);
                let (peer, _) = meet(folder, NODES, way, sender);
                (layers, Some(peer), String::new())
            }
            ["last", layers, folder, host] => {
                let [lead, last] = NODES;
                let (peer, identity) = meet(folder, [last, lead], Way::Accept, sender);
                let address = listen(host, &peer, &identity).await;
                (layers, Some(peer), address)
            }
            _ => panic!("{arguments:?}"),
        };
        let (first, end) = layers.split_once("..").unwrap();
        let layers: Range<usize> = first.parse().unwrap()..end.parse().unwrap();
        let member = Self::load(layers, peer, arrivals).await;
        println!("{address}");
        member
    }

    /// Loads the layers, and what a prompt becomes.
    async fn load(
        layers: Range<usize>,
        peer: Option<Peer>,
        arrivals: mpsc::Receiver<Arrival>,
    ) -> Self {
        let checkpoint = crate::open();
        let model = checkpoint.model().unwrap();
        let cpu = Arc::new(Cpu::new(Cpu::fastest_class(), 1).unwrap());
        let contexts = {
            let text = Contexts::load(Arc::clone(&cpu), &checkpoint).unwrap();
            let prompt = text.prompt(PROMPT).unwrap();
            let rows = [
                (Branch::Conditional, text.encode(&prompt).unwrap()),
                (Branch::Unconditional, text.encode_nothing().unwrap()),
            ];
            let bytes = |rows| {
                let values: Vec<f32> = cpu.download(&rows).unwrap();
                Bytes::copy_from_slice(bytemuck::cast_slice(&values))
            };
            rows.map(|(branch, rows)| (branch, bytes(rows))).into()
        };
        let (sender, said) = mpsc::unbounded_channel();
        let (outlet, shared) = (Wires { peer: peer.clone(), said: sender }, Shared::default());
        let member = Self {
            tasks: device::start(cpu, outlet, shared.clone()).unwrap(),
            permits: Arc::new(Semaphore::new(MESSAGES_MAX)),
            shared,
            said,
            arrivals,
            peer,
            duty: Duty { layers: Some(layers), ..Duty::default() },
            checkpoint,
            grid: grid(&model),
            model,
            contexts,
            films: BTreeMap::new(),
            asked: Asked { at: Instant::now(), jobs: Vec::new(), made: Vec::new() },
        };
        member.loaded().await.unwrap().unwrap();
        member
    }

    async fn obey(&mut self, order: &str) {
        let words: Vec<&str> = order.split(' ').collect();
        match words[..] {
            ["link"] => self.measure_link().await,
            ["profile"] => self.profile().await,
            ["open", job, seed, acknowledged] => {
                let acknowledged = Acknowledged::of(acknowledged);
                self.open(job_id(job), seed.parse().unwrap(), acknowledged).await;
            }
            ["go", chunks, ref jobs @ ..] => {
                self.go(chunks.parse().unwrap(), jobs.iter().map(|job| job_id(job)).collect());
            }
            ["compute"] => println!("{}", self.shared.read().counters.compute.as_secs_f64()),
            _ => panic!("{order}"),
        }
    }

    async fn measure_link(&self) {
        let Peer { switchboard, node } = self.peer.as_ref().unwrap();
        let measured = switchboard.measure(*node).await.unwrap();
        let latency = measured.round_trip.as_secs_f64() / 2.0;
        println!("{} {latency}", measured.bytes_per_second);
    }

    async fn profile(&self) {
        let (reply, profile) = oneshot::channel();
        let (model, grid) = (Box::new(self.model.clone()), self.grid);
        let roles = Roles { text: false, decoder: false };
        self.tasks.send(Task::Profile { model, grid, roles, reply }).unwrap();
        let speed = profile.await.unwrap().unwrap().speed;
        println!("{} {} {}", speed.layer_seconds, speed.embedding_seconds, speed.head_seconds);
    }

    async fn open(&mut self, job: JobId, seed: u64, acknowledged: Acknowledged) {
        let fence = Fence { job, epoch: EPOCH };
        let mut contexts = Vec::new();
        for (branch, payload) in self.contexts.clone() {
            let digest = *blake3::hash(&payload).as_bytes();
            contexts.push(ContextUse { from_chunk: 0, prompt: 0, branch, digest });
            let kind = Kind::Context { prompt: 0, branch };
            self.give(Message { fence, kind, payload });
        }
        let (grid, sampler) = (self.grid, self.model.sampler.clone());
        let (uncommitted_chunks_max, chunks) = (0, CHUNKS);
        let opening = Opening { fence, grid, uncommitted_chunks_max, seed, sampler, chunks };
        let (reply, opened) = oneshot::channel();
        let film = Film { acknowledged, allowed: 0, made: 0, due: None };
        self.films.insert(job, film);
        self.tasks.send(Task::Open { order: Order { opening, contexts }, reply }).unwrap();
        opened.await.unwrap().unwrap();
        println!("opened");
    }

    fn go(&mut self, chunks: u32, jobs: Vec<JobId>) {
        self.asked = Asked { at: Instant::now(), jobs, made: Vec::new() };
        for job in self.asked.jobs.clone() {
            self.films.get_mut(&job).unwrap().allowed += chunks;
            self.acknowledge(job);
        }
    }

    /// Clean frames are out of the device.
    fn hear(&mut self, (at, message): (Instant, Message)) {
        let (Kind::Clean { chunk }, job) = (message.kind, message.fence.job) else { return };
        let film = self.films.get_mut(&job).unwrap();
        film.made = chunk + 1;
        if film.acknowledged == Acknowledged::AtOnce {
            film.due = Some(chunk);
        }
        self.acknowledge(job);
        let seconds = at.saturating_duration_since(self.asked.at).as_secs_f64();
        let digest = blake3::hash(&message.payload);
        self.asked.made.push(format!("made {} {chunk} {seconds} {digest}", job.0));
        let is_through = |job: &JobId| self.films[job].made == self.films[job].allowed;
        // The first chunk of a job is begun before any is asked for.
        if !self.asked.jobs.is_empty() && self.asked.jobs.iter().all(is_through) {
            self.asked.jobs.clear();
            self.asked.made.drain(..).for_each(|made| println!("{made}"));
            println!("done");
        }
    }

    /// A message came from the other half.
    fn take(&mut self, message: Message) {
        let job = message.fence.job;
        if let Kind::Durable { chunk } = message.kind {
            self.films.get_mut(&job).unwrap().due = Some(chunk);
            return self.acknowledge(job);
        }
        let film = self.films.get(&job);
        let is_waited_for = film.is_some_and(|film| film.acknowledged == Acknowledged::AfterCommit);
        let kind = message.kind.clone();
        self.give(message);
        if let Kind::Hidden { pass } = kind
            && pass.kind == PassKind::Commit
            && is_waited_for
        {
            self.tell_when_through(job, pass.chunk);
        }
    }

    /// Tells the lead that a commit run is through, once it is.
    fn tell_when_through(&self, job: JobId, chunk: u32) {
        let (through, peer) = (self.loaded(), self.peer.clone().unwrap());
        tokio::spawn(async move {
            through.await.unwrap().unwrap();
            peer.send(durable(job, chunk));
        });
    }

    /// Asks the device to hold what it holds already, which it does behind whatever
    /// it was asked for before.
    fn loaded(&self) -> oneshot::Receiver<Result<(), String>> {
        let (reply, loaded) = oneshot::channel();
        let (checkpoint, duty, grid) = (self.checkpoint.clone(), self.duty.clone(), self.grid);
        self.tasks
            .send(Task::Load { assignment: ASSIGNMENT, checkpoint, duty, grid, reply })
            .unwrap();
        loaded
    }

    /// Acknowledges the chunk that is due, if another one may be made.
    fn acknowledge(&mut self, job: JobId) {
        let film = self.films.get_mut(&job).unwrap();
        if film.made < film.allowed
            && let Some(chunk) = film.due.take()
        {
            self.give(durable(job, chunk));
        }
    }

    fn give(&self, message: Message) {
        // A few jobs have less on their way than may wait.
        let permit = Arc::clone(&self.permits).try_acquire_owned().unwrap();
        self.tasks.send(Task::Message(message, permit)).unwrap();
    }
}

/// Tokens of a chunk of the model's own pictures.
pub(crate) fn grid(model: &Model) -> TokenGrid {
    let (transformer, vae) = (model.transformer.as_ref().unwrap(), model.vae.as_ref().unwrap());
    let size = Size { width: model.video.width, height: model.video.height };
    let frame = frame_grid(transformer, vae, size).unwrap();
    let [_, patch_rows, patch_columns] = transformer.patch;
    TokenGrid {
        frames: transformer.window.unwrap().chunk,
        rows: frame.rows / patch_rows,
        columns: frame.columns / patch_columns,
    }
}

fn durable(job: JobId, chunk: u32) -> Message {
    let (fence, kind) = (Fence { job, epoch: EPOCH }, Kind::Durable { chunk });
    Message { fence, kind, payload: Bytes::new() }
}

fn job_id(number: &str) -> JobId {
    JobId(number.parse().unwrap())
}
