//! What can come on a stream of frames besides frames.

use std::io::ErrorKind;

use bytes::{Bytes, BytesMut};
use identity::{Expect, hop_config};
use link::Way;
use proto::{
    PART_BYTES_MAX,
    data::{
        frame,
        framing::{self, FRAME_BYTES_MAX, HEADER_BYTES},
    },
    generated::data::{Refusal, Taken},
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::{
    hostile::{Peer, connect, head, hello},
    support::{Cluster, Node, client_config, exchange, soon},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_begin_with_a_frame_that_greets_is_told_so() {
    let cluster = Cluster::new();
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    let long = |kind, bytes: usize| {
        let length = u32::try_from(bytes).unwrap().to_le_bytes();
        [&[kind], &length[..]].concat()
    };
    let taken = framed(frame::Kind::Taken(Taken { count: 0 }));
    let cases = [
        (long(1, FRAME_BYTES_MAX + 1), "frame is 16385, which is not in 0..=16384"),
        (long(2, PART_BYTES_MAX + 1), "data is 1048577"),
        (long(1, u32::MAX as usize), "frame is 4294967295"),
        (long(7, 1), "frame is of kind 7"),
        ([long(1, 3), vec![0xff; 3]].concat(), "frame is none"),
        ([long(2, 3), vec![0; 3]].concat(), "did not begin with Hello"),
        (taken, "did not begin with Hello"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), "frame is of kind 80"),
    ];

    for (bytes, message) in cases {
        let refusal = answer(&one, &other, &bytes).await;
        assert!(refusal.message.contains(message), "{} is not {message}", refusal.message);
    }

    one.dial(&other);
    exchange(&mut one, &mut other, &[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn frame_that_ends_in_the_middle_disturbs_nobody() {
    let cluster = Cluster::new();
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    other.switchboard.connect(one.id, Way::Accept);
    let greeting = framed(frame::Kind::Hello(hello(&one, &other).into()));
    let taken = framed(frame::Kind::Taken(Taken { count: 0 }));
    let message = [framed(head(0, 100)), vec![2, 100, 0, 0, 0], vec![0; 100]].concat();
    let all = [greeting, taken, message].concat();

    for bytes in (0..all.len()).step_by(7) {
        let config = hop_config(&client_config(&one.identity, Expect::Node(other.id)));
        let mut stream = connect(&config, &other).await;
        stream.write_all(&all[..bytes]).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        match soon(stream.read_to_end(&mut answer)).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::UnexpectedEof, "{error}"),
        }
    }

    one.dial(&other);
    exchange(&mut one, &mut other, &[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fault_in_the_middle_is_told_though_more_is_on_its_way() {
    let cluster = Cluster::new();
    let (one, other) = (cluster.node(1).await, cluster.node(2).await);
    other.switchboard.connect(one.id, Way::Accept);
    let mut peer = Peer::greeted(&one, &other).await;
    peer.say(frame::Kind::Taken(Taken { count: 0 })).await;
    peer.say(head(3, 0)).await;

    for _ in 0..1000 {
        peer.say(frame::Kind::Taken(Taken { count: 0 })).await;
    }

    assert!(peer.refusal().await.message.contains("message 3 where 0 is next"));
}

/// The refusal that comes of these bytes.
async fn answer(one: &Node, other: &Node, bytes: &[u8]) -> Refusal {
    let config = hop_config(&client_config(&one.identity, Expect::Node(other.id)));
    let mut stream = connect(&config, other).await;
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    soon(stream.read_to_end(&mut answer)).await.unwrap();
    let frame = framing::take(Bytes::from(answer).slice(HEADER_BYTES..)).unwrap();
    match frame.kind {
        Some(frame::Kind::Refusal(refusal)) => refusal,
        other => panic!("{other:?} is no refusal"),
    }
}

/// A frame without payload, as it is on the stream.
fn framed(kind: frame::Kind) -> Vec<u8> {
    let mut heads = BytesMut::new();
    framing::put(frame(kind), &mut heads);
    heads.into()
}
