//! All hops of a node.
//!
//! ```text
//!   way        who opens the connection
//!   Dial       this node, at one of the peer's addresses
//!   Accept     the peer
//!   Relay      both, at the coordinator, which passes frames on
//! ```
//!
//! Each side greets with Hello, and none speaks with a peer whose version, model
//! or numeric class is not its own. A hop lasts until it is ended here; its
//! connections come and go. One that was ended is remembered, so that it can come
//! back while the peer still has its end.
//!
//! Invariant: nothing that runs for a switchboard keeps it; when its last clone is
//! dropped, every task of it ends.

use std::{
    collections::BTreeMap,
    sync::{self, Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use identity::{Expect, Subject};
use proto::{
    data::{End, Hello, Message, frame},
    generated::data::refusal::Reason,
};
use rustls::ClientConfig;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
    time::Instant,
};
use types::{Class, Incarnation, ModelDigest, NodeId};

pub use crate::greeting::Refused;
use crate::{
    connection::{Carried, Connection},
    dial::Dialler,
    greeting,
    hop::{Full, Hop, Outlived, Traffic},
    live::Seen,
    transfer::Clock,
    transport::{Link, Unwanted},
};

/// Peers of a node, at most: every worker of a large cluster, at its coordinator.
const PEERS_MAX: usize = 4096;

/// Notices that may wait to be read. While they do, connections wait too.
pub const NOTICES_MAX: usize = 256;

/// A node's hops. Clones are the same.
#[derive(Clone, Debug)]
pub struct Switchboard(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    me: Me,
    hops: Mutex<BTreeMap<NodeId, Entry>>,
    arrivals: mpsc::Sender<Arrival>,
    notices: mpsc::Sender<Notice>,
    clock: Clock,
}

/// A switchboard that may be gone.
#[derive(Clone, Debug)]
pub(crate) struct Weak(sync::Weak<Inner>);

#[derive(Debug)]
struct Entry {
    hop: Arc<Hop>,
    /// `None` once the hop was ended.
    way: Option<Way>,
    dialler: Option<Dialler>,
    /// Dropping it ends the connection that carries.
    current: Option<oneshot::Sender<()>>,
}

/// Who this node is to its peers.
#[derive(Clone, Debug)]
pub struct Me {
    /// This node in this life.
    pub end: End,
    /// The model it works with.
    pub model: ModelDigest,
    /// The class that it computes in; `None` for one that does not compute.
    pub class: Option<Class>,
    /// How it opens a connection to whom it expects.
    pub tls: Tls,
    /// Bytes of payload of a message, at most.
    pub payload_bytes_max: usize,
}

/// How connections to other nodes are opened.
#[derive(Clone)]
pub struct Tls(pub Arc<dyn Fn(Expect) -> Arc<ClientConfig> + Send + Sync>);

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls")
    }
}

/// How a peer is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// At one of these addresses, `HOST:PORT`, best first.
    Dial(Vec<String>),
    /// It dials.
    Accept,
    /// By the coordinator, which is at this address.
    Relay(String),
    /// By the coordinator, which this node is.
    Coordinator(String),
}

/// A message that came.
#[derive(Debug)]
pub struct Arrival {
    /// Who sent it.
    pub from: NodeId,
    /// In which life.
    pub incarnation: Incarnation,
    /// What.
    pub message: Message,
}

/// What became of a hop.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Notice {
    /// There is a connection. `is_new_life` if the peer has started again since the
    /// last one: what it knew is lost.
    Connected {
        /// The peer.
        peer: NodeId,
        /// Whether it is another life of it.
        is_new_life: bool,
    },
    /// The connection broke; another one is waited for.
    Broken {
        /// The peer.
        peer: NodeId,
        /// Why.
        problem: String,
    },
    /// It has been tried for a while in vain.
    Unreachable {
        /// The peer.
        peer: NodeId,
        /// What came of it last.
        problem: String,
    },
}

/// A message is not sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// Connect it first.
    #[error("node {0} is no peer of this one")]
    NoPeer(NodeId),
    /// It takes nothing.
    #[error(transparent)]
    Full(#[from] Full),
    /// The peer would refuse it. Send less at a time.
    #[error("a message of {bytes} bytes is larger than the {max} that are allowed")]
    TooLarge {
        /// Bytes of its payload.
        bytes: usize,
        /// Bytes of a payload, at most.
        max: usize,
    },
}

