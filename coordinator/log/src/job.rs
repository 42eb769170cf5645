//! One job's file: made, opened, added to, read.
//!
//! A file gets its name when its header is durable, so a file with a name always
//! has a whole header. After a failed write the file is cut back to what was
//! acknowledged, as well as it can be: the system may show bytes from its memory
//! that the disk never got, and a later scan must not take those for durable.

use std::{
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
};

use types::JobId;

use crate::{
    contents::Contents,
    disk::{Disk, Output},
    error::{Damage, Error, Problem},
    format::{Header, RECORD_BYTES, Record},
    scan::{Scanned, scan},
};

/// A job's file, and what is in it.
#[derive(Debug)]
pub(crate) struct Job {
    pub(crate) contents: Contents,
    path: PathBuf,
    /// A write failed.
    is_broken: bool,
}

impl Job {
    /// Makes the file of a valid header.
    pub(crate) fn create(disk: &dyn Disk, path: PathBuf, header: Header) -> Result<Self, Error> {
        let bytes = header.encode();
        let digest = Header::decode(&bytes).expect("it was just written").1;
        let created = {
            let new = path.with_extension("chunks.new");
            let write = |mut file: Box<dyn Output>| file.append(&bytes).and_then(|()| file.sync());
            disk.create(&new)
                .and_then(write)
                .and_then(|()| disk.rename(&new, &path))
                .and_then(|()| disk.sync_folder(folder(&path)))
        };
        created.map_err(failed("create", &path))?;
        Ok(Self { contents: Contents::new(header, digest), path, is_broken: false })
    }

    /// Scans a file and cuts off an unfinished record; gives its bytes. What is left
    /// is durable then.
    pub(crate) fn open(disk: &dyn Disk, path: PathBuf, id: JobId) -> Result<(Self, u64), Damage> {
        let disk_failed = |error: io::Error| Problem::disk(&error).at(0);
        let file = File::open(&path).map_err(disk_failed)?;
        let file_bytes = file.metadata().map_err(disk_failed)?.len();
        let Scanned { contents, cut_bytes } = scan(id, BufReader::new(file), file_bytes)?;
        let settle = |mut file: Box<dyn Output>| {
            if 0 < cut_bytes {
                file.cut(contents.bytes)?;
            }
            file.sync()
        };
        disk.open(&path).and_then(settle).map_err(disk_failed)?;
        disk.sync_folder(folder(&path)).map_err(disk_failed)?;
        Ok((Self { contents, path, is_broken: false }, cut_bytes))
    }

    /// Refuses a job of which it is not known what is on the disk.
    pub(crate) fn check_usable(&self) -> Result<(), Error> {
        if self.is_broken { Err(Error::Broken { job: self.contents.job() }) } else { Ok(()) }
    }

    /// Adds a record that may come next; it is durable then.
    pub(crate) fn write(
        &mut self,
        disk: &dyn Disk,
        record: &Record,
        payload: &[u8],
    ) -> Result<(), Error> {
        let (head, chain) = record.encode(&self.contents.chain);
        let mut file = disk.open(&self.path).map_err(failed("open", &self.path))?;
        let written = self.append(&mut *file, &head, payload);
        self.is_broken = written.is_err();
        written.map_err(failed("write", &self.path))?;
        self.contents.push(record, chain);
        Ok(())
    }

    fn append(&self, file: &mut dyn Output, head: &[u8], payload: &[u8]) -> io::Result<()> {
        let bytes = self.contents.bytes;
        if file.bytes()? != bytes {
            return Err(io::Error::other("something else has changed its length"));
        }
        let written =
            file.append(head).and_then(|()| file.append(payload)).and_then(|()| file.sync());
        if written.is_err() {
            // That the write failed is what is reported; this can only help.
            let _ = file.cut(bytes);
        }
        written
    }

    /// A chunk's payload, its digest checked.
    pub(crate) fn read(&self, chunk: u32) -> Result<Vec<u8>, Error> {
        let (job, committed) = (self.contents.job(), self.contents.committed());
        let Some(&(digest, at)) = self.contents.chunks.get(chunk as usize) else {
            return Err(Error::NotCommitted { job, chunk, committed });
        };
        let payload_bytes = self.contents.header.x0_bytes();
        let payload = read_at(&self.path, at, payload_bytes).map_err(failed("read", &self.path))?;
        if *blake3::hash(&payload).as_bytes() != digest {
            let damage = Problem::Payload.at(at - RECORD_BYTES as u64);
            return Err(Error::Damaged { job, damage });
        }
        Ok(payload)
    }
}

/// Reads from a place up to this many bytes.
fn read_at(path: &Path, at: u64, bytes: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(at))?;
    let mut payload = Vec::new();
    file.take(bytes).read_to_end(&mut payload)?;
    Ok(payload)
}

fn folder(path: &Path) -> &Path {
    path.parent().expect("a job's file is in the log's folder")
}

pub(crate) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Error {
    move |source| Error::Io { what, path: path.to_owned(), source }
}
