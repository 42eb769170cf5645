//! One job's way, and its ends.

use super::*;

#[test]
fn lead_is_opened_when_every_other_stage_has_confirmed() {
    let mut hand = three();
    hand.create(JOB, 1);
    let fence = fence(JOB, 1);
    assert_eq!(hand.commands().iter().filter(|c| matches!(c, Command::Place { .. })).count(), 1);
    hand.cluster.handle_placed(hand.now, fence);
    assert_eq!(hand.told(), [Command::Encode { node: C, fence }]);

    hand.cluster.handle_encoded(hand.now, fence);
    assert_eq!(hand.told(), [open(B, fence, 1)]);
    hand.cluster.handle_opened(hand.now, B, fence);
    assert_eq!(hand.told(), [open(A, fence, 1)]);
    hand.cluster.handle_opened(hand.now, B, fence);
    assert_eq!(hand.told(), [], "a confirmation that comes twice opens nothing twice");

    hand.cluster.handle_opened(hand.now, A, fence);
    assert_eq!(hand.job(JOB).stages, Stages::Running);
}

#[test]
fn events_that_come_twice_or_too_early_change_nothing() {
    let mut hand = three();
    hand.create(JOB, 2);
    let fence = fence(JOB, 1);
    hand.commands();

    hand.cluster.handle_encoded(hand.now, fence);
    hand.cluster.handle_opened(hand.now, A, fence);
    hand.closed(A, fence);
    assert_eq!((hand.commands(), &hand.job(JOB).stages), (vec![], &Stages::Placing));

    hand.cluster.handle_placed(hand.now, fence);
    hand.run(JOB);
    hand.cluster.handle_placed(hand.now, fence);
    hand.cluster.handle_encoded(hand.now, fence);
    assert_eq!((hand.commands(), &hand.job(JOB).stages), (vec![], &Stages::Running));
}

#[test]
fn encoded_prompts_of_a_job_without_a_pipeline_are_dropped() {
    let mut hand = Hand::new(policy());
    hand.create(JOB, 1);
    hand.commands();

    hand.cluster.handle_encoded(hand.now, fence(JOB, 1));

    assert_eq!((hand.commands(), hand.position(JOB)), (vec![], Some(0)));
}

#[test]
fn stages_close_when_all_chunks_are_made_and_the_decoder_when_the_video_is_complete() {
    let mut hand = three();
    hand.create(JOB, 2);
    let fence = hand.run(JOB);

    hand.commit(fence, 0);
    assert_eq!(hand.told(), [decode(C, fence, 0)]);
    hand.commit(fence, 1);
    assert_eq!(hand.told(), [close(A, fence), close(B, fence), decode(C, fence, 1)]);
    hand.closed(A, fence);
    hand.closed(B, fence);
    hand.publish(JOB, 0);
    assert_eq!((hand.told(), hand.cluster.placed()), (vec![], 1));

    hand.publish(JOB, 1);
    assert_eq!(hand.told(), [close(C, fence)]);
    assert_eq!(hand.job(JOB).outcome(), Some(&Outcome::Completed));
    assert_eq!(hand.cluster.placed(), 1);
    hand.closed(C, fence);
    assert_eq!(hand.cluster.placed(), 0);
}

#[test]
fn one_member_that_does_everything_is_closed_once_and_decodes_once() {
    let mut hand = one();
    hand.create(JOB, 1);
    let fence = hand.run(JOB);

    hand.commit(fence, 0);
    assert_eq!(hand.told(), [decode(A, fence, 0)]);
    hand.publish(JOB, 0);
    assert_eq!(hand.told(), [close(A, fence)]);
    hand.closed(A, fence);

    assert_eq!((hand.told(), hand.cluster.placed()), (vec![], 0));
}

#[test]
fn decoder_has_no_more_chunks_at_once_than_the_policy_says() {
    let mut hand = three();
    hand.create(JOB, 9);
    let fence = hand.run(JOB);

    for chunk in 0..4 {
        hand.commit(fence, chunk);
    }
    assert_eq!(hand.told(), [decode(C, fence, 0), decode(C, fence, 1)]);
    hand.publish(JOB, 0);
    assert_eq!(hand.told(), [decode(C, fence, 2)]);
}

#[test]
fn no_more_jobs_are_placed_than_the_policy_says_until_all_members_have_confirmed() {
    let mut hand = three();
    for job in 1..=3 {
        hand.create(JobId(job), 1);
    }
    let fence = hand.run(JOB);
    assert_eq!((hand.cluster.placed(), hand.cluster.waiting()), (2, 1));

    hand.cluster.handle_cancelled(hand.now, JOB);
    hand.closed(A, fence);
    assert_eq!(hand.cluster.waiting(), 1, "B holds the job still");
    hand.closed(B, fence);

    assert_eq!((hand.cluster.placed(), hand.cluster.waiting()), (2, 0));
}

