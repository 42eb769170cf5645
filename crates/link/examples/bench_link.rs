//! How fast messages go over a hop, by gRPC and by frames on the TLS stream itself,
//! beside a plain TLS stream.
//!
//! ```text
//! cargo run --release -p filmloom-link --example bench_link
//! ```
//!
//! Two runtimes of one thread each, on loopback, with TLS 1.3 and certificates as
//! in a cluster. The plain stream carries the same payloads behind a length of four
//! bytes, with nothing else: no window, no way to come back. All receivers put each
//! payload into a buffer of its own. The three take turns, and the best of all turns
//! counts. Hops by gRPC are those with a peer that knows nothing else. On a machine
//! that does other things too, look at what the processors spend.

#![expect(clippy::print_stdout, clippy::unwrap_used, reason = "it is a measurement")]

use std::{fs, sync::Arc, time::Duration};

use bytes::{Buf, Bytes};
use identity::{Authority, Expect, GRPC_PROTOCOL, HOP_PROTOCOL, Identity, Subject, Validity};
use link::{
    Arrival, DataService, Me, Switchboard, Way,
    service::Relaying,
    switchboard::{NOTICES_MAX, Tls},
    tls,
};
use proto::data::{End, Kind, Message};
use rustls::{pki_types::UnixTime, time_provider::TimeProvider};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
    sync::{mpsc, watch},
    time::Instant,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};
use types::{Epoch, Fence, Incarnation, JobId, ModelDigest, NodeId};

/// When all of it happens, in Unix seconds.
const NOW_UNIX: u64 = 1_800_000_000;
const NODES: [NodeId; 2] = [NodeId(1), NodeId(2)];
/// Bytes of payload of one measurement, and how often it is repeated.
const TOTAL_BYTES: usize = 512 << 20;
const REPETITIONS: usize = 7;
/// Messages of one measurement, at most: they wait at the sender.
const MESSAGES_MAX: usize = 1000;
const ROUND_TRIPS: usize = 2000;

/// One end of a connection.
struct Side {
    runtime: Runtime,
    away: Option<Away>,
    hither: Option<Hither>,
}

enum Away {
    Hop(Switchboard, NodeId),
    Plain(WriteHalf<TlsStream<TcpStream>>),
}

enum Hither {
    Hop(mpsc::Receiver<Arrival>),
    Plain(ReadHalf<TlsStream<TcpStream>>),
}

fn main() {
    let identities = identities();
    let mut grpc = hop(&identities, GRPC_PROTOCOL);
    let mut framed = hop(&identities, HOP_PROTOCOL);
    let mut plain = plain(&identities);
    println!("                            GB/s                      processor s/GB, both sides");
    println!("payload    direction          gRPC   framed    plain     gRPC   framed    plain");
    for (name, bytes) in [("64 KiB", 64 << 10), ("1 MiB", 1 << 20), ("16 MiB", 16 << 20)] {
        for (direction, ways) in [("one way", 1), ("both ways, each", 2)] {
            let carriers = &mut [&mut grpc, &mut framed, &mut plain];
            let costs = costs(carriers, bytes, ways);
            print!("{name:10} {direction:15}");
            costs.iter().for_each(|cost| print!("   {:6.2}", 1.0 / cost.seconds));
            costs.iter().for_each(|cost| print!("   {:6.2}", cost.processor_seconds));
            println!();
        }
    }
    let trips = [&mut grpc, &mut framed, &mut plain].map(|sides| round_trip(sides) * 1e6);
    let [grpc, framed, plain] = trips;
    println!("empty message, there and back, median: {grpc:.0}, {framed:.0} and {plain:.0} us");
}

/// What a gigabyte takes.
#[derive(Clone, Copy)]
struct Cost {
    /// Of each way.
    seconds: f64,
    /// Of all processors, for both sides.
    processor_seconds: f64,
}

