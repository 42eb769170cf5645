//! Opens connections to a peer, again and again.
//!
//! Invariant: it lives no longer than its switchboard's hop, which it does not
//! keep; while another connection carries, it opens none.

use std::{sync::Arc, time::Duration};

use identity::Expect;
use proto::{
    data::{Frame, Hello, frame},
    generated::data::data_client::DataClient,
};
use rustls::ClientConfig;
use tokio::{
    sync::mpsc,
    task::AbortHandle,
    time::{Instant, sleep, timeout},
};
use tokio_stream::wrappers::ReceiverStream;
use types::NodeId;

use crate::{
    connection::Carried,
    greeting::{self, GREETING_TIMEOUT},
    hop::{FRAME_BYTES_MAX, Hop},
    switchboard::{Notice, Switchboard, Way, Weak},
    tls,
    transport::{FRAMES_MAX, Link},
};

/// Waits between attempts: the first, and the longest.
const WAIT_MIN: Duration = Duration::from_millis(50);
const WAIT_MAX: Duration = Duration::from_secs(3);
/// How long attempts may fail before it is said that the peer is unreachable.
const UNREACHABLE_AFTER: Duration = Duration::from_secs(4);

/// A task that dials until this is dropped.
#[derive(Debug)]
pub(crate) struct Dialler(AbortHandle);

/// What is dialled.
struct Target {
    switchboard: Weak,
    hop: Arc<Hop>,
    notices: mpsc::Sender<Notice>,
    peer: NodeId,
    addresses: Vec<String>,
    expected: Expect,
}

impl Dialler {
    /// Dials where it is this side's to dial.
    pub(crate) fn start(
        switchboard: &Switchboard,
        hop: &Arc<Hop>,
        peer: NodeId,
        way: &Way,
    ) -> Option<Self> {
        let (addresses, expected) = match way.clone() {
            Way::Accept => return None,
            Way::Dial(addresses) => (addresses, Expect::Node(peer)),
            Way::Relay(address) | Way::Coordinator(address) => (vec![address], Expect::Coordinator),
        };
        let (hop, notices) = (Arc::clone(hop), switchboard.notices().clone());
        let switchboard = switchboard.downgrade();
        let target = Target { switchboard, hop, notices, peer, addresses, expected };
        Some(Self(tokio::spawn(target.dial()).abort_handle()))
    }
}

impl Drop for Dialler {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Target {
    async fn dial(self) {
        let peer = self.peer;
        let (mut failing_since, mut wait) = (None, WAIT_MIN);
        loop {
            let began = Instant::now();
            match self.round().await {
                Ok(()) => (failing_since, wait) = (None, WAIT_MIN),
                Err(problem) => {
                    tracing::debug!(%peer, %problem, "no connection");
                    let since = *failing_since.get_or_insert(began);
                    if UNREACHABLE_AFTER <= since.elapsed() {
                        // It is said again after as long: who is told may forget.
                        failing_since = None;
                        drop(self.notices.send(Notice::Unreachable { peer, problem }).await);
                    }
                }
            }
            sleep(jittered(wait)).await;
            wait = (wait * 2).min(WAIT_MAX);
            if self.hop.is_carried() {
                drop(self.hop.turn.lock().await);
                failing_since = None;
            }
        }
    }

    /// Tries every address once, or until a good connection is over.
    async fn round(&self) -> Result<(), String> {
        let mut problems = Vec::new();
        for address in &self.addresses {
            match self.attempt(address).await {
                Ok(Carried { is_good: true, .. }) => return Ok(()),
                Ok(Carried { problem, .. }) | Err(problem) => problems.push(problem),
            }
        }
        if problems.is_empty() {
            return Err("no address of it is known".to_owned());
        }
        Err(problems.join("; "))
    }

    /// Opens a connection and waits until it is over.
    async fn attempt(&self, address: &str) -> Result<Carried, String> {
        let (config, hello) = {
            let switchboard = self.switchboard()?;
            ((switchboard.me().tls.0)(self.expected), switchboard.hello(self.peer))
        };
        let mut link = open(address, &config, hello).await?;
        let hello = greeting::receive(&mut *link.hither).await?;
        let checked = self.switchboard()?.check(self.peer, &hello);
        if let Err(refused) = checked {
            let problem = refused.to_string();
            link.refuse(refused).await;
            return Err(problem);
        }
        let carried = self.switchboard()?.carry(self.peer, hello.from.incarnation, link);
        let carried = carried.map_err(|unwanted| unwanted.refused.to_string())?;
        carried.await.map_err(|_| "this node stops".to_owned())
    }

    fn switchboard(&self) -> Result<Switchboard, String> {
        self.switchboard.upgrade().ok_or_else(|| "this node stops".to_owned())
    }
}

/// Opens a connection and greets: with frames alone where the peer knows them, else
/// by gRPC.
async fn open(address: &str, config: &ClientConfig, hello: Hello) -> Result<Link, String> {
    let opened = tls::open(address, config).await.map_err(|error| error.to_string())?;
    let hello = frame::Kind::Hello(hello.into());
    if tls::is_framed(opened.get_ref().1) {
        let mut link = Link::framed(opened);
        link.say(hello).await.map_err(|broken| broken.to_string())?;
        return Ok(link);
    }
    let channel = tls::channel(address, opened).await.map_err(|error| error.to_string())?;
    let mut client = DataClient::new(channel)
        .max_decoding_message_size(FRAME_BYTES_MAX)
        .max_encoding_message_size(FRAME_BYTES_MAX);
    let (away, frames) = mpsc::channel::<Frame>(FRAMES_MAX);
    away.send(frame(hello)).await.map_err(|error| error.to_string())?;
    let hop = timeout(GREETING_TIMEOUT, client.hop(ReceiverStream::new(frames))).await;
    let hop = hop.map_err(|_| format!("{address} did not answer"))?;
    let hither = hop.map_err(|status| format!("{address} answers: {}", status.message()))?;
    Ok(Link::grpc(away, hither.into_inner()))
}

/// A time between nothing and `wait`, so that many do not come back at once.
pub fn jittered(wait: Duration) -> Duration {
    let mut bytes = [0; 4];
    match getrandom::fill(&mut bytes) {
        Ok(()) => wait.mul_f64(f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)),
        Err(_) => wait,
    }
}
