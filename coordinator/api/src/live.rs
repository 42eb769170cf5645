//! A video that is watched while it is made.
//!
//! ```text
//! writer ─▶ file ── bytes written (watch) ─▶ tail ─▶ parts ─▶ client
//! ```
//!
//! Every client reads the same file from its beginning at its own pace, so one
//! that comes late gets the same bytes, and one that is slow holds up nobody: the
//! writer only tells how far it is and never waits. A tail ends when all bytes of
//! a finished file are read, and with an error when the writer is gone before
//! that, so that the client sees a cut connection rather than a short film. The
//! file is opened when it has a first byte: a client may wait from the queue on.

use std::io;

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::fs::File;

use crate::{
    parts::{open, part},
    service::{Live, Written},
};

/// Reads a file from its beginning while it grows.
pub(crate) fn tail(live: Live) -> impl Stream<Item = io::Result<Bytes>> {
    let tail = Tail { live, file: None, read_bytes: 0 };
    stream::try_unfold(tail, |mut tail| async move {
        let part = tail.next().await?;
        Ok(part.map(|part| (part, tail)))
    })
}

struct Tail {
    live: Live,
    file: Option<File>,
    read_bytes: u64,
}

impl Tail {
    async fn next(&mut self) -> io::Result<Option<Bytes>> {
        loop {
            let Written { bytes, finished } = *self.live.written.borrow_and_update();
            if self.read_bytes < bytes {
                return self.read(bytes).await.map(Some);
            }
            if finished {
                return Ok(None);
            }
            let gone =
                || io::Error::new(io::ErrorKind::UnexpectedEof, "the video was not finished");
            self.live.written.changed().await.map_err(|_| gone())?;
        }
    }

    /// Reads on in a file of which `bytes` are written.
    async fn read(&mut self, bytes: u64) -> io::Result<Bytes> {
        let file = match &mut self.file {
            Some(file) => file,
            none => {
                let (file, _) = open(&self.live.path).await.map_err(io::Error::other)?;
                none.insert(file)
            }
        };
        let part = part(file, bytes - self.read_bytes).await?;
        self.read_bytes += part.len() as u64;
        Ok(part)
    }
}
