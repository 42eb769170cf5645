//! The same frames, to the bit, whatever the layers are divided into, whatever
//! other jobs there are and in whatever order things happen to come.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

use std::{
    collections::{BTreeMap, VecDeque},
    num::NonZeroU32,
    sync::Arc,
};

use backend::{Backend, Cpu, MlaPath};
use checkpoint::{Checkpoint, Ema, Source};
use model::{Engine, Request, sampler::Noise, transformer::Stage};
use plan::passes::{StepCounts, with_steps};
use types::{Branch, Epoch, Fence, JobId, Pass, PassKind, Sampler, TokenGrid};
use worker::{Context, Executor, Message, Opening, Outgoing, Refused};

const CHUNKS: u32 = 10;
const SPLITS: [&[usize]; 4] = [&[8], &[3, 8], &[1, 5, 8], &[2, 3, 7, 8]];

#[test]
fn any_number_of_stages_makes_the_frames_of_one_process() {
    let model = Model::new();
    let film = Film { job: JobId(1), prompt: "a red ball bounces", seed: 7, width: 32, height: 32 };
    let want = model.alone(&film);
    for (order, ends) in (1..).zip(SPLITS) {
        let mut cluster = Cluster::new(&model, ends, order);
        cluster.open(&model, &film, 1);

        cluster.run();

        assert!(cluster.frames(&film) == want, "{ends:?}");
    }
}

#[test]
fn three_jobs_interleave_and_a_cancelled_one_disturbs_nobody() {
    let model = Model::new();
    let films = [
        Film { job: JobId(1), prompt: "a red ball bounces", seed: 7, width: 32, height: 32 },
        Film { job: JobId(2), prompt: "a blue cube spins", seed: 8, width: 48, height: 32 },
        Film { job: JobId(3), prompt: "a green ring", seed: 9, width: 32, height: 32 },
    ];
    let want = [model.alone(&films[0]), model.alone(&films[1])];
    for order in 1..5 {
        let mut cluster = Cluster::new(&model, &[3, 6, 8], order);
        films.iter().for_each(|film| cluster.open(&model, film, 2));

        // The third job is cancelled with runs of it on every wire.
        while !cluster.clean.contains_key(&(JobId(3), 2)) {
            assert!(cluster.step());
        }
        cluster.executors.iter_mut().for_each(|executor| executor.close(films[2].fence()).unwrap());
        cluster.run();

        assert!(cluster.frames(&films[0]) == want[0] && cluster.frames(&films[1]) == want[1]);
        assert!(cluster.frames(&films[2]).len() < CHUNKS as usize);
        for executor in &mut cluster.executors {
            assert_eq!(executor.jobs().collect::<Vec<_>>(), [JobId(1), JobId(2)]);
            films[..2].iter().for_each(|film| executor.close(film.fence()).unwrap());
            assert_eq!(executor.cache_bytes(), 0);
        }
    }
}

#[test]
fn first_run_of_the_next_chunk_follows_the_commit_without_waiting() {
    let model = Model::new();
    let film = Film { job: JobId(1), prompt: "a red ball", seed: 7, width: 32, height: 32 };
    let mut cluster = Cluster::new(&model, &[4, 8], 1);
    cluster.open(&model, &film, 1);
    while cluster.clean.is_empty() {
        cluster.step();
    }
    let before = cluster.wires.len();
    assert_eq!(before, 0, "nothing is on its way");

    let lead = &mut cluster.executors[0];
    let begun = [lead.poll(), lead.poll(), lead.poll()];

    // The commit run of chunk 0 and the first run of chunk 1; its second waits.
    assert_eq!(begun, [true, true, false]);
}

#[test]
fn lead_waits_for_the_log_once_enough_chunks_are_not_durable() {
    let model = Model::new();
    let film = Film { job: JobId(1), prompt: "a red ball", seed: 7, width: 32, height: 32 };
    let mut cluster = Cluster::new(&model, &[4, 8], 1);
    cluster.log_is_away = true;
    cluster.open(&model, &film, 2);

    while cluster.step() {}

    // Three chunks: two that wait, and the one that was begun beside them.
    assert_eq!(cluster.frames(&film).len(), 3);
    cluster.log_is_away = false;
    cluster.executors[0].handle_durable(film.fence(), 2).unwrap();
    cluster.run();
    assert!(cluster.frames(&film) == model.alone(&film));
}

