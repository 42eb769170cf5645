//! Starts a coordinator on its data folder.
//!
//! ```text
//!  data/ca/            the authority: whoever has it is the cluster
//!  data/identity/      the coordinator's own key and certificate
//!  data/join.token     what makes a machine a node
//!  data/serve.json     where gRPC listens, as long as it does
//!  data/state.redb     records: nodes, jobs, tokens
//!  data/log/           clean frames of every committed chunk
//!  data/videos/        the videos
//! ```

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    net::SocketAddr,
    num::NonZeroU32,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use api::Access;
use checkpoint::Library;
use chunk_log::{ChunkLog, Limits};
use identity::{Authority, FileError, FileNames, Identity, Subject, Validity};
use link::{Me, Switchboard, switchboard::NOTICES_MAX, switchboard::Tls};
use plan::{
    cluster::{Boot, Policy},
    placement::Link,
};
use proto::{control::wire, data::End};
use rustls::time_provider::DefaultTimeProvider;
use tokio::{
    net::TcpListener,
    sync::mpsc,
    task::{JoinHandle, spawn_blocking},
};
use types::{Incarnation, JobId, ModelDigest};

use crate::{
    admin::AddressFile,
    core::{Core, Event, Handle, Logged, PROBE_IDS, Parts, forecast::Foresight, unix_now},
    door::Door,
    grpc::{self, About, Grpc},
    http,
    log_thread::Log,
    model::Served,
    records,
    saver::Saver,
    state::{Left, State},
    tenure::{InUse, Tenure},
    tokens::{TOKEN_FILE, Tokens, TokensError},
};

/// What a coordinator is run with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Its data folder.
    pub data: PathBuf,
    /// Where records are kept.
    pub state: State,
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Where gRPC listens.
    pub grpc: SocketAddr,
    /// Who may come in by HTTP.
    pub access: Access,
    /// The model that is served.
    pub served: Served,
    /// Its weights, for workers that do not have them.
    pub library: Arc<Library>,
    /// Jobs at once.
    pub jobs_max: NonZeroU32,
    /// Jobs that may wait.
    pub queue_max: usize,
    /// Bytes of the chunk log, at most.
    pub log_bytes_max: u64,
    /// Bytes of finished videos with their clean frames, at most: the oldest are
    /// deleted for newer ones.
    pub videos_bytes_max: u64,
}

/// A coordinator at work.
#[derive(Debug)]
pub struct Running {
    /// Where HTTP listens.
    pub http: SocketAddr,
    /// Where gRPC listens.
    pub grpc: SocketAddr,
    /// Where the join token is.
    pub token: PathBuf,
    address: AddressFile,
    saver: Saver,
    tenure: Tenure,
    tasks: Vec<JoinHandle<()>>,
}

impl Running {
    /// Waits until another coordinator has begun on the same records: this one is to
    /// stop.
    pub async fn superseded(&self) {
        drop(self.tenure.superseded().wait_for(|&superseded| superseded).await);
    }

