//! Frames on the TLS stream itself, as `proto::data::framing` lays them out.
//!
//! ```text
//!  send ─▶ heads, then a part where it lies ─▶ TLS ═▶ TLS ─▶ header ─▶ a small buffer
//!                                                               └────▶ the payload
//! ```
//!
//! A payload is copied by TLS and by nobody else: parts are written from where they
//! lie, together with the headers before them, and read to where they go.
//!
//! Either side says that it lives whenever it has said nothing for [`KEEP_ALIVE`].
//! A reader that hears nothing for twice as long gives up the connection; one that
//! does not read, because nobody takes what came, does not count that time.
//!
//! Invariants: of what a peer sends, at most one frame without payload, or one part
//! that is passed on, is held here; it is allocated after its header was found good.
//! A future that is dropped in the middle of a frame loses nothing of it.

use std::{
    io,
    pin::Pin,
    task::{Context, Waker},
};

use async_trait::async_trait;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use proto::{
    data::{
        Assembly, Frame, frame,
        framing::{self, HEADER_BYTES, Header},
    },
    generated::data::Part,
};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    time::{Duration, Instant, timeout},
};

use super::{Broken, Link, ReceiveFrames, Received, SendFrames, Unread};
use crate::tls::KEEP_ALIVE;

/// How long the other side may say nothing.
const SILENCE_MAX: Duration = Duration::from_secs(2 * KEEP_ALIVE.as_secs());

/// Bytes of frames without payload that wait for more to come.
const HEADS_BYTES_MAX: usize = 4096;

/// Bytes that are read to be forgotten, at a time.
const DRAIN_BYTES: usize = 16 << 10;

/// Frames are written to it.
struct Sender<W: AsyncWrite + Unpin> {
    stream: W,
    /// What is to be written first.
    heads: BytesMut,
    /// What is to be written after it.
    part: Bytes,
    /// When something was last written.
    spoke: Instant,
}

/// Frames are read from it.
struct Receiver<R> {
    stream: R,
    /// What comes, if it is known.
    header: Option<Header>,
    /// What came of the header, or of what follows it.
    bytes: BytesMut,
}

impl Link {
    /// Frames on a stream of bytes: what a TLS handshake has left open.
    pub fn framed(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static) -> Self {
        let (hither, away) = tokio::io::split(stream);
        Self { away: Box::new(Sender::new(away)), hither: Box::new(Receiver::new(hither)) }
    }
}

impl<W: AsyncWrite + Unpin> Sender<W> {
    fn new(stream: W) -> Self {
        Self { stream, heads: BytesMut::new(), part: Bytes::new(), spoke: Instant::now() }
    }

    async fn write(&mut self) -> Result<(), Broken> {
        if self.heads.is_empty() && self.part.is_empty() {
            return Ok(());
        }
        let mut all = Buf::chain(&mut self.heads, &mut self.part);
        self.stream.write_all_buf(&mut all).await.map_err(broken)?;
        // It may be the last that holds a payload.
        self.part = Bytes::new();
        self.spoke = Instant::now();
        Ok(())
    }
}

#[async_trait]
impl<W: AsyncWrite + Unpin + Send> SendFrames for Sender<W> {
    async fn send(&mut self, frame: Frame) -> Result<(), Broken> {
        if self.part.has_remaining() {
            self.write().await?;
        }
        self.part = framing::put(frame, &mut self.heads);
        if self.part.has_remaining() || HEADS_BYTES_MAX <= self.heads.len() {
            self.write().await?;
        }
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Broken> {
        self.write().await?;
        self.stream.flush().await.map_err(broken)
    }

    fn beats_at(&self) -> Option<Instant> {
        Some(self.spoke + KEEP_ALIVE)
    }

    async fn beat(&mut self) -> Result<(), Broken> {
        self.write().await?;
        self.heads.extend_from_slice(&Header::ALIVE.bytes());
        self.flush().await
    }

    async fn end(&mut self) -> Result<(), Broken> {
        self.flush().await?;
        self.stream.shutdown().await.map_err(broken)
    }
}

impl<W: AsyncWrite + Unpin> Drop for Sender<W> {
    /// Says that it was the end, if that can be said without waiting.
    fn drop(&mut self) {
        let mut nobody = Context::from_waker(Waker::noop());
        drop(Pin::new(&mut self.stream).poll_shutdown(&mut nobody));
    }
}

impl<R: AsyncRead + Unpin> Receiver<R> {
    fn new(stream: R) -> Self {
        Self { stream, header: None, bytes: BytesMut::new() }
    }

    /// What comes next.
    async fn header(&mut self) -> Result<Header, Unread> {
        loop {
            if let Some(header) = self.header {
                return Ok(header);
            }
            self.fill(HEADER_BYTES).await?;
            let mut bytes = [0; HEADER_BYTES];
            self.bytes.copy_to_slice(&mut bytes);
            let header = Header::read(bytes)?;
            self.header = (header != Header::ALIVE).then_some(header);
        }
    }

    /// Waits until there are so many bytes here.
    async fn fill(&mut self, bytes: usize) -> Result<(), Broken> {
        let missing = bytes - self.bytes.len();
        self.bytes.reserve(missing);
        fill(&mut self.stream, (&mut self.bytes).limit(missing)).await
    }
}

#[async_trait]
impl<R: AsyncRead + Unpin + Send> ReceiveFrames for Receiver<R> {
    async fn receive(&mut self) -> Result<Frame, Unread> {
        let header = self.header().await?;
        let (Header::Frame(bytes) | Header::Part(bytes)) = header;
        self.fill(bytes).await?;
        self.header = None;
        let data = self.bytes.split().freeze();
        Ok(match header {
            Header::Frame(_) => framing::take(data)?,
            Header::Part(_) => frame(frame::Kind::Part(Part { data })),
        })
    }

    async fn receive_into(&mut self, assembly: &mut Assembly) -> Result<Received, Unread> {
        let Header::Part(bytes) = self.header().await? else {
            return Ok(Received::Frame(self.receive().await?));
        };
        fill(&mut self.stream, assembly.room(bytes)?).await?;
        self.header = None;
        Ok(Received::Part(assembly.complete()))
    }

    async fn drain(&mut self) {
        let mut forgotten = vec![0; DRAIN_BYTES];
        while let Ok(1..) = self.stream.read(&mut forgotten).await {}
    }
}

/// Reads until there is no room any more.
async fn fill(stream: &mut (impl AsyncRead + Unpin), mut into: impl BufMut) -> Result<(), Broken> {
    while into.has_remaining_mut() {
        let read = timeout(SILENCE_MAX, stream.read_buf(&mut into)).await;
        if read.map_err(|_| silent())?.map_err(broken)? == 0 {
            return Err(Broken("the other side ended it".to_owned()));
        }
    }
    Ok(())
}

fn silent() -> Broken {
    Broken(format!("the other side has said nothing for {} s", SILENCE_MAX.as_secs()))
}

#[expect(clippy::needless_pass_by_value, reason = "it is mapped over errors")]
fn broken(error: io::Error) -> Broken {
    Broken(error.to_string())
}

#[cfg(test)]
mod tests;
