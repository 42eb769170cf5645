//! A worker as a process: it joins, listens, and serves sessions until stopped.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use backend::Backend;
use checkpoint::Checkpoint;
use identity::{Expect, Identity, Subject};
use link::{
    Arrival, DataService, Notice, Switchboard, service::Relaying, switchboard::NOTICES_MAX,
    switchboard::Tls, tls,
};
use plan::placement::Limits;
use proto::{control::wire::FromWorker, data::Kind};
use rustls::time_provider::DefaultTimeProvider;
use tokio::{
    net::TcpListener,
    sync::{Semaphore, mpsc, watch},
    task::JoinHandle,
};
use types::{Class, Incarnation, ModelDigest, NodeId};

use crate::{
    Error,
    device::{self, MESSAGES_MAX, Task},
    join,
    loader::{Loader, NOTHING, Wish},
    report::Shared,
    routes::{RoutedOutlet, Routes},
    session::Ended,
    weights::{Remote, Weights},
};

/// Waits between sessions: the first, and the longest.
const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(3);

/// What a worker is run with.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where the coordinator's gRPC is, `HOST:PORT`.
    pub coordinator: String,
    /// What makes this machine a node, the first time.
    pub token: Option<String>,
    /// Where the node's identity and fetched weights are kept.
    pub data: PathBuf,
    /// Its name, for people.
    pub name: String,
    /// Its device's name, for people.
    pub device: String,
    /// Threads that it computes with.
    pub threads: u32,
    /// Where other workers open connections; `None` if this one opens all.
    pub listen: Option<SocketAddr>,
    /// Where others find it, `HOST:PORT`; empty: at the address that the
    /// coordinator is reached from.
    pub advertise: Vec<String>,
    /// Bytes it may use.
    pub memory_bytes: u64,
    /// What its owner allows.
    pub limits: Limits,
    /// What it is for.
    pub roles: Roles,
    /// Bytes of fetched weights that it may keep in its data folder; `None` if it
    /// works with the model on this machine only.
    pub cache_bytes_max: Option<u64>,
}

/// What a worker is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Roles {
    /// Holding layers.
    pub layers: bool,
    /// Encoding text.
    pub text: bool,
    /// Decoding.
    pub decoder: bool,
}

/// Why a worker has ended in peace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finished {
    /// It was stopped on its own machine.
    Stopped,
    /// The coordinator was asked to drain it: it has finished what was open, and left.
    Drained,
}

/// A worker at work.
pub(crate) struct Worker {
    pub(crate) config: Config,
    pub(crate) node: NodeId,
    pub(crate) boot: u128,
    /// The model that the coordinator works with, once it has said so.
    pub(crate) served: Option<ModelDigest>,
    pub(crate) weights: Weights,
    pub(crate) class: Class,
    pub(crate) tls: Tls,
    pub(crate) addresses: Vec<String>,
    pub(crate) incarnation: Option<Incarnation>,
    /// Whether it leaves when it is released.
    pub(crate) is_draining: bool,
    pub(crate) coordinator: Option<NodeId>,
    pub(crate) switchboard: watch::Sender<Option<Switchboard>>,
    pub(crate) arrivals: mpsc::Sender<Arrival>,
    pub(crate) notices_sender: mpsc::Sender<Notice>,
    pub(crate) notices: mpsc::Receiver<Notice>,
    pub(crate) routes: Routes,
    pub(crate) tasks: mpsc::UnboundedSender<Task>,
    /// What is to be held; the loader follows.
    pub(crate) wishes: watch::Sender<Option<Wish>>,
    pub(crate) shared: Shared,
    /// What is to be said to the coordinator, in this session or the next.
    pub(crate) outbox_sender: mpsc::UnboundedSender<FromWorker>,
    pub(crate) outbox: mpsc::UnboundedReceiver<FromWorker>,
    pub(crate) stop: watch::Receiver<bool>,
}

