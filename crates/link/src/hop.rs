//! The messages to and from one peer, over one connection after another.
//!
//! ```text
//!  connection   Taken ──▶ Head, Part, Part, Taken, Head, ...      each way
//! ```
//!
//! Once both have greeted, each side says what it has taken of the other one's
//! messages, and sends none before it knows that. Hello cannot tell it: it is
//! made before its sender knows which life of the peer will answer.
//!
//! A hop that was ended keeps its counts, for as long as this node lives: the peer
//! may still have its end of it, and goes on counting when the hop comes back.
//!
//! Invariants: one connection at a time touches the window, the one that has the
//! turn, and it is of the life that the window is of. At most [`WAITING_MAX`]
//! messages wait, with no more than [`WAITING_BYTES_MAX`] of payload besides one.

use std::{
    collections::VecDeque,
    convert::Infallible,
    sync::{Mutex, MutexGuard, PoisonError},
};

use proto::{
    Malformed, PART_BYTES_MAX,
    data::{Assembly, Frame, Message, frame},
    generated::data::{Taken, refusal::Reason},
};
use tokio::{
    sync::{Notify, mpsc},
    task::yield_now,
    time::{Instant, sleep, timeout},
};
use types::{Incarnation, NodeId};

use crate::{
    greeting::{GREETING_TIMEOUT, Refused},
    live::{Live, Seen},
    switchboard::Arrival,
    transfer::{Clock, Direction},
    transport::{Broken, Link, REFUSAL_TIMEOUT, ReceiveFrames, Received, SendFrames, Unread, wait},
    window::{Unsound, Window},
};

/// Messages that may wait for a peer. A job has three runs on its way at most,
/// so this is room for more jobs than a worker holds.
pub const WAITING_MAX: usize = 1024;

/// Bytes of payload that may wait for a peer; one message may be larger. Three
/// runs of 28.8 MB each of twelve jobs.
pub const WAITING_BYTES_MAX: usize = 1 << 30;

/// Bytes of a frame in a gRPC stream, at most: a part and its few fields.
pub const FRAME_BYTES_MAX: usize = PART_BYTES_MAX + 4096;

/// One peer, as this node knows it.
#[derive(Debug)]
pub(crate) struct Hop {
    peer: NodeId,
    state: Mutex<State>,
    /// There is something to write.
    due: Notify,
    /// The peer has taken everything.
    settled: Notify,
    /// Whose connection carries.
    pub(crate) turn: tokio::sync::Mutex<()>,
    arrivals: mpsc::Sender<Arrival>,
    payload_bytes_max: usize,
    clock: Clock,
}

#[derive(Debug)]
struct State {
    /// The peer's life that the window is of.
    incarnation: Option<Incarnation>,
    window: Window,
    waiting: VecDeque<Message>,
    waiting_bytes: usize,
    said: Said,
    traffic: Traffic,
    /// Busy until the peer has taken everything.
    away: Direction,
    live: Live,
}

/// What was said on this connection.
#[derive(Debug, Default)]
struct Said {
    /// To the peer, to have been taken.
    taken: Option<u64>,
    /// Whether the peer has said what it had taken.
    has_peer: bool,
}

/// What a hop has carried.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of payload sent, repetitions too.
    pub sent_bytes: u64,
    /// Bytes of payload received.
    pub received_bytes: u64,
    /// Connections that were made.
    pub connections: u64,
}

/// Too much waits for a peer that takes nothing. Send it later, or end the hop.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "{WAITING_MAX} messages, or {WAITING_BYTES_MAX} bytes, wait for node {peer}, which takes none"
)]
pub struct Full {
    /// The peer.
    pub peer: NodeId,
}

/// A peer that a later life of it has replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("incarnation {} of the node is over: {} is known", found.0, known.0)]
pub(crate) struct Outlived {
    pub(crate) found: Incarnation,
    pub(crate) known: Incarnation,
}

/// Why a connection ends.
enum End {
    Broken(Broken),
    /// The peer is not sound. It is told.
    Fault(String),
}

impl Hop {
    pub(crate) fn new(
        peer: NodeId,
        arrivals: mpsc::Sender<Arrival>,
        payload_bytes_max: usize,
        clock: Clock,
    ) -> Self {
        let state = Mutex::new(State::new(clock.direction()));
        let (due, settled, turn) = (Notify::new(), Notify::new(), tokio::sync::Mutex::default());
        Self { peer, state, due, settled, turn, arrivals, payload_bytes_max, clock }
    }

