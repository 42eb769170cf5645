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
//!
//! A writer may begin again, with another file of the same name and the same
//! bytes. The file is then missing or short for a while, and a tail waits until
//! there is more of it than it has read.

use std::io::{self, ErrorKind, SeekFrom};

use bytes::Bytes;
use futures_util::{Stream, stream};
use tokio::{fs::File, io::AsyncSeekExt};

use crate::{
    parts::{PART_BYTES_MAX, part},
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
                match self.read(bytes - self.read_bytes).await {
                    Err(error) if !finished && is_short(&error) => {}
                    read => return read.map(Some),
                }
            } else if finished {
                return Ok(None);
            }
            let gone = || io::Error::new(ErrorKind::UnexpectedEof, "the video was not finished");
            self.live.written.changed().await.map_err(|_| gone())?;
        }
    }

    /// Reads on, in the file at hand or else in the one that has its name now.
    async fn read(&mut self, bytes_left: u64) -> io::Result<Bytes> {
        let at_hand = match &mut self.file {
            Some(file) => part(file, bytes_left).await.ok(),
            None => None,
        };
        let part = match at_hand {
            Some(part) => part,
            None => part(self.reopen().await?, bytes_left).await?,
        };
        self.read_bytes += part.len() as u64;
        Ok(part)
    }

    async fn reopen(&mut self) -> io::Result<&mut File> {
        let mut file = File::open(&self.live.path).await?;
        file.set_max_buf_size(PART_BYTES_MAX);
        file.seek(SeekFrom::Start(self.read_bytes)).await?;
        Ok(self.file.insert(file))
    }
}

/// Whether there is no such file, or not so much of it.
fn is_short(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::UnexpectedEof)
}
