//! Every decoder takes what is valid, and whatever the damage does not panic and holds
//! no more than its bound.
//!
//! With `FILMLOOM_WRITE` set the valid messages of the corpus are made anew.

use std::{
    collections::BTreeSet,
    panic::catch_unwind,
    sync::{Mutex, MutexGuard, PoisonError},
};

use fuzz::{
    TARGETS, Target,
    corpus::{self, Entry},
    mutate::Mutator,
};
use peak_alloc::PeakAlloc;

/// What is held is counted for the whole process, so one case runs at a time.
#[global_allocator]
static HELD: PeakAlloc = PeakAlloc;

/// Of all cases.
const SEED: u64 = 1;

#[test]
fn what_is_valid_is_taken_and_what_was_found_once_is_refused() {
    let _turn = turn();
    for target in TARGETS {
        if std::env::var_os("FILMLOOM_WRITE").is_some() {
            corpus::write(&target).unwrap();
        }
        let entries = corpus::read(&target).unwrap();
        assert!(entries.iter().any(|entry| entry.is_valid), "{} has no corpus", target.name);
        for Entry { name, is_valid, bytes } in entries {
            let outcome = exercise(&target, &bytes);
            assert_eq!(outcome.is_ok(), is_valid, "{}/{name}: {outcome:?}", target.name);
        }
    }
}

#[test]
fn no_damage_makes_a_decoder_panic_or_hold_more_than_its_bound() {
    let _turn = turn();
    for target in TARGETS {
        let seeds: Vec<_> = corpus::read(&target).unwrap().into_iter().map(|e| e.bytes).collect();
        // What is made once is there.
        seeds.iter().for_each(|bytes| drop(exercise(&target, bytes)));
        let (mut mutator, mut refused) = (Mutator::new(SEED), 0);
        for _ in 0..target.cases {
            let bytes = mutator.case(target.shape, &seeds, target.input_bytes_max);
            refused += u32::from(exercise(&target, &bytes).is_err());
        }
        assert!(target.cases / 20 < refused, "{}: damage is taken", target.name);
    }
}

#[test]
fn names_are_different_and_inputs_of_the_largest_size_are_answered() {
    let _turn = turn();
    let names: BTreeSet<_> = TARGETS.iter().map(|target| target.name).collect();
    assert_eq!(names.len(), TARGETS.len());
    for target in TARGETS {
        let seeds = corpus::read(&target).unwrap();
        for byte in [0, 0x0a, b'[', 0xff] {
            drop(exercise(&target, &vec![byte; target.input_bytes_max]));
        }
        for Entry { bytes, .. } in seeds {
            let times = target.input_bytes_max / bytes.len().max(1);
            drop(exercise(&target, &bytes.repeat(times)));
        }
    }
}

/// Decodes; a panic, or too much that was held, shows the bytes.
fn exercise(target: &Target, bytes: &[u8]) -> Result<(), String> {
    HELD.reset_peak_usage();
    let before = HELD.current_usage();
    let outcome = catch_unwind(|| (target.decode)(bytes));
    let held = HELD.peak_usage().saturating_sub(before);
    let shown = || format!("{}, {} bytes: {:02x?}", target.name, bytes.len(), cut(bytes));
    let outcome = outcome.unwrap_or_else(|_| panic!("a panic: {}", shown()));
    assert!(held <= target.held_max(bytes.len()), "{held} bytes are held: {}", shown());
    outcome
}

fn cut(bytes: &[u8]) -> &[u8] {
    &bytes[..bytes.len().min(4096)]
}

fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    TURN.lock().unwrap_or_else(PoisonError::into_inner)
}