    /// Sends a message, now or when there is a connection.
    pub(crate) fn send(&self, message: Message) -> Result<(), Full> {
        let mut state = self.lock();
        if WAITING_MAX <= state.waiting.len() || WAITING_BYTES_MAX <= state.waiting_bytes {
            return Err(Full { peer: self.peer });
        }
        let is_first = state.is_settled();
        state.live.handle_sent(Instant::now(), is_first);
        state.waiting_bytes += message.payload.len();
        state.waiting.push_back(message);
        state.away.set(true);
        drop(state);
        self.due.notify_one();
        Ok(())
    }

    /// Waits until the peer has taken everything.
    pub(crate) async fn settled(&self) {
        loop {
            let settled = self.settled.notified();
            if self.lock().is_settled() {
                return;
            }
            settled.await;
        }
    }

    /// Drops what the peer has not taken.
    pub(crate) fn give_up(&self) {
        let mut state = self.lock();
        state.forget_waiting();
        state.window.give_up();
        state.live.interrupt();
        state.away.set(false);
    }

    /// Whether this life of the peer may speak.
    pub(crate) fn check(&self, found: Incarnation) -> Result<(), Outlived> {
        self.lock().check(found)
    }

    /// A connection to this life of the peer begins; the caller has the turn. A
    /// later life begins anew: what was on its way to the one before is dropped. What
    /// waits stays: it may have been meant for this one, and its fence tells what is
    /// not. Gives whether it is another one.
    pub(crate) fn begin(&self, found: Incarnation) -> Result<bool, Outlived> {
        let mut state = self.lock();
        state.check(found)?;
        let is_another = state.incarnation.is_some_and(|known| known != found);
        if is_another {
            (state.window, state.live) = (Window::default(), Live::default());
            let is_settled = state.is_settled();
            state.away.set(!is_settled);
        }
        state.incarnation = Some(found);
        state.said = Said::default();
        state.live.interrupt();
        state.traffic.connections += 1;
        Ok(is_another)
    }

    /// Whether there is a connection.
    pub(crate) fn is_carried(&self) -> bool {
        self.turn.try_lock().is_err()
    }

    /// Messages taken from the peer, in this life of it.
    pub(crate) fn taken(&self) -> u64 {
        self.lock().window.received()
    }

    /// Grows with every message that one of both sides takes.
    pub(crate) fn progress(&self) -> u64 {
        self.lock().window.progress()
    }

    pub(crate) fn traffic(&self) -> Traffic {
        self.lock().traffic
    }

    /// How fast it was lately, in this life of the peer.
    pub(crate) fn seen(&self) -> Option<Seen> {
        self.lock().live.seen(Instant::now())
    }

    /// Carries messages over a connection that has begun, until it breaks.
    pub(crate) async fn carry(&self, mut link: Link) -> Broken {
        let write = async {
            let end = self.write(&mut *link.away).await;
            // What is yet to be read may tell why the peer does not read.
            sleep(REFUSAL_TIMEOUT).await;
            end
        };
        let end = tokio::select! {
            Err(end) = write => end,
            Err(end) = self.read(&mut *link.hither) => end,
        };
        match end {
            End::Broken(broken) => broken,
            End::Fault(message) => {
                link.refuse(Refused { reason: Reason::Malformed, message: message.clone() }).await;
                Broken(message)
            }
        }
    }

    async fn write(&self, away: &mut dyn SendFrames) -> Result<Infallible, End> {
        loop {
            self.write_taken(away).await?;
            let Some((number, message)) = self.poll_message() else {
                wait(away, self.due.notified()).await?;
                continue;
            };
            for frame in message.frames(number) {
                away.send(frame).await?;
                // It does not wait for the end of a large message.
                self.write_taken(away).await?;
            }
        }
    }

    async fn write_taken(&self, away: &mut dyn SendFrames) -> Result<(), Broken> {
        match self.poll_taken() {
            Some(count) => away.send(frame(frame::Kind::Taken(Taken { count }))).await,
            None => Ok(()),
        }
    }

    /// How many messages were taken, if the peer does not know it.
    fn poll_taken(&self) -> Option<u64> {
        let mut state = self.lock();
        let taken = Some(state.window.received());
        if state.said.taken == taken {
            return None;
        }
        state.said.taken = taken;
        taken
    }

    /// The message that is to be written next, with its number.
    fn poll_message(&self) -> Option<(u64, Message)> {
        let mut state = self.lock();
        if !state.said.has_peer {
            return None;
        }
        while state.window.has_room()
            && let Some(message) = state.waiting.pop_front()
        {
            state.waiting_bytes -= message.payload.len();
            state.window.push(message);
        }
        let (number, message) = state.window.poll_transmit()?;
        state.traffic.sent_bytes += message.payload.len() as u64;
        Some((number, message))
    }

