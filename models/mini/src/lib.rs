//! The embedded model's files, compiled into whatever links this crate.
//!
//! [`FILES`] has the paths of the `weights` folder, so that a model folder on
//! disk and the one in the binary are read by the same code. The bytes stay in
//! the executable file and are paged in by the operating system when they are
//! read; they cost no memory of their own.
//!
//! Invariant: every file of the folder is in the list. A test compares them.

/// Paths relative to the model folder, with the files' contents.
pub const FILES: &[(&str, &[u8])] = &files![
    "model_index.json",
    "scheduler/scheduler_config.json",
    "text_encoder/config.json",
    "text_encoder/model.safetensors",
    "tokenizer/tokenizer.json",
    "tokenizer/tokenizer_config.json",
    "transformer/config.json",
    "transformer/diffusion_pytorch_model-00001-of-00003.safetensors",
    "transformer/diffusion_pytorch_model-00002-of-00003.safetensors",
    "transformer/diffusion_pytorch_model-00003-of-00003.safetensors",
    "transformer/diffusion_pytorch_model.safetensors.index.json",
    "vae/config.json",
    "vae/diffusion_pytorch_model.safetensors",
];

/// Pairs every path with the file it names.
macro_rules! files {
    ($($path:literal),* $(,)?) => {
        [$(($path, include_bytes!(concat!("../weights/", $path)).as_slice())),*]
    };
}
use files;

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_embedded_unchanged() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("weights");

        let mut listed: Vec<String> = FILES.iter().map(|(path, _)| (*path).to_owned()).collect();
        listed.sort();
        assert_eq!(listed, paths_below(&folder, &folder));
        for (path, bytes) in FILES {
            assert!(fs::read(folder.join(path)).unwrap() == *bytes, "{path}");
        }
    }

    /// Sorted paths of all files below `folder`, relative to `root`.
    fn paths_below(root: &Path, folder: &Path) -> Vec<String> {
        let mut paths = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                paths.extend(paths_below(root, &path));
            } else {
                let relative = path.strip_prefix(root).unwrap();
                paths.push(relative.to_str().unwrap().replace('\\', "/"));
            }
        }
        paths.sort();
        paths
    }
}
