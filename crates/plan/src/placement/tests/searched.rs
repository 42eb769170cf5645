//! Searches against brute force, which tries every placement there is.

use proptest::{collection::vec, option, prelude::*};

use super::*;
use crate::placement::{check, exact, heuristic, problem::Problem, search};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]

    #[test]
    fn exact_search_finds_what_brute_force_finds(request in any_request(4, 7)) {
        // Contradicting pins are refused before a search.
        prop_assume!(check::request(&request).is_ok());
        let brute = brute_force(&request);
        let alone = search::classes(&request)
            .iter()
            .filter_map(|class| exact::search(&Problem::new(&request, class), f64::INFINITY))
            .map(|(_, split)| split.seconds)
            .min_by(f64::total_cmp);
        prop_assert_eq!(brute.is_some(), alone.is_some());
        if let (Some(brute), Some(alone)) = (brute, alone) {
            prop_assert!(close(alone, brute), "{alone} found, {brute} by brute force");
        }
    }

    #[test]
    fn plan_is_allowed_and_as_good_as_brute_force(request in any_request(4, 6)) {
        match (plan(&request), brute_force(&request)) {
            (Ok(plan), Some(brute)) => {
                prop_assert!(allowed(&request, &plan.placement));
                let found = plan.prediction.seconds_per_chunk;
                prop_assert!(close(found, brute), "{found} planned, {brute} by brute force");
                prop_assert_eq!(predict(&request, &plan.placement), Ok(plan.prediction));
            }
            (Err(_), None) => {}
            (plan, brute) => prop_assert!(false, "{plan:?} where brute force has {brute:?}"),
        }
    }

    #[test]
    fn heuristic_plans_are_allowed_and_never_better(request in any_request(4, 7)) {
        if let Ok(plan) = plan_with(&request, Method::Heuristic) {
            prop_assert!(allowed(&request, &plan.placement));
            let best = brute_force(&request).expect("the heuristic found one");
            prop_assert!(best <= plan.prediction.seconds_per_chunk * (1.0 + 1e-9));
        }
    }

    #[test]
    fn large_clusters_are_planned_within_their_limits(request in any_request(16, 30)) {
        let planned = plan(&request);
        if let Ok(plan) = &planned {
            prop_assert!(allowed(&request, &plan.placement));
        }
        prop_assert_eq!(&planned, &plan(&request));
    }

    #[test]
    fn plain_divisions_are_never_better(request in free_request(7, 30)) {
        let Ok(plan) = plan(&request) else { return Ok(()) };
        let workers = request.workers.len().min(request.work.layers);
        let equal: Vec<_> = (0..workers)
            .map(|w| (w, (w + 1) * 30 / workers - w * 30 / workers))
            .collect();
        for decoder in 0..workers {
            let placement = Placement { decoder, ..placement(&equal) };
            if allowed(&request, &placement) {
                let prediction = predict(&request, &placement).expect("it is allowed");
                let found = plan.prediction.seconds_per_chunk;
                prop_assert!(found <= prediction.seconds_per_chunk * (1.0 + 1e-9));
            }
        }
    }
}

#[test]
fn order_with_longer_hops_is_kept_for_its_shorter_transfers() {
    let mut request = request(4, 8);
    request.work.hidden_bytes = 1_000;
    request.workers[0].limits.layers = Some(0..2);
    request.workers[3].limits.layers = Some(6..8);
    request.workers[1].memory_bytes = 20;
    request.workers[2].memory_bytes = 20;
    // 0, 1, 2, 3 has transfers of 1, 6 and 1 s; 0, 2, 1, 3 waits 4 s at every hop.
    request.links = Links::from_fn(4, |from, to| {
        let (transfer, latency_seconds) = match (from, to) {
            (0, 1) | (2, 3) => (1.0, 0.0),
            (1, 2) => (6.0, 0.0),
            _ => (1.0, 3.0),
        };
        Some(Link { bytes_per_second: 1_000.0 / transfer, latency_seconds })
    });
    let mut order = |objective| {
        request.objective = objective;
        let problem = Problem::new(&request, &[0, 1, 2, 3]);
        let (team, _) = exact::search(&problem, f64::INFINITY).expect("all is linked");
        team.seats.iter().map(|seat| seat.worker).collect::<Vec<_>>()
    };

    assert_eq!(order(Objective::OneJob), [0, 1, 2, 3]);
    assert_eq!(order(jobs(8)), [0, 2, 1, 3]);
}

