//! What is placed, and when it changes.

use super::*;

#[test]
fn duties_say_who_comes_next_and_who_leads() {
    let hand = three();

    let duties: Vec<_> = hand.cluster.pipeline().duties().collect();

    let lead = Duty { layers: Some(0..2), next: Some(B), ..Duty::default() };
    let last = Duty { layers: Some(2..4), lead: Some(A), ..Duty::default() };
    let side = Duty { text: true, decoder: true, ..Duty::default() };
    assert_eq!(duties, [(A, &lead), (B, &last), (C, &side)]);
}

#[test]
fn single_stage_has_nobody_behind_it_and_leads_itself() {
    let hand = one();

    let duties: Vec<_> = hand.cluster.pipeline().duties().collect();

    let all = Duty { layers: Some(0..4), text: true, decoder: true, next: None, lead: None };
    assert_eq!(duties, [(A, &all)]);
}

#[test]
fn jobs_wait_without_workers_and_the_problem_is_told() {
    let mut hand = one();
    let forgotten = hand.now + GONE_LISTED;
    hand.cluster.handle_left(hand.now, A, Incarnation(1));
    hand.create(JOB, 1);
    hand.wait(SETTLE);

    let problem = hand.cluster.pipeline().problem().unwrap();
    assert!(problem.contains("no worker"), "{problem}");
    assert_eq!(hand.position(JOB), Some(0));
    assert_eq!(hand.cluster.poll_timeout(), Some(forgotten), "nothing else is to come");
}

#[test]
fn pipeline_changes_for_a_member_that_makes_it_faster_when_no_job_is_on_it() {
    let mut hand = one();
    hand.create(JOB, 1);
    let fence = hand.run(JOB);

    hand.enter(B, offer());
    hand.wait(SETTLE);
    hand.create(OTHER, 1);
    assert_eq!((hand.cluster.pipeline().assignment(), hand.cluster.waiting()), (1, 1));
    hand.cluster.handle_cancelled(hand.now, JOB);
    hand.closed(A, fence);

    assert_eq!(hand.cluster.pipeline().assignment(), 2);
    assert_eq!(hand.cluster.pipeline().stages().len(), 2);
}

#[test]
fn pipeline_stays_for_a_member_that_gains_little() {
    let mut hand = one();
    hand.create(JOB, 1);
    hand.run(JOB);

    hand.session(B, Boot(1), offer());
    hand.cluster.handle_profiled(hand.now, B, Speed { layer_seconds: 100.0, ..speed() });
    hand.wait(SETTLE);
    hand.create(OTHER, 1);

    assert_eq!(hand.job(OTHER).stages, Stages::Placing);
    assert_eq!(hand.cluster.pipeline().assignment(), 1);
}

#[test]
fn pipeline_is_considered_although_members_never_settle() {
    let mut hand = Hand::new(policy());
    hand.enter(A, offer());

    for turn in 0..8_u32 {
        hand.wait(SETTLE * 9 / 10);
        let layer_seconds = 2.0 + f64::from(turn);
        hand.cluster.handle_profiled(hand.now, A, Speed { layer_seconds, ..speed() });
    }
    assert_eq!(hand.cluster.pipeline().assignment(), 0);
    hand.wait(SETTLE * 9 / 10);

    assert_eq!(hand.cluster.pipeline().assignment(), 1);
}

#[test]
fn member_that_cannot_load_is_left_out_until_its_next_session() {
    let mut hand = Hand::new(policy());
    hand.enter(A, offer());
    hand.wait(SETTLE);
    hand.cluster.handle_not_ready(hand.now, A, 1, "disk full".to_owned());
    hand.wait(SETTLE);
    assert_eq!(hand.cluster.pipeline().assignment(), 1);
    assert!(!hand.cluster.pipeline().is_ready());

    hand.session(A, Boot(1), offer());
    hand.settle();

    assert_eq!(hand.cluster.pipeline().assignment(), 2);
    assert!(hand.cluster.pipeline().is_ready());
}

#[test]
fn failed_stage_is_not_asked_to_close_what_it_lost() {
    let mut hand = three();
    hand.create(JOB, 2);
    let fence = hand.run(JOB);

    hand.cluster.handle_not_ready(hand.now, B, 1, "device error".to_owned());

    assert_eq!(hand.told(), [close(A, fence)]);
    hand.closed(A, fence);
    assert_eq!((hand.cluster.placed(), hand.cluster.waiting()), (0, 1));
}

#[test]
fn answer_to_an_earlier_assignment_does_not_count() {
    let mut hand = Hand::new(policy());
    hand.enter(A, offer());
    hand.wait(SETTLE);

    hand.cluster.handle_ready(hand.now, A, 0);
    hand.cluster.handle_not_ready(hand.now, A, 0, "no".to_owned());
    assert!(!hand.cluster.pipeline().is_ready());

    hand.cluster.handle_ready(hand.now, A, 1);
    assert!(hand.cluster.pipeline().is_ready());
}