impl Switchboard {
    /// No peer yet. What comes from peers goes to `arrivals`, what becomes of hops
    /// to `notices`.
    pub fn new(me: Me, arrivals: mpsc::Sender<Arrival>, notices: mpsc::Sender<Notice>) -> Self {
        let (hops, clock) = (Mutex::default(), Clock::default());
        Self(Arc::new(Inner { me, hops, arrivals, notices, clock }))
    }

    /// Who this node is.
    pub fn me(&self) -> &Me {
        &self.0.me
    }

    /// Keeps a hop to a peer from here on. Another way replaces the one before;
    /// what was not taken goes by it. The same way once more tries it anew, unless
    /// there is a connection.
    pub fn connect(&self, peer: NodeId, way: Way) {
        let mut hops = self.lock();
        if PEERS_MAX <= hops.len() && !hops.contains_key(&peer) {
            let ended = hops.iter().find(|(_, entry)| entry.way.is_none());
            let Some(ended) = ended.map(|(&ended, _)| ended) else {
                tracing::warn!(%peer, "there are {PEERS_MAX} peers: one more is not connected");
                return;
            };
            hops.remove(&ended);
        }
        let entry = hops.entry(peer).or_insert_with(|| {
            let payload_bytes_max = self.0.me.payload_bytes_max;
            let (arrivals, clock) = (self.0.arrivals.clone(), self.0.clock.clone());
            Entry::new(Hop::new(peer, arrivals, payload_bytes_max, clock))
        });
        if entry.way.as_ref() == Some(&way) && entry.hop.is_carried() {
            return;
        }
        entry.dialler = Dialler::start(self, &entry.hop, peer, &way);
        entry.way = Some(way);
    }

    /// Ends the hop to a peer; what was not taken is dropped.
    pub fn disconnect(&self, peer: NodeId) {
        if let Some(entry) = self.lock().get_mut(&peer) {
            entry.end();
        }
    }

    /// Ends every hop but those to these peers.
    pub fn retain(&self, is_kept: impl Fn(NodeId) -> bool) {
        let mut hops = self.lock();
        hops.iter_mut().filter(|&(&peer, _)| !is_kept(peer)).for_each(|(_, entry)| entry.end());
    }

    /// Sends a message, now or when there is a connection.
    ///
    /// # Errors
    ///
    /// [`SendError`] if there is no hop, too much waits for it, or the message is
    /// larger than this node's own limit.
    pub fn send(&self, to: NodeId, message: Message) -> Result<(), SendError> {
        let (bytes, max) = (message.payload.len(), self.0.me.payload_bytes_max);
        if max < bytes {
            return Err(SendError::TooLarge { bytes, max });
        }
        let hops = self.lock();
        let entry = hops.get(&to).filter(|entry| entry.way.is_some());
        Ok(entry.ok_or(SendError::NoPeer(to))?.hop.send(message)?)
    }

    /// Waits until a peer has taken everything; nothing if there is no hop to it.
    pub(crate) async fn settled(&self, peer: NodeId) -> Option<()> {
        let hop = self.hop(peer)?;
        hop.settled().await;
        Some(())
    }

    /// What the hop to a peer has carried.
    pub fn traffic(&self, peer: NodeId) -> Option<Traffic> {
        Some(self.hop(peer)?.traffic())
    }

    /// How fast hops were lately, by what they carried: those that carried enough.
    pub fn seen(&self) -> Vec<(NodeId, Seen)> {
        let hops = self.lock();
        let open = hops.iter().filter(|(_, entry)| entry.way.is_some());
        open.filter_map(|(&peer, entry)| Some((peer, entry.hop.seen()?))).collect()
    }

    /// What all hops have carried, ended ones too.
    pub fn total(&self) -> Traffic {
        let mut total = Traffic::default();
        self.lock().values().for_each(|entry| total += entry.hop.traffic());
        total
    }

    /// Time in which a message was on its way to this node or from it, over all hops:
    /// from when a hop was handed it until the peer has said that it took it, and
    /// from the first frame of one that comes until its last. What several take at
    /// once counts once.
    pub fn transfer(&self) -> Duration {
        self.0.clock.total(Instant::now())
    }