#[test]
fn heuristic_stays_near_the_exact_search_on_six_workers() {
    let mut gaps = Vec::new();
    for seed in 0..60_u64 {
        let request = scattered(seed, 6, 12);
        let problem = Problem::new(&request, &[0, 1, 2, 3, 4, 5]);
        let quick = heuristic::search(&problem).expect("nothing is missing").1.seconds;
        let best = exact::search(&problem, f64::INFINITY).expect("nothing is missing").1.seconds;
        gaps.push(quick / best - 1.0);
    }
    let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
    let most = gaps.iter().copied().fold(0.0, f64::max);
    assert!(mean < 0.005 && most < 0.08, "mean {mean}, most {most}");
}

/// A cluster from a seed: speeds and links over an order of magnitude.
fn scattered(seed: u64, workers: usize, layers: usize) -> Request {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % 10_000) as f64 / 10_000.0
    };
    let mut request = request(workers, layers);
    for worker in &mut request.workers {
        worker.speed.layer_seconds = 0.1 * 10.0_f64.powf(next());
        worker.speed.decode_seconds = Some(2.0 * next());
        worker.memory_bytes = if next() < 0.5 { 60 } else { 1_000 };
    }
    let latencies: Vec<_> = (0..workers * workers).map(|_| 0.2 * next()).collect();
    request.links = Links::from_fn(workers, |from, to| {
        let latency_seconds = latencies[from * workers + to];
        Some(Link { bytes_per_second: 100.0 / (0.1 + latency_seconds), latency_seconds })
    });
    (request.work.hidden_bytes, request.work.velocity_bytes, request.work.x0_bytes) = (30, 5, 3);
    request.objective = jobs(1 + u32::try_from(seed % 4).expect("less than 4"));
    request
}

/// Seconds per chunk of the best placement that is allowed.
fn brute_force(request: &Request) -> Option<f64> {
    let mut best: Option<f64> = None;
    let workers = request.workers.len();
    each_order(&mut Vec::new(), workers, &mut |order| {
        each_split(&mut Vec::new(), order.len(), request.work.layers, &mut |layers| {
            let stages: Vec<_> = order.iter().copied().zip(layers.iter().copied()).collect();
            for decoder in 0..workers {
                for text in 0..workers {
                    let placement = Placement { decoder, text, ..placement(&stages) };
                    let Ok(prediction) = predict(request, &placement) else { continue };
                    let seconds = prediction.seconds_per_chunk;
                    if best.is_none_or(|best| seconds < best) && allowed(request, &placement) {
                        best = Some(seconds);
                    }
                }
            }
        });
    });
    best
}

fn each_order(order: &mut Vec<usize>, workers: usize, visit: &mut impl FnMut(&[usize])) {
    for worker in 0..workers {
        if !order.contains(&worker) {
            order.push(worker);
            visit(order);
            each_order(order, workers, visit);
            order.pop();
        }
    }
}

fn each_split(
    split: &mut Vec<usize>,
    stages: usize,
    layers: usize,
    visit: &mut impl FnMut(&[usize]),
) {
    if stages == 1 && 0 < layers {
        split.push(layers);
        visit(split);
        split.pop();
    }
    for here in 1..layers {
        if 1 < stages {
            split.push(here);
            each_split(split, stages - 1, layers - here, visit);
            split.pop();
        }
    }
}

