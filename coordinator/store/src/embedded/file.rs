//! The records in a redb file.
//!
//! Table `records`: key to revision (8 bytes, little-endian), lease (8 bytes, 0 for
//! none), value. Table `meta`: `format` and `revision` to a number.

use std::{io, path::Path};

use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition, WriteTransaction};

use crate::{
    error::Error,
    record::{Action, LeaseId, List, Page, Record, Revision, Write},
};

const RECORDS: TableDefinition<&str, &[u8]> = TableDefinition::new("records");
const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const FORMAT: u64 = 1;
const HEAD_BYTES: usize = 16;

/// The file.
#[derive(Debug)]
pub(super) struct File {
    database: Database,
}

impl File {
    /// Opens or makes it; deletes what was under a lease. Gives the latest revision.
    pub(super) fn open(path: &Path) -> Result<(Self, Revision), Error> {
        let database = Database::create(path).map_err(failed)?;
        if let Some(folder) = path.parent().filter(|_| cfg!(unix)) {
            let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
            std::fs::File::open(folder)
                .and_then(|folder| folder.sync_all())
                .map_err(|error| failed(redb::StorageError::Io(error)))?;
        }
        let transaction = database.begin_write().map_err(failed)?;
        let revision = begin(&transaction)?;
        transaction.commit().map_err(failed)?;
        Ok((Self { database }, revision))
    }

    pub(super) fn get(&self, key: &str) -> Result<Option<Record>, Error> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let records = transaction.open_table(RECORDS).map_err(failed)?;
        let found = records.get(key).map_err(failed)?;
        found.map(|bytes| record(key, bytes.value())).transpose()
    }

    pub(super) fn list(&self, List { prefix, after, limit }: &List) -> Result<Page, Error> {
        let transaction = self.database.begin_read().map_err(failed)?;
        let meta = transaction.open_table(META).map_err(failed)?;
        let revision = latest(&meta)?;
        let records = transaction.open_table(RECORDS).map_err(failed)?;
        let from = after.as_ref().filter(|after| prefix < *after).unwrap_or(prefix);
        let mut page = Page { records: Vec::new(), next: None, revision };
        for entry in records.range(from.as_str()..).map_err(failed)? {
            let (key, bytes) = entry.map_err(failed)?;
            let key = key.value();
            if !key.starts_with(prefix.as_str()) {
                break;
            }
            if after.as_ref().is_some_and(|after| key == after) {
                continue;
            }
            if page.records.len() == *limit {
                page.next = page.records.last().map(|record| record.key.clone());
                break;
            }
            page.records.push(record(key, bytes.value())?);
        }
        Ok(page)
    }

    /// Does the writes if all expectations hold. Gives those that changed something.
    pub(super) fn commit<'a>(
        &self,
        writes: &'a [Write],
        revision: Revision,
    ) -> Result<Vec<&'a Write>, Error> {
        let transaction = self.database.begin_write().map_err(failed)?;
        let applied = {
            let mut records = transaction.open_table(RECORDS).map_err(failed)?;
            check(&records, writes)?;
            apply(&mut records, writes, revision)?
        };
        if applied.is_empty() {
            transaction.abort().map_err(failed)?;
            return Ok(applied);
        }
        {
            let mut meta = transaction.open_table(META).map_err(failed)?;
            meta.insert("revision", revision.0).map_err(failed)?;
        }
        transaction.commit().map_err(failed)?;
        Ok(applied)
    }
}

/// Makes the tables or checks their format; deletes what was under a lease.
fn begin(transaction: &WriteTransaction) -> Result<Revision, Error> {
    let mut meta = transaction.open_table(META).map_err(failed)?;
    let format = meta.get("format").map_err(failed)?.map(|format| format.value());
    if let Some(found) = format.filter(|&found| found != FORMAT) {
        return damaged(format!("its format is {found}, this program writes {FORMAT}"));
    }
    meta.insert("format", FORMAT).map_err(failed)?;
    let mut records = transaction.open_table(RECORDS).map_err(failed)?;
    let mut leased = Vec::new();
    for entry in records.iter().map_err(failed)? {
        let (key, bytes) = entry.map_err(failed)?;
        if head(key.value(), bytes.value())?.1.is_some() {
            leased.push(key.value().to_owned());
        }
    }
    let before = latest(&meta)?;
    let revision = if leased.is_empty() { before } else { Revision(before.0 + 1) };
    meta.insert("revision", revision.0).map_err(failed)?;
    for key in leased {
        records.remove(key.as_str()).map_err(failed)?;
    }
    Ok(revision)
}

fn latest(meta: &impl ReadableTable<&'static str, u64>) -> Result<Revision, Error> {
    let latest = meta.get("revision").map_err(failed)?;
    Ok(Revision(latest.map_or(0, |revision| revision.value())))
}

fn check(records: &Table<'_, &str, &[u8]>, writes: &[Write]) -> Result<(), Error> {
    for Write { key, expect, .. } in writes {
        let found = records.get(key.as_str()).map_err(failed)?;
        let found = found.map(|bytes| head(key, bytes.value())).transpose()?;
        let found = found.map(|(revision, _)| revision);
        if !expect.holds(found) {
            return Err(Error::Conflict { key: key.clone(), found });
        }
    }
    Ok(())
}

fn apply<'a>(
    records: &mut Table<'_, &str, &[u8]>,
    writes: &'a [Write],
    revision: Revision,
) -> Result<Vec<&'a Write>, Error> {
    let mut applied = Vec::new();
    for write in writes {
        let key = write.key.as_str();
        let is_applied = match &write.action {
            Action::Put { value, lease } => {
                let lease = lease.map_or(0, |lease| lease.0);
                let bytes = [&revision.0.to_le_bytes(), &lease.to_le_bytes(), &value[..]].concat();
                records.insert(key, &bytes[..]).map_err(failed)?;
                true
            }
            Action::Delete => records.remove(key).map_err(failed)?.is_some(),
            Action::Check => false,
        };
        if is_applied {
            applied.push(write);
        }
    }
    Ok(applied)
}

fn record(key: &str, bytes: &[u8]) -> Result<Record, Error> {
    let (revision, _) = head(key, bytes)?;
    Ok(Record { key: key.to_owned(), value: bytes[HEAD_BYTES..].to_vec(), revision })
}

fn head(key: &str, bytes: &[u8]) -> Result<(Revision, Option<LeaseId>), Error> {
    let number = |bytes: &[u8]| {
        let bytes = bytes.try_into().expect("a number has eight bytes");
        u64::from_le_bytes(bytes)
    };
    let Some(head) = bytes.get(..HEAD_BYTES) else {
        return damaged(format!("the record of {key} has {} bytes", bytes.len()));
    };
    let (revision, lease) = head.split_at(HEAD_BYTES / 2);
    Ok((Revision(number(revision)), Some(LeaseId(number(lease))).filter(|lease| lease.0 != 0)))
}

fn failed(error: impl Into<redb::Error>) -> Error {
    let error = error.into();
    let problem = error.to_string();
    let is_damage = if let redb::Error::Io(error) = &error {
        error.kind() == io::ErrorKind::InvalidData
    } else {
        matches!(error, redb::Error::Corrupted(_) | redb::Error::UpgradeRequired(_))
    };
    if is_damage { Error::Damaged { problem } } else { Error::Unavailable { problem } }
}

fn damaged<T>(problem: String) -> Result<T, Error> {
    Err(Error::Damaged { problem })
}
