//! A disk that fails, at every operation in turn.

use std::{
    io,
    path::Path,
    sync::{Arc, Mutex},
};

use tempfile::TempDir;
use types::Epoch;

use super::{JOB, LIMITS, fence, header, open, x0};
use crate::{
    Appended, ChunkLog, Error,
    disk::{Disk, Files, Output},
};

/// Operations of the whole script, and some more.
const OPERATIONS: usize = 22;

/// When a disk fails. An operation that appends leaves the first bytes behind.
#[derive(Clone, Copy, Debug)]
struct Fault {
    /// Operations that go well before.
    good: usize,
    torn_bytes: usize,
    /// Whether nothing works after it.
    is_last: bool,
}

/// A disk with a fault to come, and what it was asked to do.
#[derive(Clone, Debug, Default)]
struct Faulty {
    fault: Arc<Mutex<Option<Fault>>>,
    asked: Arc<Mutex<Vec<&'static str>>>,
}

/// What was acknowledged.
#[derive(Debug, Default)]
struct Acknowledged {
    is_created: bool,
    epoch: u64,
    chunks: u32,
}

#[test]
fn what_was_acknowledged_survives_a_fault_at_every_operation() {
    for good in 0..OPERATIONS {
        for torn_bytes in [0, 5, 8, 95, 96] {
            for is_last in [false, true] {
                survives(Fault { good, torn_bytes, is_last });
            }
        }
    }
}

fn survives(fault: Fault) {
    let folder = TempDir::new().unwrap();
    let disk = Faulty { fault: Arc::new(Mutex::new(Some(fault))), ..Faulty::default() };
    let mut log = ChunkLog::open_on(Box::new(disk), folder.path(), LIMITS).unwrap();
    let first = script(&mut log);
    drop(log);

    let mut log = open(&folder);

    assert!(log.damaged().next().is_none(), "{fault:?}: {:?}", log.damaged().next());
    if first.is_created {
        let (chunks, epoch) = (log.committed(JOB).unwrap(), log.epoch(JOB).unwrap());
        assert!((first.chunks..=3).contains(&chunks), "{fault:?}: {first:?}, {chunks}");
        assert!(Epoch(first.epoch) <= epoch, "{fault:?}: {first:?}, {epoch:?}");
    }
    let second = script(&mut log);
    assert_eq!((second.chunks, second.epoch), (3, 4), "{fault:?}");
    for chunk in 0..3 {
        assert_eq!(log.read(JOB, chunk).unwrap(), x0(chunk), "{fault:?}");
    }
}

/// What a coordinator may do with a job; goes on after errors, as others may call.
fn script(log: &mut ChunkLog) -> Acknowledged {
    let is_created = log.create(&header(JOB)).is_ok();
    let mut acknowledged = Acknowledged { is_created, ..Acknowledged::default() };
    for (chunk, epoch) in [(0, 1), (1, 2)] {
        if log.append(fence(epoch.max(known_epoch(log))), chunk, &x0(chunk)).is_ok() {
            acknowledged.chunks = chunk + 1;
            acknowledged.epoch = epoch;
        }
    }
    if log.raise(fence(4)).is_ok() {
        acknowledged.epoch = 4;
    }
    if log.append(fence(4), 2, &x0(2)).is_ok() {
        acknowledged.chunks = 3;
        acknowledged.epoch = 4;
    }
    acknowledged
}

fn known_epoch(log: &ChunkLog) -> u64 {
    log.epoch(JOB).map_or(0, |epoch| epoch.0)
}

#[test]
fn nothing_is_acknowledged_before_the_disk_has_been_asked_to_keep_it() {
    let folder = TempDir::new().unwrap();
    let disk = Faulty::default();
    let asked = disk.asked.clone();
    let asked = || std::mem::take(&mut *asked.lock().unwrap());
    let mut log = ChunkLog::open_on(Box::new(disk), folder.path(), LIMITS).unwrap();

    log.create(&header(JOB)).unwrap();
    assert_eq!(asked(), ["create", "append", "sync", "rename", "sync folder"]);
    log.append(fence(1), 0, &x0(0)).unwrap();
    assert_eq!(asked(), ["open", "append", "append", "sync"]);
    log.raise(fence(2)).unwrap();
    assert_eq!(asked(), ["open", "append", "append", "sync"]);
    log.append(fence(2), 0, &x0(0)).unwrap();
    log.raise(fence(2)).unwrap();
    assert_eq!(asked(), [""; 0], "nothing was written");
    log.reopen(JOB).unwrap();
    assert_eq!(asked(), ["open", "sync", "sync folder"], "a process may have ended before");
    log.remove(JOB).unwrap();
    assert_eq!(asked(), ["remove", "sync folder"]);
}

