//! Records in a real etcd, which comes late, goes away and comes back.

use std::{
    io::Write,
    net::TcpListener,
    process::{Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::pool::{Pool, Process, alone};

const PROMPT: &str = "a large red ball bounces over green hills";

/// How long etcd is away.
const AWAY: Duration = Duration::from_secs(60);

#[test]
fn videos_go_on_while_etcd_is_away_for_a_minute_and_etcd_may_come_late() {
    let Some(etcd) = Etcd::find() else { return };
    // The coordinator waits for its store.
    let late = etcd.clone();
    let starting = thread::spawn(move || {
        thread::sleep(Duration::from_secs(1));
        late.start()
    });
    let store = format!("etcd:http://127.0.0.1:{}", etcd.port);
    let mut pool = Pool::start(&["--store", &store]);
    let running = starting.join().unwrap();
    let token = pool.manage(&["token", "create", "--uses", "1"]);
    pool.add_worker(&["--layers", "0..4", "--token", &token]);
    pool.add_worker(&["--layers", "4..8"]);
    pool.wait_ready(2);
    let id = token.parse::<identity::JoinToken>().unwrap().id.to_string();
    let list = pool.manage(&["token", "list"]);
    assert!(list.lines().any(|line| line.starts_with(&id) && line.contains("used up")), "{list}");
    // Six chunks, and fourteen more than a worker makes that goes on for moments.
    let (short, long) = (pool.create(PROMPT, 5, 4.0), pool.create(PROMPT, 6, 15.0));
    let state = |id: &str| pool.json(&format!("/v1/videos/{id}"));
    pool.wait("both videos have begun", || {
        state(&long)?["pictures"].as_u64().filter(|&pictures| 0 < pictures)
    });

    drop(running);
    let gone_at = Instant::now();
    let is_made = |id: &str| state(id).unwrap()["status"] == "in_progress";
    assert!(is_made(&short), "it is finished without its store");
    let refused = ureq::post(format!("http://{}/v1/videos", pool.http))
        .send_json(serde_json::json!({ "prompt": PROMPT, "seconds": 1 }));
    assert!(matches!(refused, Err(ureq::Error::StatusCode(503))), "{refused:?}");
    pool.wait_completed(&short);
    let alone = thread::spawn(|| [alone(PROMPT, 5, 4), alone(PROMPT, 6, 15)]);
    while gone_at.elapsed() < AWAY {
        pool.workers[0].rest();
    }
    assert!(is_made(&long), "it is made as long as etcd is away");
    let _running = etcd.start();
    pool.wait_completed(&long);

    let alone = alone.join().unwrap();
    assert!([&short, &long].map(|id| pool.content(id)) == alone);
    let again = pool.wait("another video is taken", || {
        let body = serde_json::json!({ "prompt": PROMPT, "seconds": "0.5", "seed": 1 });
        ureq::post(format!("http://{}/v1/videos", pool.http)).send_json(body).ok()
    });
    assert_eq!(again.status(), 200);
    // What was finished without its store, and after, is written down.
    pool.stop_coordinator();
    pool.serve(&["--store", &store]);
    for id in [&short, &long] {
        assert_eq!(pool.json(&format!("/v1/videos/{id}")).unwrap()["status"], "completed");
    }
}

/// Where an etcd is to run.
#[derive(Clone)]
struct Etcd {
    folder: Arc<TempDir>,
    port: u16,
    peer_port: u16,
}

impl Etcd {
    /// A place for one, if the machine has the program.
    fn find() -> Option<Self> {
        let found = Command::new("etcd").arg("--version").stdout(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            assert!(std::env::var_os("FILMLOOM_REQUIRE_ETCD").is_none(), "there is no etcd");
            // Beside the test's captured output, so that it is seen.
            let note = "NOT TESTED: records in etcd, as there is none\n";
            std::io::stderr().write_all(note.as_bytes()).unwrap();
            return None;
        }
        let folder = Arc::new(tempfile::tempdir().unwrap());
        Some(Self { folder, port: free_port(), peer_port: free_port() })
    }

    fn start(&self) -> Process {
        let (url, peer) = (
            format!("http://127.0.0.1:{}", self.port),
            format!("http://127.0.0.1:{}", self.peer_port),
        );
        let mut etcd = Command::new("etcd");
        etcd.arg("--data-dir").arg(self.folder.path().join("data"));
        etcd.args(["--listen-client-urls", &url, "--advertise-client-urls", &url]);
        etcd.args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer]);
        etcd.args(["--initial-cluster", &format!("default={peer}")]);
        Process(etcd.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
