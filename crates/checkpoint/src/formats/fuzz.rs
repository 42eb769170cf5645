//! Whatever the bytes, the readers do not panic, and what they hold stays
//! within a multiple of the bytes' length.

use proptest::{prelude::*, sample::Index};

use super::{
    fixtures::{TORCH, archive, safetensors_file, tensor_pickle, with_zip64, zip_of},
    pickle::Pickle,
    *,
};
use crate::weights::Ema;

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        exercise(&bytes);
        exercise(&archive(&bytes, &[]));
        exercise(&with_length(&bytes));
        let name = String::from_utf8_lossy(&bytes);
        exercise(&zip_of(&[(&name, &bytes), ("x/data.pkl", b"}.")]));
    }

    #[test]
    fn no_damage_makes_the_readers_panic(
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 0..6),
        end in any::<Index>(),
        cut in any::<bool>(),
    ) {
        for whole in [TORCH.to_vec(), with_zip64(TORCH), safetensors_file()] {
            let mut bytes = changed(whole, &changes);
            if cut {
                bytes.truncate(end.index(bytes.len()));
            }
            exercise(&bytes);
        }
    }

    #[test]
    fn no_damaged_pickle_makes_the_machine_panic(
        changes in prop::collection::vec((any::<Index>(), any::<u8>()), 1..8),
    ) {
        let pickle = changed(tensor_pickle(6, [0, 2, 3, 3, 1]), &changes);
        check_held(&pickle);
        exercise(&archive(&pickle, &[("data/0", &[0; 24])]));
    }

    #[test]
    fn no_program_holds_more_than_a_multiple_of_its_length(
        program in prop::collection::vec(instruction(), 0..40),
        repeats in 1..30usize,
    ) {
        let program = [PRELUDE, &program.concat().repeat(repeats), b"."].concat();
        check_held(&program);
        exercise(&archive(&program, &[("data/0", &[0; 24])]));
    }

    #[test]
    fn no_damaged_header_makes_the_safetensors_reader_panic(
        text in r#"\{("[a-c]":\{"dtype":"(F32|I8)","shape":\[[0-9]{0,20}(,[0-9]){0,9}\],"data_offsets":\[0,[0-9]{1,20}\]\},?){0,3}\}"#,
        data in 0..64usize,
    ) {
        let header = with_length(text.as_bytes());
        exercise(&[header, vec![0; data]].concat());
    }
}

/// A list, a dictionary, a tensor's arguments and functions, all memoised.
const PRELUDE: &[u8] = b"\x80\x02]q\0}q\x01ccollections\nOrderedDict\nq\x02\
    ctorch._utils\n_rebuild_tensor_v2\nq\x03\
    (X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x06tQq\x04\
    K\0\x85q\x05X\x01\0\0\0aN\x86q\x06](h\x06h\x06h\x06eq\x07";

/// What can stand anywhere: each uses what the prelude has memoised.
const STATEMENTS: [&[u8]; 9] = [
    b"h\0h\x06a",
    b"h\0(h\x06h\x06h\x06e",
    b"h\x01X\x01\0\0\0wNs",
    b"h\x01(NNNNNNu",
    b"h\x02h\0\x85R",
    b"h\x02h\x07\x85Rq\x01",
    b"h\x03(h\x04K\0h\x05h\x05tR",
    b"h\x01X\x01\0\0\0th\x03(h\x04K\0h\x05h\x05tRs",
    b"(h\0h\x07t",
];

/// Opcodes with their arguments, most of which need something on the stack.
const OPCODES: [&[u8]; 32] = [
    b"h\0",
    b"h\x01",
    b"h\x02",
    b"h\x03",
    b"h\x04",
    b"h\x05",
    b"h\x06",
    b"h\x07",
    b"h\x08",
    b"q\0",
    b"q\x07",
    b"q\x08",
    b"\x94",
    b"(",
    b")",
    b"]",
    b"}",
    b"N",
    b"K\x02",
    b"J\xff\xff\xff\xff",
    b"X\x01\0\0\0w",
    b"t",
    b"\x85",
    b"\x86",
    b"\x87",
    b"a",
    b"e",
    b"s",
    b"u",
    b"R",
    b"b",
    b"Q",
];

fn instruction() -> impl Strategy<Value = &'static [u8]> {
    prop_oneof![
        20 => prop::sample::select(&STATEMENTS[..]),
        1 => prop::sample::select(&OPCODES[..]),
    ]
}

/// Reads `bytes` as either format, and loads whatever was read, unless it says
/// itself that it is huge.
fn exercise(bytes: &[u8]) {
    let shared = Bytes::from(bytes.to_vec());
    for read in [torch::read("file", &shared, Ema::Prefer), safetensors::read("file", &shared)] {
        let names = read.iter().flatten().map(|(name, _)| name.len());
        assert!(names.sum::<usize>() <= bytes.len());
        for (name, stored) in read.iter().flatten() {
            let elements = stored.shape.iter().try_fold(1usize, |product, size| {
                product.checked_mul(*size).filter(|product| *product < 1 << 20)
            });
            if elements.is_some() && stored.known_dtype(name).is_ok() {
                let tensor = stored.load(name).unwrap();
                assert_eq!(Some(tensor.to_f32().len()), elements);
                assert!(tensor.bytes.len() <= bytes.len());
            }
        }
        if let Err(error) = read {
            assert!(error.to_string().len() < 8 * (NAME_BYTES_MAX + 64));
        }
    }
}

fn check_held(program: &[u8]) {
    if let Ok(pickle) = Pickle::read(program) {
        assert!(pickle.held() <= 4 * program.len(), "{program:?}");
    }
}

fn changed(mut bytes: Vec<u8>, changes: &[(Index, u8)]) -> Vec<u8> {
    for (place, value) in changes {
        let place = place.index(bytes.len());
        bytes[place] = *value;
    }
    bytes
}

/// Bytes as a safetensors header, after their length.
fn with_length(header: &[u8]) -> Vec<u8> {
    [&(header.len() as u64).to_le_bytes()[..], header].concat()
}
