//! Owns a stage with its jobs; takes messages, runs passes, says what to send.
//!
//! ```text
//!  handle(message) ─▶ one run, or one step of a lead ─▶ outgoing
//!  poll()          ─▶ a run that a lead can begin      ─▶ outgoing
//! ```
//!
//! Weights are shared by all jobs, as is the scratch that a pass works in. Runs of
//! several jobs take turns, in the order in which their messages come; leads that
//! have a run to begin take turns too, so no job waits for more than one run of
//! every other one.
//!
//! Invariants: a job is only touched by messages of its own epoch, and a replayed
//! one changes nothing. What fails closes its job and no other. At most three runs
//! of a job are on their way: both branches of a pass, or a commit with the next
//! chunk's first pass behind it.

use std::collections::{BTreeMap, VecDeque};

use backend::{Backend, Dtype};
use model::{
    Error,
    transformer::{Input, Job, Output, Scratch, Stage},
};
use tracing::Span;
use types::{Branch, Epoch, Fence, JobId, Pass, PassKind, Sampler, TokenGrid};

use crate::{
    lead::Lead,
    message::{Message, Outgoing},
    spans::JobSpans,
};

/// A stage at work.
#[derive(Debug)]
pub struct Executor<B: Backend> {
    stage: Stage<B>,
    scratch: Scratch<B>,
    jobs: BTreeMap<JobId, Held<B>>,
    /// Jobs led here; the first one is next to begin a run.
    turns: VecDeque<JobId>,
    /// What is to be sent, in order.
    outgoing: VecDeque<Outgoing>,
    /// The latest run, until somebody ends it.
    run: Option<Span>,
}

/// A job on this stage.
#[derive(Debug)]
struct Held<B: Backend> {
    epoch: Epoch,
    job: Job<B>,
    lead: Option<Lead<B>>,
    /// What later chunks are made under, in their order.
    contexts: VecDeque<Context>,
    /// Clean frames that are not known to be durable, by chunk.
    clean: BTreeMap<u32, Vec<f32>>,
    spans: JobSpans,
}

/// What a prompt became, for the passes of a job from a chunk on.
#[derive(Clone, Debug, PartialEq)]
pub struct Context {
    /// The first chunk that is made under it.
    pub from_chunk: u32,
    /// The branch it is for.
    pub branch: Branch,
    /// Its rows `[text_len, dim]`.
    pub values: Vec<f32>,
}

/// What a job is, for every stage that holds it.
#[derive(Clone, Debug, PartialEq)]
pub struct Opening {
    /// The job and its placement.
    pub fence: Fence,
    /// Tokens of a chunk.
    pub grid: TokenGrid,
    /// Chunks that may wait to be made durable; every one costs a slot.
    pub uncommitted_chunks_max: u32,
    /// Seed of the noise.
    pub seed: u64,
    /// Steps and guidance.
    pub sampler: Sampler,
    /// Chunks of the whole job.
    pub chunks: u32,
}

/// Why a message was not taken. Nothing has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// The job was closed, or is not here. Drop the message.
    #[error("job {:032x} is not open here", job.0)]
    UnknownJob {
        /// The job named.
        job: JobId,
    },
    /// The message is of another placement of the job. Drop it.
    #[error("the message is of epoch {}, the job is in epoch {}", found.0, current.0)]
    Epoch {
        /// The message's epoch.
        found: Epoch,
        /// The job's epoch.
        current: Epoch,
    },
    /// The run is of another chunk than the one in generation here. Drop it.
    #[error("a run of chunk {found} came, chunk {current} is in generation")]
    Chunk {
        /// The run's chunk.
        found: u32,
        /// The chunk in generation.
        current: u32,
    },
    /// The velocity is of no run that is out, or came before. Drop it.
    #[error("step {step} of chunk {chunk} is not on its way")]
    NotOut {
        /// The run's chunk.
        chunk: u32,
        /// The run's step.
        step: u32,
    },
    /// Another placement of the job is open. Close it first.
    #[error("job {:032x} is open already", job.0)]
    Open {
        /// The job named.
        job: JobId,
    },
}

