//! A video watched while it is made, over real sockets.

use std::{net::SocketAddr, time::Duration};

use api::VideoId;
use axum::http::Method;
use http_body_util::BodyExt;
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
    time::timeout,
};

use crate::client::{Door, request};

/// After this a test is taken to hang.
const PATIENCE: Duration = Duration::from_secs(30);
/// More than sockets buffer, so a client that does not read is really behind.
const FILM_BYTES: usize = 16 * 1024 * 1024;

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_late_gets_the_same_bytes_from_the_beginning() {
    let (door, id, address) = serve().await;
    let film = film(1_000_000);
    let mut early = Client::connect(address, id).await;
    door.fake.write(id, &film[..300_000]);
    assert_eq!(early.read(300_000).await, film[..300_000]);
    let late = Client::connect(address, id).await;
    door.fake.write(id, &film[300_000..]);
    door.fake.finish(id);
    let after = Client::connect(address, id).await;

    assert_eq!(early.rest().await, film[300_000..]);
    assert_eq!(late.rest().await, film);
    assert_eq!(after.rest().await, film);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_read_holds_up_nobody_and_loses_nothing() {
    let (door, id, address) = serve().await;
    let film = film(FILM_BYTES);
    let stalled = Client::connect(address, id).await;
    let reading = Client::connect(address, id).await;

    // The writer is not asynchronous: it could not wait for a reader.
    for part in film.chunks(1_000_000) {
        door.fake.write(id, part);
    }
    door.fake.finish(id);

    assert!(reading.rest().await == film);
    assert!(stalled.rest().await == film);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_is_forgotten_at_once() {
    let (door, id, address) = serve().await;
    let written = door.fake.written(id);
    let mut waiting = Client::connect(address, id).await;
    door.fake.write(id, b"begin");
    assert_eq!(waiting.read(5).await, b"begin");
    let stalled = Client::connect(address, id).await;
    door.fake.write(id, &film(FILM_BYTES));
    assert_eq!(written.receiver_count(), 2);

    drop((waiting, stalled));

    timeout(PATIENCE, written.closed()).await.expect("nobody reads it any more");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_watches_goes_on_when_the_writer_begins_again() {
    let (door, id, address) = serve().await;
    let film = film(300_000);
    let mut early = Client::connect(address, id).await;
    door.fake.write(id, &film[..200_000]);
    assert_eq!(early.read(200_000).await, film[..200_000]);

    door.fake.begin_again(id);
    door.fake.write(id, &film[..100_000]);
    let mut late = Client::connect(address, id).await;
    assert_eq!(late.read(100_000).await, film[..100_000]);
    door.fake.write(id, &film[100_000..]);
    door.fake.finish(id);

    assert_eq!(early.rest().await, film[200_000..]);
    assert_eq!(late.rest().await, film[100_000..]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_while_the_file_is_away_waits_for_it() {
    let (door, id, address) = serve().await;
    let film = film(100_000);
    door.fake.write(id, &film[..50_000]);
    // As it is between a writer's end and the first bytes of the next one.
    door.fake.remove(id);
    let client = Client::connect(address, id).await;

    door.fake.begin_again(id);
    door.fake.write(id, &film);
    door.fake.finish(id);

    assert_eq!(client.rest().await, film);
}

#[tokio::test]
async fn a_video_that_is_not_finished_ends_with_an_error() {
    let door = Door::open();
    let id = door.new_video().await;
    door.fake.write(id, b"begin");
    let path = format!("/v1/videos/{id}");
    let answer = door.begin(request(Method::GET, &format!("{path}/stream"), &[])).await;
    assert_eq!(answer.headers()["content-type"], "video/mp4");
    assert_eq!(answer.headers()["cache-control"], "no-store");
    let mut body = answer.into_body();
    assert_eq!(body.frame().await.unwrap().unwrap().into_data().unwrap(), "begin");

    door.send(request(Method::DELETE, &path, &[])).await;

    assert!(body.frame().await.unwrap().is_err(), "it must not look finished");
}

/// A door on a socket, and a video without a file yet.
async fn serve() -> (Door, VideoId, SocketAddr) {
    let door = Door::open();
    let id = door.new_video().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = door.router.clone();
    tokio::spawn(async move { axum::serve(listener, router).await });
    (door, id, address)
}

fn film(bytes: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut byte = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..bytes).map(|_| byte()).collect()
}

/// A client of a body in chunked coding.
struct Client {
    connection: BufReader<TcpStream>,
    read: Vec<u8>,
}

impl Client {
    async fn connect(address: SocketAddr, id: VideoId) -> Self {
        let mut connection = BufReader::new(TcpStream::connect(address).await.unwrap());
        let request = format!("GET /v1/videos/{id}/stream HTTP/1.1\r\nHost: {address}\r\n\r\n");
        connection.write_all(request.as_bytes()).await.unwrap();
        let mut client = Self { connection, read: Vec::new() };
        assert_eq!(client.line().await, "HTTP/1.1 200 OK");
        while !client.line().await.is_empty() {}
        client
    }

    /// The next `bytes`.
    async fn read(&mut self, bytes: usize) -> Vec<u8> {
        while self.read.len() < bytes {
            assert!(self.read_part().await, "the body ended early");
        }
        self.read.drain(..bytes).collect()
    }

    /// All bytes up to the proper end of the body.
    async fn rest(mut self) -> Vec<u8> {
        while self.read_part().await {}
        self.read
    }

    async fn read_part(&mut self) -> bool {
        let bytes = usize::from_str_radix(&self.line().await, 16).unwrap();
        let mut part = vec![0; bytes];
        timeout(PATIENCE, self.connection.read_exact(&mut part)).await.unwrap().unwrap();
        self.read.append(&mut part);
        assert_eq!(self.line().await, "");
        bytes != 0
    }

    async fn line(&mut self) -> String {
        let mut line = String::new();
        timeout(PATIENCE, self.connection.read_line(&mut line)).await.unwrap().unwrap();
        line.strip_suffix("\r\n").unwrap().to_owned()
    }
}
