//! The one task that everything that happens goes through.
//!
//! ```text
//!  sessions ──┐
//!  hops ──────┤            ┌─▶ sessions: assign, open, close
//!  chunk log ─┼─▶ events ─▶ Cluster ─▶ commands ─┼─▶ hops: contexts, frames
//!  publishers ┤    (one task)          ├─▶ chunk log, state store
//!  HTTP ──────┘            └─▶ films: events, status
//! ```
//!
//! `plan::cluster` decides; here are the tables that its commands need: sessions,
//! films, what is on its way to the log. Nothing in it waits: what takes time is
//! done elsewhere and comes back as an event.

mod commands;
mod drain;
mod film;
pub(crate) mod forecast;
mod links;
mod nodes;
mod pace;
mod readiness;
mod restored;
mod spent;
mod tempo;
mod videos;
pub(crate) mod views;
mod waiting;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use bytes::Bytes;
use link::{Arrival, Switchboard};
use plan::cluster::{Cluster, JobSpec, Line, Policy, Stages};
use proto::{
    control::wire::{FromWorker, ToWorker},
    data::{Kind, Message},
};
use tokio::sync::{mpsc, oneshot};
use types::{Branch, Fence, Incarnation, JobId, NodeId};

pub use commands::UNCOMMITTED_CHUNKS_MAX;
pub(crate) use drain::{Drained, NotDrained};
pub(crate) use film::{Film, Wish};
pub(crate) use nodes::{Entering, NotEntered, Session};
pub(crate) use restored::Logged;

use crate::{
    log_thread::{self, Log},
    model::Served,
    publisher::{Pictures, Progress, Published},
    records,
    saver::Saver,
    spans::Spans,
};

/// Events that may wait: more makes whoever brings them wait.
pub(crate) const EVENTS_MAX: usize = 1024;

/// Something that happened.
pub(crate) enum Event {
    /// A worker wants to open a session.
    Enter(Box<Entering>, oneshot::Sender<Result<Incarnation, NotEntered>>),
    /// A worker said something.
    Said(NodeId, Incarnation, FromWorker),
    /// A worker's session broke.
    Lost(NodeId, Incarnation),
    /// A message came from a worker.
    Arrived(Arrival),
    /// A job's placement is written down.
    Placed(Fence, Result<(), String>),
    /// A chunk that this worker sent is in the log, or cannot be.
    Logged(NodeId, Fence, u32, Result<(), chunk_log::Error>),
    /// A chunk was read for the decoder.
    Read(NodeId, Fence, u32, Result<Bytes, chunk_log::Error>),
    /// A chunk is in the video, or cannot be.
    Published(JobId, Published),
    /// Someone asks.
    Ask(Box<dyn FnOnce(&mut Core) + Send>),
}

/// How everything else speaks to the core.
#[derive(Clone, Debug)]
pub(crate) struct Handle(mpsc::Sender<Event>);

impl Handle {
    pub(crate) fn new() -> (Self, mpsc::Receiver<Event>) {
        let (sender, events) = mpsc::channel(EVENTS_MAX);
        (Self(sender), events)
    }

    /// Tells what happened.
    pub(crate) async fn tell(&self, event: Event) {
        // Once the core has ended, so does the process.
        drop(self.0.send(event).await);
    }

    /// As [`Handle::tell`], from a thread.
    pub(crate) fn tell_blocking(&self, event: Event) {
        drop(self.0.blocking_send(event));
    }

    /// Asks the core.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&mut Core) -> T + Send + 'static,
    ) -> Option<T> {
        let (sender, answer) = oneshot::channel();
        let ask = Box::new(move |core: &mut Core| drop(sender.send(question(core))));
        self.tell(Event::Ask(ask)).await;
        answer.await.ok()
    }
}

/// What the core is made of.
pub(crate) struct Parts {
    pub(crate) node: NodeId,
    pub(crate) served: Arc<Served>,
    pub(crate) policy: Policy,
    pub(crate) saver: Saver,
    pub(crate) switchboard: Switchboard,
    pub(crate) videos: PathBuf,
    pub(crate) videos_bytes_max: u64,
    pub(crate) handle: Handle,
}

