//! Blobs that are cut off, damaged, gone on with, and pushed out.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use proptest::prelude::*;

use super::*;

#[test]
fn a_blob_has_its_name_only_when_all_of_it_has_come() {
    let kept = Kept::new(100);
    let (content, blob) = blob(1, 40);

    let mut incoming = kept.blobs.receive(blob).unwrap();
    incoming.write(&content[..30]).unwrap();
    assert!(kept.blobs.read(&blob.digest).unwrap().is_none());
    incoming.write(&content[30..]).unwrap();
    incoming.finish().unwrap();

    assert_eq!(&*kept.blobs.read(&blob.digest).unwrap().unwrap(), content);
    assert_eq!(kept.names(), [blob.digest.to_string()]);
    assert_eq!(kept.blobs.missing(&[blob]).unwrap(), []);
}

#[test]
fn what_was_cut_off_goes_on_where_it_ended_even_in_another_process() {
    let kept = Kept::new(100);
    let (content, blob) = blob(1, 40);
    let mut cut_off = kept.blobs.receive(blob).unwrap();
    cut_off.write(&content[..30]).unwrap();
    assert!(matches!(kept.blobs.receive(blob), Err(Problem::Busy { .. })));
    let short = cut_off.finish().unwrap_err();
    assert!(matches!(short, Problem::Short { received: 30, .. }), "{short}");
    assert_eq!(kept.blobs.bytes(), 30);

    let again = Blobs::open(kept.folder.path(), 100).unwrap();
    let mut incoming = again.receive(blob).unwrap();
    assert_eq!((incoming.received(), again.bytes()), (30, 40));
    incoming.write(&content[30..]).unwrap();
    incoming.finish().unwrap();

    assert_eq!(again.missing(&[blob]).unwrap(), []);
}

#[test]
fn other_bytes_than_those_asked_for_are_deleted() {
    let kept = Kept::new(100);
    let (mut content, blob) = blob(1, 40);
    content[39] ^= 1;

    let mut incoming = kept.blobs.receive(blob).unwrap();
    incoming.write(&content).unwrap();
    let too_long = incoming.write(&[0]).unwrap_err();
    assert!(matches!(too_long, Problem::TooLong { .. }), "{too_long}");
    let damaged = incoming.finish().unwrap_err();

    assert!(matches!(damaged, Problem::Damaged { .. }), "{damaged}");
    assert_eq!((kept.blobs.bytes(), kept.names()), (0, vec![]));
}

#[test]
fn a_part_that_is_longer_than_its_blob_begins_anew() {
    let kept = Kept::new(100);
    let (content, blob) = blob(1, 40);
    let part = kept.folder.path().join(format!("{}.part", blob.digest));
    fs::write(&part, [0; 41]).unwrap();

    let mut incoming = Blobs::open(kept.folder.path(), 100).unwrap().receive(blob).unwrap();
    assert_eq!(incoming.received(), 0);
    incoming.write(&content).unwrap();

    assert!(incoming.finish().is_ok());
}

#[test]
fn damage_that_comes_later_is_found_and_fetched_again() {
    let kept = Kept::new(1000);
    let [flipped, cut, intact] = [1, 2, 3].map(|seed| kept.receive(seed, 40));
    let path = |blob: Blob| kept.folder.path().join(blob.digest.to_string());
    let mut content = fs::read(path(flipped)).unwrap();
    content[7] ^= 0x10;
    fs::write(path(flipped), content).unwrap();
    File::options().write(true).open(path(cut)).unwrap().set_len(39).unwrap();

    assert_eq!(kept.blobs.missing(&[flipped, cut, intact]).unwrap(), [flipped, cut]);

    assert_eq!(kept.names(), [intact.digest.to_string()]);
    kept.receive(1, 40);
    assert_eq!(kept.blobs.missing(&[flipped, intact]).unwrap(), []);
}

