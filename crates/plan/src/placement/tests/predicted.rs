//! Predictions against numbers made by hand and against a simulated pipeline.

use proptest::{collection::vec, prelude::*};
use types::{Sampler, SizedChunk, StepList, Update};

use super::*;
use crate::passes::chunk_passes;

#[test]
fn look_ahead_hides_all_of_the_commit_run_but_its_longest_stage() {
    let request = request(4, 8);
    let seconds = |stages: &[(usize, usize)]| {
        let prediction = predict(&request, &placement(stages)).unwrap();
        (prediction.chunk_seconds, prediction.chunk_seconds_plain)
    };

    // Four denoise passes and a commit over 8 layers of a second each.
    assert_eq!(seconds(&[(0, 8)]), (40.0, 40.0));
    assert_eq!(seconds(&[(0, 4), (1, 4)]), (36.0, 40.0));
    assert_eq!(seconds(&[(2, 2), (0, 2), (3, 2), (1, 2)]), (34.0, 40.0));
    assert_eq!(seconds(&[(0, 7), (1, 1)]), (39.0, 40.0));
}

#[test]
fn guided_runs_are_a_longest_stage_apart() {
    let mut request = request(2, 8);
    request.work.later_chunks = Runs { passes: 4, runs: 8 };

    let prediction = predict(&request, &placement(&[(0, 3), (1, 5)])).unwrap();

    assert_eq!(prediction.chunk_seconds, 4.0 * 8.0 + 4.0 * 5.0 + 5.0);
}

#[test]
fn runs_of_a_chunk_count_branches_and_leave_the_commit_out() {
    let chunk = |guidance| SizedChunk { steps: StepList::Even(3), guidance };
    let sampler = Sampler {
        update: Update::Euler,
        shift: 1.0,
        first_chunk: chunk(2.0),
        later_chunks: chunk(1.0),
    };
    let runs = |index| Runs::of(&chunk_passes(&sampler, index).unwrap());

    assert_eq!([runs(0), runs(1)], [(3, 6), (3, 3)].map(|(passes, runs)| Runs { passes, runs }));
}

#[test]
fn hops_cost_all_runs_and_the_way_back_denoise_runs_only() {
    let mut request = request(2, 8);
    // 3 s and 1 s of transfer, 0.5 s of latency.
    let work = Work { hidden_bytes: 3_000, velocity_bytes: 1_000, ..request.work };
    request.work = work;
    let link = Link { bytes_per_second: 1e3, latency_seconds: 0.5 };
    request.links = Links::uniform(2, link);

    let prediction = predict(&request, &placement(&[(0, 4), (1, 4)])).unwrap();

    let pass = 8.0 + 3.5 + 1.5;
    assert_eq!(prediction.chunk_seconds, 4.0 * pass + 4.0);
    assert_eq!(prediction.chunk_seconds_plain, 4.0 * pass + 8.0 + 3.5);
    assert_eq!(prediction.first_chunk_seconds, 4.0 * pass);
}

#[test]
fn jobs_fill_the_pipeline_up_to_its_longest_stage_or_link() {
    let mut request = request(2, 8);
    let seconds = |request: &Request| {
        let prediction = predict(request, &placement(&[(0, 4), (1, 4)])).unwrap();
        (prediction.seconds_per_chunk, prediction.bottleneck, prediction.busy_share)
    };

    let lead = Bottleneck::Worker { worker: 0 };
    assert_eq!(seconds(&request), (36.0, lead, 20.0 / 36.0));
    request.objective = jobs(2);
    assert_eq!(seconds(&request), (20.0, lead, 1.0));
    request.work.hidden_bytes = 6_000;
    request.objective = jobs(8);
    assert_eq!(seconds(&request), (30.0, Bottleneck::Link { from: 0, to: 1 }, 1.0));
    request.work = Work { hidden_bytes: 0, velocity_bytes: 9_000, ..request.work };
    assert_eq!(seconds(&request), (36.0, Bottleneck::Link { from: 1, to: 0 }, 1.0));
}

#[test]
fn decoding_hides_beside_a_stage_as_long_as_it_waits() {
    let mut request = request(3, 8);
    request.work.x0_bytes = 50_000;
    let mut seconds = |decode: f64, decoder: usize| {
        request.workers[decoder].speed.decode_seconds = Some(decode);
        let placement = Placement { decoder, ..placement(&[(0, 4), (1, 4)]) };
        let prediction = predict(&request, &placement).unwrap();
        (prediction.chunk_seconds, prediction.first_chunk_seconds)
    };

    // The lead waits 4 s for the other stage's half of a pass.
    assert_eq!(seconds(4.0, 0), (36.0, 36.0));
    assert_eq!(seconds(5.0, 0), (37.0, 37.0));
    // Elsewhere decoding takes no time from a chunk, unless it takes longer; x0
    // takes 50 s on its way.
    assert_eq!(seconds(45.0, 2), (50.0, 32.0 + 50.0 + 45.0));
    assert_eq!(seconds(60.0, 2), (60.0, 32.0 + 50.0 + 60.0));
}

