//! One session with the coordinator: what it asks for is done, and answered.

use std::time::{Duration, Instant};

use identity::Expect;
use link::{Notice, Seen, Switchboard, Way, tls};
use plan::cluster::Duty;
use proto::control::{self, TO_WORKER_BYTES_MAX, wire};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;
use types::{Branch, Incarnation, ModelDigest, NodeId, TokenGrid};
use wire::{from_worker::Kind as Said, to_worker::Kind as Asked};

use crate::{
    Opening,
    device::Task,
    loader::Wish,
    openings::{ContextUse, Order},
    profile::{Profile, Roles},
    report::Report,
    service::Worker,
};

/// Messages of a session that may wait to be sent.
const MESSAGES_MAX: usize = 64;
/// Hops that a heartbeat tells of: a stage has few neighbours.
const LINKS_MAX: usize = 64;
const WELCOME_TIMEOUT: Duration = Duration::from_secs(5);

/// How a session ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// It may be opened again.
    Broken(String),
    /// The coordinator does not know this node: it has to join again.
    NotAMember(String),
    /// It makes no sense to try again.
    Refused(String),
    /// This node was told to finish and leave, and has.
    Drained,
}

impl From<tonic::Status> for Ended {
    fn from(status: tonic::Status) -> Self {
        Self::Broken(status.message().to_owned())
    }
}

impl From<proto::Malformed> for Ended {
    fn from(malformed: proto::Malformed) -> Self {
        Self::Broken(malformed.to_string())
    }
}

impl Worker {
    /// Opens a session and serves it until it breaks.
    pub(crate) async fn session(&mut self) -> Ended {
        match self.serve_session().await {
            Ok(()) => Ended::Broken("the coordinator ended the session".to_owned()),
            Err(ended) => ended,
        }
    }

    async fn serve_session(&mut self) -> Result<(), Ended> {
        let config = (self.tls.0)(Expect::Coordinator);
        let channel = tls::connect(&self.config.coordinator, config).await;
        let channel = channel.map_err(|error| Ended::Broken(error.to_string()))?;
        let mut client = wire::control_client::ControlClient::new(channel)
            .max_decoding_message_size(TO_WORKER_BYTES_MAX);
        let (away, messages) = mpsc::channel(MESSAGES_MAX);
        let hello = self.hello();
        let gone = |_| Ended::Broken("the session broke".to_owned());
        away.send(hello).await.map_err(gone)?;
        let mut asked = client.session(ReceiverStream::new(messages)).await?.into_inner();
        let first = timeout(WELCOME_TIMEOUT, asked.message()).await;
        let first = first.map_err(|_| Ended::Broken("no welcome came".to_owned()))??;
        let first = first.map(control::to_worker).transpose()?;
        let heartbeat = match first.and_then(|message| message.kind) {
            Some(Asked::Welcome(welcome)) => self.welcome(&welcome)?,
            Some(Asked::Refusal(refusal)) => {
                use wire::refusal::Reason;
                return Err(match refusal.reason() {
                    Reason::IdentityInUse => Ended::Broken(refusal.message),
                    Reason::NotAMember => Ended::NotAMember(refusal.message),
                    Reason::Unspecified
                    | Reason::Version
                    | Reason::Model
                    | Reason::Malformed
                    | Reason::Class => Ended::Refused(refusal.message),
                });
            }
            Some(_) | None => return Err(Ended::Broken("no welcome came".to_owned())),
        };
        tracing::info!(coordinator = %self.config.coordinator, "the session is open");
        let mut beat = tokio::time::interval(heartbeat);
        loop {
            tokio::select! {
                message = asked.message() => match message? {
                    Some(message) => match self.hear(control::to_worker(message)?) {
                        Err(Ended::Drained) => {
                            self.leave(&away, &mut asked, "it drained").await;
                            return Err(Ended::Drained);
                        }
                        heard => heard?,
                    },
                    None => return Ok(()),
                },
                Some(message) = self.outbox.recv() => {
                    away.send(self.signed(message)).await.map_err(gone)?;
                }
                Some(notice) = self.notices.recv() => self.handle_notice(notice),
                _ = beat.tick() => {
                    let beat = self.heartbeat(&self.shared.read());
                    away.send(self.signed(said(Said::Heartbeat(beat)))).await.map_err(gone)?;
                }
                () = self.tasks.closed() => {
                    return Err(Ended::Broken("the device's thread ended".to_owned()));
                }
                _ = self.stop.changed() => {
                    self.leave(&away, &mut asked, "it was stopped").await;
                    return Err(Ended::Refused(String::new()));
                }
            }
        }
    }