/// The tables, and the cluster that decides.
pub(crate) struct Core {
    pub(crate) node: NodeId,
    pub(crate) served: Arc<Served>,
    pub(crate) cluster: Cluster,
    pub(crate) films: BTreeMap<JobId, Film>,
    sessions: BTreeMap<NodeId, Session>,
    nodes: BTreeMap<NodeId, records::Node>,
    log: Log,
    saver: Saver,
    switchboard: Switchboard,
    videos: PathBuf,
    handle: Handle,
    begun: Instant,
    /// The last chunk that was made to see that all is well.
    probe: Option<Probe>,
    /// Pairs of workers whose messages go by here.
    relayed: BTreeSet<(NodeId, NodeId)>,
    showings: BTreeMap<JobId, videos::Showing>,
    survey: links::Survey,
    pace: pace::Pace,
    places: waiting::Places,
    /// Where videos stood when someone asked last.
    line: Line,
    spent: spent::Spent,
    tempo: tempo::Tempo,
    spans: Spans,
    /// Bytes of finished videos that are kept, at most.
    videos_bytes_max: u64,
    /// Links that were measured.
    links: BTreeMap<(NodeId, NodeId), plan::placement::Link>,
}

/// A chunk that is made only to see that all is well.
#[derive(Debug)]
struct Probe {
    assignment: u64,
    /// What came of it, once something did.
    outcome: Option<Result<(), String>>,
    /// When something did.
    ended: Duration,
}

/// When a chunk that failed is made once more.
const PROBE_AGAIN_AFTER: Duration = Duration::from_secs(30);
/// Ids of chunks that nobody asked for are below: their logs may be removed without a
/// record. A video has one of these once in four billion.
pub(crate) const PROBE_IDS: u128 = 1 << 96;

impl Core {
    pub(crate) fn new(parts: Parts, log: Log) -> Self {
        let Parts { node, served, policy, saver, switchboard, .. } = parts;
        let Parts { videos, videos_bytes_max, handle, .. } = parts;
        Self {
            node,
            served,
            cluster: Cluster::new(policy),
            films: BTreeMap::new(),
            sessions: BTreeMap::new(),
            nodes: BTreeMap::new(),
            log,
            saver,
            switchboard,
            videos,
            handle,
            begun: Instant::now(),
            probe: None,
            relayed: BTreeSet::new(),
            showings: BTreeMap::new(),
            survey: links::Survey::default(),
            pace: pace::Pace::default(),
            places: waiting::Places::default(),
            line: Line::default(),
            spent: spent::Spent::default(),
            tempo: tempo::Tempo::default(),
            spans: Spans::default(),
            videos_bytes_max,
            links: BTreeMap::new(),
        }
    }

