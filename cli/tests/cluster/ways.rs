//! How workers reach each other, and the coordinator's own one among them.

use std::fs;

use serde_json::Value;

use crate::pool::{Pool, Process, alone, filmloom, succeed};

const PROMPT: &str = "a large red ball bounces over green hills";

#[test]
fn coordinators_own_worker_and_one_that_only_dials_make_the_video_and_stop_when_asked() {
    let folder = tempfile::tempdir().unwrap();
    let mut pool = Pool::start_computing(&["--layers", "0..4"]);
    pool.add_worker(&["--layers", "4..8", "--listen", "none"]);
    pool.wait_ready(2);

    let output = folder.path().join("pool.mp4");
    let mut command = filmloom();
    command.args(["generate", PROMPT, "-s", "1", "--seed", "5", "-q", "--server", &pool.http]);
    succeed(command.arg("-o").arg(&output));

    assert!(fs::read(&output).unwrap() == alone(PROMPT, 5, 1));
    let said = succeed(filmloom().args(["status", "--server", &pool.http])).stdout;
    let said = String::from_utf8(said).unwrap();
    let members = pool.members();
    assert_eq!(members.len(), 2, "{said}");
    for member in members {
        let name = member["name"].as_str().unwrap();
        let layers = if name == "w1" { "layers 4..8" } else { "layers 0..4" };
        let line = said.lines().find(|line| line.split_whitespace().next() == Some(name));
        assert!(line.is_some_and(|line| line.contains(layers)), "{name}: {said}");
    }
    where_time_went(&pool);
    stop_in_the_middle(&pool);
}

#[test]
fn workers_that_cannot_reach_each_other_make_the_video_by_the_coordinator() {
    let mut pool = Pool::start(&[]);
    pool.add_worker(&["--layers", "0..4", "--listen", "none"]);
    pool.add_worker(&["--layers", "4..8", "--listen", "none"]);
    pool.wait_ready(2);

    let id = pool.create(PROMPT, 5, 1.0);
    pool.wait_completed(&id);

    assert!(pool.content(&id) == alone(PROMPT, 5, 1));
}

/// Time of computing, of transfers and of waiting was counted for both workers, and is
/// shown.
fn where_time_went(pool: &Pool) {
    let spent = pool.wait("both workers have said what they did", || {
        let members = pool.members();
        let counted = |member: &&Value| {
            let spent = &member["spent"];
            let names = ["compute_seconds", "transfer_seconds", "wait_seconds", "sent_bytes"];
            names.iter().all(|name| spent[name].as_f64().is_some_and(|value| 0.0 < value))
        };
        (members.iter().filter(counted).count() == 2).then_some(members)
    });
    let said = succeed(filmloom().args(["status", "--server", &pool.http])).stdout;
    let said = String::from_utf8(said).unwrap();
    assert_eq!(said.matches(" %, transfer ").count(), 2, "{said}");
    let metrics = pool.json("/metrics").unwrap();
    for member in spent {
        let id = member["id"].as_str().unwrap();
        let head = format!("filmloom_worker_transfer_seconds_total{{worker=\"{id}\"");
        let line = metrics.as_str().unwrap().lines().find(|line| line.starts_with(&head));
        let value = line.and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
        assert!(value.is_some_and(|value| 0.0 < value), "{id}: {metrics}");
    }
}

/// Asks a `generate` to stop whose video has begun: nothing is left of it.
fn stop_in_the_middle(pool: &Pool) {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("stopped.mp4");
    let mut command = filmloom();
    command.args(["generate", PROMPT, "-s", "60", "-q", "--server", &pool.http, "-o"]);
    let mut making = Process(command.arg(&output).spawn().unwrap());
    let id = pool.wait("the long video has begun", || {
        let list = pool.json("/v1/videos")?;
        let mut videos = list["data"].as_array()?.iter();
        let begun = videos.find(|video| {
            video["status"] == "in_progress" && video["pictures"].as_u64() != Some(0)
        })?;
        begun["id"].as_str().map(str::to_owned)
    });

    making.terminate();
    let status = pool.wait("it ends", || making.0.try_wait().unwrap());

    assert_eq!(status.code(), Some(130));
    let list = pool.json("/v1/videos").unwrap();
    let is_listed = list["data"].as_array().unwrap().iter().any(|video| video["id"] == id[..]);
    assert!(!is_listed, "{list}");
    assert!(pool.json(&format!("/v1/videos/{id}")).is_none());
    assert!(!output.exists());
}
