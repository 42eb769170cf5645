//! Reads a job's file from its first byte to its last, and says what it is.
//!
//! ```text
//!  header │ record │ record │ record │ re        cut: its writing never ended
//!  header │ record │ rec?rd │ record │           damaged: what follows proves
//!                                                that it was once whole
//! ```
//!
//! A record was acknowledged if anything was written after it. So bytes that are
//! wrong are the end of an unfinished write only if nothing follows them: no byte
//! behind the payload if the record's header can be believed, and else no more
//! bytes than one record has, with no whole record's header among them.

use std::io::{self, Read};

use types::JobId;

use crate::{
    contents::Contents,
    error::{Damage, Problem},
    format::{HEADER_BYTES, Header, NoHeader, RECORD_BYTES, Record},
};

/// A file that can be used up to some byte.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Scanned {
    /// What is there; its length is that of the whole records.
    pub(crate) contents: Contents,
    /// Bytes of an unfinished record behind them.
    pub(crate) cut_bytes: u64,
}

/// Scans the file of a job. At most one record is held in memory.
pub(crate) fn scan(job: JobId, mut file: impl Read, file_bytes: u64) -> Result<Scanned, Damage> {
    let contents = read_header(job, &mut file, file_bytes)?;
    let mut scan = Scan { file, file_bytes, contents, payload: Vec::new() };
    while scan.take_record()? {}
    let Scan { contents, .. } = scan;
    let cut_bytes = file_bytes - contents.bytes;
    Ok(Scanned { contents, cut_bytes })
}

fn read_header(job: JobId, file: &mut impl Read, file_bytes: u64) -> Result<Contents, Damage> {
    let mut bytes = [0; HEADER_BYTES];
    if file_bytes < HEADER_BYTES as u64 {
        return Err(Problem::Header.at(0));
    }
    file.read_exact(&mut bytes).map_err(|error| Problem::disk(&error).at(0))?;
    let (header, digest) = Header::decode(&bytes).map_err(|no_header| match no_header {
        NoHeader::Magic => Problem::Magic.at(0),
        NoHeader::Version(found) => Problem::Version { found }.at(8),
        NoHeader::Contents => Problem::Header.at(0),
    })?;
    if header.job != job {
        return Err(Problem::OtherJob { found: header.job }.at(16));
    }
    Ok(Contents::new(header, digest))
}

struct Scan<R> {
    file: R,
    file_bytes: u64,
    contents: Contents,
    /// Room for a payload, or for what may be an unfinished record.
    payload: Vec<u8>,
}

impl<R: Read> Scan<R> {
    /// Takes the next record. Gives whether there was a whole one.
    fn take_record(&mut self) -> Result<bool, Damage> {
        let at = self.contents.bytes;
        let left = self.file_bytes - at;
        if left < RECORD_BYTES as u64 {
            return Ok(false);
        }
        let mut head = [0; RECORD_BYTES];
        self.file.read_exact(&mut head).map_err(|error| Problem::disk(&error).at(at))?;
        let Some((record, chain)) = Record::decode(&head) else {
            let is_end = self.is_unfinished(head, left)?;
            return if is_end { Ok(false) } else { Err(Problem::Record.at(at)) };
        };
        self.contents.check(&record, &chain).map_err(|problem| problem.at(at))?;
        if left < record.bytes() {
            return Ok(false);
        }
        self.read_payload(record.payload_bytes.into())?;
        if *blake3::hash(&self.payload).as_bytes() == record.digest {
            self.contents.push(&record, chain);
            return Ok(true);
        }
        if left == record.bytes() { Ok(false) } else { Err(Problem::Payload.at(at)) }
    }

    /// Whether the rest of the file can be one record whose header is not whole.
    fn is_unfinished(&mut self, head: [u8; RECORD_BYTES], left: u64) -> Result<bool, Damage> {
        if RECORD_BYTES as u64 + self.contents.header.x0_bytes() < left {
            return Ok(false);
        }
        self.read_payload(left - RECORD_BYTES as u64)?;
        let rest = [&head[1..], &self.payload].concat();
        Ok(!Record::is_in(&rest))
    }

    /// Reads as much as a payload has at most.
    fn read_payload(&mut self, bytes: u64) -> Result<(), Damage> {
        self.payload.clear();
        let read = self.file.by_ref().take(bytes).read_to_end(&mut self.payload);
        let read = read.and_then(|read| {
            let is_all = read as u64 == bytes;
            if is_all { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
        });
        read.map_err(|error| Problem::disk(&error).at(self.contents.bytes))
    }
}
