//! The same pictures, to the bit, whatever the pool is and whatever happens to it.

use std::{fs, path::Path};

use crate::pool::{Pool, files, filmloom, succeed};

const PROMPT: &str = "a large red ball bounces over green hills";
const SECONDS: &str = "2";

#[test]
fn pictures_of_one_to_four_workers_are_those_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let alone = alone(folder.path(), PROMPT, 7);
    assert_eq!(alone.len(), 32);
    let splits: [&[&str]; 4] = [
        &["0..8"],
        &["0..3", "3..8"],
        &["0..1", "1..5", "5..8"],
        &["0..2", "2..3", "3..7", "7..8"],
    ];
    for split in splits {
        let pool = Pool::start(&[]);
        let mut pool = pool;
        for layers in split {
            pool.add_worker(&["--layers", layers, "--roles", "layers"]);
        }
        // Text and decoding stand elsewhere.
        pool.add_worker(&["--roles", "text,decode"]);
        pool.wait_ready(split.len() + 1);

        let output = folder.path().join(format!("over{}", split.len()));
        generate(&pool, &output, PROMPT, 7);

        assert!(files(&output) == alone, "{split:?}");
    }
}

#[test]
fn jobs_in_turns_make_what_each_makes_alone_and_one_is_cancelled() {
    let folder = tempfile::tempdir().unwrap();
    let mut pool = Pool::start(&[]);
    pool.add_worker(&["--layers", "0..4"]);
    pool.add_worker(&["--layers", "4..8"]);
    pool.wait_ready(2);
    let prompts = [PROMPT, "a blue cube spins", "a gold star in a starry night"];
    let ids: Vec<_> =
        (1..).zip(prompts).map(|(seed, prompt)| pool.create(prompt, seed, 2.0)).collect();
    let longer = pool.create(PROMPT, 9, 60.0);
    pool.wait("the long video has begun", || {
        let video = pool.json(&format!("/v1/videos/{longer}"))?;
        video["progress"].as_u64().filter(|&progress| 0 < progress)
    });

    assert!(pool.delete(&longer));

    assert!(pool.json(&format!("/v1/videos/{longer}")).is_none());
    for (seed, (id, prompt)) in (1..).zip(ids.iter().zip(prompts)) {
        pool.wait_completed(id);
        let alone = folder.path().join(format!("{seed}.mp4"));
        let mut command = filmloom();
        command.args(["generate", prompt, "-s", SECONDS, "--seed", &seed.to_string(), "-q"]);
        succeed(command.args(["--threads", "1", "-o"]).arg(&alone));
        assert!(pool.content(id) == fs::read(&alone).unwrap(), "{prompt}");
    }
    let events = pool.events(&ids[0]);
    let (begin, chunks) = (["queued", "planned", "started"], ["chunk_committed"; 3]);
    assert_eq!(events, [&begin[..], &chunks, &["done"]].concat());
    let cluster = pool.json("/v1/cluster").unwrap();
    assert_eq!((&cluster["running"], &cluster["queued"]), (&0.into(), &0.into()));
}

#[test]
fn video_goes_on_when_its_coordinator_or_a_worker_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let alone = folder.path().join("alone.mp4");
    let mut command = filmloom();
    command.args(["generate", PROMPT, "-s", "4", "--seed", "3", "-q", "--threads", "1", "-o"]);
    succeed(command.arg(&alone));
    let alone = fs::read(&alone).unwrap();
    let mut pool = Pool::start(&[]);
    for _ in 0..3 {
        pool.add_worker(&[]);
    }
    pool.wait("a pipeline is ready", || pool.json("/readyz"));
    let id = pool.create(PROMPT, 3, 4.0);
    let begun = |pool: &Pool, chunks: u64| {
        pool.wait("chunks are made", || {
            let video = pool.json(&format!("/v1/videos/{id}"))?;
            video["pictures"].as_u64().filter(|&pictures| 9 * chunks <= pictures)
        });
    };
    begun(&pool, 1);

    pool.kill_coordinator();
    pool.serve(&[]);
    begun(&pool, 1);
    // Whichever it is, the pipeline may need it.
    drop(pool.workers.remove(0));
    pool.wait_completed(&id);

    assert!(pool.content(&id) == alone);
}

fn alone(folder: &Path, prompt: &str, seed: u64) -> Vec<(String, Vec<u8>)> {
    let output = folder.join("alone");
    let mut command = filmloom();
    command.args(["generate", prompt, "--seconds", SECONDS, "--seed", &seed.to_string(), "-q"]);
    succeed(command.args(["--threads", "1", "-o"]).arg(format!("{}/", output.display())));
    files(&output)
}

fn generate(pool: &Pool, output: &Path, prompt: &str, seed: u64) {
    let mut command = filmloom();
    command.args(["generate", prompt, "--seconds", SECONDS, "--seed", &seed.to_string(), "-q"]);
    command.args(["--server", &pool.http, "-o"]);
    succeed(command.arg(format!("{}/", output.display())));
}