    /// Waits until everything is written down, for a while, and ends.
    pub async fn stop(self) {
        self.address.remove();
        let written = async {
            while !self.saver.is_idle() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let written = async {
            written.await;
            self.tenure.end().await;
        };
        drop(tokio::time::timeout(Duration::from_secs(3), written).await);
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

/// Why a coordinator does not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The system refused. Act on what it says.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: String,
        /// The system's answer.
        source: io::Error,
    },
    /// The cluster's authority cannot be read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The cluster's authority cannot be used.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The state store cannot be used.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Another coordinator works on the same records.
    #[error(transparent)]
    InUse(#[from] InUse),
    /// The chunk log cannot be used.
    #[error(transparent)]
    Log(#[from] chunk_log::Error),
    /// The model cannot be planned.
    #[error(transparent)]
    Work(#[from] plan::placement::WorkError),
    /// A record cannot be read. Restore the store from a copy.
    #[error("record {key} of the state store cannot be read: {source}; restore it from a copy")]
    Record {
        /// Its key.
        key: &'static str,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// There is no join token.
    #[error(transparent)]
    Tokens(#[from] TokensError),
}

/// How long a certificate of the coordinator's lasts; it is made anew at a start.
const CERTIFICATE_LIFETIME_S: u64 = 365 * 24 * 3600;
const HEARTBEAT_MS: u32 = 500;

/// Starts a coordinator.
///
/// # Errors
///
/// [`Error`] if its folder, its ports or its model cannot be used.
pub async fn start(config: Config) -> Result<Running, Error> {
    let kept = open(&config.data, &config.state, config.log_bytes_max).await?;
    let (http_listener, http) = listen(config.http).await?;
    let (listener, grpc) = listen(config.grpc).await?;
    let (token, videos) = (config.data.join(TOKEN_FILE), config.data.join("videos"));
    let (identity, authority) = (kept.identity.clone(), Arc::clone(&kept.authority));
    let (saver, tenure) = (Saver::start(Arc::new(kept.tenure.clone())), kept.tenure.clone());
    let tokens = Arc::clone(&kept.tokens);
    let (handle, events) = Handle::new();
    let served = Arc::new(config.served.clone());
    let switchboard = switchboard(&identity, kept.left.incarnation, &served, &handle);
    let parts = Parts {
        node: identity.key().node_id(),
        served: Arc::clone(&served),
        policy: policy(&served, &config, kept.left.incarnation)?,
        saver: saver.clone(),
        switchboard: switchboard.clone(),
        videos: videos.clone(),
        videos_bytes_max: config.videos_bytes_max,
        handle: handle.clone(),
    };
    let life = kept.left.incarnation;
    let core = core(parts, kept)?;
    let model = wire::Model { name: served.name.clone(), digest: served.digest.0.to_vec() };
    let coordinator = identity.key().node_id();
    let serving = Grpc {
        listener,
        authority,
        identity,
        switchboard,
        handle: handle.clone(),
        saver: saver.clone(),
        tokens,
        about: About { coordinator, model, heartbeat_ms: HEARTBEAT_MS },
        library: config.library,
    };
    let door = Door {
        handle,
        served,
        saver: saver.clone(),
        videos,
        life,
        begun_at: unix_now(),
        jobs_max: config.jobs_max,
        foresight: Foresight::new(),
    };
    let router = api::router(Arc::new(door), config.access);
    let tasks = vec![
        tokio::spawn(core.run(events)),
        tokio::spawn(async move {
            if let Err(error) = grpc::serve(serving).await {
                tracing::error!(%error, "workers cannot reach this coordinator any more");
            }
        }),
        tokio::spawn(http::serve(http_listener, router)),
        tokio::spawn(tenure.clone().keep(coordinator)),
    ];
    let address = AddressFile::write(&config.data, grpc)?;
    Ok(Running { http, grpc, token, address, saver, tenure, tasks })
}

async fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), Error> {
    let failed = |source| Error::System { action: format!("listen at {address}"), source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    Ok((listener, bound))
}

/// The core, with what the last one has left.
fn core(parts: Parts, kept: Kept) -> Result<Core, Error> {
    let Kept { mut chunk_log, left, .. } = kept;
    let logged = logged(&chunk_log, &left);
    sweep(&mut chunk_log, &left, &parts.videos);
    let action = || "start the chunk log's thread".to_owned();
    let log = Log::start(chunk_log);
    let log = log.map_err(|source| Error::System { action: action(), source })?;
    let mut core = Core::new(parts, log);
    restore(left, &logged, &mut core);
    Ok(core)
}

/// Bytes of a message between nodes.
const PAYLOAD_BYTES_MAX: usize = 256 << 20;

/// What a data folder holds.
struct Kept {
    authority: Arc<Authority>,
    identity: Identity,
    tenure: Tenure,
    tokens: Arc<Tokens>,
    chunk_log: ChunkLog,
    left: Left,
}

/// Opens a data folder; what is missing is made.
async fn open(data: &Path, state: &State, folder_bytes_max: u64) -> Result<Kept, Error> {
    for name in ["", "videos", "ca", "identity", "log"] {
        let folder = data.join(name);
        let action = format!("make {}", folder.display());
        fs::create_dir_all(&folder).map_err(|source| Error::System { action, source })?;
    }
    let authority = Arc::new(authority(&data.join("ca"))?);
    let identity = own_identity(&data.join("identity"), &authority)?;
    let folder = data.join("log");
    // It reads every file.
    let opening = spawn_blocking(move || ChunkLog::open(&folder, Limits { folder_bytes_max }));
    let chunk_log = opening.await.map_err(|error| Error::System {
        action: "open the chunk log".to_owned(),
        source: io::Error::other(error),
    })??;
    for cut in chunk_log.cuts() {
        tracing::warn!(?cut, "the end of a job's log was not whole and was cut off");
    }
    for (job, damage) in chunk_log.damaged() {
        tracing::error!(%job, ?damage, "a job's log is damaged: delete its video");
    }
    let store = state.open(data).await?;
    let left = Left::read(&*store, identity.key().node_id()).await?;
    let tenure = Tenure::new(store, left.begun);
    let tokens = Tokens::new(Arc::new(tenure.clone()), authority.fingerprint(), data);
    tokens.keep_file().await?;
    Ok(Kept { authority, identity, tenure, tokens: Arc::new(tokens), chunk_log, left })
}

fn policy(served: &Served, config: &Config, incarnation: u64) -> Result<Policy, Error> {
    let frames = served.model.transformer.as_ref().and_then(|transformer| transformer.window);
    let frames = frames.map_or(1, |window| window.chunk as u64);
    Ok(Policy {
        work: served.work(served.own_size(), frames)?,
        jobs_max: config.jobs_max,
        queue_max: config.queue_max,
        settle: Duration::from_millis(500),
        grace: Duration::from_secs(3),
        patience: Duration::from_secs(120),
        attempts_max: 3,
        assignments_before: incarnation << 32,
        decoding_max: 2,
        // 1 Gbit/s, until it is measured.
        assumed_link: Link { bytes_per_second: 1.17e8, latency_seconds: 2e-4 },
    })
}

fn switchboard(
    identity: &Identity,
    incarnation: u64,
    served: &Served,
    handle: &Handle,
) -> Switchboard {
    let me = Me {
        end: End { node: identity.key().node_id(), incarnation: Incarnation(incarnation) },
        model: served.digest,
        class: None,
        tls: client_tls(identity.clone()),
        payload_bytes_max: PAYLOAD_BYTES_MAX,
    };
    let (arrivals, mut arrived) = mpsc::channel(8);
    let (notices, mut noticed) = mpsc::channel(NOTICES_MAX);
    let handle = handle.clone();
    tokio::spawn(async move {
        while let Some(arrival) = arrived.recv().await {
            handle.tell(Event::Arrived(arrival)).await;
        }
    });
    tokio::spawn(async move {
        while let Some(notice) = noticed.recv().await {
            tracing::debug!(?notice, "a hop changed");
        }
    });
    Switchboard::new(me, arrivals, notices)
}

fn client_tls(identity: Identity) -> Tls {
    Tls(Arc::new(move |expected| {
        Arc::new(identity::client_config(&identity, expected, Arc::new(DefaultTimeProvider)))
    }))
}

fn authority(folder: &Path) -> Result<Authority, Error> {
    let is_new = fs::read_dir(folder).is_ok_and(|mut files| files.next().is_none());
    match Authority::load(folder) {
        // One file without the other is a loss, and no reason for another authority.
        Err(FileError::Missing { .. }) if is_new => {
            let authority = Authority::create(unix_now())?;
            authority.store(folder)?;
            Ok(authority)
        }
        loaded => Ok(loaded?),
    }
}

/// The coordinator's identity: its key stays, its certificate is made anew.
fn own_identity(folder: &Path, authority: &Authority) -> Result<Identity, Error> {
    let validity = Validity { now_unix: unix_now(), lifetime_s: CERTIFICATE_LIFETIME_S };
    let identity = match Identity::load(folder, FileNames::Node) {
        Ok(identity) => {
            let key = identity.key().clone();
            let certificate = authority.sign(&Subject::Coordinator, &key.public_der(), validity)?;
            Identity::new(key, certificate, authority.certificate().clone())?
        }
        Err(FileError::Missing { .. }) => authority.issue(&Subject::Coordinator, validity)?,
        Err(error) => return Err(error.into()),
    };
    identity.store(folder, FileNames::Node)?;
    Ok(identity)
}

/// Where the log is with every job that it has.
fn logged(log: &ChunkLog, left: &Left) -> BTreeMap<JobId, Logged> {
    let jobs = left.jobs.iter().map(|(job, _)| *job);
    let place = |job| {
        let header = log.header(job).ok()?;
        let logged = Logged {
            epoch: log.epoch(job).ok()?,
            committed: log.committed(job).ok()?,
            model: ModelDigest(header.model),
            chunk_bytes: header.x0_bytes(),
        };
        Some((job, logged))
    };
    jobs.filter_map(place).collect()
}

/// Removes logs of chunks that nobody asked for, and the second names of finished
/// videos. What else no record stands for is kept: the records may be the loss.
fn sweep(log: &mut ChunkLog, left: &Left, videos: &Path) {
    let known: BTreeSet<JobId> = left.jobs.iter().map(|&(job, _)| job).collect();
    let orphans: Vec<JobId> = log.jobs().filter(|job| !known.contains(job)).collect();
    for job in orphans {
        if PROBE_IDS <= job.0 {
            tracing::error!(%job, "there is a chunk log without a record: look whether --store is \
                the one that it was made with, or delete it");
        } else if let Err(error) = log.remove(job) {
            tracing::warn!(%job, %error, "a log was not removed");
        }
    }
    for (job, record) in &left.jobs {
        if record.status == records::Status::Completed {
            // Mostly it is gone already.
            let _ = fs::remove_file(videos.join(format!("{job}.live.mp4")));
        }
    }
}

/// Gives a core what the last one has left.
fn restore(left: Left, logged: &BTreeMap<JobId, Logged>, core: &mut Core) {
    for (node, record) in left.nodes {
        if let Ok(boot) = u128::from_str_radix(&record.boot, 16) {
            let incarnation = Incarnation(record.incarnation);
            core.cluster.restore_member(node, incarnation, Boot(boot));
        }
        core.add_node(node, record);
    }
    for (job, record) in left.jobs {
        if let Err(refusal) = core.restore(job, record, logged.get(&job)) {
            tracing::error!(%job, %refusal, "a video cannot be shown");
        }
    }
}
