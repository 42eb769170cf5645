//! Members that are lost, come back, restart, leave.

use super::*;

#[test]
fn lost_stage_makes_its_jobs_again_in_a_higher_epoch_and_nobody_waits_for_it() {
    let mut hand = three();
    hand.create(JOB, 3);
    let first = hand.run(JOB);
    hand.commit(first, 0);
    hand.commands();

    hand.cluster.handle_lost(hand.now, B, Incarnation(1));
    hand.wait(GRACE);
    assert_eq!(hand.told(), [close(A, first), close(C, first)]);
    hand.closed(A, first);
    hand.closed(C, first);
    assert_eq!((hand.cluster.placed(), hand.position(JOB)), (0, Some(0)));

    hand.session(B, Boot(2), holder(2..4));
    hand.cluster.handle_profiled(hand.now, B, speed());
    hand.settle();
    let again = hand.run(JOB);
    assert_eq!((again.epoch, hand.job(JOB).committed), (Epoch(2), 1));
}

#[test]
fn member_that_comes_back_in_time_is_told_what_it_missed() {
    let mut hand = three();
    hand.create(JOB, 3);
    let fence = fence(JOB, 1);
    hand.cluster.handle_placed(hand.now, fence);
    hand.commands();

    hand.cluster.handle_lost(hand.now, B, Incarnation(1));
    hand.cluster.handle_encoded(hand.now, fence);
    assert_eq!(hand.told(), [], "B is not here");
    hand.session(B, Boot(1), holder(2..4));
    assert_eq!(hand.told(), [open(B, fence, 1)]);
    hand.session(B, Boot(1), holder(2..4));
    assert_eq!(hand.told(), [open(B, fence, 1)], "the answer may have been lost");

    hand.cluster.handle_opened(hand.now, B, fence);
    hand.commands();
    hand.session(B, Boot(1), holder(2..4));
    assert_eq!(hand.told(), [], "B has answered");
    hand.session(A, Boot(1), holder(0..2));
    assert_eq!(hand.told(), [open(A, fence, 1)], "the lead has not");
}

#[test]
fn member_that_comes_back_confirms_what_was_closed_meanwhile() {
    let mut hand = three();
    hand.create(JOB, 3);
    let fence = hand.run(JOB);

    hand.cluster.handle_lost(hand.now, B, Incarnation(1));
    hand.cluster.handle_cancelled(hand.now, JOB);
    hand.closed(A, fence);
    assert_eq!(hand.told(), [close(A, fence)]);
    hand.session(B, Boot(1), holder(2..4));
    assert_eq!(hand.told(), [close(B, fence)]);
    assert_eq!(hand.job(JOB).outcome(), None);
    hand.closed(B, fence);

    assert_eq!(hand.job(JOB).outcome(), Some(&Outcome::Cancelled));
}

#[test]
fn cancelled_job_ends_when_the_member_that_it_waits_for_is_gone() {
    let mut hand = three();
    hand.create(JOB, 3);
    let fence = hand.run(JOB);
    hand.cluster.handle_cancelled(hand.now, JOB);
    hand.closed(A, fence);

    hand.cluster.handle_lost(hand.now, B, Incarnation(1));
    assert_eq!(hand.cluster.poll_timeout(), Some(hand.now + GRACE));
    hand.wait(GRACE);

    assert_eq!(hand.job(JOB).outcome(), Some(&Outcome::Cancelled));
    assert_eq!(hand.cluster.placed(), 0);
}

#[test]
fn restart_while_the_grace_runs_ends_the_life_before() {
    let mut hand = three();
    hand.create(JOB, 3);
    let fence = hand.run(JOB);
    hand.cluster.handle_lost(hand.now, B, Incarnation(1));

    let incarnation = hand.session(B, Boot(2), holder(2..4));

    assert_eq!(incarnation, Incarnation(2));
    assert_eq!(hand.told(), [close(A, fence), Command::Profile { node: B }]);
    hand.wait(GRACE);
    assert!(hand.cluster.members().all(|(_, member)| member.presence == Presence::Here));
}

#[test]
fn second_process_with_an_identity_that_is_here_is_refused() {
    let mut hand = one();

    let refused = hand.cluster.handle_session(hand.now, A, Boot(2), offer());

    assert_eq!(refused, Err(SessionRefused { node: A }));
    assert!(hand.cluster.pipeline().is_ready());
}

#[test]
fn lost_decoder_stops_no_stage_and_another_one_begins_with_the_first_chunk() {
    let mut hand = three();
    hand.create(JOB, 2);
    let fence = hand.run(JOB);
    hand.commit(fence, 0);
    hand.publish(JOB, 0);
    hand.commands();

    hand.cluster.handle_left(hand.now, C, Incarnation(1));
    assert_eq!((hand.told(), &hand.job(JOB).stages), (vec![], &Stages::Running));
    hand.enter(NodeId(0xd), side());
    hand.commit(fence, 1);
    hand.closed(A, fence);
    hand.closed(B, fence);
    hand.commands();
    hand.settle();

    let d = NodeId(0xd);
    assert_eq!(hand.told(), [decode(d, fence, 0), decode(d, fence, 1)]);
    hand.publish(JOB, 0);
    hand.publish(JOB, 1);
    assert_eq!(hand.job(JOB).outcome(), Some(&Outcome::Completed));
}

