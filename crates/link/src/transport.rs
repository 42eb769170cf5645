//! What a connection is to a hop: frames both ways, in order, until it breaks.
//!
//! ```text
//!  framed   frames on the TLS stream itself      between nodes that both know it
//!  grpc     a gRPC stream                        with any other
//! ```
//!
//! Which of the two it is, the TLS handshake settles; to hops they are the same.

mod framed;
mod grpc;

use std::pin::pin;

use async_trait::async_trait;
use proto::{
    Malformed,
    data::{Assembly, Frame, Message, frame},
};
use tokio::time::{Duration, Instant, timeout, timeout_at};

pub(crate) use self::grpc::FRAMES_MAX;
use crate::greeting::{Refused, refusal};

/// How long it is tried to tell a peer what is wrong with it, and to hear that.
pub(crate) const REFUSAL_TIMEOUT: Duration = Duration::from_secs(1);

/// A connection of a hop. Its two directions end together.
pub struct Link {
    /// From this node.
    pub away: Box<dyn SendFrames>,
    /// To this node.
    pub hither: Box<dyn ReceiveFrames>,
}

/// The direction away from this node. To drop it ends it.
#[async_trait]
pub trait SendFrames: Send {
    /// Hands a frame on; waits while the other side does not read. The frame may
    /// stay here until [`flush`](Self::flush). Whoever drops the future may send
    /// another frame: it comes after this one, or instead of it.
    async fn send(&mut self, frame: Frame) -> Result<(), Broken>;

    /// Hands on what stayed here.
    async fn flush(&mut self) -> Result<(), Broken> {
        Ok(())
    }

    /// When the other side must hear that this one lives, if it hears nothing else
    /// before. `None` if the transport sees to that by itself.
    fn beats_at(&self) -> Option<Instant> {
        None
    }

    /// Says that this side lives.
    async fn beat(&mut self) -> Result<(), Broken> {
        Ok(())
    }

    /// Ends this direction, after all that was sent.
    async fn end(&mut self) -> Result<(), Broken> {
        self.flush().await
    }
}

/// The direction to this node.
#[async_trait]
pub trait ReceiveFrames: Send {
    /// The next frame. Nothing is lost if the future is dropped.
    async fn receive(&mut self) -> Result<Frame, Unread>;

    /// The next frame; a part may go right to the message that is put together. If
    /// the future is dropped, nothing more can be received.
    async fn receive_into(&mut self, _: &mut Assembly) -> Result<Received, Unread> {
        Ok(Received::Frame(self.receive().await?))
    }

    /// Forgets what comes until the other side ends: a connection that is closed
    /// with something unread may take with it what was said last.
    async fn drain(&mut self) {}
}

/// What came.
#[derive(Debug)]
pub enum Received {
    /// A frame.
    Frame(Frame),
    /// A part, which was put to its message; the message with its number, if that was
    /// the last of it.
    Part(Option<(u64, Message)>),
}

/// The connection is gone. Whatever was not taken goes by the next one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the connection broke: {0}")]
pub struct Broken(pub String);

/// No frame comes any more.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unread {
    /// The connection is gone.
    #[error(transparent)]
    Broken(#[from] Broken),
    /// The other side is not sound. Tell it, and end the connection.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

/// A connection that is not taken up, and what its other side is told.
pub struct Unwanted {
    /// Why.
    pub refused: Refused,
    /// The connection.
    pub link: Link,
}

impl Link {
    /// Says one thing at once.
    pub(crate) async fn say(&mut self, kind: frame::Kind) -> Result<(), Broken> {
        self.away.send(frame(kind)).await?;
        self.away.flush().await
    }

    /// Ends the connection, and tells the other side why if it listens.
    pub(crate) async fn refuse(mut self, refused: Refused) {
        tracing::debug!(reason = ?refused.reason, message = %refused.message, "refused");
        let told = async {
            self.away.send(refusal(refused)).await?;
            self.away.end().await
        };
        if let Ok(Ok(())) = timeout(REFUSAL_TIMEOUT, told).await {
            drop(self.away);
            drop(timeout(REFUSAL_TIMEOUT, self.hither.drain()).await);
        }
    }
}

/// Waits for something, while the other side hears that this one lives.
pub(crate) async fn wait<T>(
    away: &mut dyn SendFrames,
    event: impl Future<Output = T>,
) -> Result<T, Broken> {
    away.flush().await?;
    let mut event = pin!(event);
    while let Some(beat) = away.beats_at() {
        match timeout_at(beat, event.as_mut()).await {
            Ok(output) => return Ok(output),
            Err(_) => away.beat().await?,
        }
    }
    Ok(event.await)
}
