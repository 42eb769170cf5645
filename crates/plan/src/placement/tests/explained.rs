//! Choices and their reasons.

use super::*;

#[test]
fn fast_links_pool_and_slow_links_do_not() {
    let mut request = request(2, 8);
    request.work.hidden_bytes = 1_000;
    let mut planned = |bytes_per_second: f64| {
        request.links = Links::uniform(2, Link { bytes_per_second, latency_seconds: 0.0 });
        plan(&request).unwrap()
    };

    // Two stages gain 4 s by look-ahead and lose four hops.
    let fast = planned(10_000.0);
    assert_eq!(fast.placement.stages.len(), 2);
    assert_eq!(fast.explanation.verdict, Verdict::PoolFaster { times: 40.0 / 36.4 });
    let slow = planned(500.0);
    assert_eq!(slow.placement, placement(&[(0, 8)]));
    assert_eq!(slow.explanation.verdict, Verdict::UseOneNode);
    let one = slow.explanation.one_node;
    assert_eq!(one, Some(OneNode { worker: 0, seconds_per_chunk: 40.0 }));
    // Four hops of 2 s, and what look-ahead gains.
    assert_eq!(slow.explanation.pool_seconds, Some(44.0));
    let Reason::Slower { percent } = slow.explanation.left_out[0].reason else {
        panic!("{slow:?}")
    };
    assert!((9.9..10.1).contains(&percent), "{percent}");
}

#[test]
fn small_gain_is_no_reason_to_pool() {
    let mut request = request(2, 8);
    request.work.hidden_bytes = 1_000;
    let bytes_per_second = 1_000.0 / 0.9;
    request.links = Links::uniform(2, Link { bytes_per_second, latency_seconds: 0.0 });

    let plan = plan(&request).unwrap();

    assert_eq!(plan.placement.stages.len(), 2);
    assert_eq!(plan.explanation.verdict, Verdict::UseOneNode);
    assert_eq!(
        plan.verdict(&request),
        "use one node: a makes a chunk in 40.0 s, the pool in 39.6 s: it gains less than 2 %"
    );
}

#[test]
fn slow_link_is_told_with_what_the_pool_would_take() {
    let mut request = request(2, 8);
    request.work.hidden_bytes = 1_000;
    request.links = Links::uniform(2, Link { bytes_per_second: 500.0, latency_seconds: 0.0 });
    let verdict = |request: &Request| plan(request).unwrap().verdict(request);

    assert_eq!(verdict(&request), "use one node: a makes a chunk in 40.0 s, the pool in 44.0 s");
    request.links = Links::none(2);
    assert_eq!(
        verdict(&request),
        "use one node: a makes a chunk in 40.0 s, and no other worker could share it"
    );
}

#[test]
fn every_worker_left_out_has_its_reason() {
    let mut request = request(6, 4);
    // Worker 0 holds all; all others are slower than what they would save.
    for worker in &mut request.workers[1..] {
        worker.speed.layer_seconds = 9.0;
    }
    request.workers[1].class = "cuda-bf16".into();
    request.workers[2].memory_bytes = 9;
    request.workers[3].limits.layers_share_max = Some(0.2);
    let link = Link { bytes_per_second: 1.0, latency_seconds: 0.0 };
    request.links = Links::from_fn(6, |from, to| (from != 4 && to != 4).then_some(link));

    let plan = plan(&request).unwrap();

    assert_eq!(plan.placement, placement(&[(0, 4)]));
    let reasons = [
        Reason::OtherClass { class: "cpu-f32".into() },
        Reason::TooLittleMemory { need_bytes: 10, usable_bytes: 9 },
        Reason::NoShare,
        Reason::NoLink,
        // One of four layers takes 9 s in place of 1 s, and makes a stage of 9 s.
        Reason::Slower { percent: 100.0 * (4.0 * 12.0 + 9.0 - 20.0) / 20.0 },
    ];
    let left_out: Vec<_> = plan.explanation.left_out.iter().map(|out| &out.reason).collect();
    assert_eq!(left_out, reasons.iter().collect::<Vec<_>>());
}

