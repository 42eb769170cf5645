//! The chunk log's file of a job.
//!
//! Its payloads are a worker's bytes, and nothing else of it is. The file is read as
//! it is, and once more with its digests made right, which damage would not get past.

use std::{fs, path::Path};

use chunk_log::{ChunkLog, Header, Limits, format::X0_BYTES_MAX};
use tempfile::TempDir;
use types::{Dtype, Epoch, Fence, JobId};

use crate::{Target, control::fence, mutate::Shape};

/// A job's file.
pub(crate) const LOG: Target = Target {
    name: "log",
    shape: Shape::Bytes,
    decode: log,
    seeds: || vec![file(0), file(3)],
    input_bytes_max: 8 << 10,
    held_bytes: 64 << 10,
    held_per_byte: 8,
    cases: 600,
};

/// Bytes of a chunk in the corpus.
const X0_BYTES: u64 = 2 * 3 * 4 * 5 * 4;
const _: () = assert!(X0_BYTES < X0_BYTES_MAX);

/// Where the format has what it is checked by; see `chunk_log::format`.
const HEADER_HASHED: usize = 128;
const HEADER_BYTES: usize = 160;
const RECORD_CHAINED: usize = 56;
const RECORD_CHECKED: usize = 88;
const RECORD_BYTES: usize = 96;

fn log(bytes: &[u8]) -> Result<(), String> {
    let taken = read(bytes);
    drop(read(&mended(bytes)));
    taken
}

fn read(bytes: &[u8]) -> Result<(), String> {
    let folder = folder();
    fs::write(path(folder.path()), bytes).map_err(|error| error.to_string())?;
    let log = open(folder.path())?;
    if let Some((_, damage)) = log.damaged().next() {
        return Err(damage.to_string());
    }
    for job in log.jobs() {
        let committed = log.committed(job).map_err(|error| error.to_string())?;
        for chunk in 0..committed {
            let x0 = log.read(job, chunk).map_err(|error| error.to_string())?;
            assert!(x0.len() as u64 <= X0_BYTES_MAX);
        }
    }
    match log.cuts() {
        [] => Ok(()),
        [..] => Err("its end was cut off".to_owned()),
    }
}

/// The file with every digest that can be found in it made right.
fn mended(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let Some((header, mut rest)) = bytes.split_at_mut_checked(HEADER_BYTES) else { return bytes };
    let mut chain = *blake3::hash(&header[..HEADER_HASHED]).as_bytes();
    header[HEADER_HASHED..].copy_from_slice(&chain);
    while let Some((record, payload)) = rest.split_at_mut_checked(RECORD_BYTES) {
        let [_, _, _, _, a, b, c, d, ..] = *record else { break };
        let length = (u32::from_le_bytes([a, b, c, d]) as usize).min(payload.len());
        let (payload, behind) = payload.split_at_mut(length);
        record[24..RECORD_CHAINED].copy_from_slice(blake3::hash(payload).as_bytes());
        let mut hasher = blake3::Hasher::new();
        hasher.update(&chain).update(&record[..RECORD_CHAINED]);
        chain = *hasher.finalize().as_bytes();
        record[RECORD_CHAINED..RECORD_CHECKED].copy_from_slice(&chain);
        let check = blake3::hash(&record[..RECORD_CHECKED]);
        record[RECORD_CHECKED..]
            .copy_from_slice(&check.as_bytes()[..RECORD_BYTES - RECORD_CHECKED]);
        rest = behind;
    }
    bytes
}

/// A file with so many chunks, in two epochs.
fn file(chunks: u32) -> Vec<u8> {
    let folder = folder();
    let mut log = open(folder.path()).expect("an empty folder");
    let header = Header {
        job: fence().job,
        model: [5; 32],
        class: "cpu-f32".to_owned(),
        x0_shape: [2, 3, 4, 5],
        x0_dtype: Dtype::F32,
    };
    log.create(&header).expect("a good header");
    for chunk in 0..chunks {
        let fence = Fence { epoch: Epoch(1 + u64::from(chunk / 2)), ..fence() };
        let x0 = vec![7; usize::try_from(X0_BYTES).expect("it is small")];
        log.append(fence, chunk, &x0).expect("the next chunk");
    }
    fs::read(path(folder.path())).expect("the job's file")
}

fn open(folder: &Path) -> Result<ChunkLog, String> {
    let limits = Limits { folder_bytes_max: 1 << 30 };
    ChunkLog::open(folder, limits).map_err(|error| error.to_string())
}

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for tests")
}

fn path(folder: &Path) -> std::path::PathBuf {
    let JobId(job) = fence().job;
    folder.join(format!("{job:032x}.chunks"))
}
