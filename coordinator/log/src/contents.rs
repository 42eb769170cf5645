//! What a job's file holds, without its payloads: which record may come next.
//!
//! The same rules serve a record that is about to be written and one that is read
//! back when the file is scanned.

use types::{Epoch, JobId};

use crate::{
    error::{Error, Problem},
    format::{Digest, HEADER_BYTES, Header, Kind, RECORD_BYTES, Record},
};

/// A job's records.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) header: Header,
    pub(crate) epoch: Epoch,
    /// The hash over all records.
    pub(crate) chain: Digest,
    /// Length of the file in bytes.
    pub(crate) bytes: u64,
    /// Digests of the chunks, with the place of their payload in the file.
    pub(crate) chunks: Vec<(Digest, u64)>,
}

impl Contents {
    /// Nothing behind a header with this digest.
    pub(crate) fn new(header: Header, chain: Digest) -> Self {
        let (epoch, bytes) = (Epoch(0), HEADER_BYTES as u64);
        Self { header, epoch, chain, bytes, chunks: Vec::new() }
    }

    pub(crate) fn job(&self) -> JobId {
        self.header.job
    }

    pub(crate) fn committed(&self) -> u32 {
        u32::try_from(self.chunks.len()).expect("chunks have 32-bit numbers")
    }

    /// The record to write so that the job is in this epoch, if any.
    pub(crate) fn due_epoch(&self, found: Epoch) -> Result<Option<Record>, Error> {
        let (job, current) = (self.job(), self.epoch);
        if found < current {
            return Err(Error::Stale { job, found, current });
        }
        Ok((current < found).then(|| Record::epoch(found)))
    }

    /// The record to write so that the chunk is there, if any. A chunk that is there
    /// already may still raise the epoch.
    pub(crate) fn due_chunk(
        &self,
        epoch: Epoch,
        chunk: u32,
        payload: &[u8],
    ) -> Result<Option<Record>, Error> {
        let raised = self.due_epoch(epoch)?;
        let (job, committed) = (self.job(), self.committed());
        if committed < chunk || chunk == u32::MAX {
            return Err(Error::Gap { job, found: chunk, expected: committed });
        }
        let (expected_bytes, found_bytes) = (self.header.x0_bytes(), payload.len() as u64);
        if expected_bytes != found_bytes {
            return Err(Error::PayloadBytes { job, chunk, expected_bytes, found_bytes });
        }
        let offered = blake3::hash(payload);
        match self.chunks.get(chunk as usize) {
            None => {
                let payload_bytes = self.payload_bytes();
                let digest = *offered.as_bytes();
                Ok(Some(Record { kind: Kind::Chunk, epoch, chunk, payload_bytes, digest }))
            }
            Some((digest, _)) if offered == *digest => Ok(raised),
            Some((digest, _)) => {
                let held = blake3::Hash::from_bytes(*digest);
                Err(Error::Differs { job, chunk, held, offered })
            }
        }
    }

    /// Whether a record that was read may come next.
    pub(crate) fn check(&self, record: &Record, chain: &Digest) -> Result<(), Problem> {
        if record.chain(&self.chain) != *chain {
            return Err(Problem::Chain);
        }
        let is_due = match record.kind {
            Kind::Epoch => self.epoch < record.epoch && record.payload_bytes == 0,
            Kind::Chunk => {
                self.epoch <= record.epoch
                    && record.chunk == self.committed()
                    && record.payload_bytes == self.payload_bytes()
            }
        };
        if is_due { Ok(()) } else { Err(Problem::Order) }
    }

    /// Adds a record that may come next.
    pub(crate) fn push(&mut self, record: &Record, chain: Digest) {
        if record.kind == Kind::Chunk {
            self.chunks.push((record.digest, self.bytes + RECORD_BYTES as u64));
        }
        self.epoch = record.epoch;
        self.chain = chain;
        self.bytes += record.bytes();
    }

    fn payload_bytes(&self) -> u32 {
        u32::try_from(self.header.x0_bytes()).expect("a valid header's x0 is short")
    }
}