#[test]
fn layers_that_are_all_taken_leave_a_worker_out() {
    let mut request = request(3, 2);
    request.objective = jobs(8);

    let plan = plan(&request).unwrap();

    assert_eq!(plan.prediction.seconds_per_chunk, 5.0);
    assert_eq!(plan.explanation.left_out, [LeftOut { worker: 2, reason: Reason::NoLayerLeft }]);
}

#[test]
fn pins_caps_and_shares_are_kept() {
    let mut request = request(3, 10);
    request.objective = jobs(8);
    request.workers[2].limits.layers = Some(3..5);
    request.workers[0].limits.layers_share_max = Some(0.3);
    request.workers[1].limits.memory_bytes_max = Some(50);

    let plan = plan(&request).unwrap();

    let stages: Vec<_> =
        plan.placement.stages.iter().map(|s| (s.worker, s.layers.clone())).collect();
    assert_eq!(stages, [(0, 0..3), (2, 3..5), (1, 5..10)]);
}

#[test]
fn classes_mix_only_where_allowed() {
    let mut request = request(3, 8);
    request.objective = jobs(8);
    request.workers[2].class = "cuda-bf16".into();

    assert_eq!(plan(&request).unwrap().placement.workers(), [0, 1]);
    request.classes = Classes::Mixed;
    assert_eq!(plan(&request).unwrap().placement.workers(), [0, 1, 2]);
}

#[test]
fn decoder_and_text_side_stand_where_they_are_soonest() {
    let mut request = request(3, 8);
    request.links = Links::uniform(3, Link { bytes_per_second: 1e3, latency_seconds: 9.0 });
    for (worker, seconds) in [(0, 6.0), (1, 3.0), (2, 1.0)] {
        request.workers[worker].speed.decode_seconds = Some(seconds);
        request.workers[worker].speed.text_seconds = Some(seconds);
    }
    request.workers[0].speed.layer_seconds = 0.5;

    let plan = plan(&request).unwrap();

    // One node for the layers; its own decoding would come on top of a chunk, and
    // x0 is on its way for 9 s to either of the others.
    assert_eq!(plan.placement, Placement { decoder: 2, text: 2, ..placement(&[(0, 8)]) });
    assert_eq!(plan.prediction.chunk_seconds, 20.0);
    assert_eq!(plan.prediction.first_chunk_seconds, 1.0 + 16.0 + 9.0 + 1.0);
}

#[test]
fn text_says_what_was_chosen_and_why() {
    let mut request = request(3, 8);
    request.objective = jobs(2);
    request.workers[1].memory_bytes = 40;
    request.workers[2].memory_bytes = 9;
    request.workers[2].speed.decode_seconds = None;
    request.workers[2].speed.text_seconds = None;

    let text = plan(&request).unwrap().text(&request);

    let expected = "\
stage 0: layers 0..4 on a
stage 1: layers 4..8 on b
decoding on a, text encoding on a
one job: 36.0 s a chunk (40.0 s without look-ahead), the first after 32.0 s
2 jobs: 0.050 chunks a second, one every 20.0 s
bound by a, busy 100 % of the time
pool: 20.0 s a chunk, 2.00 times as fast; a alone takes 40.0 s a chunk
memory of a: 40 B of 1,000 B
memory of b: 40 B of 40 B
left out: c, too little memory: one layer needs 10 B, 9 B may be used
";
    assert_eq!(text, expected);
    let alone =
        Request { workers: request.workers[..1].to_vec(), links: Links::none(1), ..request };
    let text = plan(&alone).unwrap().text(&alone);
    assert!(text.contains("use one node: a makes a chunk every 40.0 s, and no"), "{text}");
}
