//! What `torch.save` writes, as far as the tests need it.

/// A key and its tensor, whose axes are 2 long, over the storage from `first` on.
pub(crate) fn tensor_pickle(name: &str, shape: &[usize], first: u8) -> Vec<u8> {
    let (shape, strides): (&[u8], &[u8]) = match shape {
        [2] => (b"K\x02\x85", b"K\x01\x85"),
        [2, 2] => (b"K\x02K\x02\x86", b"K\x02K\x01\x86"),
        other => panic!("{name} {other:?}"),
    };
    let storage = b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK\x05tQ";
    [
        &text_pickle(name)[..],
        b"ctorch._utils\n_rebuild_tensor_v2\n(",
        storage,
        &[b'K', first],
        shape,
        strides,
        b"\x89ccollections\nOrderedDict\n)RtR",
    ]
    .concat()
}

pub(crate) fn text_pickle(text: &str) -> Vec<u8> {
    [b"X", &u32::try_from(text.len()).unwrap().to_le_bytes()[..], text.as_bytes()].concat()
}

/// A zip archive of stored entries, without checksums.
pub(crate) fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
    let (mut file, mut central) = (Vec::new(), Vec::new());
    for (name, bytes) in entries {
        let size = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        let name_length = u16::try_from(name.len()).unwrap().to_le_bytes();
        let start = u32::try_from(file.len()).unwrap().to_le_bytes();
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
