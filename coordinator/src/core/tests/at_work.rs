//! What workers and links turn out to be at work is planned with.

use std::time::Duration;

use proto::control::{
    self,
    wire::{Counters, Heartbeat, LinkMeasured, LinkSeen, StageReady, from_worker::Kind as Said},
};

use super::{House, PLENTY_BYTES, Worker, profiled};

#[tokio::test]
async fn link_that_is_slow_at_work_takes_a_pipeline_apart() {
    let (mut house, [one, other]) = pair().await;
    assert_eq!(house.core.cluster.pipeline().stages().len(), 2);

    for (worker, peer) in [(&one, &other), (&other, &one)] {
        let peer = control::node_bytes(peer.node);
        let seen = LinkSeen { peer, bytes_per_second: 1e3, latency_seconds: None };
        house.say(worker, Said::Heartbeat(Heartbeat { links: vec![seen], ..Heartbeat::default() }));
    }
    house.core.cluster.handle_timeout(house.core.now());

    assert_eq!(house.core.cluster.pipeline().stages().len(), 1);
}

#[tokio::test]
async fn worker_that_is_slow_at_work_is_corrected_once_in_a_pipeline() {
    let (mut house, [one, other]) = pair().await;
    let assignment = house.core.cluster.pipeline().assignment();
    for worker in [&one, &other] {
        house.say(worker, Said::StageReady(StageReady { assignment, load_seconds: 0.0 }));
    }
    assert!(house.core.cluster.pipeline().is_ready());
    let before = seconds(&house, &one);
    let planned = house.core.cluster.pipeline().plan().unwrap().prediction.clone();

    for span in 0..3 {
        for worker in [&one, &other] {
            let pipeline = house.core.cluster.pipeline();
            let mut loads = planned.workers.iter();
            let load = loads.find(|load| pipeline.node(load.worker) == Some(worker.node));
            let times = if worker.node == one.node { 2.0 } else { 1.0 };
            let compute_seconds = times * 20.0 * f64::from(span) * load.unwrap().compute_seconds;
            let counters = Some(Counters { compute_seconds, ..Counters::default() });
            house.say(worker, Said::Heartbeat(Heartbeat { counters, ..Heartbeat::default() }));
        }
        (0..20).for_each(|_| house.core.tempo.handle_commit(1.0));
        house.core.begun -= Duration::from_secs(11);
    }

    let corrected = seconds(&house, &one) / before;
    assert!((1.8..2.2).contains(&corrected), "{corrected} times");
    assert_eq!(seconds(&house, &other), before, "it is as fast as was thought");
}

/// Two workers that are to hold a stage each.
async fn pair() -> (House, [Worker; 2]) {
    let mut house = House::open().await;
    let pair = [2, 3].map(|number| house.join(number, PLENTY_BYTES));
    pair.iter().for_each(|worker| house.say(worker, profiled()));
    for (worker, peer) in [(&pair[1], &pair[0]), (&pair[0], &pair[1])] {
        let peer = control::node_bytes(peer.node);
        let measured = LinkMeasured {
            peer,
            bytes_per_second: 1e9,
            latency_seconds: 1e-5,
            ..LinkMeasured::default()
        };
        house.say(worker, Said::LinkMeasured(measured));
    }
    (house, pair)
}

/// Seconds of a layer, as a worker is known.
fn seconds(house: &House, worker: &Worker) -> f64 {
    house.core.cluster.member(worker.node).unwrap().speed.unwrap().layer_seconds
}
