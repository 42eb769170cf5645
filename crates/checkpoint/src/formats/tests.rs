//! Weight files: what torch writes is read, what is damaged or malicious is
//! refused with a reason, and nothing panics.

use proptest::prelude::*;

use super::*;
use crate::weights::Ema;

/// What `torch.save` wrote, see `tests/fixtures/make.py`.
const TORCH: &[u8] = include_bytes!("../../tests/fixtures/torch.pt");

#[test]
fn tensors_of_every_layout_and_type_are_read_from_torch() {
    let tensors = torch(TORCH, Ema::Ignore).unwrap();

    let read = |name: &str| {
        let stored = &tensors[&format!("model._fsdp_wrapped_module.{name}")];
        let tensor = stored.load(name).unwrap();
        (tensor.dtype, tensor.shape.clone(), tensor.to_f32())
    };
    let grid: Vec<f32> = (0..12u8).map(f32::from).collect();
    assert_eq!(read("f32"), (Dtype::F32, vec![3, 4], grid));
    let transposed = vec![0., 4., 8., 1., 5., 9., 2., 6., 10., 3., 7., 11.];
    assert_eq!(read("transposed"), (Dtype::F32, vec![4, 3], transposed));
    assert_eq!(read("row"), (Dtype::F32, vec![4], vec![4., 5., 6., 7.]));
    assert_eq!(read("bf16"), (Dtype::Bf16, vec![2], vec![1.5, -2.0]));
    assert_eq!(read("f16"), (Dtype::F16, vec![1, 1], vec![0.5]));
    assert_eq!(read("f64"), (Dtype::F64, vec![1], vec![0.25]));
    assert_eq!(read("empty"), (Dtype::F32, vec![0, 4], vec![]));
    assert_eq!(read("scalar"), (Dtype::F32, vec![], vec![3.0]));
    let error = tensors["model._fsdp_wrapped_module.count"].load("count").unwrap_err();
    assert!(error.to_string().ends_with("`count`: expected F32, F16, BF16 or F64, found I64"));
}

#[test]
fn the_average_is_preferred_and_can_be_ignored() {
    let first = |ema| {
        let tensors = torch(TORCH, ema).unwrap();
        tensors["model._fsdp_wrapped_module.f32"].load("f32").unwrap().to_f32()[0]
    };
    assert_eq!(first(Ema::Prefer), 100.0);
    assert_eq!(first(Ema::Ignore), 0.0);
    let tensors = torch(TORCH, Ema::Prefer).unwrap();
    let parameter = &tensors["model._fsdp_wrapped_module.parameter"];
    assert_eq!(parameter.load("parameter").unwrap().to_f32(), [8.0]);
}