#[test]
fn decoding_keeps_a_stages_worker_from_other_jobs() {
    let mut request = request(2, 8);
    request.objective = jobs(8);
    request.workers[0].speed.decode_seconds = Some(4.0);

    let prediction = predict(&request, &placement(&[(0, 4), (1, 4)])).unwrap();

    assert_eq!(prediction.seconds_per_chunk, 5.0 * 4.0 + 4.0);
    assert_eq!((prediction.chunk_seconds, prediction.busy_share), (36.0, 1.0));
}

#[test]
fn memory_counts_every_role_and_every_job() {
    let mut request = request(3, 8);
    request.work.footprint = Footprint {
        layer_bytes: 10,
        layer_job_bytes: 1,
        first_stage_bytes: 100,
        last_stage_bytes: 200,
        stage_bytes: 1_000,
        text_bytes: 10_000,
        decoder_bytes: 20_000,
        decoder_job_bytes: 100_000,
    };
    request.objective = jobs(3);
    request.workers[1].limits.memory_bytes_max = Some(300_000);
    request.workers[1].memory_bytes = 1_000_000;
    let placement = Placement { decoder: 1, text: 2, ..placement(&[(0, 3), (1, 5)]) };

    let prediction = predict(&request, &placement).unwrap();

    let held = |worker, need_bytes, usable_bytes| WorkerMemory { worker, need_bytes, usable_bytes };
    let lead = held(0, 3 * 13 + 100 + 1_000, 1_000);
    let last = held(1, 5 * 13 + 200 + 1_000 + 320_000, 300_000);
    assert_eq!(prediction.memory, [lead, last, held(2, 10_000, 1_000)]);
    assert!(!prediction.fits());
}

#[test]
fn placements_that_cannot_run_are_named() {
    let mut request = request(3, 8);
    request.workers[2].speed =
        Speed { decode_seconds: None, text_seconds: None, ..request.workers[2].speed };
    let link = Link { bytes_per_second: 1.0, latency_seconds: 0.0 };
    request.links = Links::from_fn(3, |from, to| (from + 1 == to).then_some(link));
    let refused = |placement: &Placement| predict(&request, placement).unwrap_err();
    let whole = placement(&[(0, 8)]);

    let no_link = |from: &str, to: &str| Misplaced::NoLink { from: from.into(), to: to.into() };
    assert_eq!(refused(&placement(&[(1, 4), (0, 4)])), no_link("b", "a"));
    assert_eq!(refused(&placement(&[(0, 4), (1, 4)])), no_link("b", "a"));
    assert_eq!(refused(&Placement { decoder: 1, ..placement(&[(2, 8)]) }), no_link("c", "b"));
    let name = || "c".to_owned();
    assert_eq!(
        refused(&Placement { decoder: 2, ..whole.clone() }),
        Misplaced::CannotDecode { name: name() }
    );
    assert_eq!(
        refused(&Placement { text: 2, ..whole.clone() }),
        Misplaced::CannotEncode { name: name() }
    );
    let unknown = Misplaced::UnknownWorker { worker: 3, workers: 3 };
    assert_eq!(refused(&Placement { text: 3, ..whole }), unknown);
    assert_eq!(refused(&placement(&[(3, 8)])), unknown);
    let coverage = |held| Misplaced::Coverage { held, layers: 8 };
    assert_eq!(refused(&placement(&[(0, 7)])), coverage(7));
    assert_eq!(refused(&Placement { stages: Vec::new(), decoder: 0, text: 0 }), coverage(0));
    let empty = Misplaced::Layers { stage: 1, first: 4, end: 4, expected: 4 };
    assert_eq!(refused(&placement(&[(0, 4), (1, 0), (2, 4)])), empty);
    let twice = Misplaced::TwoStages { name: "a".into() };
    assert_eq!(refused(&placement(&[(0, 4), (0, 4)])), twice);
}