#[test]
fn lost_text_side_makes_only_jobs_again_that_are_being_encoded() {
    let mut hand = three();
    hand.create(JOB, 2);
    hand.run(JOB);
    hand.create(OTHER, 2);
    hand.cluster.handle_placed(hand.now, fence(OTHER, 1));

    hand.cluster.handle_left(hand.now, C, Incarnation(1));

    assert_eq!(hand.job(JOB).stages, Stages::Running);
    assert_eq!((&hand.job(OTHER).stages, hand.position(OTHER)), (&Stages::Idle, Some(0)));
}

#[test]
fn decoder_that_comes_back_begins_anew() {
    let mut hand = three();
    hand.create(JOB, 3);
    let fence = hand.run(JOB);
    hand.commit(fence, 0);
    hand.publish(JOB, 0);
    hand.commit(fence, 1);
    hand.commands();

    hand.session(C, Boot(1), side());

    assert_eq!(hand.told(), [decode(C, fence, 0), decode(C, fence, 1)]);
    assert_eq!(hand.job(JOB).published, 1);
}

#[test]
fn job_that_lost_workers_too_often_fails() {
    let mut hand = Hand::ready(Policy { attempts_max: 2, ..policy() }, &[(A, offer())]);
    hand.create(JOB, 2);
    for _ in 0..2 {
        hand.run(JOB);
        restart(&mut hand);
    }

    let Some(Outcome::Failed(problem)) = hand.job(JOB).outcome() else { panic!() };
    assert!(problem.contains("in 2 attempts"), "{problem}");
    assert_eq!(hand.cluster.placed(), 0);
}

#[test]
fn job_that_gets_further_each_time_is_made_however_often_workers_are_lost() {
    let mut hand = Hand::ready(Policy { attempts_max: 2, ..policy() }, &[(A, offer())]);
    hand.create(JOB, 9);
    for attempt in 0..8 {
        let fence = hand.run(JOB);
        // All that was made before is made again.
        for chunk in 0..=attempt {
            hand.commit(fence, chunk);
        }
        restart(&mut hand);
        // An attempt in between that brings nothing.
        let fence = hand.run(JOB);
        (0..attempt).for_each(|chunk| hand.commit(fence, chunk));
        restart(&mut hand);
    }

    assert_eq!(hand.job(JOB).outcome(), None);
    let fence = hand.run(JOB);
    (0..9).for_each(|chunk| hand.commit(fence, chunk));
    (0..9).for_each(|chunk| hand.publish(JOB, chunk));
    assert_eq!(hand.job(JOB).outcome(), Some(&Outcome::Completed));
}

#[test]
fn job_that_breaks_its_workers_at_the_same_chunk_each_time_fails() {
    let mut hand = Hand::ready(Policy { attempts_max: 3, ..policy() }, &[(A, offer())]);
    hand.create(JOB, 9);
    for attempt in 0..4 {
        assert_eq!(hand.job(JOB).outcome(), None, "at attempt {attempt}");
        let fence = hand.run(JOB);
        (0..4).for_each(|chunk| hand.commit(fence, chunk));
        restart(&mut hand);
    }

    assert!(matches!(hand.job(JOB).outcome(), Some(Outcome::Failed(_))));
}

#[test]
fn job_that_a_member_should_hold_and_does_not_is_made_again() {
    let mut hand = three();
    for job in [JOB, OTHER] {
        hand.create(job, 2);
    }
    let (lost, kept) = (hand.run(JOB), hand.run(OTHER));

    hand.session(B, Boot(1), holder(2..4));
    hand.cluster.handle_held(hand.now, B, &[kept]);

    assert_eq!(hand.told(), [close(A, lost), close(B, lost)]);
    assert_eq!(hand.job(OTHER).stages, Stages::Running);
    hand.closed(A, lost);
    hand.closed(B, lost);
    assert_eq!(hand.run(JOB).epoch, Epoch(2));
}

#[test]
fn what_a_member_holds_and_should_not_is_closed() {
    let mut hand = three();
    hand.create(JOB, 2);
    let current = hand.run(JOB);
    let stale = fence(JOB, 0);
    let unknown = fence(JobId(99), 1);

    hand.cluster.handle_held(hand.now, A, &[current, stale, unknown]);
    assert_eq!(hand.told(), [close(A, stale), close(A, unknown)]);
    hand.cluster.handle_held(hand.now, C, &[current]);
    assert_eq!(hand.told(), [close(C, current)], "C decodes nothing yet");
}

