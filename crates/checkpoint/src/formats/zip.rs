//! The directory of a zip archive, as far as torch writes them: stored entries
//! without encryption, large ones with zip64 fields.
//!
//! Torch stores its entries uncompressed, so each is a range of the mapped
//! file and nothing is copied. Compressed or encrypted entries are refused.
//! Every offset is checked, and the directory has bounds, since it is what this
//! reader holds.
//!
//! Source: PKWARE's APPNOTE 6.3, sections 4.3 and 4.5.3.

use std::{collections::BTreeMap, ops::Range};

use super::NAME_BYTES_MAX;

/// Entries by name: where their content is in the file.
pub(super) type Directory = BTreeMap<String, Range<usize>>;

const LOCAL: u32 = 0x0403_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END64: u32 = 0x0606_4b50;
const LOCATOR64: u32 = 0x0706_4b50;

const LOCAL_BYTES: usize = 30;
const CENTRAL_BYTES: usize = 46;
const END_BYTES: usize = 22;
const LOCATOR64_BYTES: usize = 20;
/// The archive's comment, which follows the end record, is no longer.
const COMMENT_BYTES_MAX: usize = u16::MAX as usize;
/// Marks a field whose value stands in the zip64 extra field.
const IN_EXTRA: u64 = u32::MAX as u64;
const EXTRA64: u16 = 1;
const ENCRYPTED: u16 = 1;
const STORED: u16 = 0;
/// Entries of an archive; torch writes one per storage, some thousands.
const ENTRIES_MAX: usize = 1 << 18;

/// Reads the directory of the archive `bytes`.
///
/// # Errors
///
/// What is wrong with the archive, as the end of a sentence about the file.
pub(super) fn read(bytes: &[u8]) -> Result<Directory, String> {
    let end = find_end(bytes).ok_or("has no zip directory at its end: it is truncated")?;
    let (start, size) = central(bytes, end).ok_or("has a damaged zip end record")?;
    let central = slice(bytes, start, size).ok_or("names a zip directory outside the file")?;
    let mut directory = Directory::new();
    let mut rest = central;
    while !rest.is_empty() {
        let entry = Entry::read(rest).ok_or("has a damaged zip directory")?;
        if NAME_BYTES_MAX < entry.name.len() || ENTRIES_MAX <= directory.len() {
            return Err("has a larger zip directory than torch writes".into());
        }
        let name = entry.name.to_owned();
        if entry.flags & ENCRYPTED != 0 || entry.method != STORED {
            return Err(format!("holds `{name}` compressed or encrypted, as torch never does"));
        }
        let content = content(bytes, &entry)
            .ok_or_else(|| format!("is truncated: `{name}` reaches past its end"))?;
        rest = &rest[entry.bytes..];
        if directory.insert(name.clone(), content).is_some() {
            return Err(format!("holds `{name}` twice"));
        }
    }
    Ok(directory)
}

/// Where the end record starts: the last place that looks like one.
fn find_end(bytes: &[u8]) -> Option<usize> {
    let last = bytes.len().checked_sub(END_BYTES)?;
    let first = last.saturating_sub(COMMENT_BYTES_MAX);
    (first..=last).rev().find(|&at| u32_at(bytes, at) == Some(END))
}

/// Start and size of the central directory.
fn central(bytes: &[u8], end: usize) -> Option<(u64, u64)> {
    let (size, start) = (u32_at(bytes, end + 12)?, u32_at(bytes, end + 16)?);
    let locator = end.checked_sub(LOCATOR64_BYTES);
    if let Some(locator) = locator.filter(|&at| u32_at(bytes, at) == Some(LOCATOR64)) {
        let end64 = usize::try_from(u64_at(bytes, locator + 8)?).ok()?;
        if u32_at(bytes, end64)? != END64 {
            return None;
        }
        let size = u64_at(bytes, end64.checked_add(40)?)?;
        let start = u64_at(bytes, end64.checked_add(48)?)?;
        return Some((start, size));
    }
    Some((start.into(), size.into()))
}

/// An entry of the central directory.
struct Entry<'a> {
    name: &'a str,
    flags: u16,
    method: u16,
    stored_bytes: u64,
    local: u64,
    /// Size of this entry in the directory.
    bytes: usize,
}

impl<'a> Entry<'a> {
    fn read(bytes: &'a [u8]) -> Option<Self> {
        if u32_at(bytes, 0)? != CENTRAL {
            return None;
        }
        let name_end = CENTRAL_BYTES + usize::from(u16_at(bytes, 28)?);
        let extra_end = name_end + usize::from(u16_at(bytes, 30)?);
        let end = extra_end + usize::from(u16_at(bytes, 32)?);
        let mut sizes = [u32_at(bytes, 24)?, u32_at(bytes, 20)?, u32_at(bytes, 42)?].map(u64::from);
        read_extra64(bytes.get(name_end..extra_end)?, &mut sizes)?;
        let [_, stored_bytes, local] = sizes;
        bytes.get(..end)?;
        Some(Self {
            name: std::str::from_utf8(bytes.get(CENTRAL_BYTES..name_end)?).ok()?,
            flags: u16_at(bytes, 8)?,
            method: u16_at(bytes, 10)?,
            stored_bytes,
            local,
            bytes: end,
        })
    }
}

/// Replaces the sizes that stand in the zip64 field, in the field's order.
fn read_extra64(mut extra: &[u8], sizes: &mut [u64; 3]) -> Option<()> {
    while !extra.is_empty() {
        let (kind, length) = (u16_at(extra, 0)?, usize::from(u16_at(extra, 2)?));
        let field = extra.get(4..4 + length)?;
        if kind == EXTRA64 {
            let missing = sizes.iter_mut().filter(|size| **size == IN_EXTRA);
            for (index, size) in missing.enumerate() {
                *size = u64_at(field, 8 * index)?;
            }
        }
        extra = &extra[4 + length..];
    }
    Some(())
}

/// Where an entry's content is, from its local header.
fn content(bytes: &[u8], entry: &Entry<'_>) -> Option<Range<usize>> {
    let local = usize::try_from(entry.local).ok()?;
    let header = bytes.get(local..local.checked_add(LOCAL_BYTES)?)?;
    if u32_at(header, 0)? != LOCAL {
        return None;
    }
    let skipped = usize::from(u16_at(header, 26)?) + usize::from(u16_at(header, 28)?);
    let start = (local + LOCAL_BYTES).checked_add(skipped)?;
    let end = start.checked_add(usize::try_from(entry.stored_bytes).ok()?)?;
    (end <= bytes.len()).then_some(start..end)
}

fn slice(bytes: &[u8], start: u64, size: u64) -> Option<&[u8]> {
    let start = usize::try_from(start).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(size).ok()?)?)
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}