    /// Takes events until nobody is left to bring any.
    pub(crate) async fn run(mut self, mut events: mpsc::Receiver<Event>) {
        loop {
            self.execute();
            let due = [self.cluster.poll_timeout(), self.survey.due(), self.places.due()];
            let due = due.into_iter().flatten().min();
            let due = due.map(|due| due.saturating_sub(self.now()));
            let timeout = tokio::time::sleep(due.unwrap_or(Duration::from_secs(3600)));
            tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.handle(event),
                    None => return,
                },
                () = timeout => {
                    let now = self.now();
                    self.cluster.handle_timeout(now);
                    self.survey_timeout();
                    self.places_timeout();
                }
            }
        }
    }

    fn handle(&mut self, event: Event) {
        let now = self.now();
        match event {
            Event::Enter(entering, reply) => self.enter(*entering, reply),
            Event::Said(node, incarnation, message) => self.hear(node, incarnation, message),
            Event::Lost(node, incarnation) => self.lose(node, incarnation),
            Event::Arrived(arrival) => self.arrive(arrival),
            Event::Placed(fence, Ok(())) => self.cluster.handle_placed(now, fence),
            Event::Placed(fence, Err(problem)) => self.cluster.handle_failed(now, fence, problem),
            Event::Logged(node, fence, chunk, result) => self.logged(node, fence, chunk, result),
            Event::Read(node, fence, chunk, result) => self.decode(node, fence, chunk, result),
            Event::Published(job, published) => self.published(job, published),
            Event::Ask(question) => question(self),
        }
    }

    fn execute(&mut self) {
        while let Some(command) = self.cluster.poll_command() {
            self.command(command);
        }
        self.begin_probe();
    }

    /// A message from a worker.
    fn arrive(&mut self, arrival: Arrival) {
        let Arrival { from, message: Message { fence, kind, payload }, .. } = arrival;
        match kind {
            Kind::Clean { chunk } => {
                // Nobody else may raise a job's epoch in the log, or add to it.
                let is_current =
                    self.cluster.job(fence.job).is_some_and(|job| job.epoch == fence.epoch);
                if !is_current || self.cluster.pipeline().stages().first() != Some(&from) {
                    return tracing::warn!(node = %from, job = %fence.job, "a chunk was dropped");
                }
                let handle = self.handle.clone();
                let asked = self.log.append(fence, chunk, payload, move |result| {
                    handle.tell_blocking(Event::Logged(from, fence, chunk, result));
                });
                self.log_asked(fence, asked);
            }
            Kind::Context { prompt, branch } if self.cluster.pipeline().text() == Some(from) => {
                self.take_context(fence, prompt, branch, payload);
            }
            Kind::Pictures { chunk, width, height, .. } => {
                let pictures = Pictures { fence, chunk, width, height, rgb: payload };
                self.take_pictures(from, fence, pictures);
            }
            Kind::Context { .. }
            | Kind::Hidden { .. }
            | Kind::Velocity { .. }
            | Kind::Durable { .. }
            | Kind::Decode { .. }
            | Kind::Probe => {}
        }
    }

    /// A job whose chunk the log cannot even be asked for cannot go on.
    fn log_asked(&mut self, fence: Fence, asked: Result<(), log_thread::Busy>) {
        if let Err(busy) = asked {
            let now = self.now();
            self.cluster.handle_failed(now, fence, busy.to_string());
        }
    }

    fn logged(
        &mut self,
        lead: NodeId,
        fence: Fence,
        chunk: u32,
        result: Result<(), chunk_log::Error>,
    ) {
        let now = self.now();
        match result {
            Ok(()) => {
                let kind = Kind::Durable { chunk };
                self.send(lead, Message { fence, kind, payload: Bytes::new() });
                self.cluster.handle_committed(now, fence, chunk);
                let bytes = self.films.get(&fence.job).map_or(0, |film| film.chunk_bytes);
                self.spans.commit(fence, chunk, bytes);
                let times = self.cluster.job(fence.job).map_or(1.0, |job| job.spec.times);
                self.tempo.handle_commit(times);
                let open = self.cluster.placed();
                self.pace.handle_commit(now, open);
            }
            Err(error @ chunk_log::Error::Stale { .. }) => {
                tracing::warn!(job = %fence.job, chunk, %error, "a chunk was refused");
            }
            Err(error) => self.cluster.handle_failed(now, fence, error.to_string()),
        }
    }

    fn take_context(&mut self, fence: Fence, prompt: u32, branch: Branch, payload: Bytes) {
        let now = self.now();
        let is_guided = self.served.is_guided();
        let is_due = self
            .cluster
            .job(fence.job)
            .is_some_and(|job| job.epoch == fence.epoch && job.stages == Stages::Encoding);
        let Some(film) = self.films.get_mut(&fence.job).filter(|_| is_due) else { return };
        let (found, expected) = (payload.len(), self.served.context_bytes());
        if found != expected {
            let problem = format!("a prompt became {found} bytes where the model takes {expected}");
            return self.cluster.handle_failed(now, fence, problem);
        }
        film.add_context(prompt, branch, payload);
        if film.has_contexts(is_guided) {
            self.cluster.handle_encoded(now, fence);
        }
    }

    fn take_pictures(&mut self, from: NodeId, fence: Fence, pictures: Pictures) {
        let now = self.now();
        if self.show(fence.job, &pictures.rgb) {
            return;
        }
        // A decoder that was replaced may still have something on its way.
        let is_current = self.cluster.job(fence.job).is_some_and(|job| job.epoch == fence.epoch)
            && self.cluster.pipeline().decoder() == Some(from);
        let Some(film) = self.films.get_mut(&fence.job).filter(|_| is_current) else { return };
        self.cluster.handle_pictures(now, fence, pictures.chunk);
        if film.wish.is_probe {
            return self.cluster.handle_published(now, fence.job, pictures.chunk);
        }
        if let Err(problem) = film.push(pictures, &self.handle) {
            self.cluster.handle_failed(now, fence, problem);
        }
    }

    fn published(&mut self, job: JobId, published: Published) {
        let now = self.now();
        match published {
            Ok(Progress { chunk, pictures, bytes }) => {
                if let Some(film) = self.films.get_mut(&job) {
                    (film.pictures, film.bytes) = (pictures, bytes);
                }
                // That all is well is shown by a video as well as by a probe.
                if let Some(probe) = &mut self.probe {
                    probe.outcome = Some(Ok(()));
                }
                self.cluster.handle_published(now, job, chunk);
            }
            Err(problem) => {
                let epoch = self.cluster.job(job).map(|job| job.epoch);
                if let Some(epoch) = epoch {
                    self.cluster.handle_failed(now, Fence { job, epoch }, problem);
                }
            }
        }
    }

    /// A chunk from the log goes to the decoder.
    fn decode(
        &mut self,
        node: NodeId,
        fence: Fence,
        chunk: u32,
        result: Result<Bytes, chunk_log::Error>,
    ) {
        let payload = match result {
            Ok(payload) => payload,
            Err(error) => {
                let (now, problem) = (self.now(), error.to_string());
                if !self.end_showing(fence.job, &problem) {
                    self.cluster.handle_failed(now, fence, problem);
                }
                return;
            }
        };
        let film = self.films.get(&self.shown(fence.job));
        let Some(film::Shapes { x0, .. }) = film.and_then(|film| film.shapes) else { return };
        let [_, _, rows, columns] = x0;
        self.send(node, Message { fence, kind: Kind::Decode { chunk, rows, columns }, payload });
    }

    /// Makes a chunk once a pipeline is ready, to see that all is well.
    fn begin_probe(&mut self) {
        let (now, assignment) = (self.now(), self.cluster.pipeline().assignment());
        if !self.cluster.pipeline().is_ready() {
            return;
        }
        match &mut self.probe {
            Some(Probe { outcome: Some(Err(_)), ended, .. })
                if PROBE_AGAIN_AFTER <= now.saturating_sub(*ended) => {}
            Some(probe) if probe.assignment == assignment => return,
            // It is made again on this pipeline.
            Some(probe) if probe.outcome.is_none() => return probe.assignment = assignment,
            Some(_) | None => {}
        }
        let job = JobId(random() % PROBE_IDS);
        let size = self.served.own_size();
        let wish = Wish::probe(job, &self.served, size);
        let Ok((film, spec)) = wish.film(&self.served, &self.videos) else { return };
        self.probe = Some(Probe { assignment, outcome: None, ended: now });
        self.films.insert(job, film);
        let spec = JobSpec { priority: i32::MAX, ..spec };
        if self.cluster.handle_created(now, job, spec).is_err() {
            // The queue is full: the next video that is made shows it as well.
            self.films.remove(&job);
        }
    }

    /// Sends a message on the data plane. A worker that one cannot be sent to is
    /// lost: nothing would ever say that it is missing.
    pub(crate) fn send(&mut self, to: NodeId, message: Message) {
        let fence = message.fence;
        if let Err(error) = self.switchboard.send(to, message) {
            tracing::warn!(node = %to, job = %fence.job, %error, "a message was not sent");
            self.end_session(to);
        }
    }

    /// Ends a worker's session; it may open another one.
    fn end_session(&mut self, node: NodeId) {
        if let Some(session) = self.sessions.remove(&node) {
            let now = self.now();
            self.end_showings_of(node);
            self.cluster.handle_lost(now, node, session.incarnation);
        }
    }

    pub(crate) fn tell(&mut self, node: NodeId, kind: proto::control::wire::to_worker::Kind) {
        let Some(session) = self.sessions.get(&node) else { return };
        let message = ToWorker { incarnation: session.incarnation.0, kind: Some(kind) };
        if session.sender.try_send(Ok(message)).is_err() {
            // It takes nothing, or is gone: its next session is told again.
            tracing::warn!(%node, "a worker does not listen: its session ends");
            self.end_session(node);
        }
    }

    pub(crate) fn now(&self) -> Duration {
        self.begun.elapsed()
    }
}

/// Seconds since 1970.
pub(crate) fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A random number.
///
/// # Panics
///
/// If the system has no randomness: no identity would be one.
pub(crate) fn random() -> u128 {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).expect("the system gives random numbers");
    u128::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests;
