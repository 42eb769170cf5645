//! Programs that others have written, unchanged: the OpenAI SDK, curl, Python's gRPC.
//!
//! The Python ones need what tests/clients/requirements.txt lists, in a virtual
//! environment at target/clients; `.ci/run` makes it. Where it is missing the tests say
//! so and pass, or fail if `FILMLOOM_REQUIRE_CLIENTS=1`.

use std::{
    env, fs,
    io::{self, Write},
    path::{Path, PathBuf},
    process::Command,
};

use crate::pool::{Pool, filmloom, succeed};

#[test]
fn openai_sdk_makes_lists_fetches_and_deletes_videos_and_curl_gets_the_same() {
    let Some(python) = python() else { return };
    let mut pool = Pool::start(&["--api-key", "K", "--jobs", "1", "--queue", "2"]);
    pool.key = "K";
    pool.add_worker(&[]);
    pool.wait_ready(1);
    let folder = tempfile::tempdir().unwrap();

    let mut sdk = Command::new(python);
    sdk.arg(root().join("tests/clients/sdk.py"));
    succeed(sdk.args([&format!("http://{}/v1", pool.http), "K"]).arg(folder.path()));

    let read = |name: &str| fs::read(folder.path().join(name)).unwrap();
    let ids: Vec<String> = serde_json::from_slice(&read("ids.json")).unwrap();
    let mut curl = Command::new("curl");
    curl.args(["-sSf", "-H", "Authorization: Bearer K"]);
    curl.arg(format!("http://{}/v1/videos/{}/content", pool.http, ids[0]));
    assert!(succeed(&mut curl).stdout == read("first.mp4"));
    assert!(read("first.png").starts_with(b"\x89PNG\r\n\x1a\n"));
    let mut alone = filmloom();
    alone.args(["generate", "a large red ball bounces over green hills", "-s", "1", "-q"]);
    let output = folder.path().join("alone.mp4");
    succeed(alone.args(["--seed", "7", "--threads", "1", "-o"]).arg(&output));
    assert!(read("first.mp4") == read("alone.mp4"));
}

#[test]
fn python_made_from_the_protocol_lists_the_cluster_and_is_refused_without_a_certificate() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (certificates, stubs) = (folder.path().join("certificates"), folder.path().join("stubs"));
    fs::create_dir(&stubs).unwrap();
    let mut pool = Pool::start(&[]);
    pool.add_worker(&[]);
    let mut client = filmloom();
    client.args(["token", "client", "--data"]).arg(pool.data());
    succeed(client.arg("-o").arg(&certificates));
    let mut compiler = Command::new(&python);
    compiler.args(["-m", "grpc_tools.protoc", "-I"]).arg(root().join("proto"));
    compiler.arg(format!("--python_out={}", stubs.display()));
    compiler.arg(format!("--grpc_python_out={}", stubs.display()));
    succeed(compiler.arg("filmloom/cluster/v1/cluster.proto"));
    pool.wait("the worker is here", || {
        pool.json("/v1/cluster")?["workers"].as_array().filter(|workers| !workers.is_empty())?;
        Some(())
    });

    let mut listing = Command::new(&python);
    listing.arg(root().join("tests/clients/grpc_client.py")).arg(&pool.grpc);
    let output = succeed(listing.arg(&certificates).arg(&stubs));

    assert_eq!(String::from_utf8_lossy(&output.stdout), "w1\n");
}

/// Python with the clients, if it is there.
fn python() -> Option<PathBuf> {
    let python = root().join("target/clients/bin/python");
    if python.exists() {
        return Some(python);
    }
    let required = env::var_os("FILMLOOM_REQUIRE_CLIENTS").is_some_and(|value| value == "1");
    let message = "target/clients is missing; make it with: python3 -m venv target/clients && \
                   target/clients/bin/pip install -r tests/clients/requirements.txt";
    assert!(!required, "{message}");
    // Beside the test's captured output, so that it is seen.
    io::stderr().write_all(format!("NOT TESTED: {message}\n").as_bytes()).unwrap();
    None
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}
