//! What a server sends, read on a thread of its own.
//!
//! ```text
//!  thread: asks, reads ──▶ at most 4 parts of 64 KiB ──▶ Download: io::Read
//! ```
//!
//! Whoever reads looks every 200 ms whether the user asked to stop, and never waits
//! for the server longer than that. The thread ends with its next part then, or when
//! the server has been silent for too long.

use std::{
    io::{self, Cursor, ErrorKind, Read},
    sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender},
    thread,
    time::Duration,
};

use super::server::{Refusal, Server};
use crate::{failure::Failure, interrupt::Interrupt};

/// Between two looks at the user's wish to stop.
pub(super) const TICK: Duration = Duration::from_millis(200);
/// Bytes that are read at once, at most.
const PART_BYTES_MAX: usize = 64 << 10;
/// Parts that wait to be read, at most.
const PARTS_MAX: usize = 4;

/// An answer's content. A read fails once the user asked to stop.
pub(super) struct Download {
    parts: Receiver<io::Result<Vec<u8>>>,
    part: Cursor<Vec<u8>>,
    interrupt: Interrupt,
}

/// The user asked to stop.
struct Stopped;

impl Download {
    /// Asks for something. Nothing for as long as `silence` fails a read.
    ///
    /// # Errors
    ///
    /// [`Refusal`]; of [`Failure::Interrupted`] if the user asked to stop meanwhile.
    pub(super) fn open(
        server: &Server,
        path: &str,
        silence: Duration,
        interrupt: &Interrupt,
    ) -> Result<Self, Refusal> {
        let (opened, opening) = mpsc::sync_channel(1);
        let (sender, parts) = mpsc::sync_channel(PARTS_MAX);
        let (asked, path) = (server.clone(), path.to_owned());
        let read = move || match asked.stream(&path, silence) {
            Ok(content) => {
                if opened.send(Ok(())).is_ok() {
                    send(content, &sender);
                }
            }
            // Whoever is gone needs no reason.
            Err(refusal) => drop(opened.send(Err(refusal))),
        };
        let failed = |problem: String| Refusal::Final(Failure::Machine(problem));
        let spawned = thread::Builder::new().name("download".to_owned()).spawn(read);
        spawned.map_err(|error| failed(format!("cannot start a thread: {error}")))?;
        match arrival(&opening, interrupt) {
            Ok(Some(outcome)) => outcome?,
            Ok(None) => return Err(failed("the thread that downloads has ended".to_owned())),
            Err(Stopped) => {
                let message = "nothing was written".to_owned();
                return Err(Refusal::Final(Failure::Interrupted(message)));
            }
        }
        Ok(Self { parts, part: Cursor::default(), interrupt: interrupt.clone() })
    }
}

impl Read for Download {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let count = self.part.read(buffer)?;
            if 0 < count || buffer.is_empty() {
                return Ok(count);
            }
            self.part = match arrival(&self.parts, &self.interrupt) {
                Ok(Some(part)) => Cursor::new(part?),
                Ok(None) => return Ok(0),
                Err(Stopped) => return Err(io::Error::other("stopped")),
            };
        }
    }
}

/// The next thing that arrives; nothing if no more can.
fn arrival<T>(channel: &Receiver<T>, interrupt: &Interrupt) -> Result<Option<T>, Stopped> {
    while !interrupt.asked() {
        match channel.recv_timeout(TICK) {
            Ok(arrived) => return Ok(Some(arrived)),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return Ok(None),
        }
    }
    Err(Stopped)
}

/// Sends what is read, until its end or until nobody listens.
fn send(mut content: impl Read, parts: &SyncSender<io::Result<Vec<u8>>>) {
    let mut buffer = vec![0; PART_BYTES_MAX];
    loop {
        let part = match content.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => Ok(buffer[..count].to_vec()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => Err(error),
        };
        let is_last = part.is_err();
        if parts.send(part).is_err() || is_last {
            return;
        }
    }
}
