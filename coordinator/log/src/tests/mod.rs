//! What the log promises, asked of real folders.

mod damage;
mod faults;
mod model;

use tempfile::TempDir;
use types::{Dtype, Epoch, Fence, JobId};

use crate::{Appended, ChunkLog, Error, Header, Limits};

const JOB: JobId = JobId(0xA);
const LIMITS: Limits = Limits { folder_bytes_max: 1 << 20 };

#[test]
fn committed_chunks_are_there_after_a_restart() {
    let folder = TempDir::new().unwrap();
    let mut log = open(&folder);
    log.create(&header(JOB)).unwrap();
    log.raise(fence(3)).unwrap();
    for chunk in 0..3 {
        assert_eq!(log.append(fence(3), chunk, &x0(chunk)).unwrap(), Appended::New);
    }
    drop(log);

    let log = open(&folder);

    assert_eq!((log.committed(JOB).unwrap(), log.epoch(JOB).unwrap()), (3, Epoch(3)));
    assert_eq!(log.header(JOB).unwrap(), &header(JOB));
    assert_eq!(log.read(JOB, 2).unwrap(), x0(2));
    assert_eq!(log.cuts(), []);
    let not_committed = log.read(JOB, 3);
    assert!(matches!(not_committed, Err(Error::NotCommitted { chunk: 3, committed: 3, .. })));
}

#[test]
fn lower_epochs_are_refused_after_a_restart_too() {
    let folder = TempDir::new().unwrap();
    let mut log = open(&folder);
    log.create(&header(JOB)).unwrap();
    log.append(fence(1), 0, &x0(0)).unwrap();
    log.append(fence(2), 1, &x0(1)).unwrap();
    drop(log);

    let mut log = open(&folder);

    let is_stale = |refused: Error| {
        let (found, current) = (Epoch(1), Epoch(2));
        matches!(refused, Error::Stale { found: f, current: c, .. } if (f, c) == (found, current))
    };
    assert!(is_stale(log.append(fence(1), 2, &x0(2)).unwrap_err()));
    assert!(is_stale(log.append(fence(1), 0, &x0(0)).unwrap_err()), "though it is there");
    assert!(is_stale(log.raise(fence(1)).unwrap_err()));
    assert_eq!(log.committed(JOB).unwrap(), 2);
}

#[test]
fn a_job_that_runs_again_meets_its_own_chunks() {
    let folder = TempDir::new().unwrap();
    let mut log = open(&folder);
    log.create(&header(JOB)).unwrap();
    log.append(fence(1), 0, &x0(0)).unwrap();
    let used_bytes = log.used_bytes();

    assert_eq!(log.append(fence(1), 0, &x0(0)).unwrap(), Appended::Same);
    assert_eq!(log.used_bytes(), used_bytes, "nothing was written");
    assert_eq!(log.append(fence(2), 0, &x0(0)).unwrap(), Appended::Same);

    drop(log);
    let mut log = open(&folder);
    assert_eq!(log.epoch(JOB).unwrap(), Epoch(2), "the chunk that was there raised it");
    assert_eq!(log.append(fence(2), 1, &x0(1)).unwrap(), Appended::New);
}

#[test]
fn a_committed_chunk_is_never_replaced_and_none_is_left_out() {
    let folder = TempDir::new().unwrap();
    let mut log = open(&folder);
    log.create(&header(JOB)).unwrap();
    log.append(fence(1), 0, &x0(0)).unwrap();

    let differs = log.append(fence(2), 0, &x0(9)).unwrap_err();
    let gap = log.append(fence(2), 2, &x0(2)).unwrap_err();
    let short = log.append(fence(2), 1, &x0(1)[1..]).unwrap_err();

    assert!(matches!(differs, Error::Differs { chunk: 0, .. }));
    assert!(matches!(gap, Error::Gap { expected: 1, found: 2, .. }));
    assert!(matches!(short, Error::PayloadBytes { expected_bytes: 8, found_bytes: 7, .. }));
    assert_eq!(log.read(JOB, 0).unwrap(), x0(0));
    assert_eq!(log.epoch(JOB).unwrap(), Epoch(1), "what is refused changes nothing");
}