/// Whether a placement keeps to memory, limits, pins and classes: said anew, from
/// the documentation of the fields.
fn allowed(request: &Request, placement: &Placement) -> bool {
    let Request { work, workers, classes, .. } = request;
    let Ok(prediction) = predict(request, placement) else { return false };
    let held = |worker: usize| {
        placement.stages.iter().find(|stage| stage.worker == worker).map(|stage| &stage.layers)
    };
    let pins = (0..workers.len()).all(|worker| {
        let pin = workers[worker].limits.layers.as_ref();
        pin.is_none() || pin == held(worker)
    });
    let shares = placement.stages.iter().all(|stage| {
        let share = workers[stage.worker].limits.layers_share_max.unwrap_or(1.0);
        stage.layers.len() as f64 <= share * work.layers as f64
    });
    let class = &workers[placement.decoder].class;
    let alike = placement.workers().into_iter().all(|worker| workers[worker].class == *class);
    prediction.fits() && pins && shares && (alike || *classes == Classes::Mixed)
}

fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-9 * a.abs().max(b.abs())
}

/// Requests with tight memory, missing links, shares, classes and pins.
fn any_request(workers_max: usize, layers_max: usize) -> impl Strategy<Value = Request> {
    let pins = (0..layers_max, 1..=layers_max, 0..layers_max, 1..=3_usize, 0..6_u8);
    (free_request(workers_max, layers_max), 1..=layers_max, pins).prop_map(
        move |(mut request, layers, (first, length, second, other_length, pinned))| {
            request.work.layers = layers;
            let within = |first: usize, length: usize| {
                let first = first % layers;
                first..(first + length).min(layers)
            };
            if 3 < pinned {
                request.workers[0].limits.layers = Some(within(first, 1 + length / 2));
            }
            if pinned == 5 && 1 < request.workers.len() {
                request.workers[1].limits.layers = Some(within(second, other_length));
            }
            request
        },
    )
}

/// The same without pins, of `layers` layers.
fn free_request(workers_max: usize, layers: usize) -> impl Strategy<Value = Request> {
    let footprint = (0..3_u64, vec(0..25_u64, 6));
    let bytes = (0..40_u64, 0..20_u64, 0..20_u64);
    let work = (1..5_u32, 0..4_u32, bytes, footprint);
    let worker = (
        (0.05..2.0_f64, 0.0..0.5_f64, 0.0..0.5_f64),
        option::weighted(0.8, 0.0..8.0_f64),
        option::weighted(0.8, 0.0..1.0_f64),
        20..(15 * layers as u64),
        option::weighted(0.2, 0.2..1.0_f64),
        0..5_u8,
    );
    let links = vec((0..8_u8, 5.0..400.0_f64, 0.0..0.3_f64), workers_max * workers_max);
    let parts = (vec(worker, 1..=workers_max), work, links, 1..5_u32, any::<bool>());
    parts.prop_map(move |(workers, work, links, count, mixed)| {
        let mut request = request(workers.len(), layers);
        for (worker, (times, decode, text, memory, share, class)) in
            request.workers.iter_mut().zip(workers)
        {
            let (layer_seconds, embedding_seconds, head_seconds) = times;
            let (decode_seconds, text_seconds) = (decode, text);
            worker.speed = Speed {
                layer_seconds,
                embedding_seconds,
                head_seconds,
                decode_seconds,
                text_seconds,
            };
            worker.memory_bytes = memory;
            worker.limits.layers_share_max = share;
            worker.class = if class == 0 { "cpu-bf16" } else { "cpu-f32" }.to_owned();
        }
        let (passes, guided, (hidden, velocity, x0), (job, others)) = work;
        let runs = Runs { passes, runs: passes + guided };
        request.work = Work {
            layers,
            first_chunk: runs,
            later_chunks: runs,
            hidden_bytes: hidden,
            velocity_bytes: velocity,
            x0_bytes: x0,
            footprint: Footprint {
                layer_bytes: 10,
                layer_job_bytes: job,
                first_stage_bytes: others[0],
                last_stage_bytes: others[1],
                stage_bytes: others[2],
                text_bytes: others[3],
                decoder_bytes: others[4],
                decoder_job_bytes: others[5] / 5,
            },
        };
        request.links = Links::from_fn(request.workers.len(), |from, to| {
            let (there, bytes_per_second, latency_seconds) = links[from * workers_max + to];
            (0 < there).then_some(Link { bytes_per_second, latency_seconds })
        });
        request.objective = if count == 1 { Objective::OneJob } else { jobs(count) };
        request.classes = if mixed { Classes::Mixed } else { Classes::One };
        request
    })
}
