//! Those who watch a video while it is made.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use crate::pool::{PATIENCE, Pool};

/// How often the slow one reads a byte.
const PACE: Duration = Duration::from_secs(1);

/// Reads a stream from its beginning, on a thread of its own.
pub(crate) struct Viewer {
    seen_bytes: Arc<AtomicUsize>,
    film: Receiver<io::Result<Vec<u8>>>,
}

impl Viewer {
    /// Reads as fast as there is something.
    pub(crate) fn watch(pool: &Pool, id: &str) -> Self {
        let mut body = ureq::get(url(pool, id)).call().unwrap().into_body().into_reader();
        let seen_bytes = Arc::new(AtomicUsize::new(0));
        let seen = Arc::clone(&seen_bytes);
        let mut read = move || {
            let (mut film, mut part) = (Vec::new(), [0; 4096]);
            loop {
                let count = body.read(&mut part)?;
                if count == 0 {
                    return Ok(film);
                }
                film.extend(&part[..count]);
                seen.store(film.len(), Ordering::Release);
            }
        };
        let (sender, film) = channel();
        // A test that has failed does not listen.
        thread::spawn(move || drop(sender.send(read())));
        Self { seen_bytes, film }
    }

    /// Bytes that it has.
    pub(crate) fn seen_bytes(&self) -> usize {
        self.seen_bytes.load(Ordering::Acquire)
    }

    /// All bytes, once the stream has ended; an error if it was cut.
    pub(crate) fn end(self) -> io::Result<Vec<u8>> {
        self.film.recv_timeout(PATIENCE).expect("the stream ends")
    }
}

/// Reads a byte a second, until it is told to read on.
pub(crate) struct SlowViewer {
    may_hurry: Arc<AtomicBool>,
    film: Receiver<(usize, Vec<u8>)>,
}

impl SlowViewer {
    pub(crate) fn watch(pool: &Pool, id: &str) -> Self {
        let mut stream = TcpStream::connect(&pool.http).unwrap();
        // Without coding of its parts, so that the rest of the connection is the film.
        let (path, host) = (format!("/v1/videos/{id}/stream"), &pool.http);
        write!(stream, "GET {path} HTTP/1.0\r\nhost: {host}\r\n\r\n").unwrap();
        let may_hurry = Arc::new(AtomicBool::new(false));
        let hurry = Arc::clone(&may_hurry);
        let (sender, film) = channel();
        thread::spawn(move || {
            let mut answer = Vec::new();
            while !hurry.load(Ordering::Acquire) {
                let mut byte = [0];
                stream.read_exact(&mut byte).unwrap();
                answer.extend(byte);
                thread::sleep(PACE);
            }
            let slow_bytes = answer.len();
            stream.read_to_end(&mut answer).unwrap();
            let head_bytes = answer.windows(4).position(|end| end == b"\r\n\r\n").unwrap() + 4;
            // A test that has failed does not listen.
            drop(sender.send((slow_bytes, answer.split_off(head_bytes))));
        });
        Self { may_hurry, film }
    }

    /// How many bytes of the answer it had read when it began to hurry, and the film.
    pub(crate) fn end(self) -> (usize, Vec<u8>) {
        self.may_hurry.store(true, Ordering::Release);
        self.film.recv_timeout(PATIENCE).expect("the stream ends")
    }
}

/// Where a video can be watched.
pub(crate) fn url(pool: &Pool, id: &str) -> String {
    format!("http://{}/v1/videos/{id}/stream", pool.http)
}
