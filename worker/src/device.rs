//! The thread that owns the tensors.
//!
//! ```text
//!  tasks ─▶ inbox ─┬─▶ orders ───▶ device thread: executor, text side, decoder ─▶ outlet
//!                  └─▶ messages ─▶
//! ```
//!
//! What the coordinator orders goes before any message of another node: a job is
//! closed after the run that the device is at, whatever waits behind it. Messages go
//! before anything of its own, so that runs on their way go before new ones; a chunk
//! is decoded when there is no run, or when it has waited for a few of them.
//!
//! Invariants: nothing else touches a tensor, and this thread waits for nothing but
//! its inbox. At most [`MESSAGES_MAX`] messages wait: each holds a permit.

use std::{collections::VecDeque, sync::Arc, thread, time::Instant};

use backend::{Backend, MlaPath};
use checkpoint::Checkpoint;
use model::{text::Contexts, transformer::Stage};
use plan::cluster::Duty;
use proto::data::{Kind, Message as Sent};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};
use types::{Branch, Fence, Model, TokenGrid};

use crate::{
    Executor, Outgoing,
    decoding::{Decodings, Frames},
    message::Message,
    openings::{Openings, Order},
    outlet::pass_on,
    profile::{self, Profile, Roles},
    report::Account,
    spans, wire,
};

pub use crate::{
    outlet::{Outlet, To},
    report::{Counters, Report, Shared},
};

/// Messages that may wait for the device.
pub const MESSAGES_MAX: usize = 64;
/// Closed jobs that are remembered: what comes late for one is dropped.
const CLOSED_MAX: usize = 256;
/// Runs that may go before a chunk that waits to be decoded.
const DECODE_AFTER_RUNS: u32 = 8;

/// Something for the device to do.
#[derive(Debug)]
pub enum Task {
    /// Hold this and nothing else.
    Load {
        /// The coordinator's number of it: another one ends every job.
        assignment: u64,
        /// A model that has it.
        checkpoint: Checkpoint,
        /// What.
        duty: Duty,
        /// Tokens of most chunks.
        grid: TokenGrid,
        /// Why it cannot be.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Hold nothing.
    Release,
    /// Time a model.
    Profile {
        /// Its configuration.
        model: Box<Model>,
        /// Tokens of a chunk.
        grid: TokenGrid,
        /// What to time besides layers.
        roles: Roles,
        /// The times, and what the layers gave.
        reply: oneshot::Sender<Result<Profile, String>>,
    },
    /// Encode a job's prompts; the rows go to the coordinator.
    Encode {
        /// The job.
        fence: Fence,
        /// The prompts.
        prompts: Vec<String>,
        /// Whether the rows of no prompt are needed too.
        unconditional: bool,
    },
    /// Open a job, once its contexts are there.
    Open {
        /// The job.
        order: Order,
        /// Why it is not open.
        reply: oneshot::Sender<Result<(), String>>,
    },
    /// Close a job, whether it is open or not.
    Close {
        /// The job.
        fence: Fence,
        /// Done.
        reply: oneshot::Sender<()>,
    },
    /// A message came from another node; it may wait as long as it has a permit.
    Message(Sent, OwnedSemaphorePermit),
    /// The coordinator has started again.
    LogRestarted,
}

/// Starts a device's thread. It ends when the sender is dropped.
///
/// # Errors
///
/// The system's, if it has no thread left.
pub fn start<B: Backend>(
    backend: Arc<B>,
    outlet: impl Outlet,
    shared: Shared,
) -> std::io::Result<mpsc::UnboundedSender<Task>> {
    let (sender, inbox) = mpsc::unbounded_channel();
    let device = Device {
        backend,
        outlet,
        inbox,
        executor: None,
        text: None,
        decodings: None,
        assignment: None,
        profiled: None,
        openings: Openings::default(),
        closed: VecDeque::new(),
        messages: VecDeque::new(),
        to_decode: VecDeque::new(),
        runs_before_decode: 0,
        account: Account::default(),
        shared,
    };
    thread::Builder::new().name("device".to_owned()).spawn(move || device.run())?;
    Ok(sender)
}

struct Device<B: Backend, O> {
    backend: Arc<B>,
    outlet: O,
    inbox: mpsc::UnboundedReceiver<Task>,
    executor: Option<Executor<B>>,
    text: Option<Contexts<B>>,
    decodings: Option<Decodings<B>>,
    assignment: Option<u64>,
    profiled: Option<(Box<Model>, TokenGrid, Profile)>,
    openings: Openings,
    closed: VecDeque<Fence>,
    /// Messages that wait, in the order in which they came, each with its permit.
    messages: VecDeque<(Sent, OwnedSemaphorePermit)>,
    /// Chunks that wait, each with its permit.
    to_decode: VecDeque<(Sent, OwnedSemaphorePermit)>,
    runs_before_decode: u32,
    account: Account,
    shared: Shared,
}

impl<B: Backend, O: Outlet> Device<B, O> {
    fn run(mut self) {
        loop {
            match self.inbox.try_recv() {
                Ok(task) => self.take(task),
                Err(mpsc::error::TryRecvError::Disconnected) => return,
                Err(mpsc::error::TryRecvError::Empty) => {
                    if self.work() {
                        continue;
                    }
                    let begun = Instant::now();
                    self.shared.write(Report { waits_since: Some(begun), ..self.report() });
                    let Some(task) = self.inbox.blocking_recv() else { return };
                    self.account.wait(begun.elapsed());
                    self.shared.write(self.report());
                    self.take(task);
                }
            }
        }
    }

