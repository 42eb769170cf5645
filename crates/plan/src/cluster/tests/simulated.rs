//! Worlds from seeds: what must hold is checked at every event.

use proptest::prelude::*;

use super::{
    Outcome,
    world::{Faults, Setting, World},
};

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn every_job_ends_whatever_breaks(setting in settings()) {
        World::new(setting).run();
    }

    #[test]
    fn every_job_that_nobody_cancels_is_completed(setting in settings()) {
        let faults = Faults { job: 0, cancel: 0, ..setting.faults };
        let mut world = World::new(Setting { attempts_max: u32::MAX, faults, ..setting });

        world.run();

        let mut outcomes = world.store.ended.values();
        prop_assert!(outcomes.all(|outcome| *outcome == Outcome::Completed));
    }
}

#[test]
fn nothing_is_made_twice_where_nothing_breaks() {
    let calm = Faults {
        session: 0,
        crash: 0,
        stage: 0,
        hang: 0,
        drain: 0,
        coordinator: 0,
        load: 0,
        job: 0,
        cancel: 0,
    };
    let mut world = World::new(Setting { faults: calm, ..STORM });

    world.run();

    let placed = world.trace.iter().filter(|line| line.contains("Place {")).count();
    assert_eq!(placed, STORM.jobs as usize);
}

#[test]
fn one_seed_is_one_trace() {
    let run = |seed| {
        let mut world = World::new(Setting { seed, ..STORM });
        world.run();
        std::mem::take(&mut world.trace)
    };

    let trace = run(1);
    assert!(1_000 < trace.len(), "{} events", trace.len());
    assert_eq!(trace, run(1));
    assert_ne!(trace, run(2));
}

const STORM: Setting = Setting {
    seed: 0,
    workers: 5,
    jobs: 20,
    is_roomy: false,
    attempts_max: 3,
    faults: Faults {
        session: 40,
        crash: 20,
        stage: 20,
        hang: 3,
        drain: 5,
        coordinator: 5,
        load: 100,
        job: 20,
        cancel: 300,
    },
};

/// Every fault is often, seldom or absent.
fn settings() -> impl Strategy<Value = Setting> {
    let rate = |often: u64| prop::sample::select(vec![0, often / 4, often]);
    let failures = (rate(40), rate(40), rate(6));
    let faults = (rate(80), failures, rate(20), rate(10), rate(200), rate(80), rate(400));
    let faults = faults.prop_map(
        |(session, (crash, stage, hang), drain, coordinator, load, job, cancel)| Faults {
            session,
            crash,
            stage,
            hang,
            drain,
            coordinator,
            load,
            job,
            cancel,
        },
    );
    (any::<u64>(), 4..7_u32, 1..25_u32, any::<bool>(), faults).prop_map(
        |(seed, workers, jobs, is_roomy, faults)| {
            let attempts_max = 3;
            Setting { seed, workers, jobs, is_roomy, attempts_max, faults }
        },
    )
}
