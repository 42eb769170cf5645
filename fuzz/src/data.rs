//! What nodes send each other about jobs: frames, and the hop that they travel.

use std::{io::Cursor, sync::Arc, time::Duration};

use async_trait::async_trait;
use axum::body::Body;
use bytes::{Bytes, BytesMut};
use identity::Subject;
use link::{
    Me, Notice, Switchboard, Way,
    hop::FRAME_BYTES_MAX,
    switchboard::{NOTICES_MAX, Tls},
    transport::{Broken, Link, SendFrames},
};
use proto::{
    VERSIONS,
    data::{Assembly, End, Frame, Hello, Kind, Message, frame, framing},
    generated::data::Taken,
};
use tokio::{
    io::{join, sink},
    sync::mpsc,
};
use tonic::{Streaming, codec::Codec};
use types::{Branch, Class, Incarnation, ModelDigest, NodeId, Pass, PassKind};

use crate::{
    Target,
    control::fence,
    frames::{framed, messages},
    mutate::Shape,
};

/// Frames, put together to messages.
pub(crate) const FRAMES: Target = Target {
    name: "frames",
    shape: Shape::Frames,
    decode: frames,
    seeds: || {
        let hello = frame(frame::Kind::Hello(hello().into()));
        let each = sent().into_iter().map(|message| framed(message.frames(0)));
        each.chain([framed([hello]), framed(taken(3))]).collect()
    },
    input_bytes_max: 64 << 10,
    held_bytes: PAYLOAD_BYTES_MAX + (16 << 10),
    held_per_byte: 32,
    cases: 20_000,
};

/// Frames on a connection to a node: through gRPC's own reader into a hop, as far as
/// what the node takes from it.
pub(crate) const HOP: Target = Target {
    name: "hop",
    shape: Shape::Frames,
    decode: hop,
    seeds: || connections().into_iter().map(framed).collect(),
    input_bytes_max: 64 << 10,
    held_bytes: PAYLOAD_BYTES_MAX + (128 << 10),
    held_per_byte: 32,
    cases: 6_000,
};

/// The same on the TLS stream itself, without gRPC around it.
pub(crate) const FRAMED: Target = Target {
    name: "framed",
    shape: Shape::Bytes,
    decode: framed_hop,
    seeds: || connections().into_iter().map(on_the_stream).collect(),
    input_bytes_max: 64 << 10,
    held_bytes: PAYLOAD_BYTES_MAX + (128 << 10),
    held_per_byte: 32,
    cases: 6_000,
};

/// Bytes of a payload that the node allows.
const PAYLOAD_BYTES_MAX: usize = 1 << 20;
/// Both ends of the hop.
const PEER: NodeId = NodeId(1);
const OWN: NodeId = NodeId(2);
/// How long the node is given, while time stands still but where all tasks wait.
const PATIENCE: Duration = Duration::from_secs(30);

fn frames(bytes: &[u8]) -> Result<(), String> {
    let mut assembly = Assembly::new(PAYLOAD_BYTES_MAX);
    for frame in messages::<Frame>(bytes, FRAME_BYTES_MAX) {
        let complete = match frame?.kind.ok_or("a frame of no kind")? {
            frame::Kind::Hello(hello) => {
                Hello::try_from(hello).map_err(|error| error.to_string())?;
                None
            }
            frame::Kind::Head(head) => assembly.head(head).map_err(|error| error.to_string())?,
            frame::Kind::Part(part) => assembly.part(&part).map_err(|error| error.to_string())?,
            frame::Kind::Refusal(_) | frame::Kind::Taken(_) => None,
        };
        if let Some((number, message)) = complete {
            assert!(message.payload.len() <= PAYLOAD_BYTES_MAX);
            // What was taken can be sent on, and is the same then.
            let mut again = Assembly::new(PAYLOAD_BYTES_MAX);
            let last = message.frames(number).map(|frame| take(&mut again, frame)).last();
            assert_eq!(last.flatten(), Some((number, message)));
        }
    }
    Ok(())
}

fn take(assembly: &mut Assembly, frame: Frame) -> Option<(u64, Message)> {
    match frame.kind {
        Some(frame::Kind::Head(head)) => assembly.head(head).ok().flatten(),
        Some(frame::Kind::Part(part)) => assembly.part(&part).ok().flatten(),
        Some(frame::Kind::Hello(_) | frame::Kind::Refusal(_) | frame::Kind::Taken(_)) | None => {
            None
        }
    }
}

fn hop(bytes: &[u8]) -> Result<(), String> {
    carry(grpc(bytes.to_vec())).map(drop)
}

fn framed_hop(bytes: &[u8]) -> Result<(), String> {
    carry(stream(bytes.to_vec())).map(drop)
}