    /// Does one thing of what waits; whether there was anything.
    fn work(&mut self) -> bool {
        if let Some((message, permit)) = self.messages.pop_front() {
            self.receive(message, permit);
            return true;
        }
        let waited = DECODE_AFTER_RUNS <= self.runs_before_decode;
        (waited && self.decode()) || self.begin_run() || self.decode()
    }

    fn begin_run(&mut self) -> bool {
        let begun = Instant::now();
        let has_run = self.executor.as_mut().is_some_and(Executor::poll);
        if has_run {
            self.count_run(begun);
        }
        self.flush();
        has_run
    }

    fn take(&mut self, task: Task) {
        // Whoever asked may be gone: then nobody waits for the answer.
        match task {
            Task::Load { assignment, checkpoint, duty, grid, reply } => {
                if self.assignment.replace(assignment) != Some(assignment) {
                    self.end_jobs();
                }
                let loaded = self.load(&checkpoint, &duty, grid);
                drop(reply.send(loaded.map_err(|error| error.to_string())));
            }
            Task::Release => {
                (self.executor, self.text, self.decodings) = (None, None, None);
                self.end_jobs();
            }
            Task::Profile { model, grid, roles, reply } => {
                drop(reply.send(self.profile(model, grid, roles)));
            }
            Task::Encode { fence, prompts, unconditional } => {
                self.encode(fence, &prompts, unconditional);
            }
            Task::Open { order, reply } => {
                self.openings.order(order, reply);
                self.open();
            }
            Task::Close { fence, reply } => {
                self.close(fence);
                let _ = reply.send(());
            }
            Task::Message(message, permit) => self.messages.push_back((message, permit)),
            Task::LogRestarted => {
                self.executor.iter_mut().for_each(Executor::handle_log_restarted);
                self.flush();
            }
        }
    }

    fn report(&self) -> Report {
        let progress = self.executor.iter().flat_map(Executor::progress).collect();
        Report { progress, counters: self.account.counters, waits_since: None }
    }

    /// Holds this and nothing else. What is held already stays.
    fn load(
        &mut self,
        checkpoint: &Checkpoint,
        duty: &Duty,
        grid: TokenGrid,
    ) -> Result<(), model::Error> {
        let holds = self.executor.as_ref().map(|executor| executor.stage().range());
        if holds != duty.layers {
            self.executor = None;
        }
        self.text.take_if(|_| !duty.text);
        self.decodings.take_if(|_| !duty.decoder);
        if let (None, Some(layers)) = (&self.executor, &duty.layers) {
            let opened = checkpoint.open_transformer(Some(layers.clone()))?;
            let path = match plan::path::absorbs(&checkpoint.model()?) {
                true => MlaPath::Absorb,
                false => MlaPath::Rebuild,
            };
            let (backend, layers) = (Arc::clone(&self.backend), layers.clone());
            let stage = Stage::load(backend, opened.config, &opened.tensors, layers, path)?;
            self.executor = Some(Executor::new(stage, grid)?);
        }
        if duty.text && self.text.is_none() {
            self.text = Some(Contexts::load(Arc::clone(&self.backend), checkpoint)?);
        }
        if duty.decoder && self.decodings.is_none() {
            self.decodings = Some(Decodings::load(Arc::clone(&self.backend), checkpoint)?);
        }
        Ok(())
    }