    /// Says that this node leaves. If that is lost the coordinator finds out by itself.
    async fn leave(
        &self,
        away: &mpsc::Sender<wire::FromWorker>,
        asked: &mut Streaming<wire::ToWorker>,
        reason: &str,
    ) {
        let reason = reason.to_owned();
        let leaving = said(Said::Leaving(wire::Leaving { reason }));
        drop(away.send(self.signed(leaving)).await);
        // Until the message is out, or the other side is done with it.
        drop(timeout(Duration::from_secs(1), asked.message()).await);
    }

    /// Does what a message asks for, if this life of the node is meant.
    fn hear(&mut self, message: wire::ToWorker) -> Result<(), Ended> {
        let meant = Some(Incarnation(message.incarnation));
        if meant != self.incarnation {
            tracing::warn!(?meant, "a message for another life of this node was dropped");
            return Ok(());
        }
        message.kind.map_or(Ok(()), |kind| self.handle(kind))
    }

    fn signed(&self, mut message: wire::FromWorker) -> wire::FromWorker {
        message.incarnation = self.incarnation.map_or(0, |incarnation| incarnation.0);
        message
    }

    /// Does what the coordinator asks for; what takes time is answered later.
    fn handle(&mut self, asked: Asked) -> Result<(), Ended> {
        match asked {
            Asked::Profile(profile) => {
                self.profile(control::grid(profile.grid)?)?;
            }
            Asked::Assign(assign) => self.assign(assign)?,
            Asked::Release(_) => {
                self.wish(None);
                if self.is_draining {
                    return Err(Ended::Drained);
                }
            }
            Asked::Encode(encode) => {
                let fence = control::fence(encode.fence)?;
                let wire::Encode { prompts, unconditional, .. } = encode;
                self.give(Task::Encode { fence, prompts, unconditional });
            }
            Asked::Open(open) => self.open(open)?,
            Asked::Close(close) => {
                let fence = control::fence(close.fence)?;
                let (reply, done) = oneshot::channel();
                self.give(Task::Close { fence, reply });
                self.answer(done, move |()| {
                    Said::Closed(wire::Closed { fence: Some(fence.into()) })
                });
            }
            Asked::Connect(connect) => self.connect(connect.peer)?,
            Asked::MeasureLink(measure) => self.measure(measure)?,
            Asked::Drain(_) => self.drain(),
            Asked::Welcome(_) | Asked::Refusal(_) => {
                return Err(Ended::Broken("welcome came twice".to_owned()));
            }
        }
        Ok(())
    }

    /// From here on a release means to leave.
    fn drain(&mut self) {
        if !self.is_draining {
            tracing::info!("told to leave: what is open here is finished first");
        }
        self.is_draining = true;
    }

    fn profile(&self, grid: TokenGrid) -> Result<(), Ended> {
        let roles = Roles { text: self.config.roles.text, decoder: self.config.roles.decoder };
        let (reply, done) = oneshot::channel();
        let (weights, tasks, served) = (self.weights.clone(), self.tasks.clone(), self.served()?);
        tokio::spawn(async move {
            match weights.model(served).await {
                Ok(model) => {
                    let model = Box::new(model);
                    drop(tasks.send(Task::Profile { model, grid, roles, reply }));
                }
                Err(failure) => drop(reply.send(Err(failure.to_string()))),
            }
        });
        self.answer(done, move |profile| {
            Said::Profiled(match profile {
                Ok(profile) => profiled(&profile),
                Err(problem) => {
                    wire::Profiled { problem: Some(problem), ..wire::Profiled::default() }
                }
            })
        });
        Ok(())
    }