fn grpc(bytes: Vec<u8>) -> Link {
    let decoder = tonic_prost::ProstCodec::<Frame, Frame>::default().decoder();
    let body = Body::from(bytes);
    let hither = Streaming::new_request(decoder, body, None, Some(FRAME_BYTES_MAX));
    Link { away: Box::new(Dropped), hither: Box::new(hither) }
}

fn stream(bytes: Vec<u8>) -> Link {
    Link::framed(join(Cursor::new(bytes), sink()))
}

/// Gives how many messages the node took before the peer's input ended.
fn carry(link: Link) -> Result<usize, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .map_err(|error| error.to_string())?;
    runtime.block_on(carried(link))
}

async fn carried(link: Link) -> Result<usize, String> {
    let (arrivals_sender, mut arrivals) = mpsc::channel(4);
    let (notices_sender, mut notices) = mpsc::channel(NOTICES_MAX);
    let switchboard = Switchboard::new(me(), arrivals_sender, notices_sender);
    switchboard.connect(PEER, Way::Accept);
    let accepted = switchboard.accept(&Subject::Node(PEER), hello(), link).await;
    accepted.map_err(|unwanted| unwanted.refused.to_string())?;
    let mut taken = 0;
    loop {
        tokio::select! {
            biased;
            Some(arrival) = arrivals.recv() => {
                assert!(arrival.message.payload.len() <= PAYLOAD_BYTES_MAX);
                taken += 1;
            }
            Some(notice) = notices.recv() => match notice {
                Notice::Broken { problem, .. } if problem.ends_with(INPUT_ENDED) => {
                    return Ok(taken);
                }
                Notice::Broken { problem, .. } => return Err(problem),
                Notice::Connected { .. } | Notice::Unreachable { .. } => {}
            },
            () = tokio::time::sleep(PATIENCE) => return Err("the hop did not end".to_owned()),
        }
    }
}

/// How a hop says that the other side has ended the stream.
const INPUT_ENDED: &str = "the other side ended it";

/// What the node says to the peer is not looked at.
struct Dropped;

#[async_trait]
impl SendFrames for Dropped {
    async fn send(&mut self, _frame: Frame) -> Result<(), Broken> {
        Ok(())
    }
}

fn me() -> Me {
    Me {
        end: End { node: OWN, incarnation: Incarnation(1) },
        model: ModelDigest([5; 32]),
        class: Some(Class::CpuF32),
        tls: Tls(Arc::new(|_| unreachable!("this node dials nobody"))),
        payload_bytes_max: PAYLOAD_BYTES_MAX,
    }
}

fn hello() -> Hello {
    Hello {
        versions: VERSIONS,
        from: End { node: PEER, incarnation: Incarnation(1) },
        to: OWN,
        model: ModelDigest([5; 32]),
        class: Class::CpuF32.name().to_owned(),
        taken: 0,
    }
}

fn taken(count: u64) -> [Frame; 1] {
    [frame(frame::Kind::Taken(Taken { count }))]
}

/// One of each kind of message.
pub(crate) fn sent() -> Vec<Message> {
    let branch = Branch::Conditional;
    let (chunk, step) = (0, 2);
    let frame_times = vec![999.0, 500.0, 0.5];
    let kind = PassKind::Denoise;
    let pass = Pass { chunk, step, branch, kind, frame_times, tokens: 0..12 };
    let kinds = [
        (Kind::Hidden { pass }, 96),
        (Kind::Velocity { chunk, step, branch }, 32),
        (Kind::Clean { chunk }, 32),
        (Kind::Durable { chunk }, 0),
        (Kind::Context { prompt: 0, branch: Branch::Unconditional }, 16),
        (Kind::Decode { chunk, rows: 4, columns: 4 }, 64),
        (Kind::Pictures { chunk, count: 2, width: 4, height: 2, decode_seconds: 0.5 }, 48),
        (Kind::Probe, 100),
    ];
    let message = |(kind, bytes)| {
        let payload = Bytes::from(vec![0x3f; bytes]);
        Message { fence: fence(), kind, payload }
    };
    kinds.into_iter().map(message).collect()
}

/// What a peer says on two connections.
fn connections() -> [Vec<Frame>; 2] {
    let numbered = (0..).zip(sent()).flat_map(|(number, message)| message.frames(number));
    [taken(0).into_iter().chain(numbered).collect(), taken(0).to_vec()]
}

/// Frames as they lie on a TLS stream.
fn on_the_stream(frames: Vec<Frame>) -> Vec<u8> {
    let mut bytes = BytesMut::new();
    for frame in frames {
        let part = framing::put(frame, &mut bytes);
        bytes.extend_from_slice(&part);
    }
    bytes.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_of_the_corpus_arrives_over_a_hop() {
        for (frames, expected) in connections().into_iter().zip([sent().len(), 0]) {
            assert_eq!(carry(grpc(framed(frames.clone()))), Ok(expected));
            assert_eq!(carry(stream(on_the_stream(frames))), Ok(expected));
        }
    }
}
