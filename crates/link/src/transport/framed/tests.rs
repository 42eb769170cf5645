//! Streams in memory, of any bytes.

use proptest::prelude::*;
use proto::{
    PART_BYTES_MAX,
    data::{
        Kind, Message,
        framing::{FRAME_BYTES_MAX, HEADER_BYTES},
    },
    generated::data::Taken,
};
use tokio::{io::duplex, runtime::Builder};
use types::{Epoch, Fence, JobId};

use super::*;
use crate::transport::wait;

/// Bytes of payload that the tests' receivers accept.
const PAYLOAD_BYTES_MAX: usize = 3 << 20;

proptest! {
    #[test]
    fn any_bytes_are_frames_or_an_error_and_little_is_held_for_them(
        pieces in proptest::collection::vec(pieces(), 0..20), is_put_together: bool,
    ) {
        let bytes = pieces.concat();
        let mut receiver = Receiver::new(bytes.as_slice());
        let mut assembly = Assembly::new(PAYLOAD_BYTES_MAX);
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            loop {
                let ended = if is_put_together {
                    match receiver.receive_into(&mut assembly).await {
                        Ok(Received::Frame(frame)) => head(&mut assembly, frame).is_err(),
                        Ok(Received::Part(_)) => false,
                        Err(_) => true,
                    }
                } else {
                    receiver.receive().await.is_err()
                };
                if ended {
                    break;
                }
            }
        });
        prop_assert!(receiver.bytes.capacity() <= PART_BYTES_MAX + FRAME_BYTES_MAX);
    }

    #[test]
    fn messages_come_out_as_they_went_in(
        sizes in proptest::collection::vec(0usize..PAYLOAD_BYTES_MAX, 1..4), room in 1usize..100_000,
    ) {
        let messages: Vec<_> = (0..).zip(sizes).map(|(number, size)| message(number, size)).collect();
        let (near, far) = duplex(room);
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        let expected = messages.clone();
        let came = runtime.block_on(async {
            let sending = async {
                let mut sender = Sender::new(near);
                for message in messages {
                    for frame in message.frames(0) {
                        sender.send(frame).await.unwrap();
                    }
                    sender.beat().await.unwrap();
                }
                sender.end().await.unwrap();
            };
            tokio::join!(sending, receive_all(far)).1
        });
        prop_assert!(came == expected);
    }
}

#[test]
fn frame_whose_sending_was_given_up_comes_whole_before_the_next_one() {
    let (near, far) = duplex(1000);
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();

    let came = runtime.block_on(async {
        let mut sender = Sender::new(near);
        let mut frames = message(7, 5000).frames(0);
        sender.send(frames.next().unwrap()).await.unwrap();
        let part = sender.send(frames.next().unwrap());
        assert!(timeout(Duration::ZERO, part).await.is_err(), "there is room for all of it");
        let sending = async {
            sender.beat().await.unwrap();
            sender.send(message(8, 0).frames(1).next().unwrap()).await.unwrap();
            sender.end().await.unwrap();
        };
        tokio::join!(sending, receive_all(far)).1
    });

    assert!(came == [message(7, 5000), message(8, 0)]);
}

#[test]
fn frame_whose_receiving_was_given_up_is_received_again() {
    let (mut near, far) = duplex(1000);
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    let taken = frame(frame::Kind::Taken(Taken { count: 300 }));
    let mut bytes = BytesMut::new();
    framing::put(taken.clone(), &mut bytes);

    runtime.block_on(async {
        let mut receiver = Receiver::new(far);
        for byte in bytes {
            assert!(timeout(Duration::ZERO, receiver.receive()).await.is_err());
            near.write_u8(byte).await.unwrap();
        }
        assert_eq!(receiver.receive().await, Ok(taken));
    });
}

#[tokio::test(start_paused = true)]
async fn who_says_nothing_is_given_up_and_who_waits_says_that_it_lives() {
    let (near, far) = duplex(1000);
    let (mut sender, mut receiver) = (Sender::new(near), Receiver::new(far));
    let began = Instant::now();

    let waiting = async {
        // As when something comes to be sent, and may not be sent yet.
        for _ in 0..60 {
            wait(&mut sender, tokio::time::sleep(SILENCE_MAX / 6)).await.unwrap();
        }
        // It hangs from here on.
        std::future::pending::<()>().await;
    };
    let heard = tokio::select! {
        () = waiting => unreachable!("it waits for ever"),
        heard = receiver.receive() => heard,
    };

    assert_eq!(heard, Err(Unread::Broken(silent())));
    let expected = 10 * SILENCE_MAX - KEEP_ALIVE + SILENCE_MAX;
    assert!(began.elapsed().abs_diff(expected) <= KEEP_ALIVE, "{:?}", began.elapsed());
}

/// All messages, until the other side ends.
async fn receive_all(stream: impl AsyncRead + Unpin + Send) -> Vec<Message> {
    let mut receiver = Receiver::new(stream);
    let mut assembly = Assembly::new(PAYLOAD_BYTES_MAX);
    let mut messages = Vec::new();
    loop {
        let complete = match receiver.receive_into(&mut assembly).await {
            Ok(Received::Frame(frame)) => head(&mut assembly, frame).unwrap(),
            Ok(Received::Part(complete)) => complete,
            Err(unread) => {
                assert_eq!(unread.to_string(), "the connection broke: the other side ended it");
                return messages;
            }
        };
        messages.extend(complete.map(|(_, message)| message));
    }
}

/// Begins a message, if that is what came.
fn head(assembly: &mut Assembly, frame: Frame) -> Result<Option<(u64, Message)>, proto::Malformed> {
    match frame.kind {
        Some(frame::Kind::Head(head)) => assembly.head(head),
        _ => Ok(None),
    }
}

fn message(chunk: u32, bytes: usize) -> Message {
    let fence = Fence { job: JobId(1), epoch: Epoch(1) };
    let payload = (0..bytes).map(|at| chunk.to_le_bytes()[0].wrapping_add(at.to_le_bytes()[0]));
    let payload = Bytes::from(payload.collect::<Vec<u8>>());
    Message { fence, kind: Kind::Durable { chunk }, payload }
}

/// Bytes of a stream: any, and ones that begin as frames do.
fn pieces() -> impl Strategy<Value = Vec<u8>> {
    let lengths = prop_oneof![0u32..40, any::<u32>(), Just(1 << 20), Just(1 << 14)];
    let any = proptest::collection::vec(any::<u8>(), 0..40);
    let begun = (1u8..=2, lengths, any.clone())
        .prop_map(|(kind, length, rest)| [&[kind], &length.to_le_bytes()[..], &rest].concat());
    let whole = (1u8..=2, any.clone()).prop_map(|(kind, rest)| {
        let length = u32::try_from(rest.len()).unwrap();
        [&[kind], &length.to_le_bytes()[..], &rest].concat()
    });
    let good = (0u32..9, 0usize..3000).prop_map(|(chunk, bytes)| {
        let mut all = BytesMut::with_capacity(HEADER_BYTES);
        for frame in message(chunk, bytes).frames(0) {
            let part = framing::put(frame, &mut all);
            all.extend_from_slice(&part);
        }
        all.to_vec()
    });
    prop_oneof![any, begun, whole, good]
}
