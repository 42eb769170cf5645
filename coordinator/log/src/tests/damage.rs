//! Files that are not as they were written.

use std::{fs, path::PathBuf};

use proptest::prelude::*;
use tempfile::TempDir;
use types::{Epoch, JobId};

use super::{JOB, fence, fence_of, header, open, x0};
use crate::{
    Appended, Cut, Error, Header, Problem,
    format::Digest,
    scan::{Scanned, scan},
};

/// Lengths of the file after its header and after each record: chunk, epoch, chunk, chunk.
const ENDS: [usize; 5] = [160, 264, 360, 464, 568];

#[test]
fn a_file_that_ends_anywhere_in_its_last_record_is_what_was_before_it() {
    let bytes = file();
    let before = whole(&bytes[..ENDS[3]]);
    for end in ENDS[3]..ENDS[4] {
        let scanned = scan_bytes(&bytes[..end]).unwrap();
        assert_eq!(scanned.contents, before.contents, "{end}");
        assert_eq!(scanned.cut_bytes, (end - ENDS[3]) as u64);
    }
}

#[test]
fn a_last_record_with_wrong_bytes_is_cut_off() {
    let bytes = file();
    let before = whole(&bytes[..ENDS[3]]).contents;
    for bit in ENDS[3] * 8..ENDS[4] * 8 {
        let scanned = scan_bytes(&flipped(&bytes, bit)).unwrap();
        assert_eq!(scanned.contents, before, "bit {bit}");
    }
    let mut zeros = bytes.clone();
    zeros[ENDS[3]..].fill(0);
    assert_eq!(scan_bytes(&zeros).unwrap().contents, before);
}

#[test]
fn a_wrong_bit_anywhere_before_the_last_record_is_damage() {
    let bytes = file();
    for bit in 0..ENDS[3] * 8 {
        let damage = scan_bytes(&flipped(&bytes, bit)).unwrap_err();
        let record = ENDS.iter().rfind(|&&end| end * 8 <= bit).map_or(0, |&end| end as u64);
        let is_there = if record == 0 { damage.at < 160 } else { damage.at == record };
        assert!(is_there, "bit {bit}: {damage}");
    }
}

/// Two short records have fewer bytes than one with a payload may have.
#[test]
fn a_wrong_record_is_damage_if_a_whole_one_is_among_the_bytes_of_one() {
    let folder = TempDir::new().unwrap();
    let mut log = open(&folder);
    log.create(&Header { x0_shape: [1, 1, 1, 64], ..header(JOB) }).unwrap();
    for epoch in 1..4 {
        log.raise(fence(epoch)).unwrap();
    }
    let bytes = fs::read(folder.path().join(format!("{:032x}.chunks", JOB.0))).unwrap();
    let [second, third] = [160 + 96, 160 + 2 * 96];

    for bit in second * 8..third * 8 {
        let damage = scan_bytes(&flipped(&bytes, bit)).unwrap_err();
        assert_eq!(damage, Problem::Record.at(second as u64), "bit {bit}");
    }
}

#[test]
fn what_is_longer_than_a_record_is_not_an_unfinished_one() {
    let garbage = |bytes| [&file()[..], &vec![7; bytes]].concat();

    assert_eq!(scan_bytes(&garbage(104)).unwrap().cut_bytes, 104);
    let damage = scan_bytes(&garbage(105)).unwrap_err();
    assert_eq!(damage, Problem::Record.at(ENDS[4] as u64));
}

#[test]
fn a_whole_record_in_the_wrong_place_is_damage_even_at_the_end() {
    let bytes = file();
    let record = |i: usize| &bytes[ENDS[i]..ENDS[i + 1]];
    let problem = |records: &[&[u8]]| {
        let file = [&[&bytes[..ENDS[0]]], records].concat().concat();
        scan_bytes(&file).unwrap_err().problem
    };

    assert_eq!(problem(&[record(0), record(0)]), Problem::Chain, "twice");
    assert_eq!(problem(&[record(1)]), Problem::Chain, "out of order");
    assert_eq!(problem(&[record(0), record(2)]), Problem::Chain, "one is missing");
    let other_job = {
        let mut other = file_of(JobId(0xB));
        other.split_off(ENDS[0])
    };
    assert_eq!(problem(&[&other_job[..104]]), Problem::Chain);
}

