//! A member is here and does not do its part.

use super::*;

#[test]
fn who_does_not_close_a_job_is_left_out_and_the_job_ends() {
    let mut hand = three();
    hand.create(JOB, 3);
    let fence = hand.run(JOB);
    hand.cluster.handle_cancelled(hand.now, JOB);
    hand.closed(A, fence);
    hand.closed(C, fence);

    hand.wait(PATIENCE - Duration::from_secs(1));
    assert_eq!(hand.job(JOB).outcome(), None);
    hand.wait(Duration::from_secs(1));

    assert_eq!(hand.job(JOB).outcome(), Some(&Outcome::Cancelled));
    assert_eq!(stuck(&hand), [B]);
}

#[test]
fn running_job_that_nothing_happens_to_is_made_again_by_those_that_answer() {
    let mut hand = three();
    hand.create(JOB, 3);
    let fence = hand.run(JOB);
    hand.commit(fence, 0);
    hand.wait(PATIENCE);

    hand.told();
    assert!(stuck(&hand).is_empty(), "nobody knows yet who it is");
    hand.closed(A, fence);
    hand.closed(C, fence);
    hand.wait(PATIENCE);

    assert_eq!(stuck(&hand), [B]);
    hand.enter(OTHER_B, holder(2..4));
    hand.settle();
    assert_eq!(hand.cluster.pipeline().stages(), [A, OTHER_B]);
    assert!(fence.epoch < hand.run(JOB).epoch);
}

#[test]
fn decoder_that_gives_no_pictures_is_left_out() {
    let mut hand = three();
    hand.create(JOB, 1);
    let fence = hand.run(JOB);
    hand.commit(fence, 0);
    hand.closed(A, fence);
    hand.closed(B, fence);

    hand.wait(PATIENCE);

    assert_eq!(stuck(&hand), [C]);
    assert_eq!(hand.job(JOB).outcome(), None, "another one may decode it");
}

#[test]
fn whoever_makes_chunks_is_not_stuck() {
    let mut hand = three();
    hand.create(JOB, 4);
    let fence = hand.run(JOB);
    for chunk in 0..3 {
        hand.wait(PATIENCE - Duration::from_secs(1));
        hand.commit(fence, chunk);
    }

    assert_eq!(hand.job(JOB).stages, Stages::Running);
}

#[test]
fn whoever_computes_is_not_stuck_however_long_a_chunk_takes() {
    let mut hand = three();
    hand.create(JOB, 4);
    let fence = hand.run(JOB);
    for done in 1..6 {
        hand.wait(PATIENCE - Duration::from_secs(1));
        hand.cluster.handle_done(hand.now, B, done);
    }
    assert_eq!(hand.job(JOB).stages, Stages::Running);

    hand.cluster.handle_cancelled(hand.now, JOB);
    hand.closed(A, fence);
    for done in 6..9 {
        hand.wait(PATIENCE - Duration::from_secs(1));
        hand.cluster.handle_done(hand.now, A, done);
    }
    assert_eq!(stuck(&hand), [B], "what others do does not count");
}

#[test]
fn large_pictures_take_their_time() {
    let mut hand = three();
    let large = JobSpec { times: 100.0, ..spec(1) };
    hand.cluster.handle_created(hand.now, JOB, large).unwrap();
    hand.run(JOB);

    hand.wait(10 * PATIENCE);
    assert_eq!(hand.job(JOB).stages, Stages::Running);
    hand.wait(100 * PATIENCE);
    assert_ne!(hand.job(JOB).stages, Stages::Running);
}

#[test]
fn decoder_is_not_to_blame_for_pictures_that_are_not_written() {
    let mut hand = three();
    hand.create(JOB, 1);
    let fence = hand.run(JOB);
    hand.commit(fence, 0);
    hand.closed(A, fence);
    hand.closed(B, fence);
    hand.cluster.handle_pictures(hand.now, fence, 0);

    hand.wait(PATIENCE);
    assert!(stuck(&hand).is_empty());

    hand.publish(JOB, 0);
    assert_eq!(hand.job(JOB).outcome(), Some(&Outcome::Completed));
}

