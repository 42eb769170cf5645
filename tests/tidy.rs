//! The invariants of docs/architecture.md that a compiler does not check.

#![expect(clippy::expect_used, reason = "a test may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
};

use checkpoint::{Checkpoint, Ema, Source, manifest};

/// Lines of a source file, tests excluded; a longer one usually holds two ideas.
const FILE_LINES_MAX: usize = 500;

/// Folders of the repository with sources and documents.
const FOLDERS: [&str; 10] =
    ["bench", "cli", "coordinator", "crates", "docs", "fuzz", "models", "proto", "tests", "worker"];

/// Ends of names by which a word in a document is taken for a file of ours.
const SOURCE_EXTENSIONS: [&str; 6] = ["cu", "md", "py", "rs", "sh", "toml"];

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
fn no_member_of_the_workspace_is_left_out() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the workspace has one");
    let members = manifest.split("members = [").nth(1).and_then(|rest| rest.split(']').next());
    let members: Vec<&str> = members.unwrap_or("").split('"').skip(1).step_by(2).collect();
    assert!(8 < members.len(), "{members:?}");
    for member in members {
        let folder = member.split('/').next();
        assert!(
            folder.is_some_and(|folder| FOLDERS.contains(&folder)),
            "{member} is not looked at"
        );
    }
}

#[test]
fn stricter_lints_hold_all_of_the_others() {
    let lints = |folder: &str| {
        let path = root().join(folder).join("clippy.toml");
        let text = fs::read_to_string(path).expect("the folder has lints of its own");
        text.lines().filter(|line| !line.starts_with('#')).map(Into::into).collect::<Vec<String>>()
    };
    let (types, plan) = (lints("crates/types"), lints("crates/plan"));
    assert_eq!(types, plan);
    let dropped: Vec<_> = lints("crates").into_iter().filter(|line| !plan.contains(line)).collect();
    assert!(dropped.is_empty(), "crates/plan/clippy.toml lacks {dropped:#?}");
}

#[test]
fn links_in_the_documents_lead_somewhere() {
    for (document, text) in files("md") {
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let outside = file.is_empty() || file.contains("://");
            let there = folder(&document).join(file).exists();
            assert!(outside || there, "{} links to {target}", document.display());
        }
    }
}

#[test]
fn paths_in_the_documents_lead_somewhere() {
    let all = paths();
    for (document, text) in files("md") {
        let folder = folder(&document);
        for path in code_words(&text).filter(|word| is_path(word, folder)) {
            // A name alone may stand for a file whose folder the text has named before.
            let named = all.iter().any(|there| there.file_name().is_some_and(|name| name == path));
            let there = named || root().join(path).exists() || folder.join(path).exists();
            assert!(there, "{} names {path}, which is not there", document.display());
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

fn folder(document: &Path) -> &Path {
    document.parent().expect("a file has a folder")
}

/// Words of a document's code: of what stands between backticks, and of its blocks.
fn code_words(text: &str) -> impl Iterator<Item = &str> {
    let spans = text.split("```").enumerate().flat_map(|(part, text)| {
        let block = part % 2 == 1;
        text.split('`').enumerate().filter(move |(piece, _)| block || piece % 2 == 1)
    });
    let words = spans.flat_map(|(_, span)| span.split_whitespace());
    words.map(|word| word.trim_end_matches([',', ';', ':', '.', ')']))
}

/// Whether a word can only mean a file or folder of the repository: it begins with one
/// that is there, in the root or beside the document, or it ends as our sources do. What
/// stands for a name (`cases/NAME/`, `tests/*.rs`) means none.
fn is_path(word: &str, folder: &Path) -> bool {
    let stands_for_a_name =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_uppercase());
    if word.contains(['*', '<', '{', '=', ':', '$']) || word.split('/').any(stands_for_a_name) {
        return false;
    }
    match word.split_once('/') {
        // Built, absolute.
        Some(("target" | "", _)) => false,
        Some((first, _)) if root().join(first).exists() || folder.join(first).exists() => true,
        _ => SOURCE_EXTENSIONS.iter().any(|extension| has_extension(Path::new(word), extension)),
    }
}

/// Every Rust file of the workspace.
fn sources() -> Vec<(PathBuf, String)> {
    let found = files("rs");
    assert!(found.len() > 50, "only {} source files were found", found.len());
    found
}

/// Every file of the repository with this extension, and its text.
fn files(extension: &str) -> Vec<(PathBuf, String)> {
    let paths = paths().into_iter().filter(|path| has_extension(path, extension));
    let text = |path: &PathBuf| fs::read_to_string(path).expect("a text file is UTF-8");
    paths.map(|path| (path.clone(), text(&path))).collect()
}

/// Every file of the repository but what is built or installed there.
fn paths() -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("a folder of the repository") {
            let entry = entry.expect("an entry");
            let (path, name) = (entry.path(), entry.file_name());
            let ours = folder != root() || FOLDERS.iter().any(|folder| name == *folder);
            if !path.is_dir() {
                found.push(path);
            } else if ours && name != "venv" && name != "generated" {
                folders.push(path);
            }
        }
    }
    found
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension().is_some_and(|found| found == extension)
}
