//! Weight files made in tests.

/// What `torch.save` wrote, see `tests/fixtures/make.py`.
pub(super) const TORCH: &[u8] = include_bytes!("../../tests/fixtures/torch.pt");

pub(super) fn safetensors_file() -> Vec<u8> {
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
pub(super) fn tensor_pickle(
    elements: u8,
    [offset, rows, columns, row, column]: [u8; 5],
) -> Vec<u8> {
    named_tensor_pickle("w", elements, [offset, rows, columns, row, column])
}

/// The same under another name.
pub(super) fn named_tensor_pickle(
    name: &str,
    elements: u8,
    [offset, rows, columns, row, column]: [u8; 5],
) -> Vec<u8> {
    let length = u32::try_from(name.len()).unwrap().to_le_bytes();
    let mut pickle = [b"\x80\x02}X", &length[..], name.as_bytes()].concat();
    pickle.extend(b"ctorch._utils\n_rebuild_tensor_v2\n(");
    pickle.extend(b"(X\x07\0\0\0storagectorch\nFloatStorage\nX\x01\0\0\x000X\x03\0\0\0cpuK");
    pickle.extend([elements]);
    pickle.extend(b"tQK");
    pickle.extend([offset]);
    pickle.extend([b'K', rows, b'K', columns, 0x86]);
    pickle.extend([b'K', row, b'K', column, 0x86]);
    pickle.extend(b"\x89ccollections\nOrderedDict\n)RtRs.");
    pickle
}

pub(super) fn archive(pickle: &[u8], others: &[(&str, &[u8])]) -> Vec<u8> {
    let named: Vec<(String, &[u8])> =
        others.iter().map(|(name, bytes)| (format!("x/{name}"), *bytes)).collect();
    let mut entries = vec![("x/data.pkl", pickle)];
    entries.extend(named.iter().map(|(name, bytes)| (name.as_str(), *bytes)));
    zip_of(&entries)
}

/// A zip archive of stored entries, without checksums.
pub(super) fn zip_of(entries: &[(&str, &[u8])]) -> Vec<u8> {
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
pub(super) fn with_zip64(plain: &[u8]) -> Vec<u8> {
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
