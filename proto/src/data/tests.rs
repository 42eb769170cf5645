//! Messages there and back, and what no honest peer sends.

use proptest::prelude::*;
use types::{Epoch, JobId};

use super::*;

proptest! {
    #[test]
    fn messages_come_back_as_they_were(
        message in messages(), number: u64, bytes in 0usize..3_000_000,
    ) {
        let bytes = fitting(&message.kind, bytes);
        let payload = Bytes::from_iter((0..bytes).map(|place| place.to_le_bytes()[0]));
        let message = Message { payload, ..message };

        let frames: Vec<_> = message.frames(number).collect();

        prop_assert_eq!(frames.len(), 1 + bytes.div_ceil(PART_BYTES_MAX));
        let mut assembly = Assembly::new(bytes);
        let mut complete: Vec<_> =
            frames.into_iter().map(|frame| take(&mut assembly, frame).unwrap()).collect();
        prop_assert_eq!(complete.pop().unwrap(), Some((number, message)));
        prop_assert!(complete.iter().all(Option::is_none));
    }

    #[test]
    fn any_bytes_are_a_frame_or_an_error(bytes: Vec<u8>, changed: (usize, u8), message in messages()) {
        let mut assembly = Assembly::new(1 << 16);
        if let Ok(frame) = <Frame as prost::Message>::decode(bytes.as_slice()) {
            drop(take(&mut assembly, frame));
        }
        // And a good one with one byte changed.
        let frame = message.frames(0).next().unwrap();
        let mut bytes = prost::Message::encode_to_vec(&frame);
        let place = changed.0 % bytes.len();
        bytes[place] = changed.1;
        if let Ok(frame) = <Frame as prost::Message>::decode(bytes.as_slice()) {
            drop(take(&mut assembly, frame));
        }
    }
}

#[test]
fn payload_that_is_larger_than_allowed_is_refused_before_it_comes() {
    let message = durable(Bytes::from(vec![0; 100]));
    let head = message.frames(0).next().unwrap();

    let refused = take(&mut Assembly::new(99), head).unwrap_err();

    assert_eq!(refused.to_string(), "malformed message: bytes is 100, which is not in 0..=99");
}

#[test]
fn payload_that_is_not_of_the_size_that_its_message_says_is_refused() {
    let pictures = Kind::Pictures { chunk: 0, count: 2, width: 5, height: 7, decode_seconds: 0.0 };
    let largest = Kind::Pictures {
        chunk: 0,
        count: PICTURES_MAX,
        width: SIDE_MAX,
        height: SIDE_MAX,
        decode_seconds: 0.0,
    };
    let decode = Kind::Decode { chunk: 0, rows: 3, columns: 5 };
    for (kind, bytes, is_right) in [
        (pictures.clone(), 210, true),
        (pictures, 209, false),
        (largest, 210, false),
        (decode.clone(), 120, true),
        (decode.clone(), 90, false),
        (decode, 0, false),
    ] {
        let payload = Bytes::from(vec![0; bytes]);
        let message = Message { kind: kind.clone(), payload, ..durable(Bytes::new()) };
        let head = message.frames(0).next().unwrap();

        let taken = take(&mut Assembly::new(1 << 10), head);

        assert_eq!(taken.is_ok(), is_right, "{kind:?} of {bytes} bytes: {taken:?}");
    }
}

#[test]
fn parts_without_a_head_or_beyond_the_end_are_refused() {
    let message = durable(Bytes::from(vec![0; 10]));
    let frames: Vec<_> = message.frames(0).collect();
    let mut assembly = Assembly::new(100);
    assert_eq!(take(&mut assembly, frames[1].clone()).unwrap_err().field, "part");

    take(&mut assembly, frames[0].clone()).unwrap();
    let long = frame(frame::Kind::Part(wire::Part { data: Bytes::from(vec![0; 11]) }));
    assert_eq!(take(&mut assembly, long).unwrap_err().field, "data");
    assert_eq!(take(&mut assembly, frames[0].clone()).unwrap_err().field, "head");
}

fn durable(payload: Bytes) -> Message {
    let fence = Fence { job: JobId(7), epoch: Epoch(1) };
    Message { fence, kind: Kind::Durable { chunk: 3 }, payload }
}

fn take(assembly: &mut Assembly, frame: Frame) -> Result<Option<(u64, Message)>, Malformed> {
    match frame.kind {
        Some(frame::Kind::Head(head)) => assembly.head(head),
        Some(frame::Kind::Part(part)) => assembly.part(&part),
        Some(frame::Kind::Hello(_) | frame::Kind::Refusal(_) | frame::Kind::Taken(_)) | None => {
            Ok(None)
        }
    }
}

fn messages() -> impl Strategy<Value = Message> {
    let fences = (any::<u128>(), any::<u64>())
        .prop_map(|(job, epoch)| Fence { job: JobId(job), epoch: Epoch(epoch) });
    (fences, kinds()).prop_map(|(fence, kind)| Message { fence, kind, payload: Bytes::new() })
}

fn kinds() -> impl Strategy<Value = Kind> {
    let branches = prop_oneof![Just(Branch::Conditional), Just(Branch::Unconditional)].boxed();
    let kinds = prop_oneof![Just(PassKind::Denoise), Just(PassKind::Commit), Just(PassKind::Rerun)];
    let times = proptest::collection::vec(0.0f32..1000.0, 1..8);
    let pass = (0u32..1000, 0u32..50, branches.clone(), kinds, times, 0usize..99).prop_map(
        |(chunk, step, branch, kind, frame_times, first)| {
            let tokens = first..first + 100;
            Pass { chunk, step, branch, kind, frame_times, tokens }
        },
    );
    prop_oneof![
        pass.prop_map(|pass| Kind::Hidden { pass }),
        (0u32..1000, 0u32..50, branches.clone()).prop_map(|(chunk, step, branch)| Kind::Velocity {
            chunk,
            step,
            branch
        }),
        (0u32..1000).prop_map(|chunk| Kind::Clean { chunk }),
        (0u32..1000).prop_map(|chunk| Kind::Durable { chunk }),
        (0u32..9, branches).prop_map(|(prompt, branch)| Kind::Context { prompt, branch }),
        (0u32..1000, 1u32..99, 1u32..99).prop_map(|(chunk, rows, columns)| Kind::Decode {
            chunk,
            rows,
            columns
        }),
        (0u32..1000, 1u32..99, 1u32..99, 1u32..99, 0.0..9.0).prop_map(
            |(chunk, count, width, height, decode_seconds)| Kind::Pictures {
                chunk,
                count,
                width,
                height,
                decode_seconds,
            }
        ),
        Just(Kind::Probe),
    ]
}

/// About so many bytes, as the message would have them.
fn fitting(kind: &Kind, bytes: usize) -> usize {
    if let Kind::Pictures { count, width, height, .. } = *kind {
        return (count * width * height * 3) as usize;
    }
    let Kind::Decode { rows, columns, .. } = *kind else { return bytes };
    let pixels = (rows * columns * 4) as usize;
    bytes.next_multiple_of(pixels).max(pixels)
}
