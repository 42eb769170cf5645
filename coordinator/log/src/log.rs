//! The folder of all jobs: whose file is whole, who may write, what there is room for.

use std::{
    collections::BTreeMap,
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use types::{Epoch, Fence, JobId};

use crate::{
    disk::{Disk, Files},
    error::{Damage, Error},
    format::{HEADER_BYTES, Header, Kind, Record},
    job::{Job, failed},
};

/// The chunk log of a coordinator.
#[derive(Debug)]
pub struct ChunkLog {
    folder: PathBuf,
    limits: Limits,
    disk: Box<dyn Disk>,
    jobs: BTreeMap<JobId, Slot>,
    cuts: Vec<Cut>,
    /// Locked as long as it is open.
    _lock: File,
}

/// How much a log may hold.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of all files of jobs together. What is there already stays, even if it
    /// is more.
    pub folder_bytes_max: u64,
}

/// What became of a chunk that was to be appended. It is durable in either case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    /// It was written.
    New,
    /// It was there already, with the same bytes.
    Same,
}

/// An unfinished record at the end of a file, which was cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The job whose file it was in.
    pub job: JobId,
    /// Length of the file without it.
    pub at: u64,
    /// Bytes of it that there were.
    pub bytes: u64,
}

#[derive(Debug)]
enum Slot {
    Whole(Job),
    Damaged { damage: Damage, bytes: u64 },
}

impl ChunkLog {
    /// Opens a folder, which is made if need be, and scans every file in it.
    ///
    /// Reads all that is there once. A damaged file is not an error: its job alone is
    /// refused, see [`ChunkLog::damaged`]. Files with names of other kinds are left
    /// alone.
    ///
    /// # Errors
    ///
    /// [`Error::Locked`] if another process has the folder; [`Error::Io`] if it cannot
    /// be made or listed.
    pub fn open(folder: &Path, limits: Limits) -> Result<Self, Error> {
        Self::open_on(Box::new(Files), folder, limits)
    }

    pub(crate) fn open_on(
        disk: Box<dyn Disk>,
        folder: &Path,
        limits: Limits,
    ) -> Result<Self, Error> {
        fs::create_dir_all(folder).map_err(failed("create", folder))?;
        let (folder, lock) = (folder.to_owned(), lock(folder)?);
        let (jobs, cuts) = (BTreeMap::new(), Vec::new());
        let mut log = Self { folder, limits, disk, jobs, cuts, _lock: lock };
        log.scan()?;
        Ok(log)
    }

    /// Makes a job, without chunks and in epoch 0. Does nothing if it is here with the
    /// same header.
    ///
    /// # Errors
    ///
    /// [`Error::HeaderDiffers`] if it is here with another header;
    /// [`Error::InvalidHeader`], [`Error::Full`], [`Error::Io`], [`Error::Damaged`],
    /// [`Error::Broken`].
    pub fn create(&mut self, header: &Header) -> Result<(), Error> {
        if self.jobs.contains_key(&header.job) {
            let held = &self.job(header.job)?.contents.header;
            if held == header {
                return Ok(());
            }
            let (held, offered) = (Box::new(held.clone()), Box::new(header.clone()));
            return Err(Error::HeaderDiffers { held, offered });
        }
        if !header.is_valid() {
            return Err(Error::InvalidHeader { header: Box::new(header.clone()) });
        }
        self.check_room(HEADER_BYTES as u64)?;
        let job = Job::create(&*self.disk, self.path(header.job), header.clone())?;
        self.jobs.insert(header.job, Slot::Whole(job));
        Ok(())
    }

    /// Raises a job's epoch: lower ones are refused from here on, after a restart too.
    /// Does nothing if it is the current one.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] if the current one is higher; [`Error::UnknownJob`],
    /// [`Error::Full`], [`Error::Io`], [`Error::Damaged`], [`Error::Broken`].
    pub fn raise(&mut self, fence: Fence) -> Result<(), Error> {
        let due = self.job(fence.job)?.contents.due_epoch(fence.epoch)?;
        due.map_or(Ok(()), |record| self.write(fence.job, &record, &[]))
    }

