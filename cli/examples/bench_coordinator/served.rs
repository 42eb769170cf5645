//! The coordinator that is measured: the program itself, in a process of its own.

use std::{
    env::current_exe,
    fs,
    io::{BufRead, BufReader, copy, sink},
    process::{Child, Command, Stdio},
    thread,
};

use tempfile::TempDir;

/// Clock ticks a second in `/proc`, on every Linux of today.
const TICKS_PER_SECOND: f64 = 100.0;

/// A coordinator that ends with its handle.
pub(crate) struct Served {
    process: Child,
    data: TempDir,
    pub(crate) http: String,
    pub(crate) grpc: String,
}

impl Served {
    /// Starts one whose queue takes so many videos.
    pub(crate) fn start(queue: usize) -> Self {
        let data = tempfile::tempdir().unwrap();
        let program = current_exe().unwrap().parent().unwrap().with_file_name("filmloom");
        let mut process = Command::new(program)
            .args(["serve", "--no-worker", "--no-discovery", "--http", "127.0.0.1:0"])
            .args(["--grpc", "127.0.0.1:0", "--queue", &queue.to_string(), "--data"])
            .arg(data.path())
            .stderr(Stdio::piped())
            .spawn()
            .expect("build the program first: cargo build --release -p filmloom");
        let mut said = BufReader::new(process.stderr.take().unwrap());
        let mut line = String::new();
        let (http, grpc) = loop {
            line.clear();
            assert!(0 < said.read_line(&mut line).unwrap(), "the coordinator ended");
            let addresses = line.strip_prefix("HTTP at http://");
            if let Some((http, grpc)) = addresses.and_then(|at| at.split_once(", workers at ")) {
                break (http.to_owned(), grpc.trim().to_owned());
            }
        };
        thread::spawn(move || copy(&mut said, &mut sink()));
        Self { process, data, http, grpc }
    }

    pub(crate) fn token(&self) -> String {
        fs::read_to_string(self.data.path().join("join.token")).unwrap().trim().to_owned()
    }

    /// Memory that it holds.
    pub(crate) fn resident_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib: f64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib / 1024.0
    }

    /// Time for which it had a core.
    pub(crate) fn compute_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.process.id())).unwrap();
        // The name, in parentheses, may hold anything.
        let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: f64 = fields[11..13].iter().map(|ticks| ticks.parse::<f64>().unwrap()).sum();
        ticks / TICKS_PER_SECOND
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        // It may have ended by itself.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}
