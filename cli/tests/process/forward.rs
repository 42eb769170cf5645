//! `model forward`, file in and file out, against the golden cases.

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::FileTypeExt,
    path::{Path, PathBuf},
    process::Command,
};

use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use serde_json::Value;

use crate::support::{assert_empty, filmloom, link_all, run};

/// How far an output may be from its reference, by norm, in f32.
const TOLERANCE: f64 = 1e-4;

#[test]
fn every_part_gives_the_reference_numbers_from_file_to_file() {
    for (part, case, more) in [
        ("text", "text-one-head", &[][..]),
        ("transformer", "mla-paper-form", &["--dump-cache"]),
        ("transformer", "dense-cache-pt", &["--dump-cache"]),
        ("transformer", "wan-odd-grid", &[]),
        ("vae", "vae-early-time", &[]),
        ("pipeline", "pipeline-renoise", &[]),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let output = folder.path().join("got.safetensors");

        run(forward(part, case, &input(case), &output).args(more)).succeeded();

        let got = tensors(&fs::read(&output).unwrap());
        let want = tensors(&fs::read(golden(case).join("out.safetensors")).unwrap());
        for (name, (shape, want)) in want {
            let (got_shape, got) = &got[&name];
            assert_eq!(got_shape, &shape, "{case}: shape of {name}");
            let error = distance(got, &want);
            assert!(error < TOLERANCE, "{case}: {name} is off by {error}");
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "one file and no other");
    }
}

#[test]
fn decoding_frame_by_frame_gives_the_same_file() {
    let folder = tempfile::tempdir().unwrap();
    let case = "vae-three-levels";
    let decode = |name: &str, more: &[&str]| {
        let output = folder.path().join(name);
        run(forward("vae", case, &input(case), &output).args(more)).succeeded();
        fs::read(output).unwrap()
    };

    assert!(decode("whole", &[]) == decode("streamed", &["--stream"]));
}

#[test]
fn cached_rows_are_only_written_when_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let output = folder.path().join("got.safetensors");

    let case = "mla-paper-form";
    run(&mut forward("transformer", case, &input(case), &output)).succeeded();

    let names: Vec<String> = tensors(&fs::read(&output).unwrap()).into_keys().collect();
    assert_eq!(names, ["velocity"]);
}