    /// Commits a chunk. A higher epoch is raised with it; if the call is refused, it is
    /// not.
    ///
    /// - `payload`: the chunk's x0, as many bytes as the job's header says.
    ///
    /// # Errors
    ///
    /// [`Error::Stale`] if the job's epoch is higher; [`Error::Gap`] if chunks before
    /// it are missing; [`Error::Differs`] if it is here with other bytes;
    /// [`Error::PayloadBytes`], [`Error::UnknownJob`], [`Error::Full`], [`Error::Io`],
    /// [`Error::Damaged`], [`Error::Broken`].
    pub fn append(&mut self, fence: Fence, chunk: u32, payload: &[u8]) -> Result<Appended, Error> {
        let contents = &self.job(fence.job)?.contents;
        let Some(record) = contents.due_chunk(fence.epoch, chunk, payload)? else {
            return Ok(Appended::Same);
        };
        let (appended, payload) = match record.kind {
            Kind::Chunk => (Appended::New, payload),
            Kind::Epoch => (Appended::Same, &[][..]),
        };
        self.write(fence.job, &record, payload)?;
        Ok(appended)
    }

    /// A committed chunk's x0, its digest checked.
    ///
    /// # Errors
    ///
    /// [`Error::NotCommitted`]; [`Error::Damaged`] if its digest is wrong;
    /// [`Error::UnknownJob`], [`Error::Io`], [`Error::Broken`].
    pub fn read(&self, job: JobId, chunk: u32) -> Result<Vec<u8>, Error> {
        self.job(job)?.read(chunk)
    }

    /// How many chunks of a job are committed.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownJob`], [`Error::Damaged`], [`Error::Broken`].
    pub fn committed(&self, job: JobId) -> Result<u32, Error> {
        Ok(self.job(job)?.contents.committed())
    }

    /// The lowest epoch of a job that is not refused.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownJob`], [`Error::Damaged`], [`Error::Broken`].
    pub fn epoch(&self, job: JobId) -> Result<Epoch, Error> {
        Ok(self.job(job)?.contents.epoch)
    }

    /// What a job's chunks are.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownJob`], [`Error::Damaged`], [`Error::Broken`].
    pub fn header(&self, job: JobId) -> Result<&Header, Error> {
        Ok(&self.job(job)?.contents.header)
    }

    /// Every job there is, those that are refused too.
    pub fn jobs(&self) -> impl Iterator<Item = JobId> {
        self.jobs.keys().copied()
    }

    /// Jobs whose file is damaged, and where.
    pub fn damaged(&self) -> impl Iterator<Item = (JobId, &Damage)> {
        self.jobs.iter().filter_map(|(&job, slot)| match slot {
            Slot::Damaged { damage, .. } => Some((job, damage)),
            Slot::Whole(_) => None,
        })
    }

    /// Unfinished records that were cut off when the folder was opened.
    pub fn cuts(&self) -> &[Cut] {
        &self.cuts
    }

    /// Bytes of the files of all jobs.
    pub fn used_bytes(&self) -> u64 {
        let bytes = |slot: &Slot| match slot {
            Slot::Whole(job) => job.contents.bytes,
            Slot::Damaged { bytes, .. } => *bytes,
        };
        self.jobs.values().map(bytes).sum()
    }

    /// Scans a job's file again, after a failed write or when a good copy was put in
    /// the place of a damaged one. Gives what was cut off.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownJob`]; [`Error::Damaged`] if it cannot be used still.
    pub fn reopen(&mut self, job: JobId) -> Result<Option<Cut>, Error> {
        if !self.jobs.contains_key(&job) {
            return Err(Error::UnknownJob { job });
        }
        let cut = self.load(job);
        self.job(job)?;
        Ok(cut)
    }

