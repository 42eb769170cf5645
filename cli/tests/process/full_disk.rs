//! A disk that fills up in the middle: what was made stays and plays.
//!
//! A limit on the size of files gives what a full disk gives (a write that
//! fails after a part of its bytes) without a mount; the signal that comes with
//! it is ignored, as on a full disk there is none.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use crate::{
    formats::count,
    support::{Run, assert_empty, filmloom, generate, run},
};

#[test]
fn full_disk_keeps_what_was_made() {
    for name in ["a.mp4", "a.webp", "a.gif"] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join(name);

        let outcome = run_with_file_blocks(40, &output);

        let pictures = count(&output);
        assert!((1..1600).contains(&pictures), "{name}: {pictures}");
        let kept = format!("has the first {pictures} of 1600 pictures");
        outcome.failed(1, &["cannot write", name, "File too large", &kept]);
        assert!(!outcome.err.contains("warning:"), "{name}: {}", outcome.err);
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "{name}");
    }
}

#[test]
fn disk_that_is_full_from_the_start_leaves_nothing() {
    for name in ["a.mp4", "a.webp", "a.gif", "a/"] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join(name);

        let outcome = run_with_file_blocks(0, &output);

        outcome.failed(1, &["cannot write", "File too large", "nothing was written"]);
        assert_empty(folder.path());
    }
}

#[test]
fn result_that_is_lost_is_a_failure() {
    for args in [&["plan", "--json"][..], &["plan"], &["model", "inspect"], &["--help"]] {
        let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();

        let outcome = run_into(filmloom(args), full);

        outcome.failed(1, &["cannot write to standard output", "No space left"]);
    }
}

#[test]
fn video_is_finished_though_its_events_are_lost_and_that_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("a.mp4");
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();

    let outcome = run_into(generate("a red ball", &output, &["-s", "2", "--json"]), full);

    outcome.failed(1, &["cannot write to standard output", "No space left"]);
    assert_eq!(count(&output), 32);
}

/// Runs a command whose standard output is `out`.
fn run_into(mut command: Command, out: fs::File) -> Run {
    let child = command.stdout(out).stderr(Stdio::piped()).spawn().unwrap();
    let output = child.wait_with_output().unwrap();
    let err = String::from_utf8(output.stderr).unwrap();
    Run { code: output.status.code(), out: String::new(), err }
}

/// Makes 100 s of video where no file may have more than so many blocks of 512
/// or 1024 bytes, as the shell likes.
fn run_with_file_blocks(blocks: u32, output: &Path) -> Run {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_filmloom"), "generate", "a red ball", "-o"]);
    command.arg(output).args(["--size", "32x32", "--steps", "1", "--first-steps", "1"]);
    run(command.args(["--seed", "7", "-s", "100"]))
}