    /// Times a model. A coordinator that starts again asks again, while what is held
    /// takes its memory: it is told what was measured before.
    fn profile(
        &mut self,
        model: Box<Model>,
        grid: TokenGrid,
        roles: Roles,
    ) -> Result<Profile, String> {
        if let Some((of, at, profile)) = &self.profiled
            && *of == model
            && *at == grid
        {
            return Ok(*profile);
        }
        let profile = profile::measure(&self.backend, &model, grid, roles);
        let profile = profile.map_err(|error| error.to_string())?;
        self.profiled = Some((model, grid, profile));
        Ok(profile)
    }

    /// Ends every job that is held, however it came to be.
    fn end_jobs(&mut self) {
        self.closed.clear();
        self.openings = Openings::default();
        self.messages.clear();
        self.to_decode.clear();
        self.decodings.iter_mut().for_each(Decodings::clear);
        if let Some(executor) = &mut self.executor {
            let held: Vec<_> = executor.progress().map(|(fence, _)| fence).collect();
            for fence in held {
                // It is open, as it was just listed.
                let _ = executor.close(fence);
            }
        }
    }

    fn encode(&mut self, fence: Fence, prompts: &[String], unconditional: bool) {
        let (begun, span) = (Instant::now(), spans::text(fence, prompts.len()));
        let encoded = self.encode_all(prompts, unconditional);
        drop(span);
        self.account.counters.text += begun.elapsed();
        match encoded {
            Ok(contexts) => {
                for (kind, values) in contexts {
                    let message = Sent { fence, kind, payload: wire::bytes(values) };
                    self.outlet.send(To::Coordinator, message);
                }
            }
            Err(problem) => self.outlet.failed(fence, problem),
        }
    }

    fn encode_all(
        &self,
        prompts: &[String],
        unconditional: bool,
    ) -> Result<Vec<(Kind, Vec<f32>)>, String> {
        let text = self.text.as_ref().ok_or("this worker does not hold the text encoder")?;
        let mut contexts = Vec::new();
        let shown = |error: model::Error| error.to_string();
        for (index, prompt) in (0..).zip(prompts) {
            let prompt = text.prompt(prompt).map_err(shown)?;
            let rows = text.encode(&prompt).map_err(shown)?;
            let kind = Kind::Context { prompt: index, branch: Branch::Conditional };
            contexts.push((kind, self.backend.download(&rows).map_err(|e| e.to_string())?));
        }
        if unconditional {
            let rows = text.encode_nothing().map_err(shown)?;
            let kind = Kind::Context { prompt: 0, branch: Branch::Unconditional };
            contexts.push((kind, self.backend.download(&rows).map_err(|e| e.to_string())?));
        }
        Ok(contexts)
    }

    /// Opens the jobs whose contexts are all there.
    fn open(&mut self) {
        while let Some((opening, contexts, reply)) = self.openings.poll() {
            let opened = match &mut self.executor {
                // It was asked for twice: the first answer may have been lost.
                Some(executor) if executor.holds(opening.fence) => Ok(()),
                Some(executor) => {
                    executor.open(&opening, contexts).map_err(|error| error.to_string())
                }
                None => Err("this worker holds no layers".to_owned()),
            };
            drop(reply.send(opened));
        }
    }

    fn close(&mut self, fence: Fence) {
        if self.closed.len() == CLOSED_MAX {
            self.closed.pop_front();
        }
        self.closed.push_back(fence);
        self.openings.close(fence);
        self.messages.retain(|(message, _)| message.fence != fence);
        self.to_decode.retain(|(message, _)| message.fence != fence);
        if let Some(decodings) = &mut self.decodings {
            decodings.close(fence);
        }
        if let Some(executor) = &mut self.executor {
            // It is closed already, or of another placement: nothing is to be done.
            let _ = executor.close(fence);
        }
    }