    async fn read(&self, hither: &mut dyn ReceiveFrames) -> Result<Infallible, End> {
        let first = timeout(GREETING_TIMEOUT, hither.receive()).await;
        let first = first.map_err(|_| Broken("the peer did not say what it has taken".into()))?;
        self.resume(first?)?;
        let mut assembly = Assembly::new(self.payload_bytes_max);
        let mut direction = self.clock.direction();
        loop {
            let complete = match hither.receive_into(&mut assembly).await? {
                Received::Frame(frame) => self.assemble(&mut assembly, frame)?,
                Received::Part(complete) => complete,
            };
            direction.set(assembly.has_begun());
            if let Some((number, message)) = complete {
                self.arrive(number, message).await?;
                // The peer may wait for hearing of it, so it hears before more is read.
                yield_now().await;
            }
        }
    }

    /// Takes the first frame of a connection.
    fn resume(&self, first: Frame) -> Result<(), End> {
        match first.kind {
            Some(frame::Kind::Taken(Taken { count })) => {
                let mut state = self.lock();
                state.window.resume(count)?;
                state.said.has_peer = true;
                self.note_taken(&mut state);
            }
            Some(frame::Kind::Refusal(refusal)) => return Err(Broken(refusal.message).into()),
            Some(frame::Kind::Hello(_) | frame::Kind::Head(_) | frame::Kind::Part(_)) | None => {
                return Err(End::Fault("the peer did not say first what it has taken".to_owned()));
            }
        }
        self.due.notify_one();
        Ok(())
    }

    fn assemble(
        &self,
        assembly: &mut Assembly,
        frame: Frame,
    ) -> Result<Option<(u64, Message)>, End> {
        match frame.kind {
            Some(frame::Kind::Head(head)) => Ok(assembly.head(head)?),
            Some(frame::Kind::Part(part)) => Ok(assembly.part(&part)?),
            Some(frame::Kind::Taken(taken)) => {
                let mut state = self.lock();
                let more = state.window.handle_taken(taken.count)?;
                let is_settled = state.is_settled();
                state.live.handle_taken(Instant::now(), more, is_settled);
                self.note_taken(&mut state);
                drop(state);
                self.due.notify_one();
                Ok(None)
            }
            Some(frame::Kind::Refusal(refusal)) => Err(Broken(refusal.message).into()),
            Some(frame::Kind::Hello(_)) => Err(End::Fault("the peer greeted twice".to_owned())),
            // A kind that a later version has.
            None => Ok(None),
        }
    }

    /// The peer may have taken everything.
    fn note_taken(&self, state: &mut State) {
        let is_settled = state.is_settled();
        state.away.set(!is_settled);
        if is_settled {
            self.settled.notify_waiters();
        }
    }

    /// Hands a message on. It counts as taken once it is: both in one step, so that
    /// a connection that breaks in between loses nothing.
    async fn arrive(&self, number: u64, message: Message) -> Result<(), End> {
        let place = self.arrivals.reserve().await;
        let place = place.map_err(|_| Broken("this node takes no more messages".to_owned()))?;
        let mut state = self.lock();
        let Some(incarnation) = state.incarnation else { return Ok(()) };
        if state.window.handle_message(number)? {
            state.traffic.received_bytes += message.payload.len() as u64;
            place.send(Arrival { from: self.peer, incarnation, message });
        }
        drop(state);
        self.due.notify_one();
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics while it holds the lock, and the state is whole at any time.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn new(away: Direction) -> Self {
        Self {
            incarnation: None,
            window: Window::default(),
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            said: Said::default(),
            traffic: Traffic::default(),
            away,
            live: Live::default(),
        }
    }

    fn check(&self, found: Incarnation) -> Result<(), Outlived> {
        match self.incarnation {
            Some(known) if found < known => Err(Outlived { found, known }),
            Some(_) | None => Ok(()),
        }
    }

    fn is_settled(&self) -> bool {
        self.waiting.is_empty() && self.window.is_settled()
    }

    fn forget_waiting(&mut self) {
        self.waiting.clear();
        self.waiting_bytes = 0;
    }
}

impl std::ops::AddAssign for Traffic {
    fn add_assign(&mut self, other: Self) {
        self.sent_bytes += other.sent_bytes;
        self.received_bytes += other.received_bytes;
        self.connections += other.connections;
    }
}

impl From<Broken> for End {
    fn from(broken: Broken) -> Self {
        Self::Broken(broken)
    }
}

impl From<Malformed> for End {
    fn from(malformed: Malformed) -> Self {
        Self::Fault(malformed.to_string())
    }
}

impl From<Unread> for End {
    fn from(unread: Unread) -> Self {
        match unread {
            Unread::Broken(broken) => broken.into(),
            Unread::Malformed(malformed) => malformed.into(),
        }
    }
}

impl From<Unsound> for End {
    fn from(unsound: Unsound) -> Self {
        Self::Fault(unsound.to_string())
    }
}
