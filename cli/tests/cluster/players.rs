//! What players make of a video that a server gives: ffprobe, and a browser.
//!
//! Needs Debian's `ffmpeg` and `chromium`. Where one is missing the test says so and
//! leaves that part out, or fails if `FILMLOOM_REQUIRE_PLAYERS=1`.

use std::{
    env, fs,
    io::{self, BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, Sender, channel},
    thread,
};

use serde_json::Value;
use tempfile::TempDir;

use crate::pool::{PATIENCE, Process, succeed};

/// Asserts that ffprobe finds so many pictures of the embedded model in a film, and
/// nothing to complain about.
pub(crate) fn assert_plays(film: &[u8], pictures: u64) {
    if !has_program("ffprobe", "ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("film.mp4");
    fs::write(&path, film).unwrap();
    let mut ffprobe = Command::new("ffprobe");
    ffprobe.args(["-v", "error", "-count_frames", "-show_streams", "-of", "json"]);
    let output = succeed(ffprobe.arg(path));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap();
    let [stream] = &found["streams"].as_array().unwrap()[..] else { panic!("{found}") };
    assert_eq!(stream["codec_name"], "h264");
    assert_eq!((&stream["width"], &stream["height"]), (&128.into(), &128.into()));
    assert_eq!(stream["nb_read_frames"], pictures.to_string());
}

/// A browser with a page that plays a film, ended when dropped.
pub(crate) struct Browser {
    /// What the page says of its player, again and again.
    said: Receiver<Value>,
    _chromium: Process,
    _profile: TempDir,
}

impl Browser {
    /// Opens the page, if the machine has a browser.
    pub(crate) fn play(url: &str) -> Option<Self> {
        if !has_program("chromium", "chromium") {
            return None;
        }
        let profile = tempfile::tempdir().unwrap();
        let page = include_str!("player.html").replace("FILM", url);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, said) = channel();
        thread::spawn(move || serve(&listener, &page, &sender));
        let mut chromium = Command::new("chromium");
        chromium.args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"]);
        chromium.args(["--no-first-run", "--disable-background-networking"]);
        chromium.args(["--disable-component-update", "--disable-sync"]);
        chromium.arg("--autoplay-policy=no-user-gesture-required");
        // Small shared memory in containers would crash the page.
        chromium.arg("--disable-dev-shm-usage");
        // Keeps it open after the page has loaded.
        chromium.arg("--remote-debugging-port=0");
        chromium.arg(format!("--user-data-dir={}", profile.path().display()));
        chromium.arg(format!("http://{address}/")).stdout(Stdio::null()).stderr(Stdio::null());
        let chromium = Process(chromium.spawn().unwrap());
        Some(Self { said, _chromium: chromium, _profile: profile })
    }

    /// Waits until the page says something that holds.
    pub(crate) fn wait(&self, what: &str, holds: impl Fn(&Value) -> bool) {
        let mut last = Value::Null;
        loop {
            let said = self.said.recv_timeout(PATIENCE);
            let said = said.unwrap_or_else(|_| panic!("the page is silent: {what}; {last}"));
            assert!(said["error"].is_null(), "{what}: {said}");
            if holds(&said) {
                return;
            }
            assert!(said["age"].as_f64().unwrap() < PATIENCE.as_secs_f64(), "{what}: {said}");
            last = said;
        }
    }
}

/// Answers everything with the page, and passes on what is posted. It ends with the
/// browser, which nobody listens to then.
fn serve(listener: &TcpListener, page: &str, said: &Sender<Value>) {
    for stream in listener.incoming().flatten() {
        // A browser may drop a connection.
        let Ok(posted) = answer(&stream, page) else { continue };
        if posted.is_some_and(|posted| said.send(posted).is_err()) {
            return;
        }
    }
}

fn answer(mut stream: &TcpStream, page: &str) -> io::Result<Option<Value>> {
    let mut reader = BufReader::new(stream);
    let mut body_bytes = 0;
    loop {
        let mut line = String::new();
        reader.read_line(&mut line)?;
        let line = line.trim().to_ascii_lowercase();
        if let Some(count) = line.strip_prefix("content-length:") {
            body_bytes = count.trim().parse().map_err(io::Error::other)?;
        }
        if line.is_empty() {
            break;
        }
    }
    let mut body = vec![0; body_bytes];
    reader.read_exact(&mut body)?;
    let head = "HTTP/1.1 200 OK\r\ncontent-type: text/html\r\nconnection: close";
    write!(stream, "{head}\r\ncontent-length: {}\r\n\r\n{page}", page.len())?;
    Ok(serde_json::from_slice(&body).ok())
}

/// Whether `program` can be run; if it must be there and is not, the test fails.
fn has_program(program: &str, package: &str) -> bool {
    let found = Command::new(program).arg("-version").output().is_ok();
    let required = env::var_os("FILMLOOM_REQUIRE_PLAYERS").is_some_and(|value| value == "1");
    let message = format!("{program} not found; install it with: apt-get install {package}");
    assert!(found || !required, "{message}");
    if !found {
        // Beside the test's captured output, so that it is seen.
        io::stderr().write_all(format!("NOT TESTED: {message}\n").as_bytes()).unwrap();
    }
    found
}
