//! A worker that was told no address finds its coordinator by multicast, over a cable
//! between two network namespaces of the test's own.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use crate::pool::{PATIENCE, Process};

#[test]
fn worker_without_an_address_finds_the_coordinator_of_its_token() {
    let Some(cable) = cable() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (data, other, own) =
        (folder.path().join("data"), folder.path().join("other"), folder.path().join("own"));
    let serve = ["serve", "--no-worker", "--http", "127.0.0.1:7842", "--data"];
    let _coordinator = cable.start(0, &data.with_extension("log"), &serve, &data);
    // Another cluster's, which the token does not fit.
    let serve =
        ["serve", "--no-worker", "--http", "127.0.0.1:7852", "--grpc", "0.0.0.0:7853", "--data"];
    let _another = cable.start(0, &other.with_extension("log"), &serve, &other);
    let token = wait("the token", || {
        let token = fs::read_to_string(data.join("join.token")).ok()?;
        token.ends_with('\n').then(|| token.trim().to_owned())
    });

    // Both are announced before anyone asks for them.
    let status = |port: &str| cable.run(0, &["status", "--server", &format!("127.0.0.1:{port}")]);
    wait("both coordinators", || Some(status("7842")? + &status("7852")?));
    let worker = ["worker", "--name", "found-it", "--threads", "1", "--token", &token, "--data"];
    let _worker = cable.start(1, &own.with_extension("log"), &worker, &own);

    let said = || fs::read_to_string(own.with_extension("log")).unwrap_or_default();
    let begun = Instant::now();
    while !status("7842").is_some_and(|shown| shown.contains("found-it")) {
        assert!(begun.elapsed() < PATIENCE, "it has not joined: {}", said());
        thread::sleep(Duration::from_millis(100));
    }
    assert!(!status("7852").unwrap().contains("found-it"));
}

/// Nothing where this user may not make namespaces, unless
/// `FILMLOOM_REQUIRE_NAMESPACES=1`.
#[expect(clippy::print_stderr, reason = "a test that is not run must be seen")]
fn cable() -> Option<Cable> {
    let cable = Cable::lay();
    if cable.is_none() {
        let is_required = std::env::var("FILMLOOM_REQUIRE_NAMESPACES").is_ok_and(|v| v == "1");
        assert!(!is_required, "no network namespaces, and FILMLOOM_REQUIRE_NAMESPACES=1");
        eprintln!("not run: this user may not make network namespaces (root and iproute2)");
    }
    cable
}

/// Two namespaces and what connects them; both end with it.
struct Cable([String; 2]);

impl Cable {
    /// Nothing if this user may not.
    fn lay() -> Option<Self> {
        let id = std::process::id();
        let cable = Self(["a", "b"].map(|end| format!("filmloom-{id}-{end}")));
        let [near, far] = &cable.0;
        let veth = ["link", "add", "cable", "type", "veth", "peer", "name", "cable", "netns"];
        let is_laid = ip(&["netns", "add", near])
            && ip(&["netns", "add", far])
            && ip(&[&["-n", near], &veth[..], &[far]].concat());
        if !is_laid {
            return None;
        }
        for (end, address) in [(near, "10.79.0.1/24"), (far, "10.79.0.2/24")] {
            assert!(ip(&["-n", end, "addr", "add", address, "dev", "cable"]));
            assert!(ip(&["-n", end, "link", "set", "cable", "up"]));
            assert!(ip(&["-n", end, "link", "set", "lo", "up"]));
        }
        Some(cable)
    }

    fn command(&self, end: usize, arguments: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.0[end], env!("CARGO_BIN_EXE_filmloom")]);
        command.args(arguments).stdin(Stdio::null()).env_remove("FILMLOOM_TOKEN");
        command
    }

    fn start(&self, end: usize, log: &Path, arguments: &[&str], data: &Path) -> Process {
        let log = fs::File::create(log).unwrap();
        Process(self.command(end, arguments).arg(data).stderr(log).spawn().unwrap())
    }

    /// What a command says, if it succeeds.
    fn run(&self, end: usize, arguments: &[&str]) -> Option<String> {
        let output = self.command(end, arguments).output().unwrap();
        output.status.success().then(|| String::from_utf8(output.stdout).unwrap())
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        for end in &self.0 {
            ip(&["netns", "del", end]);
        }
    }
}

fn ip(arguments: &[&str]) -> bool {
    let made = Command::new("ip").args(arguments).stderr(Stdio::null()).status();
    made.is_ok_and(|status| status.success())
}

fn wait<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    while begun.elapsed() < PATIENCE {
        if let Some(found) = poll() {
            return found;
        }
        thread::sleep(Duration::from_millis(100));
    }
    panic!("not in time: {what}");
}