    /// Takes up a connection that a peer opened, whose certificate names `subject`
    /// and which began with `hello`. A task of its own carries messages over it.
    ///
    /// # Errors
    ///
    /// The connection, and why it is not taken up.
    pub async fn accept(
        &self,
        subject: &Subject,
        hello: Hello,
        mut link: Link,
    ) -> Result<(), Unwanted> {
        let peer = hello.from.node;
        if let Err(refused) = self.admit(subject, &hello) {
            return Err(Unwanted { refused, link });
        }
        if link.say(frame::Kind::Hello(self.hello(peer).into())).await.is_ok() {
            self.carry(peer, hello.from.incarnation, link)?;
        }
        Ok(())
    }

    /// Whether a connection of this subject that begins with `hello` is taken up.
    fn admit(&self, subject: &Subject, hello: &Hello) -> Result<(), Refused> {
        let is_who_it_says = match subject {
            Subject::Node(node) => *node == hello.from.node,
            // The coordinator passes on what others say.
            Subject::Coordinator => true,
            Subject::Client(_) | Subject::Administrator => false,
        };
        if !is_who_it_says {
            let message = format!("the certificate is {subject}, not node {}'s", hello.from.node);
            return Err(Refused { reason: Reason::UnknownNode, message });
        }
        self.check(hello.from.node, hello)
    }

    /// What this side says first on a connection.
    pub(crate) fn hello(&self, peer: NodeId) -> Hello {
        greeting::hello(&self.0.me, peer, self.hop(peer).map_or(0, |hop| hop.taken()))
    }

    /// Whether this Hello is of the peer that is meant, and one can speak with it.
    pub(crate) fn check(&self, peer: NodeId, hello: &Hello) -> Result<(), Refused> {
        greeting::check(&self.0.me, peer, hello)?;
        let hop = self.hop(peer).ok_or_else(|| self.no_hop(peer))?;
        Ok(hop.check(hello.from.incarnation)?)
    }

    /// Carries the hop's messages over a connection until it breaks, in a task of
    /// its own. An earlier connection ends first: a peer that comes again has lost
    /// it.
    ///
    /// # Errors
    ///
    /// The connection, if the hop was ended meanwhile.
    pub(crate) fn carry(
        &self,
        peer: NodeId,
        incarnation: Incarnation,
        link: Link,
    ) -> Result<JoinHandle<Carried>, Unwanted> {
        let mut hops = self.lock();
        let entry = hops.get_mut(&peer).filter(|entry| entry.way.is_some());
        let Some(entry) = entry else {
            return Err(Unwanted { refused: self.no_hop(peer), link });
        };
        let (sender, stop) = oneshot::channel();
        entry.current = Some(sender);
        let (hop, notices) = (Arc::clone(&entry.hop), self.0.notices.clone());
        let connection = Connection { peer, incarnation, hop, link, notices, stop };
        Ok(tokio::spawn(connection.carry()))
    }

    pub(crate) fn notices(&self) -> &mpsc::Sender<Notice> {
        &self.0.notices
    }

    pub(crate) fn downgrade(&self) -> Weak {
        Weak(Arc::downgrade(&self.0))
    }

    fn hop(&self, peer: NodeId) -> Option<Arc<Hop>> {
        let hops = self.lock();
        let entry = hops.get(&peer).filter(|entry| entry.way.is_some())?;
        Some(Arc::clone(&entry.hop))
    }

    fn no_hop(&self, peer: NodeId) -> Refused {
        let message = format!("node {} has no hop to {peer}", self.0.me.end.node);
        Refused { reason: Reason::UnknownNode, message }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Entry>> {
        self.0.hops.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Weak {
    pub(crate) fn upgrade(&self) -> Option<Switchboard> {
        Some(Switchboard(self.0.upgrade()?))
    }
}

impl Entry {
    fn new(hop: Hop) -> Self {
        Self { hop: Arc::new(hop), way: None, dialler: None, current: None }
    }

    fn end(&mut self) {
        (self.way, self.dialler, self.current) = (None, None, None);
        self.hop.give_up();
    }
}

impl From<Outlived> for Refused {
    fn from(outlived: Outlived) -> Self {
        Self { reason: Reason::Incarnation, message: outlived.to_string() }
    }
}
