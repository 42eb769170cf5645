//! A browser plays the finished file, the stream, a cut stream, and a live stream.
//!
//! Chromium without a window opens a page from a server on the loopback; the page plays
//! each case to its end in real time and posts what it saw.

use std::{
    collections::BTreeMap,
    fs,
    process::{Child, Command, Stdio},
    time::Duration,
};

use crate::{
    OPTIONS, animation, cut, has_program,
    server::{Files, serve},
    stream, write_file,
};

/// Chosen: the page plays some ten seconds of video; a loaded machine may take long to start.
const ANSWER_SECONDS_MAX: u64 = 120;

#[test]
fn browser_plays_finished_fragmented_cut_and_live() {
    if !has_program("chromium", "chromium") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (address, answers) = serve(files(folder.path()));
    let _browser = Browser::open(&format!("http://{address}/"), folder.path());
    let timeout = Duration::from_secs(ANSWER_SECONDS_MAX);
    let answer = answers.recv_timeout(timeout).expect("the page answers once all was played");

    let seen = parse(&answer);
    // Name, chunks of 12 pictures, and a place inside the red ball on the last picture.
    let cases: [(_, u32, _); 4] = [
        ("finished", 4, (118, 80)),
        ("fragmented", 4, (118, 80)),
        ("killed", 2, (61, 44)),
        ("live", 2, (61, 44)),
    ];
    for (name, chunks, (x, y)) in cases {
        let fields = seen.get(name).unwrap_or_else(|| panic!("{name} is missing in:\n{answer}"));
        assert_eq!((fields["error"], fields["ended"]), ("none", "true"), "{answer}");
        assert_eq!((fields["width"], fields["height"]), ("128", "128"), "{answer}");
        // One picture less: without a table of contents the last one's end is a guess.
        assert_near(fields["seconds"], &[f64::from(chunks) * 0.75], 0.07, &answer);
        let last = 12 * chunks - 1;
        let pictured = animation::draw(128, 128, last.into());
        assert_near(fields["floor"], &pixel(&pictured, 64, 126), 8.0, &answer);
        assert_near(fields[&*format!("ball-{last}")], &pixel(&pictured, x, y), 8.0, &answer);
    }
    // A torn picture may be reported as an error, but only after what came before it.
    let played: f64 = seen["cut"]["seconds"].parse().unwrap();
    assert_eq!(seen["cut"]["width"], "128", "{answer}");
    assert!((1.0..=2.3).contains(&played), "two of three chunks of 0.75 s are whole: {answer}");
    for name in ["webp", "gif"] {
        assert_eq!((seen[name]["pictures"], seen[name]["loops"]), ("24", "Infinity"), "{answer}");
        assert_near(seen[name]["seconds"], &[1.5], 0.001, &answer);
    }
}

/// A running browser, ended when dropped.
struct Browser(Child);

impl Browser {
    fn open(url: &str, folder: &std::path::Path) -> Self {
        let profile = folder.join("profile");
        let child = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic"])
            .args(["--no-first-run", "--disable-background-networking"])
            .args(["--disable-component-update", "--disable-sync"])
            .arg("--autoplay-policy=no-user-gesture-required")
            // Small shared memory in containers would crash the page.
            .arg("--disable-dev-shm-usage")
            .arg("--remote-debugging-port=0") // keeps it open after the page has loaded
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(url)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn files(folder: &std::path::Path) -> Files {
    let written = |name: &str, pictures| {
        let path = folder.join(name);
        write_file(&path, &OPTIONS, pictures);
        fs::read(path).unwrap()
    };
    let (fragmenter, fragments) = stream(4);
    let header_bytes = fragmenter.header().len();
    let ends: Vec<usize> = fragments
        .iter()
        .scan(header_bytes, |end, fragment| {
            *end += fragment.bytes.len();
            Some(*end)
        })
        .collect();
    let mp4 = "video/mp4";
    BTreeMap::from([
        ("/", ("text/html", include_bytes!("page.html").to_vec())),
        ("/finished.mp4", (mp4, written("a.mp4", 48))),
        ("/fragmented.mp4", (mp4, cut(&fragmenter, &fragments, ends[3]))),
        // Killed while the next fragment was begun.
        ("/killed.mp4", (mp4, cut(&fragmenter, &fragments, ends[1] + 60))),
        ("/cut.mp4", (mp4, cut(&fragmenter, &fragments, ends[1].midpoint(ends[2])))),
        ("/mime-type", ("text/plain", fragmenter.mime_type().into_bytes())),
        ("/header", (mp4, fragmenter.header().to_vec())),
        ("/fragment-1", (mp4, fragments[0].bytes.clone())),
        ("/fragment-2", (mp4, fragments[1].bytes.clone())),
        ("/ball.webp", ("image/webp", written("a.webp", 24))),
        ("/ball.gif", ("image/gif", written("a.gif", 24))),
    ])
}

/// Lines of "name key=value key=value".
fn parse(answer: &str) -> BTreeMap<&str, BTreeMap<&str, &str>> {
    let lines = answer.lines().filter_map(|line| line.split_once(' '));
    lines
        .map(|(name, fields)| (name, fields.split(' ').filter_map(|f| f.split_once('=')).collect()))
        .collect()
}

fn pixel(rgb: &[u8], x: usize, y: usize) -> Vec<f64> {
    rgb[3 * (128 * y + x)..][..3].iter().map(|&value| value.into()).collect()
}

fn assert_near(found: &str, expected: &[f64], tolerance: f64, answer: &str) {
    let found: Vec<f64> = found.split(',').map(|value| value.parse().unwrap()).collect();
    let near = |(a, b): (&f64, &f64)| (a - b).abs() <= tolerance;
    assert!(found.iter().zip(expected).all(near), "{found:?} is not {expected:?} in:\n{answer}");
}
