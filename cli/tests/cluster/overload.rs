//! Far more is asked for than can be made.

use std::{collections::BTreeSet, io::BufRead, sync::Barrier, thread};

use serde_json::{Value, json};
use ureq::{Agent, Body, http::Response};

use crate::pool::{Pool, Process};

const PROMPT: &str = "a large red ball bounces over green hills";
/// Ten times what may wait and be made.
const CLIENTS: usize = 60;
/// Chosen: what a coordinator may take on the smallest machine, with a queue that is full.
#[cfg(target_os = "linux")]
const MEMORY_BYTES_MAX: u64 = 300 << 20;

#[test]
fn ten_times_too_much_is_refused_with_an_estimate_and_forgotten() {
    let mut pool = Pool::start(&["--jobs", "1", "--queue", "5"]);
    pool.add_worker(&[]);
    pool.wait_ready(1);
    let wish = json!({ "prompt": PROMPT, "seconds": "60" });
    let first = pool.create(PROMPT, 1, 60.0);
    pool.wait("it is being made", || {
        let video = pool.json(&format!("/v1/videos/{first}"))?;
        (video["status"] == "in_progress").then_some(())
    });

    let answers = at_once(&pool.http, &wish);

    let (accepted, refused): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|answer| answer.status == 200);
    let mut accepted: BTreeSet<_> = accepted.iter().map(|answer| id(&answer.said)).collect();
    assert_eq!(accepted.len(), 5, "{accepted:?}");
    let estimate = wait_seconds(&pool, &accepted);
    for answer in &refused {
        let seconds = answer.retry_after.unwrap();
        let error = &answer.said["error"];
        assert_eq!((answer.status, &error["code"]), (429, &json!("rate_limit_exceeded")));
        let message = error["message"].as_str().unwrap();
        assert!(message.contains("5 videos wait already"), "{message}");
        assert!(message.contains(&format!("in about {seconds} s")), "{message}");
        assert!(seconds.abs_diff(estimate) <= 5, "{seconds} s, by the queue {estimate} s");
    }

    // Bodies as large as one may send, and no video in them.
    let huge = json!({ "prompt": "a".repeat(1_000_000) });
    assert!(at_once(&pool.http, &huge).iter().all(|answer| answer.status == 400));
    #[cfg(target_os = "linux")]
    {
        let peak_bytes = pool.coordinator_peak_bytes();
        assert!(peak_bytes < MEMORY_BYTES_MAX, "{peak_bytes} bytes");
    }

    // Whoever waits hears that others wait no more.
    let next = at_place(&pool, &accepted, 0);
    let last = at_place(&pool, &accepted, 4);
    let places = thread::scope(|scope| {
        let told = scope.spawn(|| places(&pool, &last, 3));
        assert!(pool.delete(&next));
        told.join().unwrap()
    });
    assert_eq!(places, [4, 3]);
    accepted.remove(&next);

    // What was refused does not come back.
    pool.stop_coordinator();
    pool.serve(&[]);
    let list = pool.json("/v1/videos?limit=100").unwrap();
    let kept: BTreeSet<_> = list["data"].as_array().unwrap().iter().map(id).collect();
    accepted.insert(first);
    assert_eq!(kept, accepted);
}

#[test]
fn video_that_nobody_could_make_is_refused_with_what_is_missing() {
    let pool = Pool::start(&[]);
    let wish = json!({ "prompt": PROMPT, "seconds": "1" });
    let refusal = |sentence: &str| {
        pool.wait(sentence, || {
            // One that has just begun waits for those that it knows.
            let Answer { status, said, .. } = ask(&pool.http, &wish);
            if status != 503 {
                return None;
            }
            let error = &said["error"];
            assert_eq!(error["code"], "too_few_workers", "{said}");
            error["message"].as_str().unwrap().contains(sentence).then_some(())
        });
    };
    refusal("no worker is here: start one");

    let mut small = pool.worker(&pool.data().join("small"));
    small.args(["--name", "small", "--memory", "1MiB", "--token", &pool.token()]);
    let mut small = Process(small.spawn().unwrap());

    refusal("memory");
    assert!(small.0.try_wait().unwrap().is_none(), "it is here, and too small");
}

struct Answer {
    status: u16,
    retry_after: Option<u64>,
    said: Value,
}

/// All clients ask at the same time.
fn at_once(http: &str, wish: &Value) -> Vec<Answer> {
    let start = Barrier::new(CLIENTS);
    let ask_at_once = || {
        start.wait();
        ask(http, wish)
    };
    thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS).map(|_| scope.spawn(ask_at_once)).collect();
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    })
}

fn ask(http: &str, wish: &Value) -> Answer {
    let agent: Agent = Agent::config_builder().http_status_as_error(false).build().into();
    answer(agent.post(format!("http://{http}/v1/videos")).send_json(wish).unwrap())
}

fn answer(answer: Response<Body>) -> Answer {
    let retry_after = answer.headers().get("retry-after");
    let retry_after = retry_after.map(|seconds| seconds.to_str().unwrap().parse().unwrap());
    let status = answer.status().as_u16();
    let said = answer.into_body().read_to_string().unwrap();
    Answer { status, retry_after, said: serde_json::from_str(&said).unwrap() }
}

/// The video at this place of the queue.
fn at_place(pool: &Pool, ids: &BTreeSet<String>, place: u64) -> String {
    let video = |id: &String| pool.json(&format!("/v1/videos/{id}")).unwrap();
    ids.iter().find(|id| video(id)["queue_position"] == place).unwrap().clone()
}

/// Places of a video in the queue, as its events tell them until this one.
fn places(pool: &Pool, id: &str, until: u64) -> Vec<u64> {
    let mut places = Vec::new();
    for line in pool.follow(id).lines() {
        let line = line.unwrap();
        let Some(event) = line.strip_prefix("data:") else { continue };
        let event: Value = serde_json::from_str(event).unwrap();
        assert_eq!(event["type"], "queued", "{event}");
        places.push(event["position"].as_u64().unwrap());
        if places.last() == Some(&until) {
            break;
        }
    }
    places
}

/// Seconds until the first of those that wait begins, as the queue says.
fn wait_seconds(pool: &Pool, ids: &BTreeSet<String>) -> u64 {
    let first = pool.json(&format!("/v1/videos/{}", at_place(pool, ids, 0))).unwrap();
    let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
    first["estimated_start_at"].as_u64().unwrap().saturating_sub(now)
}

fn id(video: &Value) -> String {
    video["id"].as_str().unwrap().to_owned()
}
