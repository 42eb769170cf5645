//! Who manages a cluster while it works: tokens come and go, workers leave.

use std::{fs, path::Path, process::Command};

use identity::JoinToken;
use serde_json::Value;

use crate::pool::{Pool, Process, alone, filmloom, succeed};

const PROMPT: &str = "a large red ball bounces over green hills";
const SECONDS: u32 = 4;

#[test]
fn tokens_are_made_listed_and_revoked_while_the_coordinator_runs() {
    let mut pool = Pool::start(&[]);
    let made: JoinToken = pool.manage(&["token", "create", "--uses", "2"]).parse().unwrap();
    pool.add_worker(&["--token", &made.to_string()]);
    pool.wait("it has joined", || (pool.members().len() == 1).then_some(()));
    let own: JoinToken = pool.token().parse().unwrap();
    assert_eq!(listed(&pool, &made)["uses_left"], 1);
    assert_eq!(listed(&pool, &own)["in_file"], true);

    pool.manage(&["token", "revoke", &made.id.to_string()]);
    pool.manage(&["token", "revoke", &own.id.to_string()]);

    for token in [&made, &own] {
        assert_eq!(refused(&pool, token), revoked(token));
        let listed = listed(&pool, token);
        assert_eq!((&listed["state"], &listed["in_file"]), (&"revoked".into(), &false.into()));
    }
    // Who is in stays in, and the next one joins with the new token of the file.
    assert_ne!(pool.token(), own.to_string());
    pool.add_worker(&[]);
    pool.wait("both are here", || (pool.members().len() == 2).then_some(()));
    pool.stop_coordinator();
    pool.serve(&[]);
    assert_eq!(refused(&pool, &own), revoked(&own), "after a restart too");
}

#[test]
fn tokens_are_revoked_while_the_coordinator_does_not_run_and_a_stale_address_is_harmless() {
    let mut pool = Pool::start(&[]);
    let address = pool.data().join("serve.json");
    assert_eq!(mode(&address), 0o600);
    let own: JoinToken = pool.token().parse().unwrap();
    let stale = fs::read_to_string(&address).unwrap();

    pool.stop_coordinator();
    assert!(!address.exists(), "it is removed at a clean stop");
    fs::write(&address, stale).unwrap();
    pool.manage(&["token", "revoke", &own.id.to_string()]);
    let nobody = filmloom().args(["drain", "w1", "--data"]).arg(pool.data()).output().unwrap();
    assert_eq!(nobody.status.code(), Some(2));
    assert!(String::from_utf8(nobody.stderr).unwrap().contains("no coordinator answers"));

    pool.serve(&[]);
    assert_eq!(refused(&pool, &own), revoked(&own));
    pool.add_worker(&[]);
    pool.wait("it has joined", || (pool.members().len() == 1).then_some(()));
}

#[test]
fn machine_that_lost_the_answer_to_its_join_asks_again_with_the_same_token() {
    let mut pool = Pool::start(&[]);
    let once: JoinToken = pool.manage(&["token", "create", "--uses", "1"]).parse().unwrap();
    pool.add_worker(&["--token", &once.to_string()]);
    let id = pool.wait("it has joined", || Some(pool.members().first()?["id"].clone()));
    pool.workers.clear();
    // As if it had crashed before it kept the certificate.
    let data = pool.data().join("w1");
    for name in ["node.crt", "ca.crt"] {
        fs::remove_file(data.join(name)).unwrap();
    }

    let mut again = pool.worker(&data);
    again.args(["--name", "again", "--token", &once.to_string()]);
    let _again = Process(again.spawn().unwrap());

    let member = pool.wait("it is here again", || {
        pool.members().into_iter().find(|member| member["name"] == "again")
    });
    assert_eq!(member["id"], id);
    let used_up =
        format!("the coordinator refused: join token {} is used up: create a new one", once.id);
    assert_eq!(refused(&pool, &once), used_up, "nobody else gets in");
}

#[test]
fn worker_drains_in_the_middle_of_a_video_and_the_next_one_is_made_without_it() {
    let mut pool = Pool::start(&[]);
    pool.add_worker(&["--layers", "0..4", "--roles", "layers"]);
    pool.add_worker(&[]);
    pool.wait_ready(2);
    let first = pool.create(PROMPT, 5, SECONDS.into());
    pool.wait("the video has begun", || {
        let video = pool.json(&format!("/v1/videos/{first}"))?;
        video["pictures"].as_u64().filter(|&pictures| 0 < pictures)
    });

    let said = pool.manage(&["drain", "w1"]);
    let next = pool.create(PROMPT, 6, 1.0);
    let state = |name: &str| {
        let member = pool.members().into_iter().find(|member| member["name"] == name);
        member.map(|member| member["state"].clone())
    };
    assert_eq!((state("w1"), state("w2")), (Some("draining".into()), Some("ready".into())));
    assert!(said.contains("one video is to be finished first"), "{said}");
    let status = succeed(filmloom().args(["status", "--server", &pool.http])).stdout;
    let status = String::from_utf8(status).unwrap();
    assert!(status.contains("draining") && status.contains("not ready: w1 drains"), "{status}");
    assert_eq!(pool.json(&format!("/v1/videos/{next}")).unwrap()["status"], "queued");

    let mut drained = pool.workers.remove(0);
    let ended = pool.wait("the drained worker ends", || drained.0.try_wait().unwrap());
    pool.wait_completed(&first);
    pool.wait_completed(&next);

    assert_eq!(ended.code(), Some(0), "{}", pool.logs());
    let log = fs::read_to_string(pool.data().join("w1.log")).unwrap();
    assert_eq!(log.lines().filter(|line| line.starts_with("drained: ")).count(), 1, "{log}");
    assert!(pool.content(&first) == alone(PROMPT, 5, SECONDS));
    assert!(pool.content(&next) == alone(PROMPT, 6, 1));
    assert_eq!(makers(&pool, &first), ["w1", "w2"]);
    assert_eq!(makers(&pool, &next), ["w2"]);
}

