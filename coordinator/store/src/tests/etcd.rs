//! What is particular to etcd, asked of a real one.
//!
//! Each test starts its own on loopback. Without the program they say that they were
//! not run, unless `FILMLOOM_REQUIRE_ETCD=1`.

use std::{
    net::TcpListener,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use proptest::{strategy::ValueTree, test_runner::TestRunner};
use tempfile::TempDir;
use tokio::process::Child;

use super::{PATIENCE, gone, next, random, revision, suite, value};
use crate::{
    Error, Etcd, Expect, Revision, Store, Write,
    etcd::{Options, Tls, TlsClient},
};

/// A server that can be stopped and started again.
struct Server {
    folder: TempDir,
    client_port: u16,
    peer_port: u16,
    child: Option<Child>,
}

#[tokio::test]
async fn it_keeps_all_promises() {
    let Some(server) = Server::started() else { return };
    suite::keeps_all_promises(&server.store("promises").await).await;
}

#[tokio::test]
async fn it_does_what_a_map_does_and_clusters_do_not_meet() {
    let Some(server) = Server::started() else { return };
    let mut runner = TestRunner::default();
    for case in 0..12 {
        let calls = proptest::strategy::Strategy::new_tree(&random::calls(), &mut runner);
        let calls = calls.unwrap().current();
        let store = server.store(&format!("case-{case}")).await;
        random::does_what_a_map_does(&store, &calls).await;
    }
}

#[tokio::test]
async fn a_client_may_be_there_before_the_server() {
    let Some(mut server) = Server::found() else { return };
    let store = server.store("late").await;
    let mut watch = store.watch("", Revision(0)).await.unwrap();

    let start = async {
        tokio::time::sleep(Duration::from_secs(1)).await;
        server.start();
    };
    let write = store.put("key", b"1", Expect::Absent);
    let (change, written, ()) = tokio::join!(next(&mut watch), write, start);

    let written = written.expect("a call that nobody received is made again");
    let change = change.unwrap();
    assert_eq!((change.key.as_str(), change.revision), ("key", written));
    assert_eq!(value(&store, "key").await.unwrap(), b"1");
}

#[tokio::test]
async fn calls_and_watches_go_on_after_a_restart_of_the_server() {
    let Some(mut server) = Server::started() else { return };
    let store = server.store("restart").await;
    let first = put(&store, "a", b"1").await;
    let mut watch = store.watch("", Revision(first.0 - 1)).await.unwrap();
    assert_eq!(next(&mut watch).await.unwrap().key, "a");

    server.stop().await;
    let start = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        server.start();
    };
    let write = async {
        let during = put(&store, "b", b"2").await;
        (during, put(&store, "c", b"3").await)
    };
    let read = async { store.get("a").await };
    let (read, (second, third), ()) = tokio::join!(read, write, start);

    let is_same = |record: &crate::Record| record.value == b"1" && record.revision == first;
    assert!(read.is_ok_and(|record| record.as_ref().is_some_and(is_same)), "within its deadline");
    for (key, revision) in [("b", second), ("c", third)] {
        // A put whose answer was lost was made again.
        let change = loop {
            let change = next(&mut watch).await.unwrap();
            if change.revision == revision {
                break change;
            }
            assert_eq!(change.key, key);
        };
        assert_eq!(change.key, key, "in order, and nothing is missing");
    }
}

#[tokio::test]
async fn a_server_that_is_silent_is_not_waited_for() {
    let Some(server) = Server::started() else { return };
    let store = server.store("silent").await;
    let revision = put(&store, "a", b"1").await;

    server.signal("-STOP");
    let silent = store.put("a", b"2", Expect::Revision(revision)).await;
    server.signal("-CONT");

    assert!(matches!(silent, Err(Error::Unavailable { .. })), "{silent:?}");
    let read = value(&store, "a").await.unwrap();
    assert!(read == b"1" || read == b"2", "the caller reads what became of it");
}

