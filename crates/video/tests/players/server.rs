//! A web server of one page, some files and one answer, for the browser's test.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::mpsc::{Receiver, channel},
    thread,
};

/// Files by path, each with its type.
pub(crate) type Files = BTreeMap<&'static str, (&'static str, Vec<u8>)>;

/// Serves `files` on the loopback; gives the address, and what is posted there.
///
/// The threads end with the test's process.
pub(crate) fn serve(files: Files) -> (SocketAddr, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, receiver) = channel();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (files, sender) = (files.clone(), sender.clone());
            thread::spawn(move || {
                // A browser may drop a connection; the answer's absence fails the test.
                if let Ok(Some(answer)) = handle(&stream, &files) {
                    let _ = sender.send(answer);
                }
            });
        }
    });
    (address, receiver)
}

/// Answers one request; gives the body if something was posted.
fn handle(mut stream: &TcpStream, files: &Files) -> io::Result<Option<String>> {
    let mut reader = BufReader::new(stream);
    let mut request = String::new();
    reader.read_line(&mut request)?;
    let mut body_bytes = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if let Some(count) = line.strip_prefix("content-length:") {
            body_bytes = count.trim().parse().map_err(io::Error::other)?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; body_bytes];
    reader.read_exact(&mut body)?;

    let path = request.split(' ').nth(1).unwrap_or_default();
    let nothing = ("text/plain", Vec::new());
    let (status, (kind, content)) = match files.get(path) {
        Some(file) => ("200 OK", file),
        None if body_bytes == 0 => ("404 Not Found", &nothing),
        None => ("200 OK", &nothing),
    };
    let content_bytes = content.len();
    write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {content_bytes}\r\n\
         connection: close\r\n\r\n"
    )?;
    stream.write_all(content)?;
    Ok((0 < body_bytes).then(|| String::from_utf8_lossy(&body).into_owned()))
}