    fn assign(&mut self, assign: wire::Assign) -> Result<(), Ended> {
        let own = self.class.name();
        if assign.numeric_class != own {
            let planned = assign.numeric_class;
            let problem = format!("it is planned to compute in {planned}, and computes in {own}");
            let assignment = assign.assignment;
            self.answer_now(Said::StageFailed(wire::StageFailed { assignment, problem }));
            return Ok(());
        }
        let grid = control::grid(assign.grid)?;
        let optional = |bytes: &[u8]| match bytes.is_empty() {
            true => Ok(None),
            false => control::node(bytes).map(Some),
        };
        let duty = Duty {
            layers: assign.layers.map(control::layers).transpose()?,
            text: assign.text,
            decoder: assign.decoder,
            next: optional(&assign.next)?,
            lead: optional(&assign.lead)?,
        };
        let mut peers = Vec::new();
        for peer in assign.peers {
            peers.push(self.peer(peer)?);
        }
        if let (Some(switchboard), Some(coordinator)) =
            (self.switchboard.borrow().as_ref(), self.coordinator)
        {
            let is_kept = |node| node == coordinator || peers.iter().any(|(peer, _)| *peer == node);
            switchboard.retain(is_kept);
            for (peer, way) in peers {
                switchboard.connect(peer, way);
            }
        }
        self.routes.update(|known| (known.next, known.lead) = (duty.next, duty.lead));
        let (assignment, model) = (assign.assignment, self.served()?);
        self.wish(Some(Wish { assignment, model, duty, grid }));
        Ok(())
    }

    /// Has the loader hold this, and nothing else.
    fn wish(&self, wish: Option<Wish>) {
        self.wishes.send_replace(wish);
    }

    /// The model that the coordinator works with.
    fn served(&self) -> Result<ModelDigest, Ended> {
        self.served.ok_or_else(|| Ended::Broken("the coordinator named no model".to_owned()))
    }

    fn open(&self, open: wire::Open) -> Result<(), Ended> {
        let fence = control::fence(open.fence)?;
        let mut contexts = Vec::new();
        for context in &open.contexts {
            let branch = match context.unconditional {
                true => Branch::Unconditional,
                false => Branch::Conditional,
            };
            contexts.push(ContextUse {
                from_chunk: context.from_chunk,
                prompt: context.prompt_index,
                branch,
                digest: control::digest(&context.digest)?,
            });
        }
        let opening = Opening {
            fence,
            grid: control::grid(open.grid)?,
            uncommitted_chunks_max: open.uncommitted_chunks_max,
            seed: open.seed,
            sampler: control::sampler(open.sampler)?,
            chunks: open.chunks,
        };
        let (reply, done) = oneshot::channel();
        self.give(Task::Open { order: Order { opening, contexts }, reply });
        self.answer(done, move |opened| {
            Said::Opened(wire::Opened { fence: Some(fence.into()), problem: opened.err() })
        });
        Ok(())
    }

    fn connect(&self, peer: Option<wire::Peer>) -> Result<(), Ended> {
        let Some(peer) = peer else { return Ok(()) };
        let (node, way) = self.peer(peer)?;
        if let Some(switchboard) = self.switchboard.borrow().as_ref() {
            switchboard.connect(node, way);
        }
        Ok(())
    }

    /// Measures the link to a peer, and says what came of it.
    fn measure(&self, measure: wire::MeasureLink) -> Result<(), Ended> {
        let Some(peer) = measure.peer else { return Ok(()) };
        let (node, way) = self.peer(peer)?;
        let Some(switchboard) = self.switchboard.borrow().clone() else { return Ok(()) };
        let outbox = self.outbox_sender.clone();
        tokio::spawn(async move {
            switchboard.connect(node, way);
            let peer = control::node_bytes(node);
            let mut said = wire::LinkMeasured { peer, ..wire::LinkMeasured::default() };
            match switchboard.measure(node).await {
                Ok(measured) => {
                    said.bytes_per_second = measured.bytes_per_second;
                    said.latency_seconds = measured.round_trip.as_secs_f64() / 2.0;
                }
                Err(error) => said.problem = Some(error.to_string()),
            }
            drop(outbox.send(self::said(Said::LinkMeasured(said))));
        });
        Ok(())
    }