#[test]
fn inputs_that_do_not_fit_are_refused_by_name_and_nothing_is_written() {
    let (folder, inputs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = folder.path().join("got.safetensors");
    let refuse = |input: &Path, parts: &[&str]| {
        run(&mut forward("vae", "vae-three-levels", input, &output)).failed(2, parts);
        assert_empty(folder.path());
    };
    let write = |name: &str, bytes: Vec<u8>| {
        let path = inputs.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let one = |name: &str, dtype, shape: &[usize], bytes: &[u8]| {
        let view = TensorView::new(dtype, shape.to_vec(), bytes).unwrap();
        safetensors::serialize([(name, view)], None).unwrap()
    };

    refuse(&inputs.path().join("absent"), &["absent"]);
    refuse(&write("text", b"no tensors".to_vec()), &["text"]);
    let other = one("pictures", Dtype::F32, &[1], &[0; 4]);
    refuse(&write("other", other), &["other", "latents", "missing"]);
    let bytes = one("latents", Dtype::U8, &[4], &[0; 4]);
    refuse(&write("bytes", bytes), &["latents", "U8", "F32"]);
    let flat = one("latents", Dtype::F32, &[2, 2], &[0; 16]);
    refuse(&write("flat", flat), &["latents", "[2, 2]"]);
}

#[test]
fn numbers_out_of_range_are_refused_by_name() {
    let (folder, inputs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = folder.path().join("got.safetensors");
    let changed = inputs.path().join("in.safetensors");
    let refuse = |part: &str, case: &str, name: &str, bytes: &[u8], parts: &[&str]| {
        fs::write(&changed, with(&fs::read(input(case)).unwrap(), name, bytes)).unwrap();
        run(&mut forward(part, case, &changed, &output)).failed(2, parts);
        assert_empty(folder.path());
    };

    for timestep in [5000.0, -1.0, f32::NAN] {
        let bytes = timestep.to_le_bytes();
        refuse("transformer", "mla-paper-form", "timestep", &bytes, &["timestep", "1000"]);
    }
    for chunks in [0, -1, (1_i64 << 31) - 1] {
        let bytes = chunks.to_le_bytes();
        refuse("pipeline", "pipeline-renoise", "chunks", &bytes, &["chunks"]);
    }
    let case = "vae-three-levels";
    for (more, expected) in [
        (&["--threads", "99999999999"][..], "'--threads <N>': give a whole number from 1 to 1024"),
        (&["--dump-cache"], "--dump-cache is for --part transformer alone"),
    ] {
        run(forward("vae", case, &input(case), &output).args(more)).failed(2, &[expected]);
    }
    let case = "text-one-head";
    run(forward("text", case, &input(case), &output).arg("--stream"))
        .failed(2, &["--stream is for --part vae alone"]);
    assert_empty(folder.path());
}

#[test]
fn run_that_does_not_fit_is_refused_before_loading() {
    let (folder, inputs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let output = folder.path().join("got.safetensors");
    let changed = inputs.path().join("in.safetensors");
    // 100 MB in, a picture of 10,000 x 10,000 out: 3.6 GB with its copies.
    let (channels, side) = (4, 2500);
    let bytes = vec![0; 4 * channels * side * side];
    let view = TensorView::new(Dtype::F32, vec![channels, 1, side, side], &bytes).unwrap();
    fs::write(&changed, safetensors::serialize([("latents", view)], None).unwrap()).unwrap();
    let run_it = forward("vae", "vae-three-levels", &changed, &output);
    let mut limited = Command::new("sh");
    limited.args(["-c", "ulimit -v 3000000; exec \"$0\" \"$@\""]);

    let outcome = run(limited.arg(run_it.get_program()).args(run_it.get_args()));

    outcome.failed(2, &["not enough memory", "the results take 3.60 GB"]);
    assert_empty(folder.path());
}

#[test]
fn output_is_a_file_of_its_own_or_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let case = "vae-three-levels";
    let decode = |name: &str| run(&mut forward("vae", case, &input(case), &path(name)));
    assert!(Command::new("mkfifo").arg(path("pipe")).status().unwrap().success());
    fs::create_dir(path("folder")).unwrap();

    for name in ["pipe", "folder", "no/such/folder/x"] {
        decode(name).failed(2, &["cannot write", name]);
    }
    assert!(fs::symlink_metadata(path("pipe")).unwrap().file_type().is_fifo());

    fs::write(path("file.part"), "somebody's").unwrap();
    std::os::unix::fs::symlink("file", path("link")).unwrap();
    decode("link").succeeded();
    assert!(path("link").is_symlink() && path("file").is_file());
    assert_eq!(fs::read(path("file.part")).unwrap(), b"somebody's");
}

#[test]
fn full_disk_leaves_no_output_and_is_no_mistake_of_the_user() {
    let folder = tempfile::tempdir().unwrap();
    let case = "vae-three-levels";
    let whole = forward("vae", case, &input(case), &folder.path().join("x"));
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 1; exec \"$0\" \"$@\""]);

    let outcome = run(limited.arg(whole.get_program()).args(whole.get_args()));

    outcome.failed(1, &["cannot write", "File too large"]);
    assert_empty(folder.path());
}

#[test]
fn a_model_without_a_window_makes_one_chunk_of_a_known_length() {
    let (folder, outputs) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let case = "pipeline-wan-listed";
    link_all(&golden(case).join("model"), folder.path());
    let config = folder.path().join("filmloom.json");
    let mut stated: Value = serde_json::from_slice(&fs::read(&config).unwrap()).unwrap();
    stated.as_object_mut().unwrap().remove("window");
    fs::remove_file(&config).unwrap();
    fs::write(&config, stated.to_string()).unwrap();

    let mut command = filmloom(&["model", "forward", "--part", "pipeline", "--model"]);
    command.arg(folder.path()).arg("--input").arg(input(case));
    let run = run(command.arg("--output").arg(outputs.path().join("got.safetensors")));

    run.failed(2, &["without a window", "one chunk"]);
    assert_empty(outputs.path());
}

fn forward(part: &str, case: &str, input: &Path, output: &Path) -> Command {
    let mut command = filmloom(&["model", "forward", "--part", part, "--model"]);
    command.arg(golden(case).join("model"));
    command.arg("--input").arg(input).arg("--output").arg(output);
    command
}

fn input(case: &str) -> PathBuf {
    golden(case).join("in.safetensors")
}

fn golden(case: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden/cases").join(case)
}

/// A file of tensors, the data of one of them replaced.
fn with(file: &[u8], name: &str, bytes: &[u8]) -> Vec<u8> {
    let tensors = SafeTensors::deserialize(file).unwrap();
    assert!(tensors.names().contains(&name), "{name} is not there");
    let tensors = tensors.tensors().into_iter().map(|(other, tensor)| {
        let bytes = if other == name { bytes } else { tensor.data() };
        let view = TensorView::new(tensor.dtype(), tensor.shape().to_vec(), bytes).unwrap();
        (other, view)
    });
    safetensors::serialize(tensors, None).unwrap()
}

type Tensors = BTreeMap<String, (Vec<usize>, Vec<f32>)>;

fn tensors(file: &[u8]) -> Tensors {
    let value = |bytes: &[u8; 4]| f32::from_le_bytes(*bytes);
    let file = SafeTensors::deserialize(file).unwrap();
    let tensor = |(name, tensor): (String, TensorView<'_>)| {
        assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
        let values = tensor.data().as_chunks().0.iter().map(value).collect();
        (name, (tensor.shape().to_vec(), values))
    };
    file.tensors().into_iter().map(tensor).collect()
}

fn distance(got: &[f32], want: &[f32]) -> f64 {
    let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|x| x * x).sum::<f64>().sqrt();
    let pairs = got.iter().zip(want);
    let error = norm(&mut pairs.map(|(&got, &want)| f64::from(got) - f64::from(want)));
    error / norm(&mut want.iter().map(|&want| f64::from(want)))
}
