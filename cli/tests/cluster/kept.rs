//! What stays of videos: over restarts, with another model, and beyond the cap.

use std::{fs, path::PathBuf};

use serde_json::Value;

use crate::{pool::Pool, weights::changed_model};

const PROMPT: &str = "a large red ball bounces over green hills";

#[test]
fn videos_stay_those_of_their_model_when_another_one_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let other = changed_model(folder.path());
    let other = other.to_str().unwrap();
    let mut pool = Pool::start(&[]);
    pool.add_worker(&[]);
    pool.wait_ready(1);
    let done = made(&pool);
    let content = pool.content(&done);
    let (status, pictures) = answer(&pool, &format!("{done}/content?variant=pictures"));
    assert_eq!(status, 200);
    let begun = pool.create(PROMPT, 6, 60.0);
    pool.wait("the long video has begun", || {
        let pictures = video(&pool, &begun)["pictures"].as_u64();
        pictures.filter(|&pictures| 0 < pictures)
    });

    pool.kill_coordinator();
    pool.workers.clear();
    pool.serve(&["--model", other]);

    let (kept, failed) = (video(&pool, &done), video(&pool, &begun));
    assert_eq!(listed(&pool), [&begun[..], &done], "the newest first");
    assert_eq!((&kept["model"], &kept["status"]), (&"mini".into(), &"completed".into()));
    assert!(pool.content(&done) == content);
    let (status, refusal) = answer(&pool, &format!("{done}/content?variant=pictures"));
    let refusal: Value = serde_json::from_slice(&refusal).unwrap();
    assert_eq!((status, &refusal["error"]["code"]), (409, &"other_model".into()));
    assert_eq!((&failed["model"], &failed["status"]), (&"mini".into(), &"failed".into()));
    for message in [&refusal["error"]["message"], &failed["error"]["message"]] {
        let message = message.as_str().unwrap();
        assert!(message.contains("`mini`") && message.contains(other), "{message}");
    }
    let log = log(&pool, &begun);
    assert!(log.exists(), "it is kept until the video is deleted");
    assert!(pool.delete(&begun));
    pool.wait("its log is gone", || (!log.exists()).then_some(()));

    pool.stop_coordinator();
    pool.serve(&[]);
    pool.add_worker(&[]);
    pool.wait_ready(1);
    assert!(answer(&pool, &format!("{done}/content?variant=pictures")) == (200, pictures));
    assert!(pool.delete(&done) && listed(&pool).is_empty());
}

#[test]
fn oldest_videos_go_for_newer_ones_and_the_newest_stays_whatever_the_cap() {
    let mut pool = Pool::start(&[]);
    pool.add_worker(&[]);
    pool.wait_ready(1);
    let (first, second) = (made(&pool), made(&pool));
    let log_bytes = fs::metadata(log(&pool, &first)).unwrap().len();
    let bytes = log_bytes + pool.content(&first).len() as u64;

    pool.stop_coordinator();
    pool.serve(&["--keep", &(2 * bytes).to_string()]);
    assert_eq!(listed(&pool), [&second[..], &first], "both are within the cap");
    pool.wait_ready(1);
    let third = made(&pool);
    gone(&pool, &first);
    assert_eq!(listed(&pool), [&third[..], &second]);

    pool.stop_coordinator();
    pool.serve(&["--keep", "1"]);
    pool.wait_ready(1);
    let fourth = made(&pool);
    gone(&pool, &second);
    gone(&pool, &third);
    assert_eq!(listed(&pool), [&fourth[..]]);
    assert_eq!(pool.content(&fourth).len() as u64 + log_bytes, bytes);
}

/// Makes a video, always the same, and gives its id when the clock shows another second:
/// the order of videos is that of their seconds.
fn made(pool: &Pool) -> String {
    let id = pool.create(PROMPT, 5, 0.5);
    pool.wait_completed(&id);
    let completed_at = video(pool, &id)["completed_at"].as_u64().unwrap();
    pool.wait("the next second", || {
        (completed_at < std::time::UNIX_EPOCH.elapsed().unwrap().as_secs()).then_some(())
    });
    id
}

/// Waits until nothing of a video is there.
fn gone(pool: &Pool, id: &str) {
    let job = id.trim_start_matches("video_");
    let files = [format!("{job}.mp4"), format!("{job}.live.mp4"), format!("{job}.png")];
    let mut files = files.map(|file| pool.data().join("videos").join(file)).to_vec();
    files.push(log(pool, id));
    pool.wait(&format!("{id} is gone"), || (!files.iter().any(|file| file.exists())).then_some(()));
    assert_eq!(answer(pool, id).0, 404);
}

fn log(pool: &Pool, id: &str) -> PathBuf {
    pool.data().join(format!("log/{}.chunks", id.trim_start_matches("video_")))
}

fn video(pool: &Pool, id: &str) -> Value {
    pool.json(&format!("/v1/videos/{id}")).unwrap()
}

/// Names of all videos, the newest first.
fn listed(pool: &Pool) -> Vec<String> {
    let list = pool.json("/v1/videos").unwrap();
    let names = list["data"].as_array().unwrap().iter();
    names.map(|video| video["id"].as_str().unwrap().to_owned()).collect()
}

/// What is answered to a question about a video.
fn answer(pool: &Pool, path: &str) -> (u16, Vec<u8>) {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let answer = agent.get(format!("http://{}/v1/videos/{path}", pool.http)).call().unwrap();
    let status = answer.status().as_u16();
    let body = answer.into_body().into_with_config().limit(1 << 30).read_to_vec();
    (status, body.unwrap())
}