#[test]
fn a_pickle_that_would_run_something_is_refused_by_name() {
    let cases: [(&[u8], &str); 9] = [
        (b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R.", "class or function `os.system`"),
        (b"\x80\x04\x8c\x05posix\x8c\x06system\x93.", "class or function `posix.system`"),
        (b"\x80\x02ctorch\nload\n.", "class or function `torch.load`"),
        (b"\x80\x02ccollections\nOrderedDict\n)\x81.", "opcode 0x81 NEWOBJ"),
        (b"\x80\x02(ios\nsystem\n.", "opcode 0x69 INST"),
        (b"\x80\x02K\x01\x82\x01.", "opcode 0x82 EXT"),
        (b"\x80\x02\xff.", "opcode 0xff (unknown)"),
        (b"\x80\x02K\x01K\x02\x85R.", "a call of an integer"),
        (b"\x80\x00.", "pickle protocol 0"),
    ];
    for (pickle, reason) in cases {
        let error = torch(&archive(pickle, &[]), Ema::Prefer).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        assert!(error.to_string().starts_with(&format!("file: refused: {reason}")), "{error}");
    }
}

#[test]
fn malformed_pickles_are_refused() {
    let cases: [&[u8]; 15] = [
        b"",
        b"\x80\x02",
        b"\x80\x02.",
        b"\x80\x02t.",
        b"\x80\x02(K\x01\x86.",
        b"\x80\x02}K\x01s.",
        b"\x80\x02}(K\x01u.",
        b"\x80\x02K\x01(K\x01K\x02u.",
        b"\x80\x02}h\x07.",
        b"\x80\x02X\xff\xff\xff\xffa.",
        b"\x80\x02\x8a\x09\x01\x01\x01\x01\x01\x01\x01\x01\x01.",
        b"\x80\x02]K\x01(a.",
        b"\x80\x02K\x01Q.",
        b"\x80\x02K\x01}b.",
        b"\x80\x02X\x01\0\0\0\xff.",
    ];
    for pickle in cases {
        let error = torch(&archive(pickle, &[]), Ema::Prefer).unwrap_err();
        assert!(matches!(error, Error::Refused { .. }), "{pickle:?}: {error}");
    }
}

#[test]
fn a_dictionary_that_holds_itself_is_no_endless_way() {
    let pickle = b"\x80\x02}q\0X\x05\0\0\0modelh\0s.";
    let error = torch(&archive(pickle, &[]), Ema::Prefer).unwrap_err().to_string();
    assert!(error.contains("holds no weights"), "{error}");
    assert!(error.contains("[\"model\"]"), "{error}");
}

#[test]
fn tensors_must_lie_within_their_storage() {
    // Offset, rows, columns and their strides over a storage of 6 elements.
    let cases = [
        ([0, 2, 3, 3, 1], Ok(vec![0., 1., 2., 3., 4., 5.])),
        ([1, 2, 2, 2, 1], Ok(vec![1., 2., 3., 4.])),
        ([0, 3, 2, 1, 3], Ok(vec![0., 3., 1., 4., 2., 5.])),
        ([5, 4, 1, 0, 1], Ok(vec![5., 5., 5., 5.])),
        ([1, 2, 3, 3, 1], Err(())),
        ([0, 2, 2, 5, 1], Err(())),
        ([6, 1, 1, 1, 1], Err(())),
        ([0, 255, 255, 255, 255], Err(())),
    ];
    let elements: Vec<u8> = (0..6u8).flat_map(|value| f32::from(value).to_le_bytes()).collect();
    for (numbers, expected) in cases {
        let bytes = archive(&tensor_pickle(6, numbers), &[("data/0", &elements)]);
        match (torch(&bytes, Ema::Prefer), expected) {
            (Ok(tensors), Ok(values)) => {
                assert_eq!(tensors["w"].load("w").unwrap().to_f32(), values, "{numbers:?}");
            }
            (Err(error), Err(())) => {
                let message = error.to_string();
                assert!(message.contains("`w` reaches past the end of `x/data/0`"), "{message}");
            }
            (read, _) => panic!("{numbers:?}: {read:?}"),
        }
    }
}

#[test]
fn a_storage_must_be_there_whole() {
    let pickle = tensor_pickle(6, [0, 2, 3, 3, 1]);
    let absent = torch(&archive(&pickle, &[]), Ema::Prefer).unwrap_err().to_string();
    assert!(absent.ends_with("tensor `w` is in `x/data/0`, which is not there"), "{absent}");
    for length in [20, 28] {
        let bytes = archive(&pickle, &[("data/0", &vec![0; length])]);
        let message = torch(&bytes, Ema::Prefer).unwrap_err().to_string();
        let reason = format!("expected 6 elements of 4 bytes, found {length} bytes");
        assert!(message.contains(&reason), "{message}");
    }
}

#[test]
fn an_entry_must_end_within_the_file() {
    let mut bytes = archive(&tensor_pickle(6, [0, 2, 3, 3, 1]), &[("data/0", &[0; 24])]);
    // The last entry's size, in the directory.
    let central = bytes.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    bytes[central + 20 + 1] = 1;
    let message = torch(&bytes, Ema::Prefer).unwrap_err().to_string();
    assert!(message.contains("is truncated: `x/data/0` reaches past its end"), "{message}");
}

#[test]
fn negative_sizes_are_no_sizes() {
    let mut pickle = tensor_pickle(6, [0, 2, 3, 3, 1]);
    let sizes = pickle.windows(5).position(|window| window == b"K\x02K\x03\x86").unwrap();
    pickle.splice(sizes..sizes + 2, *b"\x8a\x01\xff");
    let message = torch(&archive(&pickle, &[]), Ema::Prefer).unwrap_err().to_string();
    assert!(message.contains("sizes are not up to 8 counts"), "{message}");
}

#[test]
fn strides_of_single_elements_cost_no_copy() {
    let bytes = archive(&tensor_pickle(3, [0, 1, 3, 7, 1]), &[("data/0", &[0; 12])]);
    let tensors = torch(&bytes, Ema::Prefer).unwrap();
    assert!(matches!(tensors["w"].layout, Layout::Contiguous(_)), "{tensors:?}");
}

#[test]
fn other_files_are_told_apart() {
    let cases: [(Vec<u8>, &str); 6] = [
        (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19.".to_vec(), "before torch 1.6"),
        (b"<html>".to_vec(), "is no torch file"),
        (TORCH[..TORCH.len() - 30].to_vec(), "truncated"),
        (zip_of(&[("x/other", b"")]), "holds no data.pkl"),
        (zip_of(&[("x/data.pkl", b"N."), ("y/data.pkl", b"N.")]), "more than one data.pkl"),
        (zip_of(&[("x/data.pkl", b"N."), ("x/byteorder", b"big")]), "big-endian"),
    ];
    for (bytes, reason) in cases {
        let error = torch(&bytes, Ema::Prefer).unwrap_err().to_string();
        assert!(error.contains(reason), "{reason}: {error}");
    }
}

#[test]
fn compressed_entries_are_refused() {
    let mut bytes = archive(b"N.", &[]);
    let central = bytes.windows(4).position(|window| window == b"PK\x01\x02").unwrap();
    bytes[central + 10] = 8;
    let error = torch(&bytes, Ema::Prefer).unwrap_err().to_string();
    assert!(error.contains("`x/data.pkl` compressed"), "{error}");
}

#[test]
fn large_archives_keep_their_sizes_in_the_extra_field() {
    let plain = archive(&tensor_pickle(1, [0, 1, 1, 1, 1]), &[("data/0", &[0, 0, 128, 63])]);
    let bytes = with_zip64(&plain);
    let tensors = torch(&bytes, Ema::Prefer).unwrap();
    assert_eq!(tensors["w"].load("w").unwrap().to_f32(), [1.0]);
    assert!(torch(&with_zip64(TORCH), Ema::Prefer).is_ok());
}

#[test]
fn sizes_beside_a_zero_may_be_absurd() {
    let mut pickle = tensor_pickle(1, [0, 0, 0, 0, 0]);
    let sizes = pickle.windows(5).position(|window| window == b"K\0K\0\x86").unwrap();
    let long = b"\x8a\x08\0\0\0\0\0\0\0\x40";
    let shape = [b"(K\0", &long[..], &long[..], b"t"].concat();
    let strides = [b"(K\0", &long[..], b"K\x01t"].concat();
    pickle.splice(sizes..sizes + 10, [shape, strides].concat());

    let tensors = torch(&archive(&pickle, &[("data/0", &[0; 4])]), Ema::Prefer).unwrap();

    assert_eq!(tensors["w"].shape, [0, 1 << 62, 1 << 62]);
    assert_eq!(tensors["w"].load("w").unwrap().elements(), 0);
}

#[test]
fn a_truncated_safetensors_file_is_called_that() {
    let whole = safetensors_file();
    assert!(safetensors(&whole).is_ok());
    let error = safetensors(&whole[..whole.len() - 1]).unwrap_err().to_string();
    let length = whole.len() - 1;
    assert!(error.starts_with(&format!("file: is {length} bytes long, which is not")), "{error}");
    for length in [0, 7, 8, 20] {
        let error = safetensors(&whole[..length]).unwrap_err().to_string();
        assert!(error.contains("no intact safetensors file"), "{error}");
    }
    let longer = [whole, vec![0]].concat();
    assert!(safetensors(&longer).is_err());
}

proptest! {
    #[test]
    fn no_bytes_make_the_readers_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        exercise(&torch(&bytes, Ema::Prefer));
        exercise(&torch(&archive(&bytes, &[]), Ema::Prefer));
        exercise(&safetensors(&bytes));
    }

    #[test]
    fn no_damage_makes_the_readers_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        end in any::<prop::sample::Index>(),
        cut in any::<bool>(),
    ) {
        for whole in [TORCH.to_vec(), with_zip64(TORCH), safetensors_file()] {
            let mut bytes = whole;
            for (place, value) in &changes {
                let place = place.index(bytes.len());
                bytes[place] = *value;
            }
            if cut {
                bytes.truncate(end.index(bytes.len()));
            }
            exercise(&torch(&bytes, Ema::Prefer));
            exercise(&safetensors(&bytes));
        }
    }

    #[test]
    fn no_damaged_pickle_makes_the_machine_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut pickle = tensor_pickle(6, [0, 2, 3, 3, 1]);
        for (place, value) in changes {
            let place = place.index(pickle.len());
            pickle[place] = value;
        }
        exercise(&torch(&archive(&pickle, &[("data/0", &[0; 24])]), Ema::Prefer));
    }
}

