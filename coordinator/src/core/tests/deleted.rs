//! A video is deleted when no worker holds anything of it, and not before.

use bytes::Bytes;
use link::Arrival;
use proto::{
    control::wire::{
        Closed, JobFailed, Opened, StageReady, from_worker::Kind as Said, to_worker::Kind as Asked,
    },
    data::{Kind, Message},
};
use types::{Branch, Epoch, Fence, JobId};

use super::{House, PLENTY_BYTES, Worker, profiled};
use crate::{core::Event, records::Status};

const JOB: JobId = JobId(1 << 100);

#[tokio::test]
async fn failed_video_is_deleted_once_the_stage_that_still_closes_it_has_confirmed() {
    let (mut house, mut worker) = running().await;
    let fence = Fence { job: JOB, epoch: Epoch(1) };
    let problem = "the device is gone".to_owned();
    house.say(&worker, Said::JobFailed(JobFailed { fence: Some(fence.into()), problem }));
    assert_eq!(house.core.films[&JOB].status, Status::Failed);
    assert!(worker.asked().iter().any(|asked| matches!(asked, Asked::Close(_))));

    let mut history = house.core.films[&JOB].history.subscribe();
    history.mark_unchanged();
    assert!(house.core.cancel(JOB) && house.core.cancel(JOB));
    house.core.execute();

    assert!(history.has_changed().is_ok(), "who deletes it waits");
    assert!(house.core.video(JOB).is_some());
    house.say(&worker, Said::Closed(Closed { fence: Some(fence.into()) }));
    assert!(house.core.video(JOB).is_none() && house.core.cluster.job(JOB).is_none());
    while history.changed().await.is_ok() {}
}

#[tokio::test]
async fn failed_video_that_a_lost_worker_held_is_deleted_with_it() {
    let (mut house, worker) = running().await;
    let fence = Fence { job: JOB, epoch: Epoch(1) };
    house.say(
        &worker,
        Said::JobFailed(JobFailed { fence: Some(fence.into()), ..Default::default() }),
    );
    house.core.cancel(JOB);

    house.say(&worker, Said::Leaving(Default::default()));

    assert!(house.core.video(JOB).is_none() && house.core.cluster.job(JOB).is_none());
}

/// A video that is being made by one worker.
async fn running() -> (House, Worker) {
    let mut house = House::open().await;
    let mut worker = house.join(2, PLENTY_BYTES);
    house.say(&worker, profiled());
    let assignment = house.core.cluster.pipeline().assignment();
    house.create(JOB.0).unwrap();
    house.say(&worker, Said::StageReady(StageReady { assignment, load_seconds: 0.0 }));
    let fence = Fence { job: JOB, epoch: Epoch(1) };
    let is_of_it = |held: &Option<proto::control::wire::Fence>| *held == Some(fence.into());
    house
        .until(|_| {
            let is_it =
                |asked: &Asked| matches!(asked, Asked::Encode(encode) if is_of_it(&encode.fence));
            worker.asked().iter().any(is_it).then_some(())
        })
        .await;
    for branch in [Branch::Conditional, Branch::Unconditional] {
        let payload = Bytes::from(vec![0; house.core.served.context_bytes()]);
        let message = Message { fence, kind: Kind::Context { prompt: 0, branch }, payload };
        let (from, incarnation) = (worker.node, worker.incarnation);
        house.core.handle(Event::Arrived(Arrival { from, incarnation, message }));
    }
    house.core.execute();
    house.say(&worker, Said::Opened(Opened { fence: Some(fence.into()), problem: None }));
    assert_eq!(house.core.films[&JOB].status, Status::InProgress);
    (house, worker)
}
