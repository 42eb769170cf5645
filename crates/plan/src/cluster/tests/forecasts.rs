//! What is answered without anything being changed.

use super::*;
use crate::{
    cluster::forecast::{Forecast, LeftOut, Question, Why},
    placement::{Reason, Scale, Verdict},
};

#[test]
fn forecast_names_who_would_hold_what_and_changes_nothing() {
    let mut hand = three();
    hand.commands();
    let before = hand.cluster.pipeline().assignment();

    let forecast = forecast(&hand, 2);

    let held: Vec<_> = forecast.holders.iter().map(|h| (h.node, h.duty.layers.clone())).collect();
    assert_eq!(held, [(A, Some(0..2)), (B, Some(2..4)), (C, None)]);
    let side = &forecast.holders[2];
    assert!(side.duty.text && side.duty.decoder);
    assert_eq!(forecast.holders[0].limits, ["--layers 0..2"]);
    // Two layers of 10 bytes, and a byte of each for two jobs.
    assert_eq!(forecast.holders[0].memory.need_bytes, 2 * 12);
    assert_eq!(forecast.left_out, []);
    assert!(forecast.stands);
    assert_eq!(hand.cluster.pipeline().assignment(), before);
    assert_eq!(hand.commands(), []);
}

#[test]
fn pace_length_and_pictures_follow_from_the_chunks() {
    // Four layers of a second, four denoise runs and a commit.
    let alone = forecast(&one(), 1);

    assert_eq!(alone.plan.prediction.chunk_seconds, 20.0);
    assert_eq!(alone.pictures_per_second, 12.0 / 20.0);
    assert_eq!(alone.video_seconds, 16.0 + 2.0 * 20.0);
    assert_eq!(alone.videos_seconds, alone.video_seconds);
}

#[test]
fn jobs_that_do_not_fit_at_once_take_turns() {
    // Beside 40 bytes of layers, a job takes 4 and 3 bytes.
    let mut hand = Hand::new(policy());
    hand.enter(A, Offer { memory_bytes: 40 + 2 * 7, ..offer() });

    let forecast = forecast(&hand, 4);

    assert_eq!((forecast.jobs.get(), forecast.stands), (2, false));
    let two = forecast.plan.prediction.videos_seconds(2, 3);
    assert_eq!(forecast.videos_seconds, 2.0 * two);
}

#[test]
fn slow_link_means_one_node() {
    let mut hand = Hand::new(policy());
    hand.enter(A, offer());
    hand.enter(B, offer());
    let link = Link { bytes_per_second: 10.0, latency_seconds: 0.0 };
    for (from, to) in [(A, B), (B, A)] {
        hand.cluster.handle_link(hand.now, from, to, link);
    }
    let question = Question { work: Work { hidden_bytes: 100, ..work() }, ..question(1) };

    let forecast = hand.cluster.snapshot().forecast(&question).unwrap();

    assert_eq!(forecast.plan.explanation.verdict, Verdict::UseOneNode);
    // Five hops of ten seconds, where look-ahead gains at most 1 s.
    let pool = forecast.plan.explanation.pool_seconds.unwrap();
    assert!((55.0..75.0).contains(&pool), "{pool}");
    let verdict = forecast.plan.verdict(&forecast.request);
    assert!(verdict.starts_with("use one node: a makes a chunk in 20.0 s, the pool in "));
    let [LeftOut { node: B, why: Why::Planned(Reason::Slower { percent }), .. }] =
        forecast.left_out[..]
    else {
        panic!("{:?}", forecast.left_out)
    };
    assert!(100.0 < percent, "{percent}");
}

#[test]
fn every_member_left_out_has_its_reason() {
    let nodes: Vec<_> = (0..7).map(|node| NodeId(0x10 + node)).collect();
    let [draining, lost, unmeasured, excluded, roles, small, misfit] = nodes[..] else {
        panic!("seven nodes")
    };
    let mut hand = Hand::ready(policy(), &[(excluded, offer())]);
    hand.cluster.handle_not_ready(hand.now, excluded, 1, "the disk is full".to_owned());
    hand.enter(A, offer());
    hand.enter(draining, offer());
    hand.cluster.drain(hand.now, draining);
    let life = hand.enter(lost, offer());
    hand.cluster.handle_lost(hand.now, lost, life);
    hand.session(unmeasured, Boot(1), offer());
    hand.enter(roles, side());
    hand.enter(small, Offer { memory_bytes: 9, ..offer() });
    hand.enter(misfit, holder(3..9));
    hand.commands();

    let left_out = forecast(&hand, 1).left_out;

    let why = |node: NodeId| {
        let found = left_out.iter().find(|left_out| left_out.node == node);
        found.map(|left_out| left_out.why.clone())
    };
    assert_eq!(why(draining), Some(Why::Draining));
    assert_eq!(why(lost), Some(Why::Lost));
    assert_eq!(why(unmeasured), Some(Why::Unmeasured));
    assert_eq!(why(roles), Some(Why::Roles));
    let little = Reason::TooLittleMemory { need_bytes: 11, usable_bytes: 9 };
    assert_eq!(why(small), Some(Why::Planned(little)));
    assert!(matches!(why(excluded), Some(Why::Excluded(problem)) if problem.contains("disk")));
    assert!(matches!(why(misfit), Some(Why::Excluded(problem)) if problem.contains("3..9")));
    assert_eq!(why(A), None);
}

#[test]
fn nobody_and_too_little_memory_are_told_with_what_is_short() {
    let mut hand = Hand::new(policy());
    let refused = |hand: &Hand| hand.cluster.snapshot().forecast(&question(1)).unwrap_err();
    assert!(refused(&hand).to_string().contains("there is no worker"));

    hand.session(B, Boot(1), Offer { name: "b".to_owned(), ..offer() });
    assert!(refused(&hand).to_string().ends_with("; b is left out: it is not measured yet"));

    hand.enter(A, Offer { memory_bytes: 30, ..offer() });
    let message = refused(&hand).to_string();
    // Four layers of 11 bytes and a decoder of 3.
    assert!(message.contains("need 47 B"), "{message}");
    assert!(message.contains("30 B and room for 2 of them on a: 22 B are short"), "{message}");
}

#[test]
fn times_are_scaled_to_the_asked_size() {
    let scale = Scale { layer: 3.0, pixels: 2.0 };
    let question = Question { scale, ..question(1) };

    let forecast = one().cluster.snapshot().forecast(&question).unwrap();

    assert_eq!(forecast.plan.prediction.chunk_seconds, 3.0 * 20.0);
}

/// Three chunks of 12 pictures.
fn question(jobs: u32) -> Question {
    let jobs = NonZeroU32::new(jobs).unwrap();
    let scale = Scale::MEASURED;
    Question { work: work(), scale, jobs, chunks: 3, chunk_pictures: 12 }
}

fn forecast(hand: &Hand, jobs: u32) -> Forecast {
    hand.cluster.snapshot().forecast(&question(jobs)).unwrap()
}
