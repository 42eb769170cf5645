//! Who gets in, and what is said to who does not.

use std::{fs, process::Command};

use crate::pool::{Pool, filmloom};

#[test]
fn worker_with_a_wrong_token_or_another_clusters_certificate_does_not_get_in() {
    let (pool, other) = (Pool::start(&[]), Pool::start(&[]));
    let data = tempfile::tempdir().unwrap();
    let refused = |command: &mut Command, expected: &str| {
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(expected), "{said}");
    };
    refused(&mut pool.worker(data.path()), "has not joined the cluster yet: give --token");
    refused(pool.worker(data.path()).args(["--token", ""]), "token");
    refused(pool.worker(data.path()).args(["--token", "fl1.abc"]), "token");
    // Another cluster's token names another authority: its secret is not even sent.
    refused(pool.worker(data.path()).args(["--token", &other.token()]), "cannot connect");
    assert!(fs::read_dir(data.path()).unwrap().next().is_none(), "nothing was kept");
}

#[test]
fn http_is_for_this_machine_or_for_who_has_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut serve = filmloom();
    serve.args(["serve", "--no-worker", "--http", "0.0.0.0:0", "--data"]).arg(folder.path());
    let output = serve.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("give --api-key KEY, or --insecure"), "{said}");

    let pool = Pool::start(&["--api-key", "secret"]);
    assert!(pool.json("/v1/models").is_none());
    let models = ureq::get(format!("http://{}/v1/models", pool.http));
    let models = models.header("authorization", "Bearer secret").call().unwrap();
    assert_eq!(models.status(), 200);
    assert!(pool.json("/healthz").is_some());
}
