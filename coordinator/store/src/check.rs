//! Checks requests against the limits, the same for every store.

use std::{collections::BTreeSet, time::Duration};

use crate::{
    error::Error,
    record::{
        Action, COMMIT_BYTES_MAX, KEY_BYTES_MAX, LIST_MAX, List, TTL_MAX, TTL_MIN, VALUE_BYTES_MAX,
        WRITES_MAX, Write,
    },
};

/// Checks a key.
pub(crate) fn key(key: &str) -> Result<(), Error> {
    if key.is_empty() { invalid("a key is empty".to_owned()) } else { prefix(key) }
}

/// Checks what keys begin with, which may be nothing.
pub(crate) fn prefix(prefix: &str) -> Result<(), Error> {
    if KEY_BYTES_MAX < prefix.len() {
        return invalid(format!("a key of {} bytes, at most {KEY_BYTES_MAX}", prefix.len()));
    }
    if !prefix.bytes().all(|byte| byte.is_ascii_graphic()) {
        return invalid(format!("key {prefix:?} has characters other than printable ASCII"));
    }
    Ok(())
}

pub(crate) fn list(List { prefix: begin, after, limit }: &List) -> Result<(), Error> {
    prefix(begin)?;
    after.as_deref().map_or(Ok(()), prefix)?;
    if !(1..=LIST_MAX).contains(limit) {
        return invalid(format!("a page of {limit} records, take 1 to {LIST_MAX}"));
    }
    Ok(())
}

pub(crate) fn ttl(ttl: Duration) -> Result<(), Error> {
    if (TTL_MIN..=TTL_MAX).contains(&ttl) {
        return Ok(());
    }
    invalid(format!("a lease of {ttl:?}, take {TTL_MIN:?} to {TTL_MAX:?}"))
}

pub(crate) fn writes(writes: &[Write]) -> Result<(), Error> {
    if !(1..=WRITES_MAX).contains(&writes.len()) {
        return invalid(format!("a commit of {} writes, take 1 to {WRITES_MAX}", writes.len()));
    }
    let (mut keys, mut bytes) = (BTreeSet::new(), 0);
    for write in writes {
        key(&write.key)?;
        if !keys.insert(&write.key) {
            return invalid(format!("a commit that names {} twice", write.key));
        }
        let value_bytes = match &write.action {
            Action::Put { value, .. } => value.len(),
            Action::Delete | Action::Check => 0,
        };
        check_bytes(|| format!("the value of {}", write.key), value_bytes, VALUE_BYTES_MAX)?;
        bytes += write.key.len() + value_bytes;
    }
    check_bytes(|| "a commit".to_owned(), bytes, COMMIT_BYTES_MAX)
}

fn check_bytes(what: impl Fn() -> String, bytes: usize, bytes_max: usize) -> Result<(), Error> {
    if bytes_max < bytes { Err(Error::TooLarge { what: what(), bytes, bytes_max }) } else { Ok(()) }
}

fn invalid<T>(problem: String) -> Result<T, Error> {
    Err(Error::Invalid { problem })
}