#[test]
fn job_waits_for_the_state_store_as_long_as_it_takes() {
    let mut hand = three();
    hand.create(JOB, 1);

    (0..5).for_each(|_| hand.wait(PATIENCE));

    assert_eq!((&hand.job(JOB).stages, hand.job(JOB).attempts), (&Stages::Placing, 1));
    assert!(stuck(&hand).is_empty());
}

#[test]
fn who_loads_nothing_is_left_out_and_the_jobs_behind_it_go_on_without_it() {
    let mut hand = assigned();
    hand.create(JOB, 1);
    hand.cluster.handle_ready(hand.now, A, 1);
    hand.cluster.handle_ready(hand.now, C, 1);

    hand.wait(PATIENCE - Duration::from_secs(1));
    assert!(stuck(&hand).is_empty());
    hand.wait(Duration::from_secs(1));
    assert_eq!(stuck(&hand), [B]);

    hand.enter(OTHER_B, holder(2..4));
    hand.settle();
    assert_eq!(hand.cluster.pipeline().stages(), [A, OTHER_B]);
    hand.run(JOB);
}

#[test]
fn whoever_fetches_or_reads_weights_is_not_stuck_however_long_that_takes() {
    let mut hand = assigned();
    for node in [A, C] {
        hand.cluster.handle_ready(hand.now, node, 1);
    }

    for done in 1..9 {
        hand.wait(PATIENCE - Duration::from_secs(1));
        hand.cluster.handle_done(hand.now, B, done);
        // What others do does not count.
        hand.cluster.handle_done(hand.now, A, done);
    }
    assert!(stuck(&hand).is_empty());
    hand.cluster.handle_done(hand.now + PATIENCE / 2, A, 100);
    hand.wait(PATIENCE);

    assert_eq!(stuck(&hand), [B]);
}

#[test]
fn all_that_load_nothing_are_found_at_once_and_time_tells_when() {
    let mut hand = assigned();
    let begun = hand.now;

    let due = hand.cluster.poll_timeout().unwrap();
    hand.wait(due - hand.now);

    assert_eq!((due, stuck(&hand)), (begun + PATIENCE, vec![A, B, C]));
    let why = hand.cluster.members.get(B).unwrap().excluded.as_ref().unwrap();
    assert!(why.contains("start it again"), "{why}");
}

#[test]
fn who_is_away_while_it_loads_has_its_time_anew_when_it_is_back() {
    let mut hand = assigned();
    for node in [A, C] {
        hand.cluster.handle_ready(hand.now, node, 1);
    }
    hand.wait(PATIENCE - Duration::from_secs(1));
    let incarnation = hand.cluster.members.get(B).unwrap().incarnation;
    hand.cluster.handle_lost(hand.now, B, incarnation);
    hand.wait(Duration::from_secs(2));
    hand.session(B, Boot(1), holder(2..4));

    hand.wait(PATIENCE - Duration::from_secs(1));
    assert!(stuck(&hand).is_empty());
    hand.wait(Duration::from_secs(1));
    assert_eq!(stuck(&hand), [B]);
}

#[test]
fn stuck_member_is_left_out_in_its_next_session_and_not_in_its_next_life() {
    let mut hand = three();
    hand.create(JOB, 1);
    hand.run(JOB);
    hand.cluster.handle_cancelled(hand.now, JOB);
    hand.wait(PATIENCE);
    assert_eq!(stuck(&hand), [A, B]);

    hand.session(A, Boot(1), holder(0..2));
    assert_eq!(stuck(&hand), [A, B]);

    let incarnation = hand.cluster.members.get(A).unwrap().incarnation;
    hand.cluster.handle_left(hand.now, A, incarnation);
    hand.session(A, Boot(2), holder(0..2));
    assert_eq!(stuck(&hand), [B]);
}

const OTHER_B: NodeId = NodeId(0xbb);

/// As [`three`], who were told what to load and have not answered.
fn assigned() -> Hand {
    let mut hand = Hand::new(policy());
    for (node, offer) in [(A, holder(0..2)), (B, holder(2..4)), (C, side())] {
        hand.enter(node, offer);
    }
    hand.wait(SETTLE);
    assert_eq!(hand.cluster.pipeline().waiting().count(), 3);
    hand
}

fn stuck(hand: &Hand) -> Vec<NodeId> {
    let members = hand.cluster.members().filter(|(_, member)| member.excluded.is_some());
    members.map(|(node, _)| node).collect()
}
