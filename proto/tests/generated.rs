//! The generated code is that of the `.proto` files.
//!
//! It is kept beside them, so that building needs neither a generator nor
//! protoc. After a change of a `.proto` file run
//! `FILMLOOM_WRITE=1 cargo test -p filmloom-proto --test generated`.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

use std::{
    fs,
    path::{Path, PathBuf},
};

const FILES: [&str; 5] = [
    "filmloom/admin/v1/admin.proto",
    "filmloom/blob/v1/blob.proto",
    "filmloom/cluster/v1/cluster.proto",
    "filmloom/control/v1/control.proto",
    "filmloom/data/v1/data.proto",
];

#[test]
fn generated_code_is_that_of_the_proto_files() {
    let kept = here().join("src/generated");
    let made = tempfile::tempdir().unwrap();
    generate(made.path());
    if std::env::var_os("FILMLOOM_WRITE").is_some() {
        fs::create_dir_all(&kept).unwrap();
        for path in list(&kept) {
            fs::remove_file(path).unwrap();
        }
        for path in list(made.path()) {
            fs::copy(&path, kept.join(path.file_name().unwrap())).unwrap();
        }
    }

    let names = |paths: &[PathBuf]| -> Vec<_> {
        paths.iter().map(|path| path.file_name().unwrap().to_owned()).collect()
    };
    let (kept, made) = (list(&kept), list(made.path()));
    assert_eq!(names(&kept), names(&made));
    for (kept, made) in kept.iter().zip(&made) {
        let equal = fs::read(kept).unwrap() == fs::read(made).unwrap();
        assert!(equal, "{} is out of date: see the top of this test", kept.display());
    }
}

fn generate(folder: &Path) {
    let set = protox::compile(FILES, [here()]).unwrap();
    tonic_prost_build::configure()
        .out_dir(folder)
        .file_descriptor_set_path(folder.join("descriptors.bin"))
        .bytes(".filmloom.data.v1.Part.data")
        .bytes(".filmloom.blob.v1.Part.data")
        .compile_fds(set.clone())
        .unwrap();
    let bytes = prost::Message::encode_to_vec(&set);
    fs::write(folder.join("descriptors.bin"), bytes).unwrap();
}

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn list(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}
