//! A server that gives prepared answers, one to a connection.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc,
    thread,
};

use super::Server;

/// What a connection is answered with.
pub(super) enum Answer {
    /// A whole answer.
    Text(String),
    /// None: the connection is closed.
    Closed,
    /// None, for as long as the server lives.
    Silent,
}

/// The server; it ends with its last answer, or when it is dropped.
pub(super) struct Fake {
    address: SocketAddr,
    _alive: mpsc::Sender<()>,
}

impl Answer {
    /// Content, and the end of the connection.
    pub(super) fn ok(content: &str) -> Self {
        Self::Text(format!("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n{content}"))
    }

    /// A refusal.
    pub(super) fn status(status: u16) -> Self {
        let head = format!("HTTP/1.1 {status} No\r\nconnection: close\r\ncontent-length: 2\r\n");
        Self::Text(format!("{head}\r\n{{}}"))
    }
}

impl Fake {
    pub(super) fn start(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (alive, dropped) = mpsc::channel();
        thread::spawn(move || {
            for answer in answers {
                let (mut stream, _) = listener.accept().unwrap();
                read_head(&stream);
                match answer {
                    Answer::Text(text) => stream.write_all(text.as_bytes()).unwrap(),
                    Answer::Closed => {}
                    Answer::Silent => drop(dropped.recv()),
                }
            }
        });
        Self { address, _alive: alive }
    }

    pub(super) fn server(&self) -> Server {
        Server::new(&self.address.to_string(), None).unwrap()
    }
}

fn read_head(stream: &TcpStream) {
    let lines = BufReader::new(stream).lines().map(Result::unwrap);
    lines.take_while(|line| !line.is_empty()).for_each(drop);
}