    fn receive(&mut self, message: Sent, permit: OwnedSemaphorePermit) {
        let fence = message.fence;
        // Messages and the order to close come by ways of their own.
        if self.closed.contains(&fence) {
            return;
        }
        let problem = match message.kind {
            Kind::Hidden { .. } | Kind::Velocity { .. } => self.run_message(message).err(),
            Kind::Durable { chunk } => {
                let executor = self.executor.as_mut();
                executor
                    .and_then(|executor| executor.handle_durable(fence, chunk).err())
                    .map(|refused| refused.to_string())
            }
            Kind::Context { prompt, branch } => {
                let context = (fence, prompt, branch);
                let problem = self.openings.context(context, &message.payload).err();
                self.open();
                problem
            }
            Kind::Decode { .. } => {
                self.to_decode.push_back((message, permit));
                None
            }
            Kind::Probe | Kind::Clean { .. } | Kind::Pictures { .. } => None,
        };
        if let Some(problem) = problem {
            tracing::debug!(job = %fence.job, epoch = fence.epoch.0, %problem, "a message was dropped");
        }
        self.flush();
    }

    fn run_message(&mut self, Sent { fence, kind, payload }: Sent) -> Result<(), String> {
        let message = match kind {
            Kind::Hidden { pass } => {
                let values = wire::hidden_values(&payload, self.backend.class().residual())?;
                Message::Hidden { fence, pass, values }
            }
            Kind::Velocity { chunk, step, branch } => {
                let values = wire::values(&payload)?;
                Message::Velocity { fence, chunk, step, branch, values }
            }
            Kind::Clean { .. }
            | Kind::Durable { .. }
            | Kind::Context { .. }
            | Kind::Decode { .. }
            | Kind::Pictures { .. }
            | Kind::Probe => return Ok(()),
        };
        let executor = self.executor.as_mut().ok_or("this worker holds no layers")?;
        let begun = Instant::now();
        let handled = executor.handle(message).map_err(|refused| refused.to_string());
        self.count_run(begun);
        handled
    }

    fn count_run(&mut self, begun: Instant) {
        let run = self.executor.as_mut().and_then(Executor::take_run);
        self.account.run(begun.elapsed(), run);
        self.shared.write(self.report());
        self.runs_before_decode += u32::from(!self.to_decode.is_empty());
    }

    /// Sends what the executor has to say.
    fn flush(&mut self) {
        let Some(executor) = &mut self.executor else { return };
        let residual = self.backend.class().residual();
        while let Some(outgoing) = executor.poll_outgoing() {
            match outgoing {
                Outgoing::Next(message) => pass_on(&self.outlet, To::Next, message, residual),
                Outgoing::Lead(message) => pass_on(&self.outlet, To::Lead, message, residual),
                Outgoing::Clean { fence, chunk, values } => {
                    self.outlet.send(To::Coordinator, wire::clean(fence, chunk, values));
                }
                Outgoing::Failed { fence, problem } => self.outlet.failed(fence, problem),
            }
        }
    }

    /// Decodes the chunk that has waited longest; whether there was one.
    fn decode(&mut self) -> bool {
        let Some((message, _permit)) = self.to_decode.pop_front() else { return false };
        self.runs_before_decode = 0;
        let (fence, begun) = (message.fence, Instant::now());
        match self.pictures(message) {
            Ok((chunk, shown)) => {
                let took = begun.elapsed();
                self.account.counters.decode += took;
                let size = |size: usize| u32::try_from(size).unwrap_or(u32::MAX);
                let kind = Kind::Pictures {
                    chunk,
                    count: size(shown.count),
                    width: size(shown.width),
                    height: size(shown.height),
                    decode_seconds: took.as_secs_f64(),
                };
                let message = Sent { fence, kind, payload: shown.rgb.into() };
                self.outlet.send(To::Coordinator, message);
            }
            Err(problem) => self.outlet.failed(fence, problem),
        }
        true
    }

    fn pictures(&mut self, message: Sent) -> Result<(u32, crate::decoding::Shown), String> {
        let Kind::Decode { chunk, rows, columns } = message.kind else {
            return Err("this is no chunk to decode".to_owned());
        };
        let _span = spans::decode(message.fence, chunk);
        let values = wire::values(&message.payload)?;
        let (rows, columns) = (rows as usize, columns as usize);
        let frames = Frames { fence: message.fence, chunk, rows, columns, values: &values };
        let decodings = self.decodings.as_mut().ok_or("this worker does not hold the decoder")?;
        let shown = decodings.decode(frames).map_err(|error| error.to_string())?;
        Ok((chunk, shown))
    }
}
