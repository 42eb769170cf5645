//! A video that is watched while it is made.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::json;

use crate::{
    players::{Browser, assert_plays},
    pool::Pool,
    viewer::{SlowViewer, Viewer, url},
};

const PROMPT: &str = "a large red ball bounces over green hills";

#[test]
fn video_is_made_whoever_reads_slowly_comes_late_or_vanishes_and_a_browser_plays_it_meanwhile() {
    let mut pool = Pool::start(&["--jobs", "1"]);
    pool.add_worker(&[]);
    pool.wait_ready(1);
    let id = post_and_vanish(&pool);

    let early = Viewer::watch(&pool, &id);
    let slow = SlowViewer::watch(&pool, &id);
    let browser = Browser::play(&url(&pool, &id));
    watch_and_vanish(&pool, &id);
    pool.wait("its beginning can be seen", || (0 < early.seen_bytes()).then_some(()));
    let late = Viewer::watch(&pool, &id);
    if let Some(browser) = &browser {
        browser.wait("the browser plays", |said| 0.2 < said["seconds"].as_f64().unwrap());
    }
    assert_eq!(pool.json(&format!("/v1/videos/{id}")).unwrap()["status"], "in_progress");
    pool.wait_completed(&id);
    let (slow_bytes, slow) = slow.end();

    let film = early.end().unwrap();
    // A byte a second: it held on all the time, and lost nothing by it. So short a film
    // lies in the sockets' buffers meanwhile, so this cannot show that a viewer who is
    // really behind holds nobody up: coordinator/api/tests/api/live.rs does, with 16 MiB.
    assert!(slow_bytes < 200, "{slow_bytes}");
    assert!(late.end().unwrap() == film && slow == film);
    assert_plays(&film, 96);
    assert_plays(&pool.content(&id), 96);
    let after = Viewer::watch(&pool, &id).end().unwrap();
    assert!(after == pool.content(&id));
    if let Some(browser) = &browser {
        browser.wait("the browser has played all", |said| said["ended"] == true);
    }
}

#[test]
fn viewers_wait_for_a_video_that_is_made_again_and_are_told_of_one_that_fails() {
    let mut pool = Pool::start(&["--jobs", "1"]);
    pool.add_worker(&["--layers", "0..8"]);
    pool.wait_ready(1);
    let id = pool.create(PROMPT, 5, 3.0);
    let early = Viewer::watch(&pool, &id);
    pool.wait("two chunks are made", || {
        let video = pool.json(&format!("/v1/videos/{id}"))?;
        video["pictures"].as_u64().filter(|&pictures| 12 < pictures)
    });

    // All that there is goes away, and another one comes.
    pool.workers.clear();
    pool.add_worker(&[]);
    let late = Viewer::watch(&pool, &id);
    pool.wait_completed(&id);

    let film = early.end().unwrap();
    assert_plays(&film, 48);
    assert!(late.end().unwrap() == film);

    fs::remove_dir_all(pool.data().join("videos")).unwrap();
    let id = pool.create(PROMPT, 5, 1.0);
    let viewer = Viewer::watch(&pool, &id);
    assert!(viewer.end().is_err(), "it must not look finished");
    let video = pool.wait("it has failed", || {
        let video = pool.json(&format!("/v1/videos/{id}"))?;
        (video["status"] == "failed").then_some(video)
    });
    assert!(video["error"]["message"].is_string(), "{video}");
    assert!(matches!(ureq::get(url(&pool, &id)).call(), Err(ureq::Error::StatusCode(404))));
}

/// Asks for a video and goes away without having heard the answer; gives the id.
fn post_and_vanish(pool: &Pool) -> String {
    let wish = json!({ "prompt": PROMPT, "seconds": "6", "seed": 5 }).to_string();
    let mut stream = TcpStream::connect(&pool.http).unwrap();
    let head = "POST /v1/videos HTTP/1.1\r\ncontent-type: application/json";
    let (host, bytes) = (&pool.http, wish.len());
    write!(stream, "{head}\r\nhost: {host}\r\ncontent-length: {bytes}\r\n\r\n{wish}").unwrap();
    pool.wait("it is taken", || {
        let list = pool.json("/v1/videos")?;
        list["data"][0]["id"].as_str().map(str::to_owned)
    })
}

/// Begins to watch and goes away in the middle.
fn watch_and_vanish(pool: &Pool, id: &str) {
    let mut body = ureq::get(url(pool, id)).call().unwrap().into_body().into_reader();
    body.read_exact(&mut [0; 500]).unwrap();
}