impl<B: Backend> Executor<B> {
    /// A stage without jobs, whose chunks have mostly this shape.
    ///
    /// # Errors
    ///
    /// [`Error::Backend`] if the device has no room.
    pub fn new(stage: Stage<B>, grid: TokenGrid) -> Result<Self, Error> {
        let scratch = Scratch::new(stage.backend(), stage.config(), grid.tokens(), grid.frames)?;
        let (jobs, turns, outgoing) = (BTreeMap::new(), VecDeque::new(), VecDeque::new());
        Ok(Self { stage, scratch, jobs, turns, outgoing, run: None })
    }

    /// The stage.
    pub fn stage(&self) -> &Stage<B> {
        &self.stage
    }

    /// Jobs that are open here.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.jobs.keys().copied()
    }

    /// Bytes of the latent caches of all jobs.
    pub fn cache_bytes(&self) -> u64 {
        self.jobs.values().map(|held| held.job.cache_bytes()).sum()
    }

    /// Opens a job. The holder of the first layer leads it. `contexts` are in the
    /// order of their chunks; every branch that passes run under has one from chunk
    /// 0 on.
    ///
    /// # Errors
    ///
    /// [`OpenError::Refused`] if it is open already; [`OpenError::Model`] if the
    /// device has no room, or the window or a context is not the model's.
    pub fn open(&mut self, opening: &Opening, contexts: Vec<Context>) -> Result<(), OpenError> {
        let Fence { job: id, epoch } = opening.fence;
        if self.jobs.contains_key(&id) {
            return Err(Refused::Open { job: id }.into());
        }
        let mut job = self.stage.open(opening.grid, opening.uncommitted_chunks_max)?;
        let mut contexts = VecDeque::from(contexts);
        let expected = self.stage.config().text_len * self.stage.config().dim;
        for context in &contexts {
            check_len("values of a context", expected, context.values.len())?;
        }
        take_contexts(&self.stage, &mut job, &mut contexts, 0)?;
        let lead = (self.stage.range().start == 0).then(|| {
            let Opening { seed, chunks, uncommitted_chunks_max, .. } = *opening;
            Lead::new(seed, opening.sampler.clone(), chunks, uncommitted_chunks_max)
        });
        if lead.is_some() {
            self.turns.push_back(id);
        }
        let clean = BTreeMap::new();
        let spans = JobSpans::new(opening.fence, self.stage.range());
        self.jobs.insert(id, Held { epoch, job, lead, contexts, clean, spans });
        Ok(())
    }

    /// Whether a job is open under this epoch.
    pub fn holds(&self, fence: Fence) -> bool {
        self.check(fence).is_ok()
    }

    /// Closes a job and frees its slots; what was still to be sent of it is not.
    ///
    /// # Errors
    ///
    /// [`Refused`] if it is not open under this epoch.
    pub fn close(&mut self, fence: Fence) -> Result<(), Refused> {
        self.check(fence)?;
        self.forget(fence.job);
        self.outgoing.retain(|outgoing| outgoing.fence().job != fence.job);
        Ok(())
    }

    /// All chunks of a job up to this one are durable.
    ///
    /// # Errors
    ///
    /// [`Refused`] if the job is not open under this epoch.
    pub fn handle_durable(&mut self, fence: Fence, chunk: u32) -> Result<(), Refused> {
        self.check(fence)?;
        let Some(held) = self.jobs.get_mut(&fence.job) else { return Ok(()) };
        held.clean.retain(|&waiting, _| chunk < waiting);
        if let Some(lead) = &mut held.lead {
            lead.handle_durable(chunk);
        }
        Ok(())
    }

    /// Whoever keeps the log has forgotten what was on its way: clean frames that
    /// are not known to be durable go out again.
    pub fn handle_log_restarted(&mut self) {
        for (&job, held) in &self.jobs {
            let fence = Fence { job, epoch: held.epoch };
            let again = held.clean.iter().map(|(&chunk, values)| {
                let values = values.clone();
                Outgoing::Clean { fence, chunk, values }
            });
            self.outgoing.extend(again);
        }
    }

    /// The chunk in generation of every job.
    pub fn progress(&self) -> impl Iterator<Item = (Fence, u32)> {
        self.jobs
            .iter()
            .map(|(&job, held)| (Fence { job, epoch: held.epoch }, held.job.slots().committed()))
    }

    /// Does what a message asks for: at most one run.
    ///
    /// # Errors
    ///
    /// [`Refused`] if its job is not open under its epoch, or if it is of a run
    /// that cannot come now: a replay, say.
    pub fn handle(&mut self, message: Message) -> Result<(), Refused> {
        let fence = message.fence();
        self.check(fence)?;
        self.check_run(&message)?;
        let done = match message {
            Message::Hidden { pass, values, .. } => self.run_hidden(fence, &pass, &values),
            Message::Velocity { chunk, step, branch, values, .. } => {
                self.take_velocity(fence, (chunk, step, branch), &values)
            }
        };
        self.settle(fence, done);
        Ok(())
    }

    /// Begins a run of the lead whose turn it is. Gives whether there was one.
    pub fn poll(&mut self) -> bool {
        for _ in 0..self.turns.len() {
            let Some(id) = self.turns.pop_front() else { return false };
            self.turns.push_back(id);
            let Some(held) = self.jobs.get(&id) else { continue };
            let fence = Fence { job: id, epoch: held.epoch };
            match self.begin(fence) {
                Ok(false) => {}
                Ok(true) => return true,
                Err(error) => self.settle(fence, Err(error)),
            }
        }
        false
    }

    /// The span of the run that the last call made, if it made one. The run ends when
    /// it is dropped.
    pub(crate) fn take_run(&mut self) -> Option<Span> {
        self.run.take()
    }

    /// What is to be sent next.
    pub fn poll_outgoing(&mut self) -> Option<Outgoing> {
        self.outgoing.pop_front()
    }

    /// Whether every chunk of a job that is led here has gone out.
    pub fn is_done(&self, job: JobId) -> bool {
        let lead = self.jobs.get(&job).and_then(|held| held.lead.as_ref());
        lead.is_some_and(Lead::is_done)
    }

    fn check(&self, Fence { job, epoch: found }: Fence) -> Result<(), Refused> {
        match self.jobs.get(&job).map(|held| held.epoch) {
            None => Err(Refused::UnknownJob { job }),
            Some(current) if current != found => Err(Refused::Epoch { found, current }),
            Some(_) => Ok(()),
        }
    }

    fn check_run(&self, message: &Message) -> Result<(), Refused> {
        let Some(held) = self.jobs.get(&message.fence().job) else { return Ok(()) };
        match *message {
            Message::Hidden { ref pass, .. } => {
                let (found, current) = (pass.chunk, held.job.slots().committed());
                let is_due = found == current || pass.kind == PassKind::Rerun;
                if is_due { Ok(()) } else { Err(Refused::Chunk { found, current }) }
            }
            Message::Velocity { chunk, step, branch, .. } => {
                let is_out = held.lead.as_ref().is_some_and(|l| l.is_out((chunk, step, branch)));
                if is_out { Ok(()) } else { Err(Refused::NotOut { chunk, step }) }
            }
        }
    }

    /// A failure ends its job.
    fn settle(&mut self, fence: Fence, done: Result<(), Error>) {
        if let Err(error) = done {
            self.forget(fence.job);
            self.run = None;
            self.outgoing.push_back(Outgoing::Failed { fence, problem: error.to_string() });
        }
    }

    fn forget(&mut self, job: JobId) {
        self.jobs.remove(&job);
        self.turns.retain(|&turn| turn != job);
    }

    /// Begins a run of a lead, if it has one now.
    fn begin(&mut self, fence: Fence) -> Result<bool, Error> {
        let Self { stage, scratch, jobs, run, .. } = self;
        let held = jobs.get_mut(&fence.job);
        let Some(Held { job, lead: Some(lead), contexts, spans, .. }) = held else {
            return Ok(false);
        };
        let grid = job.grid();
        let Some(pass) = lead.poll_run(stage.backend(), stage.config(), grid)? else {
            return Ok(false);
        };
        let Some(frames) = lead.frames() else { return Ok(false) };
        *run = Some(spans.run(&pass));
        take_contexts(stage, job, contexts, pass.chunk)?;
        let output = stage.submit(job, scratch, &pass, Input::Frames(frames))?;
        if pass.kind == PassKind::Commit {
            lead.handle_commit(stage.backend(), &pass)?;
        }
        self.pass_on(fence, &pass, output)?;
        Ok(true)
    }

    /// Runs a pass that comes from the stage before.
    fn run_hidden(&mut self, fence: Fence, pass: &Pass, values: &[f32]) -> Result<(), Error> {
        let Self { stage, scratch, jobs, run, .. } = self;
        let Some(held) = jobs.get_mut(&fence.job) else { return Ok(()) };
        *run = Some(held.spans.run(pass));
        let (rows, columns) = (held.job.grid().tokens(), stage.config().dim);
        check_len("values of a hidden state", rows * columns, values.len())?;
        let hidden = stage.backend().upload(rows, columns, values, Dtype::F32)?;
        take_contexts(stage, &mut held.job, &mut held.contexts, pass.chunk)?;
        let output = stage.submit(&mut held.job, scratch, pass, Input::Hidden(hidden))?;
        self.pass_on(fence, pass, output)
    }

    /// Sends what a run gave, or keeps it if the lead is here.
    fn pass_on(&mut self, fence: Fence, pass: &Pass, output: Output<B>) -> Result<(), Error> {
        let backend = self.stage.backend();
        let Pass { chunk, step, branch, .. } = *pass;
        match output {
            Output::Committed => {}
            Output::Hidden(hidden) => {
                let (pass, values) = (pass.clone(), backend.download(&hidden)?);
                self.outgoing.push_back(Outgoing::Next(Message::Hidden { fence, pass, values }));
            }
            Output::Velocity(velocity) if self.stage.range().start == 0 => {
                self.advance(fence, (chunk, step, branch), velocity)?;
            }
            Output::Velocity(velocity) => {
                let values = backend.download(&velocity)?;
                let message = Message::Velocity { fence, chunk, step, branch, values };
                self.outgoing.push_back(Outgoing::Lead(message));
            }
        }
        Ok(())
    }

    /// A velocity that comes from the last stage.
    fn take_velocity(
        &mut self,
        fence: Fence,
        run: (u32, u32, Branch),
        values: &[f32],
    ) -> Result<(), Error> {
        let (backend, config) = (self.stage.backend(), self.stage.config());
        let Some(held) = self.jobs.get(&fence.job) else { return Ok(()) };
        let [_, patch_rows, patch_columns] = config.patch;
        let pixels = held.job.grid().tokens() * patch_rows * patch_columns;
        check_len("values of a velocity", config.out_channels * pixels, values.len())?;
        let velocity = backend.upload(config.out_channels, pixels, values, Dtype::F32)?;
        self.advance(fence, run, velocity)
    }

    /// Hands a velocity to the job's lead; clean frames go out.
    fn advance(
        &mut self,
        fence: Fence,
        run: (u32, u32, Branch),
        velocity: B::Tensor,
    ) -> Result<(), Error> {
        let backend = self.stage.backend();
        let Some(Held { lead: Some(lead), clean: kept, .. }) = self.jobs.get_mut(&fence.job) else {
            let problem = "a velocity came to a worker that does not lead its job".to_owned();
            return Err(Error::Pass { problem });
        };
        let clean = lead.handle_velocity(backend, run, velocity)?;
        if let (Some(chunk), Some(frames)) = (clean, lead.frames()) {
            let values = backend.download(frames)?;
            if !values.iter().all(|value| value.is_finite()) {
                return Err(Error::NotFinite { chunk, class: backend.class().name() });
            }
            kept.insert(chunk, values.clone());
            self.outgoing.push_back(Outgoing::Clean { fence, chunk, values });
        }
        Ok(())
    }
}

/// Why a job could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// It is open already.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The device has no room, or something is not the model's.
    #[error(transparent)]
    Model(#[from] Error),
}

impl Outgoing {
    fn fence(&self) -> Fence {
        match self {
            Self::Next(message) | Self::Lead(message) => message.fence(),
            Self::Clean { fence, .. } | Self::Failed { fence, .. } => *fence,
        }
    }
}

/// Sets the contexts that a chunk is made under.
fn take_contexts<B: Backend>(
    stage: &Stage<B>,
    job: &mut Job<B>,
    contexts: &mut VecDeque<Context>,
    chunk: u32,
) -> Result<(), Error> {
    let (backend, config) = (stage.backend(), stage.config());
    while let Some(context) = contexts.pop_front_if(|context| context.from_chunk <= chunk) {
        let dtype = backend.class().activation();
        let values = backend.upload(config.text_len, config.dim, &context.values, dtype)?;
        stage.set_context(job, context.branch, &values)?;
    }
    Ok(())
}

fn check_len(what: &'static str, expected: usize, found: usize) -> Result<(), Error> {
    if expected == found {
        return Ok(());
    }
    Err(Error::Shape { what, expected: vec![expected], found: vec![found] })
}
