//! Wrong arguments: one clear line, status 2, nothing left behind.

use std::process::Command;

use crate::support::{assert_empty, filmloom, generate, run};

#[test]
fn wrong_arguments_are_refused_before_anything_is_made() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("a.mp4");
    for (more, expected) in [
        (&["--seconds", "0"][..], "a video of 0 seconds cannot be made"),
        (&["--seconds", "-4"], "a video of -4 seconds cannot be made"),
        (&["--seconds", "NaN"], "a video of NaN seconds cannot be made"),
        (&["--seconds", "1e9"], "at most 86400 are allowed"),
        (&["--seconds", "inf"], "at most 86400 are allowed"),
        (&["--seconds", "0.01"], "less than half a picture"),
        (&["--seconds", "soon"], "give seconds, such as 20, 2.5s or 1m30s"),
        (&["--size", "100x100"], "must be multiples of 16 and 16"),
        (&["--threads", "0"], "'--threads <N>': give a whole number from 1 to 1024"),
        (&["--steps", "0"], "'--steps <N>': give a whole number from 1 to 1000"),
        (&["--seed", "-1"], "'--seed <N>': give a whole number from 0 to"),
        (&["--prompt-at", "1s", "--json"], "2 values required for '--prompt-at"),
        (&["--prompt-switch", "recache"], "required arguments were not provided"),
        (&["rolls"], "unexpected argument 'rolls' found; put the prompt in quotes"),
        (&["--prompt-at", "20s", "a cube"], "--prompt-at 20s: no chunk begins between then"),
        (&["--prompt-at", "1s", " "], "the prompt at 1s is empty"),
        (&["--speed", "3"], "unexpected argument '--speed' found"),
    ] {
        let outcome = run(&mut generate("a red ball", &output, more));

        outcome.failed(2, &[expected]);
        assert_empty(folder.path());
    }
}

#[test]
fn empty_prompt_is_refused_before_the_model_is_looked_at() {
    let folder = tempfile::tempdir().unwrap();
    for prompt in ["", "  \n\t ", "&nbsp;"] {
        let output = folder.path().join("a.mp4");
        let outcome = run(&mut generate(prompt, &output, &["--model", "no/such/folder"]));

        outcome.failed(2, &["the prompt is empty"]);
        assert_empty(folder.path());
    }
}

#[test]
fn long_prompt_is_cut_with_a_warning_and_unknown_words_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let prompt = format!("a red wyvern rolls {}", "over green hills ".repeat(300));

    let outcome =
        run(&mut generate(&prompt, &folder.path().join("a.gif"), &["-s", "0.2"])).succeeded();

    let warnings: Vec<&str> =
        outcome.err.lines().filter(|line| line.starts_with("warning:")).collect();
    assert_eq!(warnings.len(), 2, "{}", outcome.err);
    assert!(warnings[0].contains("does not know `wyvern`"), "{}", warnings[0]);
    assert!(warnings[1].contains("tokens are left out"), "{}", warnings[1]);
}

#[test]
fn output_that_cannot_be_written_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("file"), "in the way").unwrap();
    for (name, expected) in [
        ("a.avi", ".mp4, .webp, .gif, or / for a folder of PNG pictures"),
        ("a", "unknown video format"),
        ("no/such/folder/a.mp4", "cannot write"),
        ("file/a.gif", "cannot write"),
        ("file/a/", "cannot write"),
    ] {
        let outcome = run(&mut generate("a red ball", &folder.path().join(name), &[]));

        outcome.failed(2, &[expected, name]);
        assert_eq!(folder.path().read_dir().unwrap().count(), 1, "{name}");
    }
}

#[test]
fn folder_with_pictures_is_not_mixed_with_new_ones() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("000003.png"), "old").unwrap();

    let outcome = run(&mut generate("a red ball", folder.path(), &["-s", "0.2"]));

    outcome.failed(2, &["already holds 000003.png"]);
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}

#[test]
fn failure_is_an_event_too() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("a.mp4");

    for (more, expected) in [
        (["-s", "0"], "a video of 0 seconds"),
        (["--steps", "many"], "give a whole number"),
        (["-q", "-q"], "cannot be used with"),
    ] {
        let outcome = run(generate("a red ball", &output, &["--json"]).args(more));

        outcome.failed(2, &[expected]);
        let events = outcome.events();
        assert_eq!(events.len(), 1, "{events:?}");
        assert_eq!((&events[0]["event"], &events[0]["exit_code"]), (&"error".into(), &2.into()));
        assert!(outcome.err.contains(events[0]["message"].as_str().unwrap()));
    }
}

#[test]
fn stage_of_more_layers_than_there_are_is_refused() {
    run(&mut filmloom(&["bench", "cache", "--layers", "8"]))
        .failed(2, &["--layers 8: mini has 8 layers", "give 1 to 7"]);
}

#[test]
fn video_that_the_shell_leaves_no_memory_for_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("a.webp");
    let args = ["generate", "a red ball", "--size", "4096x4096", "-o"];

    let outcome = run(limited(&args).arg(&output));

    outcome.failed(2, &["not enough memory", "are needed", "are available"]);
    assert_empty(folder.path());
}

/// The command under a limit of 3 GB of addresses.
fn limited(args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -v 3000000; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_filmloom")]);
    command.args(args);
    command
}

#[test]
fn benchmark_that_does_not_fit_is_refused_before_loading() {
    run(&mut limited(&["bench", "cache", "-m", "wan-14b", "--layers", "39"]))
        .failed(2, &["not enough memory", "are needed"]);
}

#[test]
fn wrong_command_lines_are_explained() {
    run(&mut filmloom(&["paint"])).failed(2, &["unrecognized subcommand 'paint'"]);
    run(&mut filmloom(&["generate"])).failed(2, &["required arguments", "--output"]);
    run(&mut filmloom(&["plan", "--model", "wan-99b"]))
        .failed(2, &["neither a model folder nor a built-in shape", "wan-14b-mla"]);
    assert_eq!(run(&mut filmloom(&[])).code, Some(2));
}