#[test]
fn pipeline_stands_in_one_numeric_class() {
    let amx = Offer { class: Class::CpuBf16Amx, ..offer() };
    let hand = Hand::ready(policy(), &[(A, offer()), (B, offer()), (C, amx)]);

    let mut stages = hand.cluster.pipeline().stages();
    stages.sort();
    assert_eq!(stages, [A, B]);
}

#[test]
fn members_of_one_class_that_give_different_results_do_not_stand_in_one_pipeline() {
    let mut hand = Hand::new(policy());
    for (node, probe) in [(A, 7), (B, 8), (C, 7)] {
        hand.session(node, Boot(1), offer());
        hand.cluster.handle_probed(node, Some(ProbeDigest(probe)));
        hand.cluster.handle_profiled(hand.now, node, speed());
    }
    hand.settle();

    let mut stages = hand.cluster.pipeline().stages();
    stages.sort();
    assert_eq!(stages, [A, C]);
}

#[test]
fn members_that_no_plan_can_be_made_with_are_left_out_with_the_reason() {
    let mut hand = Hand::new(policy());
    hand.enter(A, holder(0..2));
    hand.enter(B, holder(2..4));
    hand.enter(C, side());
    hand.enter(NodeId(0xd), holder(3..4));
    hand.enter(NodeId(0xe), holder(4..9));
    hand.session(NodeId(0xf), Boot(1), offer());
    let unmeasured = Speed { layer_seconds: f64::NAN, ..speed() };
    hand.cluster.handle_profiled(hand.now, NodeId(0xf), unmeasured);
    hand.settle();

    assert!(hand.cluster.pipeline().is_ready());
    let reasons: Vec<_> = hand.cluster.members().filter_map(|(_, m)| m.excluded.clone()).collect();
    let expected = ["are both pinned to layer 3", "of a model that has 0..4", "cannot be measured"];
    assert_eq!(reasons.len(), expected.len(), "{reasons:?}");
    for (reason, expected) in reasons.iter().zip(expected) {
        assert!(reason.contains(expected), "{reason}");
    }
}

#[test]
fn pipeline_stays_although_a_member_came_with_which_nothing_can_be_planned() {
    let mut hand = one();
    let pinned = Offer { class: Class::CpuBf16Amx, ..holder(0..1) };
    hand.enter(B, pinned);
    hand.wait(SETTLE);
    assert!(hand.cluster.pipeline().is_ready());

    hand.cluster.handle_left(hand.now, A, Incarnation(1));
    hand.wait(SETTLE);
    assert!(hand.cluster.pipeline().problem().is_some());
}

#[test]
fn link_that_cannot_be_measured_is_not_taken() {
    let mut hand = Hand::new(policy());
    for node in [A, B] {
        hand.enter(node, offer());
    }
    for (bytes_per_second, latency_seconds) in [(f64::NAN, 0.0), (0.0, 0.0), (1.0, -1.0)] {
        hand.cluster.handle_link(hand.now, A, B, Link { bytes_per_second, latency_seconds });
    }

    hand.settle();

    assert_eq!(hand.cluster.pipeline().stages().len(), 2);
}

#[test]
fn link_that_is_slow_makes_two_members_work_apart() {
    let mut hand = Hand::new(Policy { work: Work { hidden_bytes: 1_000, ..work() }, ..policy() });
    for node in [A, B] {
        hand.enter(node, offer());
    }
    let slow = Link { bytes_per_second: 1.0, latency_seconds: 0.0 };
    hand.cluster.handle_link(hand.now, A, B, slow);
    hand.cluster.handle_link(hand.now, B, A, slow);

    hand.settle();

    assert_eq!(hand.cluster.pipeline().stages().len(), 1);
}

#[test]
fn link_that_turns_out_slow_at_work_makes_two_members_work_apart() {
    let work = Work { hidden_bytes: 1_000, ..work() };
    let mut hand = Hand::ready(Policy { work, ..policy() }, &[(A, offer()), (B, offer())]);
    assert_eq!(hand.cluster.pipeline().stages().len(), 2);
    let slow = Link { bytes_per_second: 1.0, latency_seconds: 0.0 };

    for (from, to) in [(A, B), (B, A)] {
        hand.cluster.handle_link(hand.now, from, to, slow);
    }
    hand.wait(SETTLE);

    assert_eq!(hand.cluster.pipeline().stages().len(), 1);
}

#[test]
fn member_that_holds_nothing_any_more_is_released() {
    let mut hand = Hand::ready(policy(), &[(A, offer()), (B, offer())]);
    assert_eq!(hand.cluster.pipeline().stages().len(), 2);

    hand.cluster.handle_profiled(hand.now, B, Speed { layer_seconds: 100.0, ..speed() });
    hand.wait(SETTLE);

    let told = hand.told();
    assert_eq!(told[0], Command::Release { node: B });
    assert!(matches!(told[1..], [Command::Assign { node: A, assignment: 2, .. }]), "{told:?}");
}
