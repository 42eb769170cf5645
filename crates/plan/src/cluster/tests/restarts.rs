//! A coordinator that begins again.

use super::*;

#[test]
fn unfinished_job_is_made_again_above_the_epoch_it_had() {
    let mut hand = Hand::new(policy());
    hand.cluster.restore(JOB, spec(3), progress(4, 2, 1));
    hand.enter(A, offer());
    hand.settle();

    let fence = hand.run(JOB);

    assert_eq!(fence.epoch, Epoch(5));
    assert_eq!((hand.job(JOB).committed, hand.job(JOB).published), (2, 1));
}

#[test]
fn job_whose_chunks_are_all_in_the_log_is_only_decoded() {
    let mut hand = Hand::new(policy());
    hand.cluster.restore(JOB, spec(2), progress(4, 2, 1));
    hand.enter(A, offer());
    hand.settle();

    let fence = fence(JOB, 4);
    assert_eq!(hand.told(), [decode(A, fence, 0), decode(A, fence, 1)]);
    hand.publish(JOB, 1);
    assert_eq!(hand.told(), [close(A, fence)]);
    assert_eq!(hand.job(JOB).outcome(), Some(&Outcome::Completed));
}

#[test]
fn complete_video_is_complete() {
    let mut hand = Hand::new(policy());
    hand.cluster.restore(JOB, spec(2), progress(4, 2, 2));

    assert_eq!(hand.job(JOB).outcome(), Some(&Outcome::Completed));
    assert_eq!((hand.cluster.placed(), hand.cluster.waiting()), (0, 0));
}

#[test]
fn jobs_that_had_begun_go_before_those_that_had_not() {
    let mut hand = Hand::new(policy());
    hand.cluster.restore(JOB, spec(2), progress(0, 0, 0));
    hand.cluster.restore(OTHER, spec(2), progress(1, 0, 0));

    assert_eq!([JOB, OTHER].map(|job| hand.position(job)), [Some(1), Some(0)]);
}

#[test]
fn process_that_lived_on_keeps_its_life_and_one_that_began_anew_does_not() {
    let mut hand = Hand::new(policy());
    hand.cluster.restore_member(A, Incarnation(3), Boot(1));
    hand.cluster.restore_member(B, Incarnation(3), Boot(1));

    assert_eq!(hand.session(A, Boot(1), offer()), Incarnation(3));
    assert_eq!(hand.session(B, Boot(2), offer()), Incarnation(4));
}

#[test]
fn what_was_held_before_the_restart_is_closed_before_anything_is_opened() {
    let mut hand = Hand::new(policy());
    hand.cluster.restore_member(A, Incarnation(1), Boot(1));
    hand.cluster.restore(JOB, spec(3), progress(4, 2, 1));
    hand.session(A, Boot(1), offer());
    hand.cluster.handle_held(hand.now, A, &[fence(JOB, 4)]);

    assert_eq!(hand.told(), [Command::Profile { node: A }, close(A, fence(JOB, 4))]);
}

fn progress(epoch: u64, committed: u32, published: u32) -> Progress {
    Progress { epoch: Epoch(epoch), committed, published }
}
