//! Ctrl-C and a request to terminate: the file plays, and the message says how
//! far it came.

use std::{
    io::{BufRead, BufReader},
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::Duration,
};

use serde_json::Value;

use crate::{
    formats::count,
    support::{Run, generate, named},
};

/// A signal is answered within this time, on a busy machine too.
const ANSWER: Duration = Duration::from_secs(5);

#[test]
fn signal_leaves_a_video_that_plays() {
    for (name, signal) in [("a.mp4", "INT"), ("a.webp", "TERM"), ("a.gif", "INT"), ("a/", "INT")] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join(name);
        let mut command = generate("a red ball", &output, &["-s", "3600", "--json"]);

        let stopped = stop_after_chunk(&mut command, 2, signal);

        assert_eq!(stopped.code, Some(130), "{}", stopped.err);
        let events = stopped.events();
        let [done] = named(&events, "done")[..] else { panic!("{events:?}") };
        let pictures = count(&output);
        assert!((33..57_600).contains(&pictures), "{pictures}");
        assert_eq!(done["pictures"], pictures);
        assert_eq!(done["interrupted"], true);
        let expected = format!("has the first {pictures} of 57600 pictures");
        assert!(stopped.err.starts_with("stopped: "), "{}", stopped.err);
        assert!(stopped.err.contains(&expected), "{}", stopped.err);
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "{name}");
    }
}

#[test]
fn signal_does_not_wait_for_the_chunk() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("a.mp4");
    // A chunk of 1,000 guided steps takes longer than the answer to a signal may.
    let mut command = generate("a red ball", &output, &["-s", "60", "--json"]);
    command.args(["--first-steps", "1000", "--size", "128x128"]);

    let stopped = stop_after(&mut command, |event| event["event"] == "loaded", "INT");

    assert_eq!(stopped.code, Some(130), "{}", stopped.err);
    assert_eq!(stopped.err, "stopped: nothing was written\n");
    assert_eq!(folder.path().read_dir().unwrap().count(), 0);
}

#[test]
fn pipe_hears_of_a_chunk_that_takes_long() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = generate("a red ball", &folder.path().join("a.mp4"), &["-s", "60"]);
    command.args(["--first-steps", "1000", "--size", "128x128"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);

    let pass = lines.find(|line| line.starts_with("chunk 1/81 pass "));

    send("INT", &child.id().to_string());
    assert!(pass.is_some_and(|line| line.contains("/1001: 0/960 pictures, ")));
    assert_eq!(child.wait().unwrap().code(), Some(130));
}

fn stop_after_chunk(command: &mut Command, chunk: u64, signal: &str) -> Run {
    stop_after(
        command,
        |event| event["event"] == "chunk_committed" && event["chunk"] == chunk,
        signal,
    )
}

/// Runs the command until `reached` an event, then sends the signal.
fn stop_after(command: &mut Command, reached: impl Fn(&Value) -> bool, signal: &str) -> Run {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut out = String::new();
    let mut read = |out: &mut String| match lines.next() {
        Some(line) => {
            let line = line.unwrap();
            let event = serde_json::from_str(&line).unwrap();
            out.push_str(&format!("{line}\n"));
            Some(event)
        }
        None => None,
    };
    while let Some(event) = read(&mut out) {
        if reached(&event) {
            break;
        }
    }
    let id = child.id().to_string();
    send(signal, &id);
    let (stopped, watch) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if watch.recv_timeout(ANSWER) == Err(RecvTimeoutError::Timeout) {
            send("KILL", &id);
        }
    });
    while read(&mut out).is_some() {}
    let output = child.wait_with_output().unwrap();
    drop(stopped);
    watchdog.join().unwrap();
    assert_ne!(output.status.signal(), Some(9), "it did not stop within {ANSWER:?}");
    Run { code: output.status.code(), out, err: String::from_utf8(output.stderr).unwrap() }
}

fn send(signal: &str, id: &str) {
    assert!(Command::new("kill").args(["-s", signal, id]).status().unwrap().success());
}
