//! A disk that fills up in the middle: what was made stays and plays.
//!
//! A limit on the size of files gives what a full disk gives (a write that
//! fails after a part of its bytes) without a mount; the signal that comes with
//! it is ignored, as on a full disk there is none.

use std::{path::Path, process::Command};

use crate::{
    formats::count,
    support::{Run, assert_empty, run},
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

/// Makes 100 s of video where no file may have more than so many blocks of 512
/// or 1024 bytes, as the shell likes.
fn run_with_file_blocks(blocks: u32, output: &Path) -> Run {
    let script = format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &script, env!("CARGO_BIN_EXE_filmloom"), "generate", "a red ball", "-o"]);
    command.arg(output).args(["--size", "32x32", "--steps", "1", "--first-steps", "1"]);
    run(command.args(["--seed", "7", "-s", "100"]))
}
