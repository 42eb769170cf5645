//! Seeds, threads, prompts and what is told about them.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{
    formats::{count, pngs},
    support::{Run, generate, named, run},
};

#[test]
fn seed_decides_the_bytes() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["mp4", "webp", "gif"] {
        let make = |stem: &str, seed: &str| {
            let output = folder.path().join(stem).with_extension(name);
            run(&mut generate("a red ball", &output, &["-s", "0.6", "--seed", seed])).succeeded();
            fs::read(output).unwrap()
        };

        let [first, again, other] = [make("a", "3"), make("b", "3"), make("c", "4")];

        assert!(first == again, "{name}");
        assert!(first != other, "{name}");
    }
}

#[test]
fn seed_nobody_chose_is_told_and_gives_the_video_again() {
    let folder = tempfile::tempdir().unwrap();
    let [first, again] = ["a.gif", "b.gif"].map(|name| folder.path().join(name));
    let mut chance = crate::support::filmloom(&["generate", "a red ball", "-s", "0.2", "-o"]);
    chance.arg(&first).args(["--size", "32x32", "--steps", "1", "--first-steps", "1", "--json"]);

    let outcome = run(&mut chance).succeeded();
    let seed = named(&outcome.events(), "started")[0]["seed"].to_string();
    run(&mut generate("a red ball", &again, &["-s", "0.2", "--seed", &seed])).succeeded();

    assert!(fs::read(first).unwrap() == fs::read(again).unwrap());
}

#[test]
fn threads_do_not_change_a_bit() {
    let folder = tempfile::tempdir().unwrap();
    for precision in ["f32", "auto"] {
        let make = |threads: &str| {
            let output = folder.path().join(format!("{precision}-{threads}/"));
            let more = ["-s", "1.5", "--size", "64x48", "--precision", precision];
            run(generate("a red ball", &output, &more).args(["--threads", threads])).succeeded();
            pngs(&output)
        };

        let [one, two, three] = ["1", "2", "3"].map(make);

        assert_eq!(one.len(), 24);
        assert!(one == two && one == three, "{precision}");
    }
}

#[test]
fn prompt_changes_at_the_chunk_that_the_event_names() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, more: &[&str]| {
        let output = folder.path().join(name);
        let outcome = run(generate("a red ball", &output, &["-s", "3", "--json"]).args(more));
        (pngs(&output), outcome.succeeded())
    };
    let at = ["--prompt-at", "1s", "a blue cube in a starry night"];

    let (plain, _) = make("plain/", &[]);
    let (kept, told) = make("kept/", &at);
    let (run_again, told_again) =
        make("again/", &[&at[..], &["--prompt-switch", "recache"]].concat());

    // Chunk 2 begins with picture 21, the first chunk after 1 s (picture 16).
    for told in [told, told_again] {
        let events = told.events();
        let [switched] = named(&events, "prompt_switched")[..] else { panic!("{events:?}") };
        assert_eq!((&switched["chunk"], &switched["seconds"]), (&2.into(), &1.3125.into()));
        let position = |name, chunk| {
            events.iter().position(|e| e["event"] == name && e["chunk"] == chunk).unwrap()
        };
        assert!(position("chunk_committed", 1) < position("prompt_switched", 2));
        assert!(position("prompt_switched", 2) < position("chunk_committed", 2));
    }
    for changed in [&kept, &run_again] {
        assert!(changed[..21] == plain[..21]);
        assert!(changed[21..] != plain[21..]);
    }
    assert!(kept[21..] != run_again[21..], "recaching must show");
}

#[test]
fn events_tell_everything_from_start_to_end() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("a.mp4");

    let outcome =
        run(&mut generate("a red ball", &output, &["-s", "2", "--json", "--threads", "2"]));

    let events = outcome.succeeded().events();
    let order: Vec<&str> = events.iter().map(|event| event["event"].as_str().unwrap()).collect();
    let chunks = ["chunk_committed"; 3];
    assert_eq!(order, [&["started", "loaded"][..], &chunks, &["done"]].concat());
    let [started, done] = [&events[0], events.last().unwrap()];
    for (field, expected) in [
        ("seed", Value::from(7)),
        ("threads", 2.into()),
        ("pictures", 32.into()),
        ("chunks", 3.into()),
        ("fps", 16.into()),
        ("width", 32.into()),
        ("height", 32.into()),
        ("model", "mini".into()),
    ] {
        assert_eq!(started[field], expected, "{field}");
    }
    assert!(started["numeric_class"].as_str().unwrap().starts_with("cpu-"));
    let pictures: Vec<_> =
        named(&events, "chunk_committed").iter().map(|chunk| chunk["pictures"].clone()).collect();
    assert_eq!(pictures, [9, 12, 11]);
    assert_eq!((&done["pictures"], &done["interrupted"]), (&32.into(), &false.into()));
    assert_eq!(done["bytes"], output.metadata().unwrap().len());
    assert!(0 < done["memory_peak_bytes"].as_u64().unwrap());
    let stages = ["load", "text", "passes", "commit", "decode", "encode"];
    let stages = stages.map(|stage| done["stages"][format!("{stage}_seconds")].as_f64().unwrap());
    assert!(stages.iter().all(|&seconds| 0.0 < seconds), "{stages:?}");
    let one_after_the_other: f64 = stages[..5].iter().sum();
    assert!(one_after_the_other <= done["total_seconds"].as_f64().unwrap() + 0.01);
}

