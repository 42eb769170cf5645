//! Workers that do everything but compute.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use identity::{Expect, Identity, JoinToken, Key};
use link::tls;
use proto::{
    VERSIONS,
    control::{self, wire},
};
use rustls::time_provider::DefaultTimeProvider;
use tokio::{
    sync::{Semaphore, mpsc, oneshot},
    task::JoinSet,
    time::interval,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use wire::{from_worker::Kind as Said, to_worker::Kind as Asked};

use crate::served::Served;

/// Workers that join at once.
const AT_ONCE: usize = 8;

/// All workers; their sessions end with it.
pub(crate) struct Fleet {
    _sessions: JoinSet<()>,
    open: Arc<AtomicUsize>,
    workers: usize,
    took: Duration,
}

impl Fleet {
    /// Has so many workers join; gives them once all are measured.
    pub(crate) async fn gather(workers: usize, served: &Served) -> Self {
        let token: JoinToken = served.token().parse().unwrap();
        let (open, places) = (Arc::default(), Arc::new(Semaphore::new(AT_ONCE)));
        let (begun, mut sessions, mut measured) = (Instant::now(), JoinSet::new(), Vec::new());
        for number in 0..workers {
            let (open, places) = (Arc::clone(&open), Arc::clone(&places));
            let (token, coordinator) = (token.clone(), served.grpc.clone());
            let (sender, is_measured) = oneshot::channel();
            measured.push(is_measured);
            sessions.spawn(async move {
                let place = places.acquire_owned().await.unwrap();
                let worker = Worker::join(number, &coordinator, &token).await;
                drop(place);
                worker.serve(&open, sender).await;
            });
        }
        for is_measured in measured {
            is_measured.await.expect("a session broke");
        }
        Self { _sessions: sessions, open, workers, took: begun.elapsed() }
    }

    /// Time until all were measured, per worker.
    pub(crate) fn join_ms(&self) -> f64 {
        self.took.as_secs_f64() * 1e3 / self.workers as f64
    }

    /// Sessions that are open.
    pub(crate) fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }
}

struct Worker {
    number: usize,
    identity: Identity,
    channel: Channel,
}

impl Worker {
    /// A token becomes a certificate, and that a connection.
    async fn join(number: usize, coordinator: &str, token: &JoinToken) -> Self {
        let (key, clock) = (Key::generate().unwrap(), Arc::new(DefaultTimeProvider));
        let config = identity::join_config(token.fingerprint, clock.clone());
        let channel = tls::connect(coordinator, Arc::new(config)).await.unwrap();
        let request = wire::JoinRequest {
            versions: Some(versions()),
            token: token.to_string(),
            public_key: key.public_der(),
            name: name(number),
        };
        let mut joining = wire::joining_client::JoiningClient::new(channel);
        let reply = joining.join(request).await.unwrap().into_inner();
        let identity = Identity::new(key, reply.certificate.into(), reply.authority.into());
        let identity = identity.unwrap();
        let config = identity::client_config(&identity, Expect::Coordinator, clock);
        let channel = tls::connect(coordinator, Arc::new(config)).await.unwrap();
        Self { number, identity, channel }
    }

    /// Keeps a session, and beats.
    async fn serve(self, open: &AtomicUsize, measured: oneshot::Sender<()>) {
        let mut measured = Some(measured);
        let (sender, messages) = mpsc::channel(64);
        let send = |incarnation, kind| {
            let message = wire::FromWorker { incarnation, kind: Some(kind) };
            assert!(sender.try_send(message).is_ok(), "the coordinator does not listen");
        };
        send(0, Said::Hello(self.hello()));
        let mut client = wire::control_client::ControlClient::new(self.channel.clone());
        let asked = client.session(ReceiverStream::new(messages)).await.unwrap();
        let mut asked = asked.into_inner();
        let first = asked.message().await.unwrap().and_then(|message| message.kind);
        let Some(Asked::Welcome(welcome)) = first else { panic!("no welcome: {first:?}") };
        let incarnation = welcome.incarnation;
        let mut beat = interval(Duration::from_millis(welcome.heartbeat_ms.into()));
        open.fetch_add(1, Ordering::Relaxed);
        loop {
            tokio::select! {
                message = asked.message() => {
                    let Ok(Some(message)) = message else { break };
                    if let Some(said) = self.answer(message.kind) {
                        if let Said::Profiled(_) = said {
                            measured.take().map(|measured| measured.send(()));
                        }
                        send(incarnation, said);
                    }
                }
                _ = beat.tick() => send(incarnation, Said::Heartbeat(beating())),
            }
        }
        open.fetch_sub(1, Ordering::Relaxed);
    }

    fn hello(&self) -> wire::Hello {
        wire::Hello {
            versions: Some(versions()),
            node: control::node_bytes(self.identity.key().node_id()),
            boot: vec![1; 16],
            name: name(self.number),
            software: "bench".to_owned(),
            device: "simulated".to_owned(),
            threads: 1,
            classes: vec!["cpu-f32".to_owned()],
            memory_bytes: 8 << 30,
            roles: Some(wire::Roles { layers: true, text: true, decoder: true }),
            fetches: true,
            ..wire::Hello::default()
        }
    }

    /// As a worker that is good at everything, at a speed of its own.
    fn answer(&self, asked: Option<Asked>) -> Option<Said> {
        let layer_seconds = 0.01 + (self.number % 100) as f64 * 1e-4;
        Some(match asked? {
            Asked::Profile(_) => Said::Profiled(wire::Profiled {
                problem: None,
                layer_seconds,
                embedding_seconds: layer_seconds,
                head_seconds: layer_seconds,
                decode_seconds: Some(10.0 * layer_seconds),
                text_seconds: Some(layer_seconds),
                probe_digest: vec![7; 32],
            }),
            Asked::Assign(assign) => Said::StageReady(wire::StageReady {
                assignment: assign.assignment,
                load_seconds: 0.1,
            }),
            Asked::MeasureLink(measure) => Said::LinkMeasured(wire::LinkMeasured {
                peer: measure.peer.map(|peer| peer.node).unwrap_or_default(),
                problem: None,
                bytes_per_second: 1e8,
                latency_seconds: 1e-4,
            }),
            Asked::Close(close) => Said::Closed(wire::Closed { fence: close.fence }),
            Asked::Welcome(_)
            | Asked::Refusal(_)
            | Asked::Release(_)
            | Asked::Encode(_)
            | Asked::Open(_)
            | Asked::Drain(_)
            | Asked::Connect(_) => return None,
        })
    }
}

fn beating() -> wire::Heartbeat {
    let counters = wire::Counters { runs: 1, compute_seconds: 1.0, ..wire::Counters::default() };
    let counters = Some(counters);
    wire::Heartbeat { memory_used_bytes: 1 << 30, counters, ..wire::Heartbeat::default() }
}

fn versions() -> wire::Versions {
    wire::Versions { oldest: *VERSIONS.start(), newest: *VERSIONS.end() }
}

fn name(number: usize) -> String {
    format!("worker-{number}")
}
