//! A cluster on loopback: nodes with certificates of one authority.

use std::{fmt::Debug, future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use identity::{Authority, Expect, GRPC_PROTOCOL, HOP_PROTOCOL, Identity, Subject, Validity};
use link::{
    Arrival, DataService, Me, Notice, Switchboard, Way,
    service::Relaying,
    switchboard::{NOTICES_MAX, Tls},
    tls,
};
use proto::data::{End, Kind, Message};
use rustls::{ClientConfig, pki_types::UnixTime, time_provider::TimeProvider};
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::AbortHandle,
    time::timeout,
};
use types::{Class, Epoch, Fence, Incarnation, JobId, ModelDigest, NodeId};

/// When all of it happens, in Unix seconds.
const NOW_UNIX: u64 = 1_800_000_000;

/// Gives up on what takes far too long.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(30), future).await.expect("it takes too long")
}

/// An authority and the nodes that it signs.
pub(crate) struct Cluster(Authority);

/// What carries hops.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Carrier {
    /// Frames on the TLS stream.
    Framed,
    /// gRPC, as for peers that know nothing else.
    Grpc,
}

impl Carrier {
    pub(crate) fn other(self) -> Self {
        match self {
            Self::Framed => Self::Grpc,
            Self::Grpc => Self::Framed,
        }
    }
}

/// A node to be started.
pub(crate) struct Options {
    pub(crate) id: u128,
    pub(crate) subject: Subject,
    pub(crate) incarnation: u64,
    pub(crate) model: ModelDigest,
    pub(crate) class: Option<Class>,
    pub(crate) arrivals_max: usize,
}

/// A node that runs until it is dropped.
pub(crate) struct Node {
    pub(crate) id: NodeId,
    pub(crate) address: String,
    pub(crate) identity: Identity,
    pub(crate) switchboard: Switchboard,
    pub(crate) arrivals: mpsc::Receiver<Arrival>,
    pub(crate) notices: mpsc::Receiver<Notice>,
    pub(crate) known: watch::Sender<Option<Switchboard>>,
    pub(crate) service: DataService,
    pub(crate) server: Server,
}

/// Accepts connections until it is dropped.
pub(crate) struct Server(AbortHandle);

/// Bytes of payload that nodes accept.
pub(crate) const PAYLOAD_BYTES_MAX: usize = 8 << 20;

impl Options {
    pub(crate) fn node(id: u128) -> Self {
        Self {
            id,
            subject: Subject::Node(NodeId(id)),
            incarnation: 1,
            model: ModelDigest([1; 32]),
            class: Some(Class::CpuF32),
            arrivals_max: 16,
        }
    }

    pub(crate) fn coordinator() -> Self {
        Self { subject: Subject::Coordinator, class: None, ..Self::node(0xc0) }
    }
}

impl Cluster {
    pub(crate) fn new() -> Self {
        Self(Authority::create(NOW_UNIX).unwrap())
    }

    pub(crate) fn authority(&self) -> &Authority {
        &self.0
    }

    pub(crate) fn identity(&self, subject: &Subject) -> Identity {
        let validity = Validity { now_unix: NOW_UNIX, lifetime_s: 3600 };
        self.0.issue(subject, validity).unwrap()
    }

    pub(crate) async fn node(&self, id: u128) -> Node {
        self.start(Options::node(id)).await
    }

    pub(crate) async fn start(&self, options: Options) -> Node {
        let Options { id, subject, incarnation, model, class, arrivals_max } = options;
        let identity = self.identity(&subject);
        let id = NodeId(id);
        let me = Me {
            end: End { node: id, incarnation: Incarnation(incarnation) },
            model,
            class,
            tls: client_tls(&identity),
            payload_bytes_max: PAYLOAD_BYTES_MAX,
        };
        let (arrivals_sender, arrivals) = mpsc::channel(arrivals_max);
        let (notices_sender, notices) = mpsc::channel(NOTICES_MAX);
        let switchboard = Switchboard::new(me, arrivals_sender, notices_sender);
        let (known, receiver) = watch::channel(Some(switchboard.clone()));
        let relaying = if subject == Subject::Coordinator { Relaying::On } else { Relaying::Off };
        let service = DataService::new(receiver, relaying);
        let (address, server) = serve(&identity, &service, crate::CARRIER).await;
        Node { id, address, identity, switchboard, arrivals, notices, known, service, server }
    }
}

