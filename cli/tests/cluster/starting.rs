//! Processes of a pool that are started in any order.

use std::fs;

use crate::pool::{Pool, Process};

#[test]
fn worker_that_is_started_before_its_coordinator_joins_when_that_answers() {
    let mut pool = Pool::start(&[]);
    // The coordinator has its ports and its token, and does not run.
    pool.stop_coordinator();
    let (data, log) = (pool.data().join("early"), pool.data().join("early.log"));
    let mut early = pool.worker(&data);
    early.args(["--name", "early", "--token", &pool.token()]);
    let mut early = Process(early.stderr(fs::File::create(&log).unwrap()).spawn().unwrap());
    let waits = format!("waiting for the coordinator at {}", pool.grpc);
    let told = || fs::read_to_string(&log).unwrap().matches(&waits).count();
    pool.wait("it says that it waits", || (told() == 1).then_some(()));
    assert!(early.0.try_wait().unwrap().is_none(), "it waits");

    pool.serve(&[]);
    pool.wait_ready(1);

    assert_eq!(told(), 1, "it says so once");
    assert_eq!(pool.members()[0]["name"], "early");
}

#[test]
fn worker_that_waits_for_its_coordinator_stops_when_it_is_told_to() {
    let mut pool = Pool::start(&[]);
    pool.stop_coordinator();
    let (data, log) = (pool.data().join("early"), pool.data().join("early.log"));
    let mut early = pool.worker(&data);
    early.args(["--token", &pool.token()]);
    let mut early = Process(early.stderr(fs::File::create(&log).unwrap()).spawn().unwrap());
    pool.wait("it waits", || {
        fs::read_to_string(&log).unwrap().contains("waiting for").then_some(())
    });

    early.terminate();

    let status = pool.wait("it ends", || early.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
}