#[tokio::test]
async fn a_watch_that_was_compacted_away_has_lagged() {
    let Some(server) = Server::started() else { return };
    let store = server.store("compacted").await;
    let first = put(&store, "a", b"1").await;
    let last = put(&store, "a", b"2").await;
    let address = server.address(server.client_port);
    let mut client = etcd_client::Client::connect([address], None).await.unwrap();
    client.compact(i64::try_from(last.0).unwrap(), None).await.unwrap();

    let mut watch = store.watch("", Revision(first.0 - 1)).await.unwrap();

    assert_eq!(next(&mut watch).await, Err(Error::Lagged));
    assert_eq!(next(&mut watch).await, Err(Error::Lagged), "it stays so");
}

#[tokio::test]
async fn a_lease_that_is_not_kept_alive_ends() {
    let Some(server) = Server::started() else { return };
    let store = server.store("lease").await;
    let lease = store.grant(Duration::from_millis(1_500)).await.unwrap();
    let leased = Write::put_leased("node", b"", Expect::Any, lease);
    let put = store.commit(&[leased]).await.unwrap();

    gone(&store, "node").await;

    assert!(put < revision(&store).await);
    assert_eq!(store.keep_alive(lease).await, Err(Error::NoLease { lease }));
}

#[tokio::test]
async fn wrong_options_are_refused_at_once() {
    let client = Some(TlsClient { certificate_pem: vec![], key_pem: vec![] });
    let tls = Tls { ca_pem: vec![], client };
    let options = |endpoint: Option<&str>, cluster: &str, tls| {
        let endpoints = endpoint.map(str::to_owned).into_iter().collect();
        Options { endpoints, cluster: cluster.to_owned(), tls }
    };
    for options in [
        options(None, "c", None),
        options(Some("http://not an address"), "c", None),
        options(Some("http://127.0.0.1:1"), "", None),
        options(Some("http://127.0.0.1:1"), "c", Some(tls)),
    ] {
        assert!(matches!(Etcd::new(options).await, Err(Error::Invalid { .. })));
    }
}

/// Puts until it is done, as a caller may who expects nothing.
async fn put(store: &Etcd, key: &str, value: &[u8]) -> Revision {
    let put = async {
        loop {
            match store.put(key, value, Expect::Any).await {
                Ok(revision) => return revision,
                Err(error) => assert!(matches!(error, Error::Unavailable { .. }), "{error}"),
            }
        }
    };
    tokio::time::timeout(PATIENCE, put).await.expect("etcd comes up")
}

impl Server {
    /// A server that is not running, if the program is there.
    #[expect(clippy::print_stderr, reason = "a test that is not run must be seen")]
    fn found() -> Option<Self> {
        if Command::new("etcd").arg("--version").stdout(Stdio::null()).status().is_err() {
            let is_required = std::env::var("FILMLOOM_REQUIRE_ETCD").is_ok_and(|v| v == "1");
            assert!(!is_required, "etcd is not installed, and FILMLOOM_REQUIRE_ETCD=1");
            eprintln!("NOT TESTED: the state store in etcd, because etcd is not installed");
            return None;
        }
        let [client_port, peer_port] = free_ports();
        Some(Self { folder: TempDir::new().unwrap(), client_port, peer_port, child: None })
    }

    fn started() -> Option<Self> {
        let mut server = Self::found()?;
        server.start();
        Some(server)
    }

    fn start(&mut self) {
        let (client, peer) = (self.address(self.client_port), self.address(self.peer_port));
        let data: &Path = self.folder.path();
        let child = tokio::process::Command::new("etcd")
            .arg("--data-dir")
            .arg(data.join("data"))
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn();
        self.child = Some(child.unwrap());
    }

    async fn stop(&mut self) {
        self.child.take().unwrap().kill().await.unwrap();
    }

    fn signal(&self, signal: &str) {
        let pid = self.child.as_ref().and_then(Child::id).unwrap();
        let status = Command::new("kill").args([signal, &pid.to_string()]).status();
        assert!(status.unwrap().success());
    }

    async fn store(&self, cluster: &str) -> Etcd {
        let endpoints = vec![self.address(self.client_port)];
        let store = Etcd::new(Options { endpoints, cluster: cluster.to_owned(), tls: None });
        let store = store.await.unwrap();
        if self.child.is_some() {
            put(&store, "up", b"").await;
            store.delete("up", Expect::Any).await.unwrap();
        }
        store
    }

    fn address(&self, port: u16) -> String {
        format!("http://127.0.0.1:{port}")
    }
}

fn free_ports() -> [u16; 2] {
    let listeners = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}