#[test]
fn a_record_that_lies_is_damage_though_its_digests_are_right() {
    use crate::format::{Kind, Record};
    let start = whole(&file()[..ENDS[1]]).contents;
    let digest: Digest = *blake3::hash(&x0(1)).as_bytes();
    let good = Record { kind: Kind::Chunk, epoch: Epoch(2), chunk: 1, payload_bytes: 8, digest };
    let problem = |record: Record| {
        let (head, _) = record.encode(&start.chain);
        let file = [&file()[..ENDS[1]], &head, &x0(1)].concat();
        scan_bytes(&file).err().map(|damage| damage.problem)
    };

    assert_eq!(problem(good), None);
    assert_eq!(problem(Record { chunk: 2, ..good }), Some(Problem::Order), "a gap");
    assert_eq!(problem(Record { epoch: Epoch(0), ..good }), Some(Problem::Order), "lower");
    let long = Record { payload_bytes: u32::MAX, ..good };
    assert_eq!(problem(long), Some(Problem::Order), "longer than the header says");
    let same_epoch = Record { epoch: start.epoch, ..Record::epoch(Epoch(9)) };
    assert_eq!(problem(same_epoch), Some(Problem::Order), "not raised");
}

#[test]
fn an_unfinished_record_is_cut_off_on_the_disk_and_reported() {
    let folder = TempDir::new().unwrap();
    let path = write_file(&folder, JOB, &file()[..ENDS[4] - 3]);

    let mut log = open(&folder);

    let cut = Cut { job: JOB, at: ENDS[3] as u64, bytes: 101 };
    assert_eq!(log.cuts(), [cut]);
    assert_eq!(fs::metadata(&path).unwrap().len(), ENDS[3] as u64);
    assert_eq!(log.append(fence(2), 2, &x0(2)).unwrap(), Appended::New);
    drop(log);
    assert_eq!(fs::read(&path).unwrap(), file(), "written again, the file is the same");
    assert_eq!(open(&folder).cuts(), []);
}

#[test]
fn a_damaged_job_is_refused_with_the_place_and_no_other_is() {
    let folder = TempDir::new().unwrap();
    let (version, swapped, torn_header) = (JobId(1), JobId(2), JobId(3));
    let mut newer = file_of(version);
    newer[8] = 2;
    write_file(&folder, version, &newer);
    write_file(&folder, swapped, &file_of(version));
    write_file(&folder, torn_header, &file_of(torn_header)[..100]);
    let path = write_file(&folder, JOB, &flipped(&file(), (ENDS[0] + 100) * 8));
    let good = JobId(5);
    write_file(&folder, good, &file_of(good));

    let mut log = open(&folder);

    let damaged: Vec<_> = log.damaged().map(|(job, damage)| (job, damage.clone())).collect();
    let expected = [
        (version, Problem::Version { found: 2 }.at(8)),
        (swapped, Problem::OtherJob { found: version }.at(16)),
        (torn_header, Problem::Header.at(0)),
        (JOB, Problem::Payload.at(160)),
    ];
    assert_eq!(damaged, expected);
    let before = fs::read(&path).unwrap();
    for refused in [
        log.append(fence(9), 0, &x0(0)).map(drop),
        log.raise(fence(9)),
        log.create(&header(JOB)),
        log.read(JOB, 0).map(drop),
        log.committed(JOB).map(drop),
        log.epoch(JOB).map(drop),
        log.header(JOB).map(drop),
        log.reopen(JOB).map(drop),
    ] {
        assert!(matches!(refused, Err(Error::Damaged { job: JOB, .. })));
    }
    assert_eq!(fs::read(&path).unwrap(), before, "a damaged file is not touched");
    assert_eq!(log.append(fence_of(good, 2), 3, &x0(3)).unwrap(), Appended::New);

    fs::write(&path, file()).unwrap();
    assert_eq!(log.reopen(JOB).unwrap(), None);
    assert_eq!(log.committed(JOB).unwrap(), 3);
    log.remove(swapped).unwrap();
    assert_eq!(log.damaged().count(), 2);
}

