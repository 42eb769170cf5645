//! What a peer that is not sound can do: end its own connection.

use std::sync::Arc;

use bytes::Bytes;
use identity::{Expect, hop_config, server_name};
use link::{Way, tls, transport::Link};
use proto::{
    PART_BYTES_MAX,
    data::{Frame, Hello, frame},
    generated::data::{Durable, Head, Part, Refusal, Taken, data_client::DataClient, head},
};
use rustls::ClientConfig;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::support::{
    Carrier, Cluster, Node, PAYLOAD_BYTES_MAX, assert_names, client_config, exchange, soon,
};

/// A node that says what it likes.
pub(crate) struct Peer {
    link: Link,
}

impl Peer {
    /// Opens a connection with the certificate of `from`.
    pub(crate) async fn open(from: &Node, to: &Node) -> Result<Self, Status> {
        Self::open_with(client_config(&from.identity, Expect::Node(to.id)), to).await
    }

    /// The same with any certificate, or none.
    pub(crate) async fn open_with(config: Arc<ClientConfig>, to: &Node) -> Result<Self, Status> {
        let link = match crate::CARRIER {
            Carrier::Framed => Link::framed(connect(&hop_config(&config), to).await),
            Carrier::Grpc => {
                let channel = tls::connect(&to.address, config).await.unwrap();
                let (away, frames) = mpsc::channel::<Frame>(16);
                let frames = ReceiverStream::new(frames);
                let hither = soon(DataClient::new(channel).hop(frames)).await?.into_inner();
                Link::grpc(away, hither)
            }
        };
        Ok(Self { link })
    }

    /// The same, and greets well.
    pub(crate) async fn greeted(from: &Node, to: &Node) -> Self {
        let mut peer = Self::open(from, to).await.unwrap();
        peer.say(frame::Kind::Hello(hello(from, to).into())).await;
        assert!(matches!(peer.hear().await, Some(frame::Kind::Hello(_))));
        peer
    }

    pub(crate) async fn say(&mut self, kind: frame::Kind) {
        // The other side may have ended it.
        drop(self.link.away.send(frame(kind)).await);
        drop(self.link.away.flush().await);
    }

    pub(crate) async fn hear(&mut self) -> Option<frame::Kind> {
        soon(self.link.hither.receive()).await.ok()?.kind
    }

    pub(crate) async fn refusal(&mut self) -> Refusal {
        let mut heard = self.hear().await;
        while let Some(frame::Kind::Taken(_)) = heard {
            heard = self.hear().await;
        }
        let Some(frame::Kind::Refusal(refusal)) = heard else {
            panic!("{heard:?} is no refusal");
        };
        refusal
    }
}

/// What `from` says first to `to`.
pub(crate) fn hello(from: &Node, to: &Node) -> Hello {
    Hello {
        versions: 1..=1,
        from: from.switchboard.me().end,
        to: to.id,
        model: to.switchboard.me().model,
        class: "cpu-f32".to_owned(),
        taken: 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_be_is_refused_and_the_node_goes_on() {
    let cluster = Cluster::new();
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    other.switchboard.connect(one.id, Way::Accept);
    let taken = |count| frame::Kind::Taken(Taken { count });
    let too_many = head(0, PAYLOAD_BYTES_MAX as u64 + 1);
    let unknown = frame::Kind::Head(Head { kind: None, ..Head::default() });
    let cases = [
        (vec![head(0, 0)], "say first"),
        (vec![taken(1)], "taken 1 messages"),
        (vec![taken(0), too_many], "bytes is 8388609"),
        (vec![taken(0), head(0, 9), part(10)], "data is 10"),
        (vec![taken(0), head(0, 2 << 20), part(PART_BYTES_MAX + 1)], "data is 1048577"),
        (vec![taken(0), head(0, 9), head(1, 9)], "before the last message was complete"),
        (vec![taken(0), part(1)], "has no head"),
        (vec![taken(0), head(1, 0)], "message 1 where 0 is next"),
        (vec![taken(0), unknown], "malformed"),
    ];

    for (frames, message) in cases {
        let mut peer = Peer::greeted(&one, &other).await;
        for frame in frames {
            peer.say(frame).await;
        }
        assert_names(&peer.refusal().await.message, &[&message]);
        assert_eq!(peer.hear().await, None, "it goes on after {message}");
    }

    one.dial(&other);
    exchange(&mut one, &mut other, &[1, 100_000]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn message_that_is_sent_again_arrives_once() {
    let cluster = Cluster::new();
    let (one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    other.switchboard.connect(one.id, Way::Accept);

    let mut peer = Peer::greeted(&one, &other).await;
    peer.say(frame::Kind::Taken(Taken { count: 0 })).await;
    for (number, bytes) in [(0, 1), (0, 1), (1, 2), (0, 1), (2, 3)] {
        peer.say(head(number, bytes)).await;
        peer.say(part(usize::try_from(bytes).unwrap())).await;
    }

    for bytes in 1..=3 {
        assert_eq!(other.receive(one.id).await.payload.len(), bytes);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frame_that_is_too_large_ends_its_connection() {
    let cluster = Cluster::new();
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    other.switchboard.connect(one.id, Way::Accept);

    let mut peer = Peer::greeted(&one, &other).await;
    peer.say(frame::Kind::Taken(Taken { count: 0 })).await;
    peer.say(head(0, 4 << 20)).await;
    peer.say(part(4 << 20)).await;
    while peer.hear().await.is_some() {}

    one.dial(&other);
    exchange(&mut one, &mut other, &[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_after_the_handshake_ends_its_connection() {
    let cluster = Cluster::new();
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);

    for preface in ["", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"] {
        let config = client_config(&one.identity, Expect::Node(other.id));
        let mut stream = connect(&hop_config(&config), &other).await;
        let garbage = [preface.as_bytes(), &[0xff; 4096]].concat();
        drop(stream.write_all(&garbage).await);
        let mut answer = Vec::new();
        drop(soon(stream.read_to_end(&mut answer)).await);
    }

    one.dial(&other);
    exchange(&mut one, &mut other, &[1]).await;
}

/// A connection on which nothing was said.
pub(crate) async fn connect(config: &ClientConfig, to: &Node) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(&to.address).await.unwrap();
    let connector = TlsConnector::from(Arc::new(config.clone()));
    connector.connect(server_name(), stream).await.unwrap()
}

pub(crate) fn head(number: u64, bytes: u64) -> frame::Kind {
    let kind = Some(head::Kind::Durable(Durable { chunk: 0 }));
    frame::Kind::Head(Head { number, job: vec![0; 16], epoch: 1, kind, bytes })
}

fn part(bytes: usize) -> frame::Kind {
    frame::Kind::Part(Part { data: Bytes::from(vec![0; bytes]) })
}