/// Loads whatever was read, unless it says itself that it is huge.
fn exercise(read: &Result<ByName>) {
    for (name, stored) in read.iter().flatten() {
        let elements = stored.shape.iter().try_fold(1usize, |product, size| {
            product.checked_mul(*size).filter(|product| *product < 1 << 20)
        });
        if elements.is_some() && stored.known_dtype(name).is_ok() {
            let tensor = stored.load(name).unwrap();
            assert_eq!(Some(tensor.to_f32().len()), elements);
        }
    }
}

fn torch(bytes: &[u8], ema: Ema) -> Result<ByName> {
    torch::read("file", &Bytes::from(bytes.to_vec()), ema)
}

fn safetensors(bytes: &[u8]) -> Result<ByName> {
    safetensors::read("file", &Bytes::from(bytes.to_vec()))
}

fn safetensors_file() -> Vec<u8> {
    let data = [0; 12];
    let tensors = ["a", "b"].map(|name| {
        let shape = vec![3];
        (
            name,
            ::safetensors::tensor::TensorView::new(::safetensors::Dtype::F32, shape, &data)
                .unwrap(),
        )
    });
    ::safetensors::serialize(tensors, None).unwrap()
}

/// A pickle of `{"w": tensor}` over a storage of f32 elements. The numbers are
/// offset, rows, columns, and the strides of both.
fn tensor_pickle(elements: u8, [offset, rows, columns, row, column]: [u8; 5]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}X\x01\0\0\0wctorch._utils\n_rebuild_tensor_v2\n(".to_vec();
    pickle.extend(b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK");
    pickle.extend([elements]);
    pickle.extend(b"tQK");
    pickle.extend([offset]);
    pickle.extend([b'K', rows, b'K', columns, 0x86]);
    pickle.extend([b'K', row, b'K', column, 0x86]);
    pickle.extend(b"\x89ccollections\nOrderedDict\n)RtRs.");
    pickle
}

fn archive(pickle: &[u8], others: &[(&str, &[u8])]) -> Vec<u8> {
    let named: Vec<(String, &[u8])> =
        others.iter().map(|(name, bytes)| (format!("x/{name}"), *bytes)).collect();
    let mut entries = vec![("x/data.pkl", pickle)];
    entries.extend(named.iter().map(|(name, bytes)| (name.as_str(), *bytes)));
    zip_of(&entries)
}

/// A zip archive of stored entries, without checksums.
fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut central) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let size = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        let name_length = u16::try_from(name.len()).unwrap().to_le_bytes();
        let start = u32::try_from(file.len()).unwrap().to_le_bytes();
        // Version, flags, method, time, date and checksum are 0.
        let common = [&[0; 14][..], &size, &size, &name_length, &[0; 2]].concat();
        file.extend([b"PK\x03\x04", &common[..], name.as_bytes(), bytes].concat());
        let tail = [&[0; 10][..], &start, name.as_bytes()].concat();
        central.extend([b"PK\x01\x02", &[0; 2][..], &common, &tail].concat());
    }
    let count = u16::try_from(entries.len()).unwrap().to_le_bytes();
    let size = u32::try_from(central.len()).unwrap().to_le_bytes();
    let start = u32::try_from(file.len()).unwrap().to_le_bytes();
    let end = [b"PK\x05\x06", &[0; 4][..], &count, &count, &size, &start, &[0; 2]].concat();
    [file, central, end].concat()
}