/// The least of repetitions that take turns: whatever else runs on the machine only
/// adds to it.
fn costs<const N: usize>(
    carriers: &mut [&mut [Side; 2]; N],
    bytes: usize,
    ways: usize,
) -> [Cost; N] {
    let payload = Bytes::from(vec![7; bytes]);
    let messages = (TOTAL_BYTES / bytes).min(MESSAGES_MAX);
    let gigabytes = (messages * bytes) as f64 / 1e9;
    let mut costs = [Cost { seconds: f64::INFINITY, processor_seconds: f64::INFINITY }; N];
    for _ in 0..REPETITIONS {
        for (sides, cost) in carriers.iter_mut().zip(&mut costs) {
            let before = processor_seconds();
            let seconds = measure(sides, &payload, messages, ways) / gigabytes;
            let spent = (processor_seconds() - before) / gigabytes / ways as f64;
            cost.seconds = cost.seconds.min(seconds);
            cost.processor_seconds = cost.processor_seconds.min(spent);
        }
    }
    costs
}

/// What the threads of this process have computed so far, on Linux; else nothing.
fn processor_seconds() -> f64 {
    let Ok(threads) = fs::read_dir("/proc/self/task") else { return f64::NAN };
    let files = threads.map(|thread| thread.unwrap().path().join("schedstat"));
    let nanoseconds = files.map(|file| {
        let text = fs::read_to_string(file).unwrap_or_default();
        text.split(' ').next().and_then(|field| field.parse().ok()).unwrap_or(0.0)
    });
    nanoseconds.sum::<f64>() / 1e9
}

/// Seconds that so many messages take, from the first side or from both at once.
fn measure(sides: &mut [Side; 2], payload: &Bytes, messages: usize, ways: usize) -> f64 {
    let began = Instant::now();
    let mut sending = Vec::new();
    let mut receiving = Vec::new();
    for way in 0..ways {
        let (mut away, payload) = (sides[way].away.take().unwrap(), payload.clone());
        sending.push(sides[way].runtime.spawn(async move {
            for _ in 0..messages {
                away.send(&payload).await;
            }
            away
        }));
        let mut hither = sides[1 - way].hither.take().unwrap();
        receiving.push(sides[1 - way].runtime.spawn(async move {
            for _ in 0..messages {
                hither.receive().await;
            }
            hither
        }));
    }
    let waiting = Builder::new_current_thread().build().unwrap();
    for (way, received) in receiving.into_iter().enumerate() {
        sides[1 - way].hither = Some(waiting.block_on(received).unwrap());
    }
    let took = began.elapsed().as_secs_f64();
    for (way, sent) in sending.into_iter().enumerate() {
        sides[way].away = Some(waiting.block_on(sent).unwrap());
    }
    took
}

/// Seconds from an empty message to its answer, the median.
fn round_trip(sides: &mut [Side; 2]) -> f64 {
    let [near, far] = sides;
    let (mut away, mut hither) = (far.away.take().unwrap(), far.hither.take().unwrap());
    let echo = far.runtime.spawn(async move {
        for _ in 0..ROUND_TRIPS {
            hither.receive().await;
            away.send(&Bytes::new()).await;
        }
    });
    let (mut away, mut hither) = (near.away.take().unwrap(), near.hither.take().unwrap());
    let asking = near.runtime.spawn(async move {
        let mut seconds = Vec::new();
        for _ in 0..ROUND_TRIPS {
            let began = Instant::now();
            away.send(&Bytes::new()).await;
            hither.receive().await;
            seconds.push(began.elapsed().as_secs_f64());
        }
        seconds
    });
    let mut seconds = near.runtime.block_on(asking).unwrap();
    far.runtime.block_on(echo).unwrap();
    seconds.sort_by(f64::total_cmp);
    seconds[seconds.len() / 2]
}

impl Away {
    async fn send(&mut self, payload: &Bytes) {
        match self {
            Self::Hop(switchboard, peer) => {
                let fence = Fence { job: JobId(1), epoch: Epoch(1) };
                let message = Message { fence, kind: Kind::Probe, payload: payload.clone() };
                switchboard.send(*peer, message).unwrap();
            }
            Self::Plain(away) => {
                let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
                let mut frame = Buf::chain(&length[..], payload.clone());
                away.write_all_buf(&mut frame).await.unwrap();
                away.flush().await.unwrap();
            }
        }
    }
}

