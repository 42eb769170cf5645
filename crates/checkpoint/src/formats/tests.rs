//! Weight files: what torch writes is read, what is damaged or malicious is
//! refused with a reason, and nothing panics.

use super::{
    fixtures::{
        TORCH, archive, named_tensor_pickle, safetensors_file, tensor_pickle, with_zip64, zip_of,
    },
    *,
};
use crate::weights::Ema;

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
    assert!(error.to_string().ends_with(
        "`count`: expected F32, F16, BF16 or F64, found I64: convert it to one of them"
    ));
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
fn copies_of_a_shared_argument_are_paid_for() {
    // A list of 4,000 times the same pair, and dictionaries made of it.
    let bomb = |calls: usize| {
        let list =
            [&b"\x80\x02ccollections\nOrderedDict\nq\x01NN\x86q\0]("[..], &b"h\0".repeat(4000)];
        let calls = b"h\x01h\x02R".repeat(calls);
        [list.concat(), b"e\x85q\x02".to_vec(), calls, b".".to_vec()].concat()
    };
    let refused = "a pickle that holds more than any checkpoint of its length";

    assert!(bomb(1000).len() < 14_000);
    for calls in [10, 1000, 100_000] {
        let error = torch(&archive(&bomb(calls), &[]), Ema::Prefer).unwrap_err().to_string();
        assert!(error.contains(refused), "{error}");
    }
    let once = torch(&archive(&bomb(1), &[]), Ema::Prefer).unwrap_err().to_string();
    assert!(once.contains("holds no weights"), "{once}");
}

#[test]
fn no_pickle_may_hold_millions_of_values() {
    // Two million entries of one list, and a million values on the stack.
    for (start, value) in [(&b"\x80\x02]"[..], &b")a"[..]), (b"\x80\x02", b"N")] {
        let pickle = [start, &value.repeat((1 << 20) + 1), b"."].concat();
        let error = torch(&archive(&pickle, &[]), Ema::Prefer).unwrap_err().to_string();
        assert!(error.contains("a pickle that holds more"), "{error}");
    }
}

#[test]
fn few_elements_cannot_be_spread_over_many_places() {
    let bytes = archive(&tensor_pickle(6, [0, 255, 255, 0, 0]), &[("data/0", &[0; 24])]);
    let error = torch(&bytes, Ema::Prefer).unwrap_err().to_string();
    assert!(error.contains("`w` spreads 6 stored elements over 65025 places"), "{error}");
}

#[test]
fn names_and_directories_have_bounds() {
    let long = "w".repeat(1025);
    let named = named_tensor_pickle(&long, 1, [0, 1, 1, 1, 1]);
    let error = torch(&archive(&named, &[("data/0", &[0; 4])]), Ema::Prefer).unwrap_err();
    assert!(error.to_string().ends_with("names a tensor in 1025 bytes"), "{error}");

    let function = [b"\x80\x02c", long.as_bytes(), b"\nsystem\n."].concat();
    let error = torch(&archive(&function, &[]), Ema::Prefer).unwrap_err();
    assert!(error.to_string().contains("a name without end"), "{error}");

    let key = [b"\x80\x02}X\xff\xff\0\0", "k".repeat(0xffff).as_bytes(), b"Ns."].concat();
    let error = torch(&archive(&key, &[]), Ema::Prefer).unwrap_err().to_string();
    assert!(error.len() < 400, "{error}");

    let error = torch(&zip_of(&[(&long, b"")]), Ema::Prefer).unwrap_err().to_string();
    assert!(error.ends_with("has a larger zip directory than torch writes"), "{error}");
}

#[test]
fn safetensors_headers_have_bounds() {
    let file = |header: String| {
        let length = (header.len() as u64).to_le_bytes();
        [&length[..], header.as_bytes()].concat()
    };
    let tensor = |name: &str, shape: &[u8]| {
        file(format!(r#"{{"{name}":{{"dtype":"F32","shape":{shape:?},"data_offsets":[0,0]}}}}"#))
    };
    assert!(safetensors(&tensor("w", &[0; 8])).is_ok());
    let error = safetensors(&tensor("w", &[0; 9])).unwrap_err().to_string();
    assert!(error.ends_with("holds `w` with 9 axes"), "{error}");
    let error = safetensors(&tensor(&"w".repeat(2000), &[0])).unwrap_err().to_string();
    assert!(error.ends_with("names a tensor in 2000 bytes"), "{error}");
    let error = safetensors(&file(format!("{{{}}}", " ".repeat(16 << 20)))).unwrap_err();
    assert!(error.to_string().contains("a header of 16777218 bytes"), "{error}");
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

fn torch(bytes: &[u8], ema: Ema) -> Result<ByName> {
    torch::read("file", &Bytes::from(bytes.to_vec()), ema)
}

fn safetensors(bytes: &[u8]) -> Result<ByName> {
    safetensors::read("file", &Bytes::from(bytes.to_vec()))
}