#[test]
fn messages_of_another_epoch_or_job_are_refused_and_change_nothing() {
    let model = Model::new();
    let film = Film { job: JobId(1), prompt: "a red ball", seed: 7, width: 32, height: 32 };
    let mut cluster = Cluster::new(&model, &[4, 8], 1);
    cluster.open(&model, &film, 1);
    let velocity = |fence| {
        let (chunk, step, branch, values) = (0, 0, Branch::Conditional, vec![0.0; 12 * 192]);
        Message::Velocity { fence, chunk, step, branch, values }
    };
    let lead = &mut cluster.executors[0];

    let (stale, current) = (Epoch(4), Epoch(5));
    let found = lead.handle(velocity(Fence { epoch: stale, ..film.fence() }));
    assert_eq!(found, Err(Refused::Epoch { found: stale, current }));
    let unknown = JobId(9);
    let found = lead.handle(velocity(Fence { job: unknown, ..film.fence() }));
    assert_eq!(found, Err(Refused::UnknownJob { job: unknown }));
    cluster.run();

    assert!(cluster.frames(&film) == model.alone(&film));
}

#[test]
fn what_does_not_fit_fails_its_job_and_no_other() {
    let model = Model::new();
    let film = Film { job: JobId(1), prompt: "a red ball", seed: 7, width: 32, height: 32 };
    let other = Film { job: JobId(2), ..film.clone() };
    let mut cluster = Cluster::new(&model, &[4, 8], 1);
    [&film, &other].into_iter().for_each(|film| cluster.open(&model, film, 1));

    let grid = TokenGrid { frames: 3, rows: 2, columns: 2 };
    let pass = Pass::whole(grid, 0, 0, Branch::Conditional, PassKind::Denoise, 500.0);
    let message = Message::Hidden { fence: other.fence(), pass, values: vec![0.0; 5] };
    cluster.executors[1].handle(message).unwrap();
    cluster.collect(1);
    cluster.executors[0].close(other.fence()).unwrap();
    cluster.run();

    let [(failed, problem)] = cluster.failed.as_slice() else { panic!("{:?}", cluster.failed) };
    assert_eq!(*failed, other.job);
    assert!(problem.contains("hidden state"), "{problem}");
    assert!(cluster.frames(&film) == model.alone(&film));
}

#[test]
fn replayed_message_is_refused_and_changes_nothing() {
    let model = Model::new();
    let film = Film { job: JobId(1), prompt: "a red ball", seed: 7, width: 32, height: 32 };
    let mut cluster = Cluster::new(&model, &[4, 8], 1);
    cluster.open(&model, &film, 1);
    let (mut refused, mut commits) = (0, 0);
    while cluster.step() {
        for (wire, messages) in cluster.wires.clone() {
            let Message::Hidden { pass, .. } = &messages[0] else {
                // The velocity comes, and comes again.
                cluster.deliver(wire);
                let again = cluster.executors[0].handle(messages[0].clone());
                refused += usize::from(matches!(again, Err(Refused::NotOut { .. })));
                continue;
            };
            if pass.kind == PassKind::Commit {
                cluster.deliver(wire);
                let again = cluster.executors[1].handle(messages[0].clone());
                commits += usize::from(matches!(again, Err(Refused::Chunk { .. })));
            }
        }
    }

    assert_eq!(commits, CHUNKS as usize);
    assert!(CHUNKS as usize <= refused, "{refused}");
    assert!(cluster.frames(&film) == model.alone(&film));
}

/// The embedded model, whole and in parts.
struct Model {
    cpu: Arc<Cpu>,
    checkpoint: Checkpoint,
    engine: Engine<Cpu>,
    sampler: Sampler,
}

#[derive(Clone)]
struct Film {
    job: JobId,
    prompt: &'static str,
    seed: u64,
    width: usize,
    height: usize,
}

impl Film {
    fn fence(&self) -> Fence {
        Fence { job: self.job, epoch: Epoch(5) }
    }
}

type Frames = Vec<Vec<f32>>;

impl Model {
    fn new() -> Self {
        let cpu = Arc::new(Cpu::new(Cpu::fastest_class(), 1).unwrap());
        let checkpoint =
            Checkpoint::open(Source::embedded(filmloom_mini::FILES), Ema::Prefer).unwrap();
        let engine = Engine::load(Arc::clone(&cpu), &checkpoint).unwrap();
        // Guided in the first chunk, as the model has it, but short.
        let steps = NonZeroU32::new(2);
        let counts = StepCounts { first_chunk: steps, later_chunks: steps };
        let sampler = with_steps(&engine.model().sampler, counts);
        Self { cpu, checkpoint, engine, sampler }
    }

    /// Clean frames of every chunk, made by one process.
    fn alone(&self, film: &Film) -> Frames {
        let request = Request {
            prompt: self.engine.prompt(film.prompt).unwrap(),
            noise: Noise::Seed(film.seed),
            sampler: self.sampler.clone(),
            width: film.width,
            height: film.height,
            frames: None,
        };
        let mut making = self.engine.start(&request).unwrap();
        (0..CHUNKS).map(|_| making.next_chunk(&mut |_| ()).unwrap().x0).collect()
    }