/// The archive with all sizes and offsets of its directory in zip64 fields.
fn with_zip64(plain: &[u8]) -> Vec<u8> {
    let end = plain.len() - 22;
    let number = |at: usize| u32::from_le_bytes(plain[at..at + 4].try_into().unwrap());
    let start = usize::try_from(number(end + 16)).unwrap();
    let mut bytes = plain[..start].to_vec();
    let mut at = start;
    while at < end && plain[at..].starts_with(b"PK\x01\x02") {
        let length = |at: usize| usize::from(u16::from_le_bytes([plain[at], plain[at + 1]]));
        let (name, extra) = (length(at + 28), length(at + 30));
        let mut header = plain[at..at + 46].to_vec();
        let fields = [number(at + 24), number(at + 20), number(at + 42)];
        header[20..28].fill(0xff);
        header[42..46].fill(0xff);
        header[30..32].copy_from_slice(&28u16.to_le_bytes());
        bytes.extend(header);
        bytes.extend(&plain[at + 46..at + 46 + name]);
        bytes.extend([1, 0, 24, 0]);
        bytes.extend(fields.iter().flat_map(|field| u64::from(*field).to_le_bytes()));
        at += 46 + name + extra;
    }
    let end64 = u64::try_from(bytes.len()).unwrap();
    let start = u64::try_from(start).unwrap();
    let size = (end64 - start).to_le_bytes();
    bytes.extend([b"PK\x06\x06", &[0; 36][..], &size, &start.to_le_bytes()].concat());
    bytes.extend([b"PK\x06\x07", &[0; 4][..], &end64.to_le_bytes(), &[0; 4]].concat());
    bytes.extend([b"PK\x05\x06", &[0xff; 16][..], &[0; 2]].concat());
    bytes
}
