//! A core without sockets: a test speaks for its workers.

mod at_work;
mod deleted;
mod restored;
mod staffed;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use api::Refusal;
use chunk_log::{ChunkLog, Limits};
use link::{Me, Switchboard, switchboard::Tls};
use plan::{cluster::Policy, placement::Link};
use proto::{
    control::{self, wire},
    data::End,
};
use store::Embedded;
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};
use tonic::Status;
use types::{Incarnation, JobId, ModelDigest, NodeId};
use wire::{from_worker::Kind as Said, to_worker::Kind as Asked};

use super::{Core, Entering, Event, Handle, Parts, Wish, readiness::EXPECTED_WITHIN};
use crate::{
    log_thread::Log,
    model::{Served, tests::served},
    records,
    saver::Saver,
};

const COORDINATOR: NodeId = NodeId(1);
/// Far more than the embedded model needs.
const PLENTY_BYTES: u64 = 64 << 30;
/// How long anything may take before a test has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A core and what it stands on.
struct House {
    core: Core,
    events: mpsc::Receiver<Event>,
    folder: TempDir,
}

/// A worker whose part the test plays.
struct Worker {
    node: NodeId,
    incarnation: Incarnation,
    asked: mpsc::Receiver<Result<wire::ToWorker, Status>>,
}

impl House {
    /// A core that serves the embedded model.
    async fn open() -> Self {
        Self::serving(model("mini", 1)).await
    }

    async fn serving(served: Served) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Embedded::open(&folder.path().join(records::FILE)).await.unwrap();
        let limits = Limits { folder_bytes_max: 1 << 30 };
        let log = ChunkLog::open(&folder.path().join("log"), limits).unwrap();
        let (handle, events) = Handle::new();
        let parts = Parts {
            node: COORDINATOR,
            policy: policy(&served),
            switchboard: switchboard(&served),
            served: Arc::new(served),
            saver: Saver::start(Arc::new(store)),
            videos: folder.path().to_owned(),
            videos_bytes_max: u64::MAX,
            handle,
        };
        Self { core: Core::new(parts, Log::start(log).unwrap()), events, folder }
    }

    /// As if it had begun so long ago that nobody is expected back any more.
    fn grow_old(&mut self) {
        self.core.begun -= EXPECTED_WITHIN;
    }

    /// A worker that does everything joins, with so much memory, and is not measured yet.
    fn join(&mut self, number: u8, memory_bytes: u64) -> Worker {
        let node = NodeId(number.into());
        let hello = hello(number, memory_bytes);
        let boot = "00".repeat(16);
        self.core.add_node(node, records::Node { name: hello.name.clone(), incarnation: 0, boot });
        let (sender, asked) = mpsc::channel(64);
        let (reply, mut entered) = oneshot::channel();
        let entering = Box::new(Entering { node, hello, sender });
        self.core.handle(Event::Enter(entering, reply));
        self.core.execute();
        let incarnation = entered.try_recv().unwrap().unwrap();
        Worker { node, incarnation, asked }
    }

    /// A worker says something.
    fn say(&mut self, Worker { node, incarnation, .. }: &Worker, said: Said) {
        let message = wire::FromWorker { incarnation: incarnation.0, kind: Some(said) };
        self.core.handle(Event::Said(*node, *incarnation, message));
        self.core.execute();
    }

    /// Lets things happen until something is so.
    async fn until<T>(&mut self, mut found: impl FnMut(&mut Core) -> Option<T>) -> T {
        loop {
            self.core.execute();
            if let Some(found) = found(&mut self.core) {
                return found;
            }
            let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
            self.core.handle(event.expect("it happens").unwrap());
        }
    }

    /// Someone asks for a video.
    fn create(&mut self, job: u128) -> Result<api::Video, Refusal> {
        let wish = wish(job, &self.core.served);
        let (film, spec) = wish.film(&self.core.served, self.folder.path())?;
        let created = self.core.create(film, spec);
        self.core.execute();
        created
    }
}

impl Worker {
    /// What it was asked for since it was looked at last.
    fn asked(&mut self) -> Vec<Asked> {
        let asked = std::iter::from_fn(|| self.asked.try_recv().ok());
        asked.filter_map(|message| message.unwrap().kind).collect()
    }
}

fn hello(number: u8, memory_bytes: u64) -> wire::Hello {
    wire::Hello {
        node: control::node_bytes(NodeId(number.into())),
        boot: vec![number; 16],
        name: format!("w{number}"),
        classes: vec!["cpu-f32".to_owned()],
        memory_bytes,
        roles: Some(wire::Roles { layers: true, text: true, decoder: true }),
        fetches: true,
        ..wire::Hello::default()
    }
}

/// The times of a fast worker.
fn profiled() -> Said {
    let (decode_seconds, text_seconds) = (Some(0.01), Some(0.01));
    let profiled = wire::Profiled {
        layer_seconds: 0.01,
        decode_seconds,
        text_seconds,
        ..wire::Profiled::default()
    };
    Said::Profiled(profiled)
}

/// The embedded model under another name and digest.
fn model(name: &str, digest: u8) -> Served {
    Served { digest: ModelDigest([digest; 32]), ..served(name) }
}

fn policy(served: &Served) -> Policy {
    Policy {
        work: served.work(served.own_size(), 3).unwrap(),
        jobs_max: NonZeroU32::new(4).unwrap(),
        queue_max: 8,
        settle: Duration::ZERO,
        grace: Duration::from_secs(3),
        patience: Duration::from_secs(120),
        attempts_max: 3,
        decoding_max: 2,
        assignments_before: 0,
        assumed_link: Link { bytes_per_second: 1e8, latency_seconds: 1e-4 },
    }
}

fn switchboard(served: &Served) -> Switchboard {
    let me = Me {
        end: End { node: COORDINATOR, incarnation: Incarnation(1) },
        model: served.digest,
        class: None,
        tls: Tls(Arc::new(|_| panic!("nobody is dialled"))),
        payload_bytes_max: 1 << 20,
    };
    Switchboard::new(me, mpsc::channel(1).0, mpsc::channel(1).0)
}

/// A wish for a video of two seconds.
fn wish(job: u128, served: &Served) -> Wish {
    let new = api::NewVideo {
        prompt: "a red ball".to_owned(),
        seconds: Some(2.0),
        ..api::NewVideo::default()
    };
    Wish {
        job: JobId(job),
        order: served.order(&new).unwrap(),
        seed: 5,
        priority: 0,
        user: None,
        created_at: 100,
        is_probe: false,
    }
}
