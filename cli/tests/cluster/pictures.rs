//! The same pictures, to the bit, whatever the pool is and whatever happens to it.

use std::{fs, path::Path};

use serde_json::Value;

use crate::pool::{Pool, alone, files, filmloom, succeed};

const PROMPT: &str = "a large red ball bounces over green hills";
const SECONDS: u32 = 2;
/// More than a record of an epoch in the chunk log, less than one of a chunk.
const RECORD_BYTES: u64 = 4096;

#[test]
fn pictures_of_one_to_four_workers_are_those_of_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let alone = pictures_alone(folder.path(), PROMPT, 7);
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
        assert!(pool.content(id) == alone(prompt, seed, SECONDS), "{prompt}");
    }
    let events: Vec<_> =
        pool.events(&ids[0]).into_iter().map(|event| event["type"].clone()).collect();
    let (begin, chunks) = (["queued", "planned", "started"], ["chunk_committed"; 3]);
    assert_eq!(events, [&begin[..], &chunks, &["done"]].concat());
    let cluster = pool.json("/v1/cluster").unwrap();
    assert_eq!((&cluster["running"], &cluster["queued"]), (&0.into(), &0.into()));
}

#[test]
fn video_goes_on_when_its_coordinator_and_then_a_holder_of_layers_is_killed() {
    let mut pool = Pool::start(&[]);
    for _ in 0..3 {
        pool.add_worker(&[]);
    }
    pool.wait("a pipeline is ready", || pool.json("/readyz"));
    let id = pool.create(PROMPT, 3, 6.0);
    let log = pool.data().join(format!("log/{}.chunks", id.trim_start_matches("video_")));
    let logged = |pool: &Pool, bytes: u64| {
        pool.wait("chunks are made", || {
            fs::metadata(&log).ok().map(|log| log.len()).filter(|&logged| bytes <= logged)
        })
    };
    logged(&pool, RECORD_BYTES);

    pool.kill_coordinator();
    let before = fs::metadata(&log).unwrap().len();
    pool.serve(&[]);
    // What is in the log is made again first, then more.
    logged(&pool, before + RECORD_BYTES);
    let holder = layer_holder(&pool);
    drop(pool.workers.remove(holder));
    pool.wait_completed(&id);

    assert!(pool.content(&id) == alone(PROMPT, 3, 6));
    let mut placements = pool.events(&id);
    placements.retain(|event| event["type"] == "planned");
    let [.., first, second] = &placements[..] else { panic!("{placements:?}") };
    let epoch = |placement: &Value| placement["epoch"].as_u64().unwrap();
    assert!(epoch(first) < epoch(second), "{placements:?}");
    let name = format!("w{}", holder + 1);
    assert!(has_layers(first, &name) && !has_layers(second, &name), "{name}: {placements:?}");
}

/// The place among the pool's workers of one that holds layers.
fn layer_holder(pool: &Pool) -> usize {
    let members = pool.members();
    let holds = |worker: &&Value| {
        let stages = worker["stages"].as_array().unwrap();
        stages.iter().any(|stage| stage.as_str().unwrap().starts_with("layers"))
    };
    let holder = members.iter().find(holds).unwrap()["name"].as_str().unwrap();
    holder.trim_start_matches('w').parse::<usize>().unwrap() - 1
}

/// Whether a placement gives layers to the worker of this name.
fn has_layers(placement: &Value, name: &str) -> bool {
    let stages = placement["stages"].as_array().unwrap();
    let layers = |stage: &&Value| stage["stage"].as_str().unwrap().starts_with("layers");
    stages.iter().filter(layers).any(|stage| stage["worker"] == name)
}

fn pictures_alone(folder: &Path, prompt: &str, seed: u64) -> Vec<(String, Vec<u8>)> {
    let output = folder.join("alone");
    make(&output, prompt, seed, &["--threads", "1"]);
    files(&output)
}

fn generate(pool: &Pool, output: &Path, prompt: &str, seed: u64) {
    make(output, prompt, seed, &["--server", &pool.http]);
}

/// Makes a folder of pictures.
fn make(output: &Path, prompt: &str, seed: u64, arguments: &[&str]) {
    let (seed, seconds) = (seed.to_string(), SECONDS.to_string());
    let mut command = filmloom();
    command.args(["generate", prompt, "-s", &seconds, "--seed", &seed, "-q"]).args(arguments);
    succeed(command.arg("-o").arg(format!("{}/", output.display())));
}
