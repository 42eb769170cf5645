//! What a worker's owner allows is kept to.

use std::net::TcpListener;

use serde_json::Value;

use crate::pool::{Pool, alone, filmloom, succeed};

const PROMPT: &str = "a large red ball bounces over green hills";

#[test]
fn memory_share_and_pins_of_workers_are_kept_to() {
    let mut pool = Pool::start(&[]);
    // Room for no layer at all.
    pool.add_worker(&["--memory", "1MiB"]);
    pool.add_worker(&["--max-share", "0.25", "--roles", "layers"]);
    pool.add_worker(&["--layers", "2..8"]);
    pool.wait("the last two hold all layers, the first one none", || {
        pool.json("/readyz")?;
        let held = ["w1", "w2", "w3"].map(|name| layers(&pool, name));
        (held == [None, Some((0, 2)), Some((2, 8))]).then_some(())
    });

    let mut plan = filmloom();
    plan.args(["plan", "--server", &pool.http]);
    let text = String::from_utf8(succeed(&mut plan).stdout).unwrap();

    let left_out = text.lines().find(|line| line.starts_with("left out: w1, "));
    assert!(left_out.is_some_and(|line| line.contains("memory")), "{text}");
    let id = pool.create(PROMPT, 5, 1.0);
    pool.wait_completed(&id);
    assert!(pool.content(&id) == alone(PROMPT, 5, 1));
}

#[test]
fn worker_is_dialled_where_it_says_and_where_nobody_is_another_way_is_found() {
    let mut pool = Pool::start(&[]);
    let listen = format!("127.0.0.1:{}", free_port());
    let nobody = format!("127.0.0.1:{}", free_port());
    // One of the two dials, so that it is at an address that the other one names.
    pool.add_worker(&["--layers", "0..4", "--listen", "none"]);
    let second = ["--advertise", &nobody, "--advertise", &listen];
    pool.add_worker(&[&["--layers", "4..8", "--listen", &listen][..], &second].concat());
    pool.wait_ready(2);
    let id = pool.create(PROMPT, 5, 1.0);
    pool.wait_completed(&id);
    let good = alone(PROMPT, 5, 1);
    assert!(pool.content(&id) == good);
    let relayed = "messages go by here";
    assert!(!pool.logs().contains(relayed), "{}", pool.logs());
    pool.workers.clear();
    pool.wait("both are gone", || pool.members().is_empty().then_some(()));

    pool.add_worker(&["--layers", "0..4", "--listen", "none"]);
    pool.add_worker(&["--layers", "4..8", "--advertise", &nobody]);
    pool.wait_ready(2);
    let id = pool.create(PROMPT, 5, 1.0);
    pool.wait_completed(&id);

    assert!(pool.content(&id) == good);
    assert!(pool.logs().contains(relayed), "{}", pool.logs());
}

/// The layers that a worker holds, the first and the one after the last.
fn layers(pool: &Pool, name: &str) -> Option<(u32, u32)> {
    let member = pool.members().into_iter().find(|member| member["name"] == name)?;
    let stages = member["stages"].as_array()?;
    let layers = stages.iter().filter_map(Value::as_str).find_map(|s| s.strip_prefix("layers "))?;
    let (first, end) = layers.split_once("..")?;
    Some((first.parse().ok()?, end.parse().ok()?))
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
