//! `plan`, `model inspect` and `--help`.

use std::{collections::BTreeSet, fs, path::Path};

use serde_json::Value;

use crate::support::{ModelFolder, filmloom, generate, run};

#[test]
fn plan_prints_the_embedded_model_and_built_in_shapes() {
    let own = run(&mut filmloom(&["plan", "--seconds", "60"])).succeeded();
    assert!(own.out.contains("mini, mla"), "{}", own.out);
    assert!(own.out.contains("960 pictures"), "{}", own.out);
    assert!(own.out.contains("mla saves 92.7 % of this cache"), "{}", own.out);

    let named = run(&mut filmloom(&["plan", "--model", "videomla-1.3b"])).succeeded();
    // arXiv:2605.30351, section 3: 6,144 and 448 bytes per token and layer.
    assert!(named.out.contains("6,144 B") && named.out.contains("448 B"), "{}", named.out);
}

#[test]
fn plan_as_json_has_exact_bytes() {
    let args = ["plan", "-m", "videomla-1.3b", "--attention", "dense", "--json"];

    let plan: Value = serde_json::from_str(&run(&mut filmloom(&args)).succeeded().out).unwrap();

    assert_eq!((&plan["own_attention"], &plan["attention"]), (&"mla".into(), &"dense".into()));
    assert_eq!(
        (&plan["dense"]["row_bytes"], &plan["mla"]["row_bytes"]),
        (&6144.into(), &448.into())
    );
    assert_eq!(plan["held"], plan["dense"]["memory"]);
}

#[test]
fn plan_of_a_folder_is_that_of_the_same_model_embedded() {
    let model = ModelFolder::new();
    let plan = |args: &[&str]| {
        let out = run(&mut filmloom(&[&["plan", "--json"], args].concat())).succeeded().out;
        let mut plan: Value = serde_json::from_str(&out).unwrap();
        plan["model"].take();
        plan
    };

    assert_eq!(plan(&["-m", model.arg()]), plan(&[]));
}

#[test]
fn inspect_shows_parts_and_what_is_missing() {
    let whole = run(&mut filmloom(&["model", "inspect"])).succeeded().out;
    for expected in [
        "mla, 56 numbers cached",
        "0 sink and 21 recent frames",
        "18,339,056",
        "128x128, 16 a second",
    ] {
        assert!(whole.contains(expected), "{expected} in\n{whole}");
    }

    let model = ModelFolder::new();
    model.remove("vae/config.json");
    let part = run(&mut filmloom(&["model", "inspect", model.arg()])).succeeded().out;
    assert!(part.contains("missing       VAE"), "{part}");
}

#[test]
fn inspect_reports_all_of_a_broken_folder_and_fails() {
    let model = ModelFolder::new();
    model.change("vae/diffusion_pytorch_model.safetensors", |bytes| bytes[..1000].to_vec());

    let outcome = run(&mut filmloom(&["model", "inspect", model.arg(), "--json"]));

    outcome.failed(2, &["vae/diffusion_pytorch_model.safetensors"]);
    let inspection: Value = serde_json::from_str(&outcome.out).unwrap();
    let parts = inspection["parts"].as_array().unwrap();
    let broken: Vec<&Value> = parts.iter().filter(|part| !part["problem"].is_null()).collect();
    assert_eq!((parts.len(), broken.len()), (4, 1));
    assert_eq!(broken[0]["part"], "vae");
}

#[test]
fn model_knows_every_word_of_the_examples() {
    let readme = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md"));
    let help = run(&mut filmloom(&["generate", "--help"])).succeeded().out;
    let text = readme.unwrap() + &help;
    // What stands in quotes after `generate` or after a time of `--prompt-at`.
    let is_prompt = |before: &str| {
        let mut words = before.split_ascii_whitespace().rev();
        words.next() == Some("generate") || words.next() == Some("--prompt-at")
    };
    let parts: Vec<&str> = text.split('"').collect();
    let prompts: BTreeSet<&str> =
        parts.windows(2).filter(|pair| is_prompt(pair[0])).map(|pair| pair[1]).collect();
    assert!(5 <= prompts.len(), "{prompts:?}");
    let folder = tempfile::tempdir().unwrap();
    for prompt in prompts {
        let output = folder.path().join("a.gif");

        let outcome = run(&mut generate(prompt, &output, &["-s", "0.1"])).succeeded();

        assert!(!outcome.err.contains("warning:"), "{prompt}: {}", outcome.err);
    }
}

#[test]
fn help_has_examples_and_the_version_is_told() {
    for args in [&["--help"][..], &["generate", "--help"], &["plan", "--help"]] {
        let help = run(&mut filmloom(args)).succeeded().out;
        assert!(help.contains("Examples:\n  filmloom "), "{help}");
    }
    let help = run(&mut filmloom(&["plan", "--help"])).out;
    assert!(plan::presets::NAMES.iter().all(|name| help.contains(name)), "{help}");
    let version = run(&mut filmloom(&["--version"])).succeeded().out;
    assert_eq!(version, format!("filmloom {}\n", env!("CARGO_PKG_VERSION")));
}
