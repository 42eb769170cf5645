//! Videos that nobody could make are not taken.

use std::time::Duration;

use api::Refusal;
use proto::control::{
    self,
    wire::{Heartbeat, Leaving, LinkMeasured, StageReady, from_worker::Kind as Said},
};
use types::JobId;

use super::{House, PLENTY_BYTES, Worker, profiled};

#[tokio::test]
async fn video_is_refused_while_nobody_is_here_and_one_that_was_taken_before_waits() {
    let mut house = House::open().await;
    house.create(7).unwrap();

    house.grow_old();

    let refusal = refused(house.create(8));
    assert!(refusal.contains("no worker is here: start one"), "{refusal}");
    assert!(house.core.cluster.queue().eq([JobId(7)]), "a coordinator that has just begun waits");
    assert!(house.core.video(JobId(8)).is_none());
    let worker = house.join(2, PLENTY_BYTES);
    house.create(9).unwrap();
    house.say(&worker, profiled());
    house.create(10).unwrap();
    house.say(&worker, Said::Leaving(Leaving::default()));
    assert!(refused(house.create(11)).contains("no worker is here"));
    assert!(house.core.cluster.queue().eq([7, 9, 10].map(JobId)), "those that were taken");
}

#[tokio::test]
async fn video_of_a_model_that_fits_nowhere_is_refused_with_what_is_missing_until_it_fits() {
    let mut house = House::open().await;
    house.grow_old();
    let small = house.join(2, 1 << 20);
    house.create(7).unwrap();

    house.say(&small, profiled());

    let refusal = refused(house.create(8));
    let problem = house.core.cluster.pipeline().problem().unwrap().to_owned();
    assert!(refusal.contains(&problem), "{refusal}");
    assert!(house.core.cluster.queue().eq([JobId(7)]), "it waits for more workers");
    let large = house.join(3, PLENTY_BYTES);
    house.create(9).unwrap();
    house.say(&large, profiled());
    for (worker, peer) in [(&large, &small), (&small, &large)] {
        house.say(worker, linked(peer));
    }
    assert!(house.core.cluster.pipeline().plan().is_some());
    let assignment = house.core.cluster.pipeline().assignment();
    for worker in [&small, &large] {
        house.say(worker, Said::StageReady(StageReady { assignment, load_seconds: 0.0 }));
    }
    house.create(10).unwrap();
    assert!(house.core.cluster.is_placed(JobId(7)), "it is made now");
}

#[tokio::test]
async fn worker_that_hangs_while_it_is_measured_is_not_waited_for() {
    let mut house = House::open().await;
    house.grow_old();
    let hung = house.join(2, PLENTY_BYTES);
    house.create(7).unwrap();

    house.core.begun -= Duration::from_secs(20 * 60);
    house.say(&hung, Said::Heartbeat(Heartbeat::default()));

    let refusal = refused(house.create(8));
    assert!(refusal.contains("w2 cannot be measured: it has not said"), "{refusal}");
    house.say(&hung, profiled());
    house.create(9).unwrap();
}

fn linked(peer: &Worker) -> Said {
    let peer = control::node_bytes(peer.node);
    let (bytes_per_second, latency_seconds) = (1e9, 1e-4);
    let measured = LinkMeasured { peer, bytes_per_second, latency_seconds, ..Default::default() };
    Said::LinkMeasured(measured)
}

fn refused(created: Result<api::Video, Refusal>) -> String {
    let Err(Refusal::TooFewWorkers { message }) = created else { panic!("{created:?}") };
    message
}