    fn contexts(&self, film: &Film) -> Vec<Context> {
        let prompt = self.engine.prompt(film.prompt).unwrap();
        let rows = |context| self.cpu.download(&context).unwrap();
        let context = |branch, values| Context { from_chunk: 0, branch, values };
        vec![
            context(Branch::Conditional, rows(self.engine.text().encode(&prompt).unwrap())),
            context(Branch::Unconditional, rows(self.engine.text().encode_nothing().unwrap())),
        ]
    }
}

/// Executors and the wires between them. What happens next is drawn, so that
/// messages of different wires overtake each other.
struct Cluster {
    executors: Vec<Executor<Cpu>>,
    /// Messages on their way, per sender and receiver, in order.
    wires: BTreeMap<(usize, usize), VecDeque<Message>>,
    clean: BTreeMap<(JobId, u32), Vec<f32>>,
    failed: Vec<(JobId, String)>,
    log_is_away: bool,
    chance: u64,
}

impl Cluster {
    fn new(model: &Model, ends: &[usize], chance: u64) -> Self {
        let grid = TokenGrid { frames: 3, rows: 2, columns: 2 };
        let path = match plan::path::absorbs(model.engine.model()) {
            true => MlaPath::Absorb,
            false => MlaPath::Rebuild,
        };
        let mut first = 0;
        let stage = |&end: &usize| {
            let layers = first..end;
            first = end;
            let opened = model.checkpoint.open_transformer(Some(layers.clone())).unwrap();
            let cpu = Arc::clone(&model.cpu);
            let stage = Stage::load(cpu, opened.config, &opened.tensors, layers, path).unwrap();
            Executor::new(stage, grid).unwrap()
        };
        Self {
            executors: ends.iter().map(stage).collect(),
            wires: BTreeMap::new(),
            clean: BTreeMap::new(),
            failed: Vec::new(),
            log_is_away: false,
            chance,
        }
    }

    fn open(&mut self, model: &Model, film: &Film, uncommitted_chunks_max: u32) {
        let opening = Opening {
            fence: film.fence(),
            grid: TokenGrid { frames: 3, rows: film.height / 16, columns: film.width / 16 },
            uncommitted_chunks_max,
            seed: film.seed,
            sampler: model.sampler.clone(),
            chunks: CHUNKS,
        };
        let contexts = model.contexts(film);
        self.executors
            .iter_mut()
            .for_each(|executor| executor.open(&opening, contexts.clone()).unwrap());
    }

    fn run(&mut self) {
        while self.step() {}
    }

    /// One thing that can happen; whether there was one.
    fn step(&mut self) -> bool {
        let wires: Vec<_> = self.wires.keys().copied().collect();
        let choices = wires.len() + 1;
        let first = self.draw(choices);
        (0..choices).any(|offset| match wires.get((first + offset) % choices) {
            Some(&wire) => self.deliver(wire),
            None => self.executors[0].poll() && self.collect(0),
        })
    }

    fn deliver(&mut self, wire: (usize, usize)) -> bool {
        let messages = self.wires.get_mut(&wire).unwrap();
        let message = messages.pop_front().unwrap();
        if messages.is_empty() {
            self.wires.remove(&wire);
        }
        // A job that was cancelled still has messages on its way.
        if let Err(refused) = self.executors[wire.1].handle(message) {
            assert!(matches!(refused, Refused::UnknownJob { .. }), "{refused}");
        }
        self.collect(wire.1)
    }

    fn collect(&mut self, from: usize) -> bool {
        while let Some(outgoing) = self.executors[from].poll_outgoing() {
            let (to, message) = match outgoing {
                Outgoing::Next(message) => (from + 1, message),
                Outgoing::Lead(message) => (0, message),
                Outgoing::Clean { fence, chunk, values } => {
                    assert_eq!(self.clean.insert((fence.job, chunk), values), None, "twice");
                    if !self.log_is_away {
                        self.executors[0].handle_durable(fence, chunk).unwrap();
                    }
                    continue;
                }
                Outgoing::Failed { fence, problem } => {
                    self.failed.push((fence.job, problem));
                    continue;
                }
            };
            let job = message.fence().job;
            self.wires.entry((from, to)).or_default().push_back(message);
            let on_their_way = self.wires.values().flatten();
            let of_job = on_their_way.filter(|message| message.fence().job == job).count();
            assert!(of_job <= 3, "{of_job} runs of a job are on their way");
        }
        true
    }

    /// Frames of a film's chunks, in order, without a gap.
    fn frames(&self, film: &Film) -> Frames {
        (0..).map_while(|chunk| self.clean.get(&(film.job, chunk)).cloned()).collect()
    }

    /// A number below `bound`.
    fn draw(&mut self, bound: usize) -> usize {
        self.chance = self.chance.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (self.chance >> 33) as usize % bound
    }
}
