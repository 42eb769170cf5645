//! Frames as the messages of a gRPC stream.

use async_trait::async_trait;
use futures_util::StreamExt;
use proto::data::Frame;
use tokio::sync::mpsc;
use tonic::{Status, Streaming};

use super::{Broken, Link, ReceiveFrames, SendFrames, Unread};

/// Frames that wait for a connection to take them.
pub(crate) const FRAMES_MAX: usize = 4;

impl Link {
    /// A gRPC stream: the caller's end, or the server's. What is sent feeds the
    /// stream at `away`'s other end.
    pub fn grpc<F: Outbound>(away: mpsc::Sender<F>, hither: Streaming<Frame>) -> Self {
        Self { away: Box::new(away), hither: Box::new(hither) }
    }
}

/// How a frame enters a stream: as it is from a client, as a result from a server.
pub trait Outbound: Send + 'static {
    /// The stream's item.
    fn of(frame: Frame) -> Self;
}

impl Outbound for Frame {
    fn of(frame: Frame) -> Self {
        frame
    }
}

impl Outbound for Result<Frame, Status> {
    fn of(frame: Frame) -> Self {
        Ok(frame)
    }
}

#[async_trait]
impl<F: Outbound> SendFrames for mpsc::Sender<F> {
    async fn send(&mut self, frame: Frame) -> Result<(), Broken> {
        let sent = mpsc::Sender::send(self, F::of(frame)).await;
        sent.map_err(|_| Broken("the other side ended it".to_owned()))
    }
}

#[async_trait]
impl ReceiveFrames for Streaming<Frame> {
    async fn receive(&mut self) -> Result<Frame, Unread> {
        match self.next().await {
            Some(Ok(frame)) => Ok(frame),
            Some(Err(status)) => Err(Broken(status.message().to_owned()).into()),
            None => Err(Broken("the other side ended it".to_owned()).into()),
        }
    }
}