/// Runs a worker until `stop` is true or it has drained. `checkpoint` is the model on
/// this machine with its digest, if there is one.
///
/// # Errors
///
/// [`Error`] if it cannot join, listen or start, or the coordinator refuses it.
pub async fn run<B: Backend>(
    config: Config,
    backend: Arc<B>,
    checkpoint: Option<(ModelDigest, Checkpoint)>,
    mut stop: watch::Receiver<bool>,
) -> Result<Finished, Error> {
    let identity = tokio::select! {
        identity = join::identity(&config) => identity?,
        _ = stop.wait_for(|stop| *stop) => return Ok(Finished::Stopped),
    };
    let Subject::Node(node) = *identity.subject() else {
        let problem = format!("{} holds the certificate of no node", config.data.display());
        return Err(Error::Refused(problem));
    };
    let class = backend.class();
    let tls = client_tls(identity.clone());
    let weights = weights(&config, checkpoint, tls.clone())?;
    let system = |action: &str| {
        let action = action.to_owned();
        move |source| Error::System { action, source }
    };
    let listener = match config.listen {
        Some(address) => {
            let action = format!("listen at {address}");
            Some(TcpListener::bind(address).await.map_err(system(&action))?)
        }
        None => None,
    };
    let addresses = advertised(&config, listener.as_ref());
    let (switchboard, known) = watch::channel(None);
    let serving = listener.map(|listener| serve(listener, &identity, known));
    let routes = Routes::default();
    let (outbox_sender, outbox) = mpsc::unbounded_channel();
    let outlet = RoutedOutlet { routes: routes.clone(), outbox: outbox_sender.clone() };
    let shared = Shared::default();
    let tasks = device::start(backend, outlet, shared.clone());
    let tasks = tasks.map_err(system("start the device's thread"))?;
    let wishes = load(&weights, &tasks, &outbox_sender);
    let (notices_sender, notices) = mpsc::channel(NOTICES_MAX);
    let worker = Worker {
        node,
        boot: boot().map_err(system("draw random numbers"))?,
        served: None,
        weights,
        class,
        tls,
        addresses,
        incarnation: None,
        is_draining: false,
        coordinator: None,
        switchboard,
        arrivals: pump(tasks.clone(), routes.clone()),
        notices_sender,
        notices,
        routes,
        tasks,
        wishes,
        shared,
        outbox_sender,
        outbox,
        stop,
        config,
    };
    let finished = worker.serve_sessions().await;
    // The process may live on, as a coordinator.
    serving.inspect(JoinHandle::abort);
    finished
}

impl Worker {
    async fn serve_sessions(mut self) -> Result<Finished, Error> {
        let (mut wait, mut has_joined_again) = (WAIT_MIN, false);
        loop {
            let known = self.incarnation;
            match self.session().await {
                Ended::Drained => return Ok(Finished::Drained),
                _ if *self.stop.borrow() => return Ok(Finished::Stopped),
                Ended::NotAMember(_) if self.config.token.is_some() && !has_joined_again => {
                    has_joined_again = true;
                    tokio::select! {
                        joined = join::join_again(&self.config) => joined?,
                        _ = self.stop.wait_for(|stop| *stop) => {
                            return Ok(Finished::Stopped);
                        }
                    }
                    continue;
                }
                Ended::Refused(message) | Ended::NotAMember(message) => {
                    return Err(Error::Refused(message));
                }
                Ended::Broken(problem) => {
                    tracing::warn!(%problem, "no session with the coordinator");
                }
            }
            if self.tasks.is_closed() {
                return Err(Error::Device);
            }
            if known != self.incarnation {
                wait = WAIT_MIN;
            }
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                _ = self.stop.changed() => return Ok(Finished::Stopped),
            }
            wait = (wait * 2).min(WAIT_MAX);
        }
    }
}

/// Where weights come from.
fn weights(
    config: &Config,
    local: Option<(ModelDigest, Checkpoint)>,
    tls: Tls,
) -> Result<Weights, Error> {
    let remote = config.cache_bytes_max.map(|bytes_max| Remote {
        coordinator: config.coordinator.clone(),
        tls,
        folder: config.data.join("blobs"),
        bytes_max,
    });
    Ok(Weights::new(local, remote)?)
}

