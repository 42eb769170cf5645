//! A core without sockets: a test speaks for its workers.

mod restored;

use std::{num::NonZeroU32, sync::Arc, time::Duration};

use chunk_log::{ChunkLog, Limits};
use link::{Me, Switchboard, switchboard::Tls};
use plan::{cluster::Policy, placement::Link};
use proto::data::End;
use store::Embedded;
use tempfile::TempDir;
use tokio::sync::mpsc;
use types::{Incarnation, JobId, ModelDigest, NodeId};

use super::{Core, Event, Handle, Parts, Wish};
use crate::{
    log_thread::Log,
    model::{Served, tests::served},
    records,
    saver::Saver,
};

const COORDINATOR: NodeId = NodeId(1);

/// A core and what it stands on.
struct House {
    core: Core,
    #[expect(dead_code, reason = "it keeps the core's handles alive")]
    events: mpsc::Receiver<Event>,
    folder: TempDir,
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