#[test]
fn what_was_not_used_for_longest_makes_room_and_what_is_pinned_stays() {
    let kept = Kept::new(120);
    let [oldest, pinned, newest] = [1, 2, 3].map(|seed| kept.receive(seed, 40));
    let guard = kept.blobs.pin([pinned.digest], time(1));
    drop(kept.blobs.pin([oldest.digest], time(2)));
    drop(kept.blobs.pin([newest.digest], time(3)));

    // The times outlast the process.
    let again = Blobs::open(kept.folder.path(), 120).unwrap();
    let still_pinned = again.pin([pinned.digest], time(1));
    drop(guard);
    let incoming = again.receive(blob(4, 10).1).unwrap();
    assert_eq!(again.missing(&[oldest, pinned, newest]).unwrap(), [oldest]);
    assert_eq!(again.bytes(), 90);

    let full = again.receive(blob(5, 71).1).unwrap_err().to_string();
    assert!(full.contains("71 bytes does not fit: 50 of 120 are in use"), "{full}");
    assert_eq!(again.missing(&[newest]).unwrap(), [], "nothing goes in vain");

    drop((incoming, still_pinned));
    assert!(again.receive(blob(5, 120).1).is_ok());
    assert_eq!(again.missing(&[pinned, newest]).unwrap(), [pinned, newest]);
}

#[test]
fn a_pin_holds_for_a_blob_that_is_still_to_come() {
    let kept = Kept::new(80);
    let (_, awaited) = blob(1, 40);
    let _guard = kept.blobs.pin([awaited.digest], time(1));
    kept.receive(1, 40);

    assert!(matches!(kept.blobs.receive(blob(2, 41).1), Err(Problem::Full { .. })));
    assert_eq!(kept.blobs.missing(&[awaited]).unwrap(), []);
}

#[test]
fn an_absurd_length_is_refused_and_frees_what_was_set_aside() {
    let kept = Kept::new(80);
    let absurd = Blob { bytes: u64::MAX, ..blob(1, 1).1 };
    kept.receive(2, 40);

    assert!(matches!(kept.blobs.receive(absurd), Err(Problem::Full { .. })));

    assert_eq!((kept.blobs.bytes(), kept.names().len()), (40, 1));
}

#[test]
fn files_of_others_are_left_alone() {
    let kept = Kept::new(10);
    fs::write(kept.folder.path().join("notes"), [0; 100]).unwrap();

    let blobs = Blobs::open(kept.folder.path(), 10).unwrap();
    assert_eq!(blobs.bytes(), 0);
    assert!(blobs.receive(blob(1, 10).1).is_ok());

    assert!(kept.names().contains(&"notes".to_owned()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn the_folder_never_exceeds_its_cap_and_keeps_what_is_pinned(
        steps in prop::collection::vec((0_u8..12, 0_u64..60, prop::bool::ANY, 0_usize..40), 1..40),
    ) {
        let kept = Kept::new(150);
        let (_, precious) = blob(99, 50);
        let _guard = kept.blobs.pin([precious.digest], time(0));
        kept.receive(99, 50);
        for (at, (seed, bytes, finish, cut)) in (1..).zip(steps) {
            let (content, blob) = blob(seed, bytes);
            drop(kept.blobs.pin([blob.digest], time(at)));
            let Ok(mut incoming) = kept.blobs.receive(blob) else { continue };
            prop_assert!(kept.blobs.bytes() <= 150);
            let there = usize::try_from(incoming.received()).unwrap();
            let rest = &content[there..];
            let rest = if finish { rest } else { &rest[..cut.min(rest.len())] };
            incoming.write(rest).unwrap();
            let whole = incoming.received() == bytes;
            prop_assert_eq!(incoming.finish().is_ok(), whole);
            let on_disk: u64 = kept.lens().iter().sum();
            prop_assert_eq!(kept.blobs.bytes(), on_disk);
            prop_assert!(on_disk <= 150);
        }
        prop_assert_eq!(kept.blobs.missing(&[precious]).unwrap(), []);
    }
}

/// Blobs in a folder that goes with them.
struct Kept {
    blobs: Blobs,
    folder: tempfile::TempDir,
}

impl Kept {
    fn new(bytes_max: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { blobs: Blobs::open(folder.path(), bytes_max).unwrap(), folder }
    }

    fn receive(&self, seed: u8, bytes: u64) -> Blob {
        let (content, blob) = blob(seed, bytes);
        let mut incoming = self.blobs.receive(blob).unwrap();
        incoming.write(&content).unwrap();
        incoming.finish().unwrap();
        blob
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    fn lens(&self) -> Vec<u64> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        entries.map(|entry| entry.unwrap().metadata().unwrap().len()).collect()
    }
}

fn blob(seed: u8, bytes: u64) -> (Vec<u8>, Blob) {
    let content: Vec<u8> = (0..bytes).map(|at| seed ^ at.to_le_bytes()[0]).collect();
    let digest = Digest::of(&content);
    (content, Blob { digest, bytes })
}

/// Later than any file that a test makes.
fn time(seconds: u64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 33) + Duration::from_secs(seconds)
}
