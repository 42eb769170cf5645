//! What can be wished for beside a prompt, over a pool.

use std::{fs, path::Path};

use serde_json::json;

use crate::pool::{Pool, files, filmloom, succeed};

const PROMPT: &str = "a large red ball bounces over green hills";

#[test]
fn pictures_of_a_prompt_that_changes_are_those_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(&[]);
    pool.add_worker(&["--layers", "0..3"]);
    pool.add_worker(&["--layers", "3..8"]);
    pool.wait_ready(2);
    let changes = ["--prompt-at", "0.5", "a blue cube spins", "--prompt-at", "1", "a gold star"];

    let pooled = made(&folder.path().join("pool"), &changes, &["--server", &pool.http]);

    assert!(pooled == made(&folder.path().join("alone"), &changes, &["--threads", "1"]));
    assert_eq!(pooled.len(), 32);
    let unchanged = made(&folder.path().join("unchanged"), &[], &["--threads", "1"]);
    let first_change = pooled.iter().zip(&unchanged).position(|(one, other)| one != other);
    // The first chunk is of the first prompt.
    assert_eq!(first_change, Some(9));
}

#[test]
fn later_video_of_higher_priority_is_made_first() {
    let mut pool = Pool::start(&["--jobs", "1"]);
    pool.add_worker(&[]);
    pool.wait_ready(1);
    let first = pool.create(PROMPT, 1, 1.0);
    pool.wait("it has begun", || {
        let video = pool.json(&format!("/v1/videos/{first}"))?;
        (video["status"] == "in_progress").then_some(())
    });

    let usual = pool.create(PROMPT, 2, 0.5);
    let wish = json!({ "prompt": PROMPT, "seed": 3, "seconds": 0.5, "priority": 5 });
    let urgent = pool.ask(&wish);

    let video = |id: &str| pool.json(&format!("/v1/videos/{id}")).unwrap();
    let places = [&urgent, &usual].map(|id| video(id)["queue_position"].as_u64());
    assert_eq!(places, [Some(0), Some(1)]);
    let order = [&first, &urgent, &usual];
    order.iter().for_each(|id| pool.wait_completed(id));
    // One at a time: each begins when the one before is finished.
    let at = |id: &str, what: &str| video(id)[what].as_u64().unwrap();
    for pair in order.windows(2) {
        assert!(at(pair[0], "completed_at") <= at(pair[1], "started_at"), "{order:?}");
    }
}

/// Pictures of a video of two seconds.
fn made(output: &Path, changes: &[&str], arguments: &[&str]) -> Vec<(String, Vec<u8>)> {
    fs::create_dir(output).unwrap();
    let mut command = filmloom();
    command.args(["generate", PROMPT, "-s", "2", "--seed", "7", "-q"]);
    command.args(changes).args(arguments);
    succeed(command.arg("-o").arg(format!("{}/", output.display())));
    files(output)
}