#[test]
fn pipe_gets_plain_lines_and_quiet_gets_none() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, more: &[&str]| -> Run {
        let output = folder.path().join(name);
        run(generate("a red ball", &output, &["-s", "2"]).args(more)).succeeded()
    };

    let (plain, quiet) = (make("a.gif", &[]), make("b.gif", &["--quiet"]));

    assert!(plain.err.contains("chunk 1/3: 9/32 pictures"), "{}", plain.err);
    assert!(plain.err.contains("chunk 3/3: 32/32 pictures"), "{}", plain.err);
    assert!(plain.err.contains("pictures a second"), "{}", plain.err);
    assert!(plain.err.bytes().all(|byte| byte == b'\n' || b' ' <= byte), "{}", plain.err);
    assert_eq!((&*plain.out, &*quiet.out, &*quiet.err), ("", "", ""));
}

#[test]
fn terminal_gets_a_bar_with_chunk_pass_pace_and_time_left() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("a.gif");
    let line = generate("a red ball", &output, &["-s", "3"]);
    let words = [line.get_program()].into_iter().chain(line.get_args());
    let words: Vec<String> = words.map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    // `script` gives the command a terminal of its own.
    let mut terminal = Command::new("script");
    terminal.args(["--quiet", "--return", "--command", &words.join(" "), "/dev/null"]);

    let shown = run(terminal.stdin(Stdio::null())).succeeded().out;

    let draws: Vec<&str> = shown.split('\r').filter(|draw| draw.contains('─')).collect();
    let last = draws.last().unwrap();
    for expected in ["chunk 5/5 ", "/48 pictures, ", "/s, ", " left"] {
        assert!(last.contains(expected), "{expected} in {last:?}");
    }
    assert!(draws.iter().all(|draw| draw.contains("chunk ")), "{draws:?}");
    // Taken off before the account is written.
    let account = shown.rfind("48 pictures, 3.00 s").unwrap();
    assert!(!shown[account..].contains('─'), "{}", &shown[account..]);
}

#[test]
fn quiet_tells_a_seed_that_nobody_chose() {
    let folder = tempfile::tempdir().unwrap();
    let mut chance = crate::support::filmloom(&["generate", "a red ball", "-s", "0.2", "-q", "-o"]);
    chance.arg(folder.path().join("a.gif"));

    let outcome = run(chance.args(["--size", "32x32", "--steps", "1", "--first-steps", "1"]));

    let told = outcome.succeeded().err;
    let seed = told.strip_prefix("seed ").and_then(|seed| seed.trim_end().parse::<u64>().ok());
    assert!(seed.is_some(), "{told}");
}

#[test]
fn name_that_drives_a_terminal_is_shown_harmless() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("a\u{1b}[31m.gif");

    let outcome = run(&mut generate("a red ball", &output, &["-s", "0.2"])).succeeded();

    assert!(output.exists());
    assert!(outcome.err.contains("a\u{fffd}[31m.gif"), "{}", outcome.err);
    assert!(!outcome.err.contains('\u{1b}'), "{}", outcome.err);
}

#[test]
fn existing_file_is_replaced_by_the_new_video() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("a.mp4");
    fs::write(&output, "an older video").unwrap();

    run(&mut generate("a red ball", &output, &["-s", "0.5"])).succeeded();

    assert_eq!(count(Path::new(&output)), 8);
}

#[test]
fn steps_and_size_change_the_video() {
    let folder = tempfile::tempdir().unwrap();
    let make = |name: &str, more: &[&str]| {
        let output = folder.path().join(name);
        run(generate("a red ball", &output, &["-s", "1"]).args(more)).succeeded();
        pngs(&output)
    };

    let [one, first, later] =
        [make("a/", &[]), make("b/", &["--first-steps", "2"]), make("c/", &["--steps", "2"])];
    let wide = make("d/", &["--size", "48x32"]);

    // The first chunk has 9 pictures.
    assert!(one[..9] != first[..9]);
    assert!(one[..9] == later[..9] && one[9..] != later[9..]);
    assert_eq!([one[0].len(), wide[0].len()], [32 * 32 * 3, 48 * 32 * 3]);
}

#[test]
fn video_is_finished_though_nobody_reads_its_events() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("a.mp4");
    let mut command = generate("a red ball", &output, &["-s", "2", "--json"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    // Every event from now on is written into a closed pipe.
    drop(child.stdout.take());

    assert!(child.wait().unwrap().success());

    assert_eq!(count(&output), 32);
}
