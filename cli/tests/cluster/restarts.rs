//! A coordinator that is killed in the middle of a video and started again, as those see
//! it who wait for the video.

use std::io::BufRead;

use serde_json::Value;

use crate::pool::{Pool, Process, files, filmloom, succeed};

const PROMPT: &str = "a large red ball bounces over green hills";
/// Nine chunks: they are not all made when two are told.
const SECONDS: &str = "6";
const CHUNKS: u64 = 9;

#[test]
fn those_who_wait_get_every_chunk_and_all_pictures_though_the_coordinator_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("pool");
    let mut pool = Pool::start(&[]);
    pool.add_worker(&[]);
    pool.wait_ready(1);
    let mut command = generate(&["--server", &pool.http]);
    let mut waiting = Process(command.arg(format!("{}/", output.display())).spawn().unwrap());
    let id = pool.wait("it is asked for", || {
        let list = pool.json("/v1/videos")?;
        list["data"][0]["id"].as_str().map(str::to_owned)
    });

    let mut told = Told::follow(&pool, &id, None);
    let mut before = Vec::new();
    while chunks(&before).len() < 2 {
        before.push(told.next().unwrap());
    }
    pool.kill_coordinator();
    before.extend(told);
    assert!(!chunks(&before).contains(&(CHUNKS - 1)), "it is killed in the middle");
    pool.serve(&[]);
    let last = &before.last().unwrap().id;
    let after: Vec<_> = Told::follow(&pool, &id, Some(last)).collect();

    // Another life tells everything from the beginning, under other ids.
    assert!(chunks(&after).into_iter().eq(0..CHUNKS), "{after:?}");
    assert_eq!(after.last().unwrap().event["type"], "done");
    assert!(after.iter().all(|told| before.iter().all(|other| other.id != told.id)));
    // The same life tells the rest.
    for (seen, told) in after.iter().enumerate() {
        let rest = Told::follow(&pool, &id, Some(&told.id)).map(|told| told.id);
        assert!(rest.eq(after[seen + 1..].iter().map(|told| told.id.clone())), "{}", told.id);
    }
    let status = pool.wait("`generate` ends by itself", || waiting.0.try_wait().unwrap());
    assert!(status.success(), "{status}");
    let alone = folder.path().join("alone");
    succeed(generate(&["--threads", "1"]).arg(format!("{}/", alone.display())));
    assert!(files(&output) == files(&alone));
}

/// An event as it was told.
#[derive(Debug)]
struct Told {
    id: String,
    event: Value,
}

impl Told {
    /// Events behind the one that was seen last, until they end or the server is gone.
    fn follow(pool: &Pool, id: &str, last: Option<&str>) -> impl Iterator<Item = Self> + use<> {
        let mut lines = pool.follow_after(id, last).lines().map_while(Result::ok);
        std::iter::from_fn(move || {
            let id = lines.find_map(|line| Some(line.strip_prefix("id: ")?.to_owned()))?;
            let data = lines.find_map(|line| Some(line.strip_prefix("data: ")?.to_owned()))?;
            Some(Self { id, event: serde_json::from_str(&data).unwrap() })
        })
    }
}

/// Chunks that were told to be committed, in order.
fn chunks(told: &[Told]) -> Vec<u64> {
    let committed = told.iter().filter(|told| told.event["type"] == "chunk_committed");
    committed.map(|told| told.event["chunk"].as_u64().unwrap()).collect()
}

/// The command that makes the video, but for its output.
fn generate(arguments: &[&str]) -> std::process::Command {
    let mut command = filmloom();
    command.args(["generate", PROMPT, "-s", SECONDS, "--seed", "5", "-q"]).args(arguments);
    command.arg("-o");
    command
}