/// Accepts connections that one carrier carries, and no other.
pub(crate) async fn serve(
    identity: &Identity,
    service: &DataService,
    carrier: Carrier,
) -> (String, Server) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut config = identity::server_config(identity, Arc::new(Noon));
    let protocol = match carrier {
        Carrier::Framed => HOP_PROTOCOL,
        Carrier::Grpc => GRPC_PROTOCOL,
    };
    config.alpn_protocols.retain(|known| known == protocol);
    let incoming = tls::incoming(listener, Arc::new(config), service.clone());
    let service = service.clone().into_server();
    let server = tls::server().add_service(service).serve_with_incoming(incoming);
    (address, Server(tokio::spawn(server).abort_handle()))
}

impl Node {
    /// Dials `other`, which waits for it.
    pub(crate) fn dial(&self, other: &Self) {
        self.dial_at(other, &other.address);
    }

    /// The same at another address.
    pub(crate) fn dial_at(&self, other: &Self, address: &str) {
        other.switchboard.connect(self.id, Way::Accept);
        self.switchboard.connect(other.id, Way::Dial(vec![address.to_owned()]));
    }

    pub(crate) fn send(&self, to: &Self, message: Message) {
        self.switchboard.send(to.id, message).unwrap();
    }

    /// The next message, which is of `from`.
    pub(crate) async fn receive(&mut self, from: NodeId) -> Message {
        let arrival = soon(self.arrivals.recv()).await.unwrap();
        assert_eq!(arrival.from, from);
        arrival.message
    }

    pub(crate) async fn notice(&mut self) -> Notice {
        soon(self.notices.recv()).await.unwrap()
    }

    /// Waits for the notice that `peer` is connected; gives whether it lives anew.
    pub(crate) async fn connected(&mut self, peer: &Self) -> bool {
        loop {
            if let Notice::Connected { peer: found, is_new_life } = self.notice().await {
                assert_eq!(found, peer.id);
                return is_new_life;
            }
        }
    }

    /// Waits for the notice that a connection broke.
    pub(crate) async fn broken(&mut self) {
        while !matches!(self.notice().await, Notice::Broken { .. }) {}
    }

    /// Waits for the notice that a peer is unreachable; gives why.
    pub(crate) async fn unreachable(&mut self) -> String {
        loop {
            if let Notice::Unreachable { problem, .. } = self.notice().await {
                return problem;
            }
        }
    }

    pub(crate) fn connections(&self, peer: &Self) -> u64 {
        self.switchboard.traffic(peer.id).unwrap().connections
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends both ways at once, and checks that all of it arrives.
pub(crate) async fn exchange(one: &mut Node, other: &mut Node, sizes: &[usize]) {
    let (one_id, other_id) = (one.id, other.id);
    for (message, answer) in messages(sizes).zip(messages(sizes)) {
        one.send(other, message);
        other.send(one, answer);
    }
    let there = expect(other, one_id, sizes);
    let back = expect(one, other_id, sizes);
    tokio::join!(there, back);
}

/// Checks that these messages come next, in order.
pub(crate) async fn expect(node: &mut Node, from: NodeId, sizes: &[usize]) {
    for message in messages(sizes) {
        let found = node.receive(from).await;
        assert!(found == message, "{:?} came for {:?}", found.kind, message.kind);
    }
}

/// Messages of these sizes, numbered, each with other bytes.
pub(crate) fn messages(sizes: &[usize]) -> impl Iterator<Item = Message> + '_ {
    (0..).zip(sizes).map(|(chunk, &bytes)| message(chunk, bytes))
}

pub(crate) fn message(chunk: u32, bytes: usize) -> Message {
    let fence = Fence { job: JobId(1), epoch: Epoch(1) };
    let seed = chunk.to_le_bytes()[0];
    let payload = (0..bytes).map(|at| seed.wrapping_add((at % 251).to_le_bytes()[0]));
    let payload = Bytes::from(payload.collect::<Vec<u8>>());
    Message { fence, kind: Kind::Durable { chunk }, payload }
}

pub(crate) fn client_config(identity: &Identity, expect: Expect) -> Arc<ClientConfig> {
    Arc::new(identity::client_config(identity, expect, Arc::new(Noon)))
}

fn client_tls(identity: &Identity) -> Tls {
    let identity = identity.clone();
    Tls(Arc::new(move |expect| client_config(&identity, expect)))
}

/// A clock that stands.
#[derive(Debug)]
pub(crate) struct Noon;

impl TimeProvider for Noon {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(NOW_UNIX)))
    }
}

/// Checks that a sentence has these parts.
pub(crate) fn assert_names(sentence: &str, parts: &[&dyn Debug]) {
    for part in parts {
        let part = format!("{part:?}");
        assert!(sentence.contains(part.trim_matches('"')), "{part} is not in: {sentence}");
    }
}
