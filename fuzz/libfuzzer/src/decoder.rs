//! One fuzz target, the one that `FILMLOOM_FUZZ` names, with libFuzzer.
//!
//! Half of the changes are libFuzzer's own, half are made inside of messages, so that
//! they stay whole.

#![no_main]

use std::sync::OnceLock;

use fuzz::{Target, mutate::Mutator};
use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};
use peak_alloc::PeakAlloc;

#[global_allocator]
static HELD: PeakAlloc = PeakAlloc;

fuzz_target!(|bytes: &[u8]| {
    let target = target();
    if target.input_bytes_max < bytes.len() {
        return;
    }
    HELD.reset_peak_usage();
    let before = HELD.current_usage();
    let _ = (target.decode)(bytes);
    let held = HELD.peak_usage().saturating_sub(before);
    assert!(held <= target.held_max(bytes.len()), "{held} bytes are held");
});

fuzz_mutator!(|bytes: &mut [u8], size: usize, size_max: usize, seed: u32| {
    let mut mutator = Mutator::new(seed.into());
    if seed % 2 == 0
        && let Some(changed) = mutator.inside(target().shape, &bytes[..size])
        && changed.len() <= size_max
    {
        bytes[..changed.len()].copy_from_slice(&changed);
        return changed.len();
    }
    fuzzer_mutate(bytes, size, size_max)
});

/// The target, after what it makes once.
fn target() -> Target {
    static TARGET: OnceLock<Target> = OnceLock::new();
    *TARGET.get_or_init(|| {
        let name = std::env::var("FILMLOOM_FUZZ").unwrap_or_default();
        let target = fuzz::target(&name).unwrap_or_else(|| {
            panic!("FILMLOOM_FUZZ is {name:?}: give {:?}", fuzz::TARGETS.map(|target| target.name))
        });
        for seed in (target.seeds)() {
            let _ = (target.decode)(&seed);
        }
        target
    })
}