proptest! {
    #[test]
    fn one_job_takes_what_a_simulated_pipeline_takes(
        stages in vec((0.1..3.0_f64, 0.0..2.0_f64, 0.0..1.0_f64), 1..6),
        passes in 1..5_u32, branches in 1..=2_u32, velocity in 0..3_000_u64,
        decode in prop::option::of((0..6_usize, 0.0..20.0_f64)),
    ) {
        let count = stages.len();
        let mut request = request(count, count);
        let runs = passes * branches;
        request.work.later_chunks = Runs { passes, runs };
        (request.work.hidden_bytes, request.work.velocity_bytes) = (1_000, velocity);
        for (worker, &(layer_seconds, ..)) in request.workers.iter_mut().zip(&stages) {
            worker.speed.layer_seconds = layer_seconds;
        }
        let link = |to: usize| Link {
            bytes_per_second: 1_000.0 / (0.01 + stages[to].1),
            latency_seconds: stages[to].2,
        };
        request.links = Links::from_fn(count, |_, to| Some(link(to)));
        let mut placement = placement(&(0..count).map(|worker| (worker, 1)).collect::<Vec<_>>());
        let decode = decode.map(|(stage, time)| (stage % count, time));
        if let Some((stage, seconds)) = decode {
            placement.decoder = stage;
            request.workers[stage].speed.decode_seconds = Some(seconds);
        }

        let predicted = predict(&request, &placement).unwrap().chunk_seconds;

        let simulated = simulated_chunk_seconds(&request, branches, decode);
        let equal = (predicted - simulated).abs() < 1e-9 * predicted;
        // What queued runs make up for while a chunk is decoded is not counted on.
        let longest = (0..count)
            .map(|s| stages[s].0.max((0.01 + stages[s].1) * velocity.max(1_000) as f64 / 1e3))
            .fold(0.0, f64::max);
        let queued = longest * f64::from(1 + branches);
        let made_up = simulated < predicted && predicted - simulated <= queued;
        prop_assert!(equal || decode.is_some() && made_up, "{predicted}, {simulated}");
    }

    #[test]
    fn more_jobs_never_make_all_chunks_slower_nor_one_jobs_faster(
        layers in vec(1..5_usize, 1..5), count in 1..9_u32, hidden in 0..5_000_u64,
    ) {
        let mut request = request(layers.len(), layers.iter().sum());
        request.work.hidden_bytes = hidden;
        let placement = placement(&layers.into_iter().enumerate().collect::<Vec<_>>());
        let mut seconds = |count| {
            request.objective = jobs(count);
            let prediction = predict(&request, &placement).unwrap();
            (prediction.seconds_per_chunk, prediction.chunk_seconds)
        };

        let (few, more) = (seconds(count), seconds(count + 1));

        prop_assert!(more.0 <= few.0);
        prop_assert_eq!(more.1, few.1);
        prop_assert_eq!(seconds(1).0, few.1);
    }
}

/// Seconds between two chunks' commits in a pipeline of queues that is simulated run
/// by run; worker `s` is stage `s` and holds one layer.
fn simulated_chunk_seconds(request: &Request, branches: u32, decode: Option<(usize, f64)>) -> f64 {
    let stages = request.workers.len();
    let (mut stage_free, mut link_free) = (vec![0.0_f64; stages], vec![0.0_f64; stages]);
    // Sends a run in at a time; the lead has its velocity at the time given back.
    let mut run = |time: f64, returns: bool, decodes: bool| {
        let mut time = time;
        for stage in 0..stages {
            stage_free[stage] =
                stage_free[stage].max(time) + request.workers[stage].speed.layer_seconds;
            time = stage_free[stage];
            if let Some((_, seconds)) = decode.filter(|&(at, _)| decodes && at == stage) {
                stage_free[stage] += seconds;
            }
            let next = (stage + 1) % stages;
            let Some(link) = request.links.between(stage, next) else { continue };
            let bytes = match (stage + 1 < stages, returns) {
                (true, _) => request.work.hidden_bytes,
                (false, true) => request.work.velocity_bytes,
                (false, false) => continue,
            };
            link_free[stage] = link_free[stage].max(time) + bytes as f64 / link.bytes_per_second;
            time = link_free[stage] + link.latency_seconds;
        }
        time
    };
    let (mut time, mut commits) = (0.0, Vec::new());
    for chunk in 0..6 {
        for pass in 0..request.work.later_chunks.passes {
            let start = time;
            for branch in 1..=branches {
                // A chunk is decoded behind the next one's first pass.
                time = run(start, true, 0 < chunk && pass == 0 && branch == branches);
            }
        }
        commits.push(time);
        run(time, false, false);
    }
    commits[5] - commits[4]
}
