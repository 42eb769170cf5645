//! What a pool would do, before anything is asked of it.

use serde_json::Value;

use crate::pool::{Pool, filmloom, succeed};

const PROMPT: &str = "a large red ball bounces over green hills";

#[test]
fn plan_of_a_pool_says_who_would_hold_what_and_makes_no_job() {
    let mut pool = Pool::start(&[]);
    assert!(refused(&pool, &[]).contains("(503): there is no worker to place layers on"));
    pool.add_worker(&["--layers", "0..4"]);
    pool.add_worker(&["--layers", "4..8"]);
    pool.wait_ready(2);
    let before = pool.json("/v1/cluster").unwrap();

    let answer = planned(&pool, &["--seconds", "2", "--jobs", "2", "--json"]);
    let text = planned(&pool, &["--model", "mini", "--size", "256x128"]);
    let refusal = refused(&pool, &["--model", "other"]);

    let plan: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((&plan["jobs"], &plan["chunks"]), (&2.into(), &3.into()));
    for (name, layers) in [("w1", "layers 0..4"), ("w2", "layers 4..8")] {
        let worker = named(&plan["workers"], name);
        assert_eq!(worker["stages"][0], layers, "{plan}");
        let [need, usable] = ["need_bytes", "usable_bytes"].map(|field| worker[field].as_u64());
        assert!(Some(0) < need && need < usable, "{worker}");
        assert!(0.0 < worker["compute_seconds"].as_f64().unwrap(), "{worker}");
        assert!(text.lines().any(|line| line.starts_with(name)), "{text}");
        assert!(text.contains(layers), "{text}");
    }
    for field in ["chunk_seconds", "seconds_per_chunk", "pictures_per_second", "video_seconds"] {
        assert!(0.0 < plan[field].as_f64().unwrap(), "{field}: {plan}");
    }
    let hop = &plan["hops"][0];
    assert_eq!((&hop["carries"], &hop["messages"]), (&"hidden".into(), &5.into()));
    assert_eq!(hop["is_measured"], true, "{hop}");
    assert_eq!((&plan["left_out"], &plan["measured"]), (&Value::Array(Vec::new()), &Value::Null));
    assert!(plan["verdict"].as_str().unwrap().contains("a pool is needed"), "{plan}");
    assert!(text.contains("times are estimated from those of 128x128"), "{text}");
    assert!(refusal.contains("(404): there is no model `other` here"), "{refusal}");
    let after = pool.json("/v1/cluster").unwrap();
    assert_eq!(before["assignment"], after["assignment"]);
    assert_eq!((&after["running"], &after["queued"]), (&0.into(), &0.into()));
    assert_eq!(pool.json("/v1/videos").unwrap()["data"], Value::Array(Vec::new()));

    let id = pool.create(PROMPT, 5, 3.0);
    pool.wait_completed(&id);
    let plan: Value = serde_json::from_str(&planned(&pool, &["--json"])).unwrap();
    assert_eq!(plan["stands"], true, "{plan}");
    assert_eq!(plan["measured"]["jobs"], 1, "{plan}");
    assert!(plan["measured"]["error_percent"].is_number(), "{plan}");
}

fn planned(pool: &Pool, arguments: &[&str]) -> String {
    let mut command = filmloom();
    command.args(["plan", "--server", &pool.http]).args(arguments);
    String::from_utf8(succeed(&mut command).stdout).unwrap()
}

/// The one line that a refused plan says.
fn refused(pool: &Pool, arguments: &[&str]) -> String {
    let mut command = filmloom();
    let output = command.args(["plan", "--server", &pool.http]).args(arguments).output().unwrap();
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.lines().count(), 1, "{said}");
    said
}

fn named<'a>(workers: &'a Value, name: &str) -> &'a Value {
    let found = workers.as_array().unwrap().iter().find(|worker| worker["name"] == name);
    found.unwrap_or_else(|| panic!("no {name} in {workers}"))
}