    fn peer(&self, peer: wire::Peer) -> Result<(NodeId, Way), Ended> {
        let way = peer.way();
        let node = control::node(&peer.node)?;
        let way = match way {
            wire::peer::Way::Dial => Way::Dial(control::addresses(peer.addresses)?),
            wire::peer::Way::Accept => Way::Accept,
            wire::peer::Way::Relay | wire::peer::Way::Unspecified => {
                Way::Relay(self.config.coordinator.clone())
            }
        };
        Ok((node, way))
    }

    fn handle_notice(&self, notice: Notice) {
        match notice {
            Notice::Connected { peer, is_new_life } => {
                tracing::info!(%peer, "connected");
                if is_new_life && self.coordinator == Some(peer) {
                    self.give(Task::LogRestarted);
                }
            }
            Notice::Broken { peer, problem } => tracing::info!(%peer, %problem, "connection lost"),
            Notice::Unreachable { peer, problem } => {
                tracing::warn!(%peer, %problem, "a node cannot be reached");
                if self.coordinator != Some(peer) {
                    let peer = control::node_bytes(peer);
                    let failed = wire::LinkFailed { peer, problem };
                    self.answer_now(Said::LinkFailed(failed));
                }
            }
        }
    }

    fn heartbeat(&self, report: &Report) -> wire::Heartbeat {
        let progress = report
            .progress
            .iter()
            .map(|&(fence, chunk)| wire::Progress { fence: Some(fence.into()), chunk });
        let switchboard = self.switchboard.borrow();
        let counters = report.counters(Instant::now(), switchboard.as_ref());
        let seen = switchboard.as_ref().map(Switchboard::seen).unwrap_or_default();
        wire::Heartbeat {
            progress: progress.collect(),
            memory_used_bytes: resident_bytes(),
            counters: Some(counters),
            links: seen.into_iter().take(LINKS_MAX).map(link_seen).collect(),
            loading: self.weights.loading(),
        }
    }

    fn answer_now(&self, kind: Said) {
        // Without an outbox the process ends.
        drop(self.outbox_sender.send(said(kind)));
    }

    /// Gives the device a task, behind those that it has.
    fn give(&self, task: Task) {
        drop(self.tasks.send(task));
    }

    /// Says what came of a task once it is known.
    fn answer<T: Send + 'static>(
        &self,
        done: oneshot::Receiver<T>,
        answer: impl FnOnce(T) -> Said + Send + 'static,
    ) {
        let outbox = self.outbox_sender.clone();
        tokio::spawn(async move {
            if let Ok(result) = done.await {
                drop(outbox.send(said(answer(result))));
            }
        });
    }
}

fn profiled(Profile { speed, probe }: &Profile) -> wire::Profiled {
    wire::Profiled {
        problem: None,
        layer_seconds: speed.layer_seconds,
        embedding_seconds: speed.embedding_seconds,
        head_seconds: speed.head_seconds,
        decode_seconds: speed.decode_seconds,
        text_seconds: speed.text_seconds,
        probe_digest: probe.to_vec(),
    }
}

fn link_seen((peer, seen): (NodeId, Seen)) -> wire::LinkSeen {
    wire::LinkSeen {
        peer: control::node_bytes(peer),
        bytes_per_second: seen.bytes_per_second,
        latency_seconds: seen.round_trip.map(|there_and_back| there_and_back.as_secs_f64() / 2.0),
    }
}

pub(crate) fn said(kind: Said) -> wire::FromWorker {
    wire::FromWorker { incarnation: 0, kind: Some(kind) }
}

/// Bytes of memory that this process holds; 0 where the system does not say.
fn resident_bytes() -> u64 {
    const PAGE_BYTES: u64 = 4096;
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<u64>().ok());
    pages.unwrap_or(0) * PAGE_BYTES
}