#[test]
fn a_payload_that_rots_while_the_log_is_open_is_not_given_out() {
    let folder = TempDir::new().unwrap();
    let path = write_file(&folder, JOB, &file());
    let log = open(&folder);

    fs::write(&path, flipped(&file(), (ENDS[0] + 96) * 8)).unwrap();

    assert!(matches!(log.read(JOB, 0), Err(Error::Damaged { .. })));
    assert_eq!(log.read(JOB, 1).unwrap(), x0(1));
    fs::write(&path, &file()[..ENDS[1] - 1]).unwrap();
    assert!(matches!(log.read(JOB, 0), Err(Error::Damaged { .. })), "cut short");
}

#[test]
fn a_file_that_something_else_has_changed_is_not_added_to() {
    let folder = TempDir::new().unwrap();
    let path = write_file(&folder, JOB, &file());
    let mut log = open(&folder);

    let changed = [&file()[..], b"x"].concat();
    fs::write(&path, &changed).unwrap();

    assert!(matches!(log.append(fence(2), 3, &x0(3)), Err(Error::Io { .. })));
    assert!(matches!(log.append(fence(2), 3, &x0(3)), Err(Error::Broken { .. })));
    assert_eq!(fs::read(&path).unwrap(), changed);
}

#[test]
fn other_files_are_left_alone_and_unfinished_ones_go() {
    let folder = TempDir::new().unwrap();
    let name = "0000000000000000000000000000000a.chunks";
    for name in ["notes.txt", "a.chunks", &format!("{name}.new")] {
        fs::write(folder.path().join(name), "x").unwrap();
    }

    let log = open(&folder);

    assert_eq!(log.jobs().count(), 0);
    assert!(folder.path().join("notes.txt").exists() && folder.path().join("a.chunks").exists());
    assert!(!folder.path().join(format!("{name}.new")).exists());
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

    /// Whatever is behind a good beginning, what is taken of it is the beginning.
    #[test]
    fn no_bytes_are_taken_for_a_record(records in 0..4_usize, tail in prop::collection::vec(any::<u8>(), 0..300)) {
        let file = file();
        let bytes = [&file[..ENDS[records]], &tail].concat();
        match scan_bytes(&bytes) {
            Ok(scanned) => prop_assert_eq!(scanned.contents.bytes, ENDS[records] as u64),
            Err(damage) => prop_assert_eq!(damage, Problem::Record.at(ENDS[records] as u64)),
        }
    }

    #[test]
    fn no_bytes_make_a_scan_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(scan_bytes(&bytes).is_err());
    }
}

/// The file of a job with three chunks and an epoch that was raised after the first.
fn file() -> Vec<u8> {
    file_of(JOB)
}

fn file_of(job: JobId) -> Vec<u8> {
    let folder = TempDir::new().unwrap();
    let mut log = open(&folder);
    log.create(&header(job)).unwrap();
    log.append(fence_of(job, 1), 0, &x0(0)).unwrap();
    log.raise(fence_of(job, 2)).unwrap();
    log.append(fence_of(job, 2), 1, &x0(1)).unwrap();
    log.append(fence_of(job, 2), 2, &x0(2)).unwrap();
    fs::read(folder.path().join(format!("{:032x}.chunks", job.0))).unwrap()
}

fn write_file(folder: &TempDir, job: JobId, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join(format!("{:032x}.chunks", job.0));
    fs::write(&path, bytes).unwrap();
    path
}

fn flipped(bytes: &[u8], bit: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[bit / 8] ^= 1 << (bit % 8);
    bytes
}

fn scan_bytes(bytes: &[u8]) -> Result<Scanned, crate::Damage> {
    scan(JOB, bytes, bytes.len() as u64)
}

fn whole(bytes: &[u8]) -> Scanned {
    let scanned = scan_bytes(bytes).unwrap();
    assert_eq!(scanned.cut_bytes, 0);
    scanned
}