#[test]
fn cancelled_job_has_ended_when_every_stage_has_closed_it() {
    let mut hand = three();
    hand.create(JOB, 3);
    let fence = hand.run(JOB);
    hand.commit(fence, 0);
    hand.commands();

    hand.cluster.handle_cancelled(hand.now, JOB);
    assert_eq!(hand.told(), [close(A, fence), close(B, fence), close(C, fence)]);
    for node in [A, B] {
        hand.closed(node, fence);
        assert_eq!(hand.job(JOB).outcome(), None);
    }
    hand.closed(C, fence);

    assert_eq!(hand.job(JOB).outcome(), Some(&Outcome::Cancelled));
}

#[test]
fn job_can_be_cancelled_at_every_point_of_its_beginning() {
    let events: [fn(&mut Hand, Fence); 3] = [
        |hand, fence| hand.cluster.handle_placed(hand.now, fence),
        |hand, fence| hand.cluster.handle_encoded(hand.now, fence),
        |hand, fence| hand.cluster.handle_opened(hand.now, B, fence),
    ];
    for point in 0..=events.len() {
        let mut hand = three();
        hand.create(JOB, 1);
        let fence = fence(JOB, 1);
        events[..point].iter().for_each(|event| event(&mut hand, fence));
        hand.commands();

        hand.cluster.handle_cancelled(hand.now, JOB);
        let told = hand.told();
        let is_on_stages = 2 <= point;
        assert_eq!(told.len(), if is_on_stages { 2 } else { 0 }, "at point {point}");
        events[point.min(2)..].iter().for_each(|event| event(&mut hand, fence));
        for command in told {
            hand.closed(command.node().unwrap(), fence);
        }

        assert_eq!(hand.job(JOB).outcome(), Some(&Outcome::Cancelled), "at point {point}");
        assert_eq!((hand.told(), hand.cluster.placed()), (vec![], 0), "at point {point}");
    }
}

#[test]
fn job_that_fails_is_closed_and_forgotten_only_when_nothing_is_held_of_it() {
    let mut hand = three();
    hand.create(JOB, 1);
    let fence = hand.run(JOB);

    hand.cluster.handle_failed(hand.now, fence, "no".to_owned());
    hand.cluster.forget(JOB);
    assert_eq!(hand.told(), [close(A, fence), close(B, fence)]);
    hand.closed(A, fence);
    assert_eq!(hand.job(JOB).outcome(), Some(&Outcome::Failed("no".to_owned())));
    hand.closed(B, fence);

    assert_eq!((hand.cluster.job(JOB), hand.cluster.placed()), (None, 0));
}

#[test]
fn job_that_fits_nowhere_fails_and_lets_the_next_one_begin() {
    let mut hand = three();
    let mut large = spec(1);
    large.work.footprint.layer_job_bytes = 1_000;
    hand.cluster.handle_created(hand.now, OTHER, large).unwrap();
    hand.create(JOB, 1);

    assert_eq!(hand.job(OTHER).outcome(), Some(&Outcome::Failed(advance::NO_ROOM.to_owned())));
    assert_eq!(hand.job(JOB).stages, Stages::Placing);
}

#[test]
fn job_that_fits_alone_waits_for_the_others_and_nobody_passes_it() {
    let mut hand = three();
    hand.create(JOB, 1);
    let mut large = spec(1);
    large.work.footprint.layer_job_bytes = 490;
    hand.cluster.handle_created(hand.now, OTHER, large).unwrap();
    hand.create(JobId(3), 1);
    assert_eq!((hand.cluster.placed(), hand.position(OTHER)), (1, Some(0)));

    hand.cluster.handle_cancelled(hand.now, JOB);

    assert_eq!(hand.job(OTHER).stages, Stages::Placing);
    assert_eq!(hand.job(JobId(3)).stages, Stages::Idle);
}

#[test]
fn queue_is_bounded_and_a_job_that_is_asked_for_twice_is_one() {
    let mut hand = Hand::new(policy());
    for job in [1, 2, 3, 4, 4] {
        hand.create(JobId(job), 1);
    }

    let refused = hand.cluster.handle_created(hand.now, JobId(5), spec(1));
    assert_eq!((refused, hand.cluster.waiting()), (Err(QueueFull { waiting: 4 }), 4));
}

#[test]
fn job_of_no_chunks_is_complete_as_it_is() {
    let mut hand = one();

    hand.create(JOB, 0);

    assert_eq!(hand.job(JOB).outcome(), Some(&Outcome::Completed));
    assert_eq!((hand.cluster.placed(), hand.cluster.waiting()), (0, 0));
}

#[test]
fn wait_counts_what_is_placed_and_what_is_ahead() {
    let mut hand = one();
    hand.create(JOB, 3);
    hand.create(OTHER, 4);
    hand.create(JobId(3), 9);
    let fence = hand.run(JOB);
    hand.commit(fence, 0);

    let chunk = hand.cluster.pipeline().plan().unwrap().prediction.seconds_per_chunk;
    let line = hand.cluster.line();
    let standing = line.standing(JobId(3)).unwrap();
    assert_eq!(hand.cluster.estimated_wait_seconds(standing), Some(6.0 * chunk));
    hand.cluster.handle_cancelled(hand.now, JobId(3));
    assert!(!hand.cluster.stands(&line));
}