#[test]
fn worker_that_was_told_to_drain_leaves_though_the_coordinator_was_killed() {
    let mut pool = Pool::start(&[]);
    pool.add_worker(&["--layers", "0..4", "--roles", "layers"]);
    pool.add_worker(&[]);
    pool.wait_ready(2);
    let id = pool.create(PROMPT, 5, SECONDS.into());
    pool.wait("the video has begun", || {
        let video = pool.json(&format!("/v1/videos/{id}"))?;
        video["pictures"].as_u64().filter(|&pictures| 0 < pictures)
    });
    pool.manage(&["drain", "w1"]);

    pool.kill_coordinator();
    pool.serve(&[]);
    let mut drained = pool.workers.remove(0);
    let ended = pool.wait("the drained worker ends", || drained.0.try_wait().unwrap());
    pool.wait_completed(&id);

    assert_eq!(ended.code(), Some(0), "{}", pool.logs());
    assert!(pool.content(&id) == alone(PROMPT, 5, SECONDS));
    assert_eq!(makers(&pool, &id), ["w2"], "in the second life of the coordinator");
}

#[test]
fn videos_wait_while_the_only_worker_has_drained_until_it_is_started_again() {
    let mut pool = Pool::start(&[]);
    pool.add_worker(&[]);
    pool.wait_ready(1);
    let refusal = filmloom().args(["drain", "w7", "--data"]).arg(pool.data()).output().unwrap();
    let said = String::from_utf8(refusal.stderr).unwrap();
    assert_eq!(
        said.trim(),
        "error: no worker here is called \"w7\": `filmloom status` shows those that are"
    );

    let first = pool.create(PROMPT, 6, 1.0);
    let said = pool.manage(&["drain", "w1"]);
    assert!(said.contains("one video is to be finished first"), "{said}");
    let id = pool.create(PROMPT, 5, 1.0);
    let mut drained = pool.workers.remove(0);
    let ended = pool.wait("it ends", || drained.0.try_wait().unwrap());
    assert_eq!(ended.code(), Some(0));
    pool.wait_completed(&first);
    let why = pool.wait("it is said why", || unready(&pool).filter(|why| why.contains("drained")));
    assert!(why.contains("no worker to place layers on") && why.contains("w1 drained"), "{why}");
    assert_eq!(pool.json(&format!("/v1/videos/{id}")).unwrap()["status"], "queued");

    let mut again = pool.worker(&pool.data().join("w1"));
    let _again = Process(again.args(["--name", "w1"]).spawn().unwrap());
    pool.wait_completed(&id);
    assert!(pool.content(&id) == alone(PROMPT, 5, 1));
    let said = pool.manage(&["drain", "w1"]);
    assert!(said.contains("nothing is open on it"), "{said}");
}

/// What the list says of a token.
fn listed(pool: &Pool, token: &JoinToken) -> Value {
    let list: Value = serde_json::from_str(&pool.manage(&["token", "list", "--json"])).unwrap();
    let is_it = |listed: &&Value| listed["id"] == token.id.to_string();
    list.as_array().unwrap().iter().find(is_it).unwrap().clone()
}

/// What a machine is told that wants to join with a token and may not.
fn refused(pool: &Pool, token: &JoinToken) -> String {
    let data = tempfile::tempdir().unwrap();
    let mut worker: Command = pool.worker(data.path());
    let output = worker.args(["--token", &token.to_string()]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let last = said.lines().last().and_then(|last| last.strip_prefix("error: "));
    last.unwrap_or_else(|| panic!("{said}")).to_owned()
}

fn revoked(token: &JoinToken) -> String {
    format!("the coordinator refused: join token {} was revoked: create a new one", token.id)
}

/// Names of those that a video was placed on, first to last, each once.
fn makers(pool: &Pool, id: &str) -> Vec<String> {
    let events = pool.events(id);
    let placements = events.iter().filter(|event| event["type"] == "planned");
    let stages = placements.flat_map(|event| event["stages"].as_array().unwrap());
    let mut names: Vec<_> =
        stages.map(|stage| stage["worker"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names.dedup();
    names
}

/// Why the pool is not ready; nothing if it is.
fn unready(pool: &Pool) -> Option<String> {
    let agent = ureq::Agent::config_builder().http_status_as_error(false).build().new_agent();
    let answer = agent.get(format!("http://{}/readyz", pool.http)).call().ok()?;
    let is_ready = answer.status() == 200;
    let text = answer.into_body().read_to_string().unwrap();
    (!is_ready).then_some(text)
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}