/// Starts what follows the coordinator's wishes.
fn load(
    weights: &Weights,
    tasks: &mpsc::UnboundedSender<Task>,
    outbox: &mpsc::UnboundedSender<FromWorker>,
) -> watch::Sender<Option<Wish>> {
    let (sender, wishes) = watch::channel(None);
    let (weights, tasks, outbox) = (weights.clone(), tasks.clone(), outbox.clone());
    tokio::spawn(Loader { weights, tasks, outbox, held: NOTHING }.follow(wishes));
    sender
}

/// Carries what comes from other nodes to the device; more waits on the wire. What
/// only the coordinator may say is taken from nobody else.
fn pump(tasks: mpsc::UnboundedSender<Task>, routes: Routes) -> mpsc::Sender<Arrival> {
    let (sender, mut arrivals) = mpsc::channel::<Arrival>(1);
    let permits = Arc::new(Semaphore::new(MESSAGES_MAX));
    tokio::spawn(async move {
        while let Some(arrival) = arrivals.recv().await {
            let is_run =
                matches!(arrival.message.kind, Kind::Hidden { .. } | Kind::Velocity { .. });
            if !is_run && !routes.is_coordinator(arrival.from) {
                continue;
            }
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return };
            if tasks.send(Task::Message(arrival.message, permit)).is_err() {
                return;
            }
        }
    });
    sender
}

/// Lets other workers open connections, until it is aborted.
fn serve(
    listener: TcpListener,
    identity: &Identity,
    known: watch::Receiver<Option<Switchboard>>,
) -> JoinHandle<()> {
    let config = identity::server_config(identity, Arc::new(DefaultTimeProvider));
    let service = DataService::new(known, Relaying::Off);
    let incoming = tls::incoming(listener, Arc::new(config), service.clone());
    let service = service.into_server();
    tokio::spawn(async move {
        let served = tls::server().add_service(service).serve_with_incoming(incoming).await;
        if let Err(error) = served {
            tracing::error!(%error, "other workers cannot open connections any more");
        }
    })
}

fn client_tls(identity: Identity) -> Tls {
    Tls(Arc::new(move |expected: Expect| {
        Arc::new(identity::client_config(&identity, expected, Arc::new(DefaultTimeProvider)))
    }))
}

/// Where other workers find this one.
fn advertised(config: &Config, listener: Option<&TcpListener>) -> Vec<String> {
    let Some(Ok(local)) = listener.map(TcpListener::local_addr) else { return Vec::new() };
    if !config.advertise.is_empty() {
        return config.advertise.clone();
    }
    if !local.ip().is_unspecified() {
        return vec![local.to_string()];
    }
    let towards = outward_address(&config.coordinator).ok();
    // On the coordinator's own machine others come from elsewhere.
    let outward = towards.filter(IpAddr::is_loopback).and_then(|_| outward_address(ELSEWHERE).ok());
    let addresses = outward.into_iter().chain(towards);
    let addresses: Vec<_> =
        addresses.map(|ip| SocketAddr::new(ip, local.port()).to_string()).collect();
    if addresses.is_empty() {
        tracing::warn!("no address is known at which others find this worker: give --advertise");
    }
    addresses
}

/// An address of nobody's, for documents (RFC 5737): the way there leads outside.
const ELSEWHERE: &str = "192.0.2.1:9";

/// The address from which `target` is reached. Nothing is sent.
fn outward_address(target: &str) -> io::Result<IpAddr> {
    let unreachable = || io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    let target = target.to_socket_addrs()?.next().ok_or_else(unreachable)?;
    let any: IpAddr = match target {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(target)?;
    Ok(socket.local_addr()?.ip())
}

fn boot() -> io::Result<u128> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    Ok(u128::from_le_bytes(bytes))
}