impl Hither {
    async fn receive(&mut self) -> Bytes {
        match self {
            Self::Hop(arrivals) => arrivals.recv().await.unwrap().message.payload,
            Self::Plain(hither) => {
                let length = hither.read_u32().await.unwrap() as usize;
                let mut payload = Vec::with_capacity(length);
                let read = hither.take(length as u64).read_to_end(&mut payload).await;
                assert_eq!(read.unwrap(), length, "the stream ended");
                payload.into()
            }
        }
    }
}

/// Two nodes; the first one dials the second one, which knows this protocol.
fn hop(identities: &[Identity; 2], protocol: &[u8]) -> [Side; 2] {
    let mut ends = [0, 1].map(|at| {
        let runtime = runtime();
        let (arrivals_sender, arrivals) = mpsc::channel(16);
        let (notices, _) = mpsc::channel(NOTICES_MAX);
        let switchboard =
            Switchboard::new(me(NODES[at], &identities[at]), arrivals_sender, notices);
        let away = Some(Away::Hop(switchboard.clone(), NODES[1 - at]));
        (Side { runtime, away, hither: Some(Hither::Hop(arrivals)) }, switchboard)
    });
    let [(near, dials), (far, waits)] = &mut ends;
    let address = far.runtime.block_on(async {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let mut config = identity::server_config(&identities[1], Arc::new(Noon));
        config.alpn_protocols.retain(|known| known == protocol);
        let (known, receiver) = watch::channel(Some(waits.clone()));
        let service = DataService::new(receiver, Relaying::Off);
        let incoming = tls::incoming(listener, Arc::new(config), service.clone());
        let service = service.into_server();
        tokio::spawn(async move {
            tls::server().add_service(service).serve_with_incoming(incoming).await.unwrap();
            drop(known);
        });
        waits.connect(NODES[0], Way::Accept);
        address
    });
    near.runtime.block_on(async { dials.connect(NODES[1], Way::Dial(vec![address])) });
    ends.map(|(side, _)| side)
}

/// The same without a hop.
fn plain(identities: &[Identity; 2]) -> [Side; 2] {
    let (near, far) = (runtime(), runtime());
    let listener = far.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let server = Arc::new(identity::server_config(&identities[1], Arc::new(Noon)));
    let accepting = far.spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        stream.set_nodelay(true).unwrap();
        TlsStream::from(TlsAcceptor::from(server).accept(stream).await.unwrap())
    });
    let expect = Expect::Node(NODES[1]);
    let client = Arc::new(identity::client_config(&identities[0], expect, Arc::new(Noon)));
    let dialled = near.block_on(async {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        let connector = TlsConnector::from(client);
        TlsStream::from(connector.connect(identity::server_name(), stream).await.unwrap())
    });
    let accepted = far.block_on(accepting).unwrap();
    [(near, dialled), (far, accepted)].map(|(runtime, stream)| {
        let (hither, away) = tokio::io::split(stream);
        Side { runtime, away: Some(Away::Plain(away)), hither: Some(Hither::Plain(hither)) }
    })
}

fn me(node: NodeId, identity: &Identity) -> Me {
    let identity = identity.clone();
    Me {
        end: End { node, incarnation: Incarnation(1) },
        model: ModelDigest([0; 32]),
        class: None,
        tls: Tls(Arc::new(move |expect| {
            Arc::new(identity::client_config(&identity, expect, Arc::new(Noon)))
        })),
        payload_bytes_max: 64 << 20,
    }
}

fn identities() -> [Identity; 2] {
    let authority = Authority::create(NOW_UNIX).unwrap();
    let validity = Validity { now_unix: NOW_UNIX, lifetime_s: 3600 };
    NODES.map(|node| authority.issue(&Subject::Node(node), validity).unwrap())
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// A clock that stands.
#[derive(Debug)]
struct Noon;

impl TimeProvider for Noon {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(NOW_UNIX)))
    }
}