#[test]
fn a_job_is_created_once_and_an_error_names_both_headers() {
    let folder = TempDir::new().unwrap();
    let mut log = open(&folder);
    let other = Header { class: "cpu-bf16-amx".to_owned(), ..header(JOB) };
    log.create(&header(JOB)).unwrap();
    log.append(fence(1), 0, &x0(0)).unwrap();

    log.create(&header(JOB)).unwrap();
    let message = log.create(&other).unwrap_err().to_string();

    assert_eq!(log.committed(JOB).unwrap(), 1);
    assert!(message.contains("cpu-f32") && message.contains("cpu-bf16-amx"), "{message}");
    let too_long = Header { x0_shape: [1 << 24, 1, 1, 1], ..header(JobId(2)) };
    assert!(matches!(log.create(&too_long), Err(Error::InvalidHeader { .. })));
    assert!(matches!(log.append(fence_of(JobId(2), 1), 0, &[]), Err(Error::UnknownJob { .. })));
}

#[test]
fn a_folder_belongs_to_one_process() {
    let folder = TempDir::new().unwrap();
    let log = open(&folder);

    let second = ChunkLog::open(folder.path(), LIMITS);
    assert!(matches!(second, Err(Error::Locked { .. })));

    drop(log);
    assert!(ChunkLog::open(folder.path(), LIMITS).is_ok());
}

#[test]
fn a_full_log_refuses_and_deletes_nothing() {
    let folder = TempDir::new().unwrap();
    // Two headers, and a record with its payload in each.
    let limits = Limits { folder_bytes_max: 2 * (160 + 96 + 8) };
    let mut log = ChunkLog::open(folder.path(), limits).unwrap();
    let other = JobId(2);
    log.create(&header(JOB)).unwrap();
    log.create(&header(other)).unwrap();
    log.append(fence(1), 0, &x0(0)).unwrap();
    log.append(fence_of(other, 1), 0, &x0(1)).unwrap();
    assert_eq!(log.used_bytes(), limits.folder_bytes_max);

    assert!(matches!(log.append(fence(1), 1, &x0(1)), Err(Error::Full { need_bytes: 104, .. })));
    assert!(matches!(log.raise(fence(2)), Err(Error::Full { need_bytes: 96, .. })));
    assert!(matches!(log.create(&header(JobId(3))), Err(Error::Full { need_bytes: 160, .. })));
    assert_eq!((log.committed(JOB).unwrap(), log.committed(other).unwrap()), (1, 1));

    log.remove(other).unwrap();
    assert_eq!(log.append(fence(1), 1, &x0(1)).unwrap(), Appended::New);
    assert!(matches!(log.committed(other), Err(Error::UnknownJob { .. })));
    drop(log);
    let log = ChunkLog::open(folder.path(), limits).unwrap();
    assert_eq!(log.jobs().collect::<Vec<_>>(), [JOB]);
}

fn open(folder: &TempDir) -> ChunkLog {
    ChunkLog::open(folder.path(), LIMITS).unwrap()
}

/// A job whose x0 has eight bytes.
fn header(job: JobId) -> Header {
    let (class, x0_dtype) = ("cpu-f32".to_owned(), Dtype::F32);
    Header { job, model: [7; 32], class, x0_shape: [1, 1, 1, 2], x0_dtype }
}

fn x0(value: u32) -> Vec<u8> {
    [value.to_le_bytes(), (value + 1).to_le_bytes()].concat()
}

fn fence(epoch: u64) -> Fence {
    fence_of(JOB, epoch)
}

fn fence_of(job: JobId, epoch: u64) -> Fence {
    Fence { job, epoch: Epoch(epoch) }
}
