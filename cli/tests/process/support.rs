//! Starting the command, and model folders with something wrong in them.

use std::{
    fs,
    os::unix,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::Value;
use tempfile::TempDir;

/// What a process left behind.
pub(crate) struct Run {
    pub(crate) code: Option<i32>,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// The command, with these arguments.
pub(crate) fn filmloom(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_filmloom"));
    command.args(args);
    command
}

/// `generate` in the quickest way: small pictures, one step a chunk.
pub(crate) fn generate(prompt: &str, output: &Path, more: &[&str]) -> Command {
    let mut command = filmloom(&["generate", prompt, "-o"]);
    command.arg(output).args(QUICK);
    if !more.contains(&"--seed") {
        command.args(["--seed", "7"]);
    }
    command.args(more);
    command
}

const QUICK: [&str; 6] = ["--size", "32x32", "--steps", "1", "--first-steps", "1"];

/// Runs a command to its end.
pub(crate) fn run(command: &mut Command) -> Run {
    let Output { status, stdout, stderr } = command.output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    Run { code: status.code(), out: text(stdout), err: text(stderr) }
}

impl Run {
    /// Asserts that the command succeeded.
    pub(crate) fn succeeded(self) -> Self {
        assert_eq!(self.code, Some(0), "{}", self.err);
        assert!(!self.err.contains("error:"), "{}", self.err);
        self
    }

    /// Asserts that the command failed with `code` and one line that contains
    /// all of `parts`, and did not panic.
    pub(crate) fn failed(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, Some(code), "{}", self.err);
        let errors: Vec<&str> = self.err.lines().filter(|l| l.starts_with("error:")).collect();
        assert_eq!(errors.len(), 1, "one error line expected:\n{}", self.err);
        for part in parts {
            assert!(errors[0].contains(part), "`{part}` expected in:\n{}", errors[0]);
        }
        assert!(!self.err.contains("panicked"), "{}", self.err);
    }

    /// The JSON events on standard output.
    pub(crate) fn events(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// The events called `name`.
pub(crate) fn named<'a>(events: &'a [Value], name: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["event"] == name).collect()
}

/// Asserts that there is nothing in a folder.
pub(crate) fn assert_empty(folder: &Path) {
    let names: Vec<_> = folder.read_dir().unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(names.is_empty(), "{names:?}");
}

/// The embedded model as a folder that a test may spoil: links to its files.
pub(crate) struct ModelFolder(TempDir);

impl ModelFolder {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        link_all(&weights(), folder.path());
        Self(folder)
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn arg(&self) -> &str {
        self.path().to_str().unwrap()
    }

    /// Takes a file away.
    pub(crate) fn remove(&self, name: &str) {
        fs::remove_file(self.path().join(name)).unwrap();
    }

    /// Replaces a file by what `change` makes of its content.
    pub(crate) fn change(&self, name: &str, change: impl FnOnce(Vec<u8>) -> Vec<u8>) {
        let path = self.path().join(name);
        let changed = change(fs::read(&path).unwrap());
        fs::remove_file(&path).unwrap();
        fs::write(&path, changed).unwrap();
    }

    /// Replaces a field of a configuration.
    pub(crate) fn set(&self, name: &str, field: &str, value: Value) {
        self.change(name, |text| {
            let mut config: Value = serde_json::from_slice(&text).unwrap();
            config[field] = value;
            config.to_string().into_bytes()
        });
    }

    /// Adds a file.
    pub(crate) fn add(&self, name: &str, bytes: &[u8]) {
        fs::write(self.path().join(name), bytes).unwrap();
    }
}

fn weights() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../models/mini/weights").canonicalize().unwrap()
}

/// Links to a folder's files, in a folder of the same structure.
pub(crate) fn link_all(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            fs::create_dir(&target).unwrap();
            link_all(&path, &target);
        } else {
            unix::fs::symlink(&path, &target).unwrap();
        }
    }
}
