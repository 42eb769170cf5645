//! A pool of real processes on loopback.

use std::{
    fs,
    io::{self, BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStderr, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;
use ureq::{RequestBuilder, typestate::WithoutBody};

/// How long anything may take before the test has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// A coordinator with its workers. All end with it.
pub(crate) struct Pool {
    folder: TempDir,
    coordinator: Option<Process>,
    pub(crate) workers: Vec<Process>,
    pub(crate) http: String,
    pub(crate) grpc: String,
    /// What HTTP clients show; set it if the coordinator asks for one.
    pub(crate) key: &'static str,
    /// What the coordinator is always started with.
    own: Vec<String>,
    started: usize,
}

/// A process that ends with its handle, and what it has said.
pub(crate) struct Process(pub(crate) Child);

impl Process {
    /// Asks it to end.
    pub(crate) fn terminate(&self) {
        self.signal("-TERM");
    }

    /// Lets it stand still, and go on for a moment: it gets little done, and nobody takes
    /// it for lost, as a connection may be silent for six seconds.
    pub(crate) fn rest(&self) {
        self.signal("-STOP");
        thread::sleep(Duration::from_secs(4));
        self.signal("-CONT");
        thread::sleep(Duration::from_millis(20));
    }

    fn signal(&self, signal: &str) {
        let id = self.0.id().to_string();
        assert!(Command::new("kill").args([signal, &id]).status().unwrap().success());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub(crate) fn filmloom() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_filmloom"));
    command.stdin(Stdio::null()).env("FILMLOOM_LOG", "info").env_remove("FILMLOOM_TOKEN");
    command
}

impl Pool {
    /// A coordinator without a worker.
    pub(crate) fn start(arguments: &[&str]) -> Self {
        Self::start_as(&["--no-worker"], arguments)
    }

    /// A coordinator whose process is a worker with one thread too.
    pub(crate) fn start_computing(arguments: &[&str]) -> Self {
        Self::start_as(&["--threads", "1"], arguments)
    }

    fn start_as(own: &[&str], arguments: &[&str]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (http, grpc) = ("127.0.0.1:0".to_owned(), "127.0.0.1:0".to_owned());
        let own = own.iter().map(|&argument| argument.to_owned()).collect();
        let (coordinator, workers, started, key) = (None, Vec::new(), 0, "none");
        let mut pool = Self { folder, coordinator, workers, http, grpc, key, own, started };
        pool.serve(arguments);
        pool
    }

    /// Starts the coordinator, at the addresses that it had if it had any.
    pub(crate) fn serve(&mut self, arguments: &[&str]) {
        let mut serve = filmloom();
        serve.args(["serve", "--http", &self.http, "--grpc", &self.grpc]);
        serve.arg("--data").arg(self.folder.path()).args(&self.own).args(arguments);
        let mut child = serve.stderr(Stdio::piped()).spawn().unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        let log = self.folder.path().join("coordinator.log");
        let log = fs::File::options().create(true).append(true).open(log).unwrap();
        let (http, grpc) = addresses(said, log);
        (self.http, self.grpc) = (http, grpc);
        self.coordinator = Some(Process(child));
    }

    /// Ends the coordinator without a word.
    pub(crate) fn kill_coordinator(&mut self) {
        self.coordinator = None;
    }

    /// Ends the coordinator in peace.
    pub(crate) fn stop_coordinator(&mut self) {
        let Some(mut coordinator) = self.coordinator.take() else { return };
        coordinator.terminate();
        assert!(coordinator.0.wait().unwrap().success());
    }

    /// The most memory that the coordinator has used so far.
    #[cfg(target_os = "linux")]
    pub(crate) fn coordinator_peak_bytes(&self) -> u64 {
        let id = self.coordinator.as_ref().unwrap().0.id();
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kib: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
        kib * 1024
    }

    /// The coordinator's folder.
    pub(crate) fn data(&self) -> &Path {
        self.folder.path()
    }

    /// Adds a worker with one thread.
    pub(crate) fn add_worker(&mut self, arguments: &[&str]) {
        self.started += 1;
        let name = format!("w{}", self.started);
        let data = self.folder.path().join(&name);
        let mut worker = self.worker(&data);
        worker.args(["--name", &name, "--token", &self.token()]).args(arguments);
        let log = fs::File::create(self.folder.path().join(format!("{name}.log"))).unwrap();
        self.workers.push(Process(worker.stderr(log).spawn().unwrap()));
    }

    /// The command of a worker with this data folder, without a token.
    pub(crate) fn worker(&self, data: &Path) -> Command {
        let mut worker = filmloom();
        worker.args(["worker", "--join", &self.grpc, "--threads", "1"]);
        worker.args(["--listen", "127.0.0.1:0"]).arg("--data").arg(data);
        worker
    }

    pub(crate) fn token(&self) -> String {
        let token = fs::read_to_string(self.folder.path().join("join.token")).unwrap();
        token.trim().to_owned()
    }

    /// The output of a command that manages it, on the coordinator's machine.
    pub(crate) fn manage(&self, arguments: &[&str]) -> String {
        let output = succeed(filmloom().args(arguments).arg("--data").arg(self.data()));
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Waits until a first chunk has gone through a pipeline of so many workers.
    pub(crate) fn wait_ready(&self, workers: usize) {
        self.wait(&format!("{workers} workers are ready"), || {
            let members = self.members();
            let busy = |worker: &&Value| worker["stages"].as_array().is_some_and(|s| !s.is_empty());
            let is_whole = members.iter().filter(busy).count() == workers;
            let is_ready = self.json("/readyz").is_some();
            (is_whole && is_ready).then_some(())
        });
    }

    /// The workers that are here; none if the coordinator does not answer.
    pub(crate) fn members(&self) -> Vec<Value> {
        let cluster = self.json("/v1/cluster").unwrap_or_default();
        cluster["workers"].as_array().cloned().unwrap_or_default()
    }

    /// Waits for something, and gives it.
    pub(crate) fn wait<T>(&self, what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(found) = poll() {
                return found;
            }
            thread::sleep(Duration::from_millis(50));
        }
        panic!("not in time: {what}; {:?}\n{}", self.json("/v1/cluster"), self.logs());
    }

    /// A JSON answer of the server; nothing if it refuses.
    pub(crate) fn json(&self, path: &str) -> Option<Value> {
        let answer = self.get(path).call().ok()?;
        let text = answer.into_body().read_to_string().ok()?;
        Some(serde_json::from_str(&text).unwrap_or(Value::String(text)))
    }

    /// Asks for a video and gives its id.
    pub(crate) fn create(&self, prompt: &str, seed: u64, seconds: f64) -> String {
        self.ask(&serde_json::json!({ "prompt": prompt, "seed": seed, "seconds": seconds }))
    }

    /// Asks for a video in all of its fields, and gives its id.
    pub(crate) fn ask(&self, body: &Value) -> String {
        let request = ureq::post(format!("http://{}/v1/videos", self.http));
        let answer = request.header("authorization", self.authorization()).send_json(body);
        let text = answer.unwrap().into_body().read_to_string().unwrap();
        let video: Value = serde_json::from_str(&text).unwrap();
        video["id"].as_str().unwrap().to_owned()
    }

    pub(crate) fn delete(&self, id: &str) -> bool {
        let request = ureq::delete(format!("http://{}/v1/videos/{id}", self.http));
        request.header("authorization", self.authorization()).call().is_ok()
    }

    fn get(&self, path: &str) -> RequestBuilder<WithoutBody> {
        let request = ureq::get(format!("http://{}{path}", self.http));
        request.header("authorization", self.authorization())
    }

    fn authorization(&self) -> String {
        format!("Bearer {}", self.key)
    }

    /// Waits until a video is finished.
    pub(crate) fn wait_completed(&self, id: &str) {
        self.wait(&format!("{id} is finished"), || {
            let video = self.json(&format!("/v1/videos/{id}"))?;
            assert!(video["status"] != "failed", "{video}\n{}", self.logs());
            (video["status"] == "completed").then_some(())
        });
    }

    /// Lines of a video's events, as they happen.
    pub(crate) fn follow(&self, id: &str) -> impl BufRead + use<> {
        self.follow_after(id, None)
    }

    /// The same behind the event that was seen last.
    pub(crate) fn follow_after(&self, id: &str, last: Option<&str>) -> impl BufRead + use<> {
        let mut request = self.get(&format!("/v1/videos/{id}/events"));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        BufReader::new(request.call().unwrap().into_body().into_reader())
    }

    /// What happened to a video that has ended, since its coordinator began.
    pub(crate) fn events(&self, id: &str) -> Vec<Value> {
        let lines = self.follow(id).lines().map(Result::unwrap);
        let events = lines
            .filter_map(|line| Some(serde_json::from_str(line.strip_prefix("data:")?).unwrap()));
        events.collect()
    }

    /// The finished video's file.
    pub(crate) fn content(&self, id: &str) -> Vec<u8> {
        let answer = self.get(&format!("/v1/videos/{id}/content")).call();
        answer.unwrap().into_body().read_to_vec().unwrap()
    }

    pub(crate) fn logs(&self) -> String {
        let mut logs = String::new();
        for entry in fs::read_dir(self.folder.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                logs += &format!("== {}\n{}\n", path.display(), fs::read_to_string(&path).unwrap());
            }
        }
        logs
    }
}

/// The addresses that a coordinator says it listens at; what else it says goes into
/// its log.
fn addresses(mut said: BufReader<ChildStderr>, mut log: fs::File) -> (String, String) {
    let mut line = String::new();
    loop {
        line.clear();
        assert!(0 < said.read_line(&mut line).unwrap(), "the coordinator ended");
        log.write_all(line.as_bytes()).unwrap();
        let found = line.strip_prefix("HTTP at http://");
        if let Some((http, grpc)) = found.and_then(|rest| rest.split_once(", workers at ")) {
            let addresses = (http.to_owned(), grpc.trim().to_owned());
            thread::spawn(move || io::copy(&mut said, &mut log));
            return addresses;
        }
    }
}

/// The command's output, if it succeeded.
pub(crate) fn succeed(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    output
}

/// The file of a video that one process makes.
pub(crate) fn alone(prompt: &str, seed: u64, seconds: u32) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("alone.mp4");
    let (seed, seconds) = (seed.to_string(), seconds.to_string());
    let mut command = filmloom();
    command.args(["generate", prompt, "-s", &seconds, "--seed", &seed, "-q", "--threads", "1"]);
    succeed(command.arg("-o").arg(&output));
    fs::read(output).unwrap()
}

/// Files of a folder with their content.
pub(crate) fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, fs::read(path).unwrap())
        })
        .collect();
    files.sort();
    files
}