    /// Deletes a job with all its chunks, whatever state it is in, and its epoch with
    /// them.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownJob`]; [`Error::Io`] if the file may still be there: the job is
    /// kept then.
    pub fn remove(&mut self, job: JobId) -> Result<(), Error> {
        if !self.jobs.contains_key(&job) {
            return Err(Error::UnknownJob { job });
        }
        let path = self.path(job);
        let removed = self.disk.remove(&path).and_then(|()| self.disk.sync_folder(&self.folder));
        removed.map_err(failed("remove", &path))?;
        self.jobs.remove(&job);
        Ok(())
    }

    fn scan(&mut self) -> Result<(), Error> {
        let unlistable = || failed("list", &self.folder);
        let entries = fs::read_dir(&self.folder).map_err(unlistable())?;
        let mut found = Vec::new();
        for entry in entries {
            let path = entry.map_err(unlistable())?.path();
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            // Its job was never acknowledged.
            if name.strip_suffix(".new").and_then(job_of).is_some() {
                self.disk.remove(&path).map_err(failed("remove", &path))?;
            }
            found.extend(job_of(name));
        }
        for job in found {
            let cut = self.load(job);
            self.cuts.extend(cut);
        }
        Ok(())
    }

    /// Scans a job's file. Gives what was cut off.
    fn load(&mut self, job: JobId) -> Option<Cut> {
        let path = self.path(job);
        let (slot, cut_bytes) = match Job::open(&*self.disk, path.clone(), job) {
            Ok((job, cut_bytes)) => (Slot::Whole(job), cut_bytes),
            Err(damage) => {
                let bytes = fs::metadata(&path).map_or(0, |metadata| metadata.len());
                (Slot::Damaged { damage, bytes }, 0)
            }
        };
        self.jobs.insert(job, slot);
        let at = self.job(job).ok()?.contents.bytes;
        (0 < cut_bytes).then_some(Cut { job, at, bytes: cut_bytes })
    }

    /// A job that can be used.
    fn job(&self, job: JobId) -> Result<&Job, Error> {
        match self.jobs.get(&job) {
            None => Err(Error::UnknownJob { job }),
            Some(Slot::Damaged { damage, .. }) => {
                Err(Error::Damaged { job, damage: damage.clone() })
            }
            Some(Slot::Whole(whole)) => whole.check_usable().map(|()| whole),
        }
    }

    /// Writes a record that is due, if there is room.
    fn write(&mut self, job: JobId, record: &Record, payload: &[u8]) -> Result<(), Error> {
        self.check_room(record.bytes())?;
        let Some(Slot::Whole(whole)) = self.jobs.get_mut(&job) else {
            return Err(Error::UnknownJob { job });
        };
        whole.write(&*self.disk, record, payload)
    }

    fn check_room(&self, need_bytes: u64) -> Result<(), Error> {
        let (used_bytes, max_bytes) = (self.used_bytes(), self.limits.folder_bytes_max);
        if max_bytes < used_bytes.saturating_add(need_bytes) {
            return Err(Error::Full { need_bytes, used_bytes, max_bytes });
        }
        Ok(())
    }

    fn path(&self, job: JobId) -> PathBuf {
        self.folder.join(format!("{:032x}.chunks", job.0))
    }
}

/// The job whose file has this name.
fn job_of(name: &str) -> Option<JobId> {
    let hex = name.strip_suffix(".chunks")?;
    let job = u128::from_str_radix(hex, 16).ok()?;
    (format!("{job:032x}") == hex).then_some(JobId(job))
}

/// Takes the folder for this process.
fn lock(folder: &Path) -> Result<File, Error> {
    let path = folder.join("lock");
    let opened = File::options().create(true).truncate(false).write(true).open(&path);
    let file = opened.map_err(failed("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(Error::Locked { folder: folder.to_owned() }),
        Err(TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
    }
}