#[test]
fn a_job_is_refused_after_a_failed_write_until_it_is_scanned_again() {
    // Opens, writes the header, writes the payload, syncs: all but the first may
    // have changed the file.
    for good in 1..4 {
        let folder = TempDir::new().unwrap();
        let disk = Faulty::default();
        let fault = disk.fault.clone();
        let mut log = ChunkLog::open_on(Box::new(disk), folder.path(), LIMITS).unwrap();
        log.create(&header(JOB)).unwrap();
        log.append(fence(1), 0, &x0(0)).unwrap();
        *fault.lock().unwrap() = Some(Fault { good, torn_bytes: 3, is_last: false });

        let failed = log.append(fence(1), 1, &x0(1));

        assert!(matches!(failed, Err(Error::Io { what: "write", .. })), "{good}");
        for refused in [
            log.append(fence(1), 1, &x0(1)).map(drop),
            log.append(fence(1), 0, &x0(0)).map(drop),
            log.raise(fence(2)),
            log.create(&header(JOB)),
            log.read(JOB, 0).map(drop),
            log.committed(JOB).map(drop),
        ] {
            assert!(matches!(refused, Err(Error::Broken { job: JOB })), "{good}");
        }
        log.reopen(JOB).unwrap();
        assert_eq!(log.committed(JOB).unwrap(), 1, "{good}: cut back to what was acknowledged");
        assert_eq!(log.append(fence(1), 1, &x0(1)).unwrap(), Appended::New);
    }
}

#[test]
fn a_job_whose_file_cannot_be_opened_is_not_broken_by_it() {
    let folder = TempDir::new().unwrap();
    let disk = Faulty::default();
    let fault = disk.fault.clone();
    let mut log = ChunkLog::open_on(Box::new(disk), folder.path(), LIMITS).unwrap();
    log.create(&header(JOB)).unwrap();
    *fault.lock().unwrap() = Some(Fault { good: 0, torn_bytes: 0, is_last: false });

    assert!(matches!(log.append(fence(1), 0, &x0(0)), Err(Error::Io { what: "open", .. })));
    assert_eq!(log.append(fence(1), 0, &x0(0)).unwrap(), Appended::New);
}

#[test]
fn a_job_stays_until_its_file_is_surely_gone() {
    for good in 0..2 {
        let folder = TempDir::new().unwrap();
        let disk = Faulty::default();
        let fault = disk.fault.clone();
        let mut log = ChunkLog::open_on(Box::new(disk), folder.path(), LIMITS).unwrap();
        log.create(&header(JOB)).unwrap();
        *fault.lock().unwrap() = Some(Fault { good, torn_bytes: 0, is_last: false });

        assert!(matches!(log.remove(JOB), Err(Error::Io { what: "remove", .. })), "{good}");
        assert_eq!(log.jobs().count(), 1);
        log.remove(JOB).unwrap();
        assert_eq!(log.jobs().count(), 0);
    }
}

impl Faulty {
    /// Gives how much of an operation is done before it fails, if it fails.
    fn fails(&self, asked: &'static str) -> Option<usize> {
        self.asked.lock().unwrap().push(asked);
        let mut fault = self.fault.lock().unwrap();
        let Fault { good, torn_bytes, is_last } = (*fault)?;
        *fault = match good.checked_sub(1) {
            Some(good) => Some(Fault { good, torn_bytes, is_last }),
            None if is_last => Some(Fault { good, torn_bytes: 0, is_last }),
            None => None,
        };
        (good == 0).then_some(torn_bytes)
    }

    fn gate(&self, asked: &'static str) -> io::Result<()> {
        self.fails(asked).map_or(Ok(()), |_| Err(io::Error::other("a fault")))
    }

    fn output(&self, file: Box<dyn Output>) -> Box<dyn Output> {
        Box::new(FaultyOutput { disk: self.clone(), file })
    }
}

impl Disk for Faulty {
    fn create(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        self.gate("create")?;
        Ok(self.output(Files.create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Output>> {
        self.gate("open")?;
        Ok(self.output(Files.open(path)?))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.gate("rename")?;
        Files.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.gate("remove")?;
        Files.remove(path)
    }

    fn sync_folder(&self, folder: &Path) -> io::Result<()> {
        self.gate("sync folder")?;
        Files.sync_folder(folder)
    }
}

struct FaultyOutput {
    disk: Faulty,
    file: Box<dyn Output>,
}

impl Output for FaultyOutput {
    fn bytes(&self) -> io::Result<u64> {
        self.file.bytes()
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Some(torn_bytes) = self.disk.fails("append") else { return self.file.append(bytes) };
        self.file.append(&bytes[..torn_bytes.min(bytes.len())])?;
        Err(io::Error::other("a fault"))
    }

    fn cut(&mut self, bytes: u64) -> io::Result<()> {
        self.disk.gate("cut")?;
        self.file.cut(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.gate("sync")?;
        self.file.sync()
    }
}
