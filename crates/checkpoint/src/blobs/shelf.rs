//! Which files a folder of blobs has, which of them may go, and in which order.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, ErrorKind},
    path::{Path, PathBuf},
    time::SystemTime,
};

use super::Problem;
use crate::contents::{Blob, Digest};

/// The files of a folder, as far as they are blobs.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    files: BTreeMap<Key, Kept>,
    /// How often each blob is pinned, if at all.
    pins: BTreeMap<Digest, u32>,
    /// Blobs on their way, with the bytes set aside for them.
    incoming: BTreeMap<Digest, u64>,
}

/// What names a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Key {
    pub(super) digest: Digest,
    /// Whether all of the blob is there.
    pub(super) whole: bool,
}

/// A file.
#[derive(Clone, Copy, Debug)]
struct Kept {
    bytes: u64,
    used: SystemTime,
}

const PART: &str = ".part";

impl Key {
    pub(super) fn whole(digest: Digest) -> Self {
        Self { digest, whole: true }
    }

    pub(super) fn part(digest: Digest) -> Self {
        Self { digest, whole: false }
    }

    pub(super) fn path(&self, folder: &Path) -> PathBuf {
        let end = if self.whole { "" } else { PART };
        folder.join(format!("{}{end}", self.digest))
    }

    fn of(name: &str) -> Option<Self> {
        let (digest, whole) = name.strip_suffix(PART).map_or((name, true), |name| (name, false));
        Some(Self { digest: digest.parse().ok()?, whole })
    }
}

impl Shelf {
    /// The blobs in a folder.
    pub(super) fn read(folder: &Path) -> io::Result<Self> {
        let mut shelf = Self::default();
        for entry in std::fs::read_dir(folder)? {
            let name = entry?.file_name();
            if let Some(key) = name.to_str().and_then(Key::of) {
                shelf.look(folder, key);
            }
        }
        Ok(shelf)
    }

    /// Bytes of all files, and of what is set aside.
    pub(super) fn bytes(&self) -> u64 {
        let files = self.files.values().map(|kept| kept.bytes);
        files.chain(self.incoming.values().copied()).fold(0, u64::saturating_add)
    }

    /// Pins a blob once more. Gives whether it is there whole.
    pub(super) fn pin(&mut self, digest: Digest, now: SystemTime) -> bool {
        *self.pins.entry(digest).or_default() += 1;
        let kept = self.files.get_mut(&Key::whole(digest));
        kept.map(|kept| kept.used = now).is_some()
    }

    /// Takes one pin off each of these.
    pub(super) fn unpin(&mut self, digests: &BTreeSet<Digest>) {
        for digest in digests {
            if let Some(pins) = self.pins.get_mut(digest) {
                *pins -= 1;
            }
        }
        self.pins.retain(|_, pins| 0 < *pins);
    }

    /// A blob is on its way: what there is of it counts with what is set aside.
    pub(super) fn begin(&mut self, Blob { digest, bytes }: Blob) -> Result<(), Problem> {
        if self.incoming.contains_key(&digest) {
            return Err(Problem::Busy { digest });
        }
        self.incoming.insert(digest, bytes);
        self.files.remove(&Key::part(digest));
        Ok(())
    }

    /// A blob is no longer on its way: what there is of it counts.
    pub(super) fn end(&mut self, folder: &Path, digest: Digest) {
        self.incoming.remove(&digest);
        self.look(folder, Key::part(digest));
        self.look(folder, Key::whole(digest));
    }

    /// A file was deleted.
    pub(super) fn forget(&mut self, key: &Key) {
        self.files.remove(key);
    }

    /// Deletes what was not used for longest until a blob on its way fits. Nothing
    /// is deleted if it cannot.
    pub(super) fn make_room(
        &mut self,
        folder: &Path,
        bytes_max: u64,
        blob: Blob,
    ) -> Result<(), Problem> {
        let mut bytes = self.bytes();
        let mut free: Vec<(SystemTime, Key, u64)> = self.unpinned().collect();
        let in_use = bytes - free.iter().map(|(_, _, bytes)| bytes).sum::<u64>();
        if bytes_max < in_use {
            let (folder, used_bytes) = (folder.to_owned(), in_use.saturating_sub(blob.bytes));
            return Err(Problem::Full { folder, bytes: blob.bytes, used_bytes, bytes_max });
        }
        free.sort_by_key(|(used, key, _)| (*used, *key));
        for (_, key, freed) in free {
            if bytes <= bytes_max {
                break;
            }
            let path = key.path(folder);
            match std::fs::remove_file(&path) {
                Err(cause) if cause.kind() != ErrorKind::NotFound => {
                    return Err(Problem::Io { path, cause });
                }
                Ok(()) | Err(_) => self.forget(&key),
            }
            bytes -= freed;
        }
        Ok(())
    }

    fn unpinned(&self) -> impl Iterator<Item = (SystemTime, Key, u64)> {
        let free = self.files.iter().filter(|(key, _)| !self.pins.contains_key(&key.digest));
        free.map(|(key, kept)| (kept.used, *key, kept.bytes))
    }

    /// Notes what is on disk under a key.
    fn look(&mut self, folder: &Path, key: Key) {
        let found = std::fs::metadata(key.path(folder))
            .and_then(|found| Ok(Kept { bytes: found.len(), used: found.modified()? }));
        match found {
            Ok(kept) => _ = self.files.insert(key, kept),
            Err(_) => self.forget(&key),
        }
    }
}
