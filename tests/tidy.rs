//! The invariants of docs/architecture.md that a compiler does not check.

#![expect(clippy::expect_used, reason = "a test may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use checkpoint::{Checkpoint, Ema, Source, manifest};

/// Lines of a source file, tests excluded; a longer one usually holds two ideas.
const FILE_LINES_MAX: usize = 500;

#[test]
fn every_source_file_says_what_it_is() {
    for (path, text) in sources() {
        let first = text.lines().next().unwrap_or_default();
        assert!(first.starts_with("//!"), "{} has no module documentation", path.display());
    }
}

#[test]
fn source_files_stay_short() {
    for (path, text) in sources() {
        let own = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        let lines = own.lines().count();
        assert!(lines <= FILE_LINES_MAX, "{} has {lines} lines: divide it", path.display());
    }
}

#[test]
fn unsafe_code_is_in_the_backend_only() {
    let opening = ["unsafe", "{"].join(" ");
    for (path, text) in sources() {
        let inside = path.starts_with(root().join("crates/backend"));
        assert!(inside || !text.contains(&opening), "{} has unsafe code", path.display());
    }
}

#[test]
fn pure_crates_depend_on_no_runtime() {
    for crate_name in ["types", "plan", "backend", "checkpoint", "model", "video"] {
        let path = root().join("crates").join(crate_name).join("Cargo.toml");
        let manifest = fs::read_to_string(&path).expect("a crate has a manifest");
        for banned in ["tokio", "tonic", "clap", "axum"] {
            let line = |line: &str| line.starts_with(banned);
            assert!(!manifest.lines().any(line), "{crate_name} depends on {banned}");
        }
    }
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    let documents =
        ["README.md", "CONTRIBUTING.md", "docs/architecture.md", "models/mini/README.md"];
    for document in documents {
        let path = root().join(document);
        let text = fs::read_to_string(&path).expect("the document is there");
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let outside = file.is_empty() || file.contains("://");
            let there = path.parent().expect("a file has a folder").join(file).exists();
            assert!(outside || there, "{document} links to {target}");
        }
    }
}

#[test]
fn the_plan_counts_the_parameters_that_the_files_hold() {
    let source = Source::embedded(filmloom_mini::FILES);
    let checkpoint = Checkpoint::open(source, Ema::Prefer).expect("the embedded model is whole");
    let model = checkpoint.model().expect("its configuration is consistent");
    let (transformer, vae, text) = (
        model.transformer.expect("a transformer"),
        model.vae.expect("a VAE"),
        model.text_encoder.expect("a text encoder"),
    );
    for layers in [0..transformer.layers, 0..3, 3..4, 4..transformer.layers] {
        let listed = manifest::parameters(&manifest::transformer(&transformer, layers.clone()));
        assert_eq!(plan::memory::parameters(&transformer, layers).stage(), listed);
    }
    let listed = manifest::parameters(&manifest::whole_transformer(&transformer));
    let layers = 0..transformer.layers;
    assert_eq!(plan::memory::parameters(&transformer, layers).total(), listed);
    let listed = manifest::parameters(&manifest::vae_decoder(&vae));
    assert_eq!(plan::memory::vae_decoder_parameters(&vae), listed);
    let listed = manifest::parameters(&manifest::text_encoder(&text));
    assert_eq!(plan::memory::text_encoder_parameters(&text), listed);
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("tests stand in the root").to_owned()
}

/// Every Rust file of the workspace.
fn sources() -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = ["crates", "cli", "models", "tests"].map(|name| root().join(name)).to_vec();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the workspace") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("a source file is UTF-8");
                found.push((path, text));
            }
        }
    }
    assert!(found.len() > 50, "only {} source files were found", found.len());
    found
}