#[test]
fn member_that_drains_is_released_when_its_job_is_closed_and_gets_no_other() {
    let mut hand = three();
    hand.create(JOB, 1);
    let fence = hand.run(JOB);

    assert_eq!(hand.cluster.jobs_on(B), [JOB]);
    hand.cluster.drain(hand.now, B);
    hand.create(OTHER, 1);
    hand.wait(SETTLE);
    assert_eq!((hand.told(), hand.cluster.waiting()), (vec![], 1));
    assert_eq!(hand.cluster.jobs_on(B), [JOB]);
    hand.commit(fence, 0);
    hand.publish(JOB, 0);
    for node in [A, B, C] {
        hand.closed(node, fence);
    }

    let released: Vec<_> =
        hand.told().into_iter().filter(|c| matches!(c, Command::Release { .. })).collect();
    assert_eq!(released, [Command::Release { node: B }]);
    assert_eq!(hand.cluster.jobs_on(B), []);
    assert_eq!(hand.cluster.waiting(), 1);
    hand.cluster.drain(hand.now, B);
    assert_eq!(hand.told(), [], "draining twice is draining once");
}

#[test]
fn job_that_waited_for_a_member_to_drain_is_made_by_those_that_are_left() {
    let mut hand = Hand::ready(policy(), &[(A, offer()), (B, holder(2..4))]);
    hand.create(JOB, 1);
    let fence = hand.run(JOB);
    hand.cluster.drain(hand.now, B);
    hand.create(OTHER, 1);
    hand.wait(SETTLE);
    assert_eq!(hand.position(OTHER), Some(0));

    hand.commit(fence, 0);
    hand.publish(JOB, 0);
    for node in [A, B] {
        hand.closed(node, fence);
    }
    hand.cluster.handle_left(hand.now, B, Incarnation(1));
    hand.settle();

    assert_eq!(hand.job(JOB).outcome(), Some(&Outcome::Completed));
    assert_eq!(hand.cluster.pipeline().stages(), [A]);
    hand.run(OTHER);
}

#[test]
fn jobs_wait_while_the_only_member_has_drained_and_go_on_when_it_begins_another_life() {
    let mut hand = one();
    hand.create(JOB, 1);
    hand.cluster.drain(hand.now, A);
    hand.commands();
    hand.cluster.handle_left(hand.now, A, Incarnation(1));
    hand.settle();
    hand.create(OTHER, 1);
    assert_eq!(hand.cluster.waiting(), 2);
    assert!(hand.cluster.pipeline().problem().is_some());

    hand.session(A, Boot(2), offer());
    hand.cluster.handle_profiled(hand.now, A, speed());
    hand.settle();

    hand.run(OTHER);
}

#[test]
fn member_without_a_duty_drains_at_once() {
    let mut hand = three();
    let spare = NodeId(0xd);
    hand.enter(spare, side());
    hand.commands();

    hand.cluster.drain(hand.now, spare);

    assert_eq!(hand.told(), [Command::Release { node: spare }]);
}

#[test]
fn member_that_may_have_missed_its_release_is_released_again() {
    let mut hand = three();
    let spare = NodeId(0xd);
    hand.enter(spare, side());
    hand.cluster.drain(hand.now, spare);
    hand.commands();

    hand.session(spare, Boot(1), side());

    assert_eq!(hand.told(), [Command::Release { node: spare }]);
}

#[test]
fn gone_member_is_forgotten_after_a_time_but_for_the_number_of_its_life() {
    let mut hand = one();
    hand.wait(2 * GONE_LISTED);
    assert_eq!(hand.cluster.members().count(), 1, "it is here");

    hand.cluster.handle_left(hand.now, A, Incarnation(1));
    let left = hand.now;
    hand.wait(GONE_LISTED - Duration::from_secs(1));
    assert_eq!(hand.cluster.members().count(), 1, "it was here lately");
    assert_eq!(hand.cluster.poll_timeout(), Some(left + GONE_LISTED));
    hand.wait(Duration::from_secs(1));
    assert_eq!(hand.cluster.members().count(), 0);

    assert_eq!(hand.session(A, Boot(2), offer()), Incarnation(2));
}

#[test]
fn member_that_was_gone_and_is_here_again_is_not_forgotten() {
    let mut hand = one();
    hand.cluster.handle_left(hand.now, A, Incarnation(1));
    hand.wait(GONE_LISTED / 2);
    hand.session(A, Boot(2), offer());

    hand.wait(GONE_LISTED);

    assert!(hand.cluster.members.is_here(A));
}

#[test]
fn of_many_that_are_gone_the_latest_are_listed() {
    let mut hand = Hand::new(policy());
    let many = GONE_MAX as u128 + 10;
    for node in 0..many {
        hand.session(NodeId(node), Boot(1), offer());
        hand.cluster.handle_lost(hand.now, NodeId(node), Incarnation(1));
        hand.wait(GRACE);
    }

    let listed = hand.cluster.members().map(|(node, _)| node.0);

    assert!(listed.eq(10..many));
}

/// A's process ends, and another one takes its place.
fn restart(hand: &mut Hand) {
    let incarnation = hand.cluster.members.get(A).unwrap().incarnation;
    hand.cluster.handle_lost(hand.now, A, incarnation);
    hand.session(A, Boot(u128::from(incarnation.0) + 1), offer());
    hand.cluster.handle_profiled(hand.now, A, speed());
    hand.settle();
}
