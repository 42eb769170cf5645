//! The weight files of one part, as one set of named tensors.
//!
//! Of a folder's files are taken, in this order: a safetensors index and the
//! shards it names; the one safetensors file, or a whole numbered set of
//! shards; the one torch file (`.pt`, `.pth`, `.bin`). Several candidates
//! without an index are an error, not a choice.
//!
//! A shard that the index names and that is not there is no error here: a
//! stage needs only the shards of its layers. It becomes one when a tensor in
//! it is asked for.
//!
//! Names are cleaned of what training wrappers put into them, and tensors that
//! only training used are dropped (public loaders of the Self-Forcing family
//! do the same).

use std::collections::BTreeMap;

use serde::Deserialize;

use crate::{
    Error, Result, Source,
    formats::{ByName, safetensors, torch},
    json_words,
    source::join,
};

/// Whether to take the moving average that a training checkpoint may hold
/// beside the weights themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ema {
    /// Take it where there is one.
    #[default]
    Prefer,
    /// Take the weights as last trained.
    Ignore,
}

/// All tensors of one part.
#[derive(Debug)]
pub(crate) struct Weights {
    /// Tensors by cleaned name.
    pub(crate) tensors: ByName,
    /// Tensors in shards that are not there: the shard and its index.
    pub(crate) absent: BTreeMap<String, Absent>,
    /// The files, as messages name them, with their sizes in bytes.
    pub(crate) files: Vec<(String, u64)>,
}

#[derive(Debug)]
pub(crate) struct Absent {
    pub(crate) file: String,
    pub(crate) index: String,
}

/// Which files hold a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum WeightFiles {
    /// An index, which names the shards.
    Index(String),
    /// Safetensors files.
    Safetensors(Vec<String>),
    /// A torch file.
    Torch(String),
}

/// A safetensors index.
#[derive(Deserialize)]
struct Index {
    weight_map: BTreeMap<String, String>,
}

/// The largest index read. One of ten thousand tensors takes about 1.2 MB.
const INDEX_BYTES_MAX: usize = 4 << 20;
const NO_WEIGHTS: &str = "no weights here: looked for .safetensors, .pt, .pth and .bin files, \
     put the part's own beside its config.json";
const INDEX_SUFFIX: &str = ".safetensors.index.json";
const TORCH_SUFFIXES: [&str; 3] = [".pt", ".pth", ".bin"];
/// Files that stand beside the transformer in the original layout.
const OTHER_PARTS: [&str; 2] = ["models_t5", "Wan2.1_VAE"];
const WRAPPERS: [&str; 3] = ["_fsdp_wrapped_module.", "_checkpoint_wrapped_module.", "_orig_mod."];
const TRAINING_ONLY: [&str; 3] = ["_cls_pred_branch", "_register_tokens", "_gan_ca_blocks"];

impl WeightFiles {
    /// Finds the weight files directly in `folder`.
    ///
    /// # Errors
    ///
    /// [`Error::NoWeights`] if there are none, or more than one candidate.
    pub(crate) fn find(source: &Source, folder: &str) -> Result<Self> {
        let names: Vec<String> = source
            .list(folder)
            .into_iter()
            .filter(|name| !OTHER_PARTS.iter().any(|other| name.starts_with(other)))
            .collect();
        let ending = |suffixes: &[&str]| -> Vec<String> {
            let ends = |name: &&String| suffixes.iter().any(|suffix| name.ends_with(suffix));
            names.iter().filter(ends).cloned().collect()
        };
        let indices = ending(&[INDEX_SUFFIX]);
        if let Some(index) = the_usual(&indices, INDEX_SUFFIX) {
            return Ok(Self::Index(join(folder, index)));
        }
        let safetensors = ending(&[".safetensors"]);
        if let Some(file) = the_usual(&safetensors, ".safetensors") {
            return Ok(Self::Safetensors(vec![join(folder, file)]));
        }
        if is_whole_set(&safetensors) {
            let files = safetensors.iter().map(|name| join(folder, name)).collect();
            return Ok(Self::Safetensors(files));
        }
        let torch = ending(&TORCH_SUFFIXES);
        match (indices.as_slice(), safetensors.as_slice(), torch.as_slice()) {
            ([], [], [file]) => Ok(Self::Torch(join(folder, file))),
            ([], [], []) => {
                let folder = source.display(folder);
                Err(Error::NoWeights { folder, problem: NO_WEIGHTS.into() })
            }
            _ => Err(unclear(source, folder, &[indices, safetensors, torch].concat())),
        }
    }
}

/// Several files in `folder` might be the part's weights.
pub(crate) fn unclear(source: &Source, folder: &str, candidates: &[String]) -> Error {
    let candidates = candidates.join(", ");
    let problem = format!("which weights to use is unclear: keep one of {candidates}");
    Error::NoWeights { folder: source.display(folder), problem }
}

/// The only candidate, or the one under the libraries' usual name.
fn the_usual<'a>(names: &'a [String], suffix: &str) -> Option<&'a String> {
    let usual = |name: &&String| {
        ["diffusion_pytorch_model", "model"].iter().any(|stem| **name == format!("{stem}{suffix}"))
    };
    match names {
        [only] if shard_of(only).is_none() => Some(only),
        several => several.iter().find(usual),
    }
}

/// Whether the files are all parts of one numbered set of shards.
fn is_whole_set(names: &[String]) -> bool {
    let Some((stem, _, count)) = names.first().and_then(|name| shard_of(name)) else {
        return false;
    };
    let numbers = names.iter().enumerate();
    names.len() == count
        && numbers
            .map(|(at, name)| (at + 1, name))
            .all(|(number, name)| shard_of(name) == Some((stem, number, count)))
}

/// Stem, number and count of `stem-00001-of-00003.safetensors`.
fn shard_of(name: &str) -> Option<(&str, usize, usize)> {
    let (rest, count) = name.strip_suffix(".safetensors")?.rsplit_once("-of-")?;
    let (stem, number) = rest.rsplit_once('-')?;
    Some((stem, number.parse().ok()?, count.parse().ok()?))
}

impl Weights {
    /// Reads the headers of `files`.
    ///
    /// # Errors
    ///
    /// As the formats', and [`Error::Corrupt`] for an index that contradicts a
    /// shard or a tensor that occurs twice.
    pub(crate) fn open(source: &Source, files: &WeightFiles, ema: Ema) -> Result<Self> {
        let mut weights = Self::empty();
        match files {
            WeightFiles::Index(index) => weights.add_indexed(source, index)?,
            WeightFiles::Safetensors(files) => {
                for file in files {
                    let tensors = weights.read(source, file)?;
                    weights.add(tensors)?;
                }
            }
            WeightFiles::Torch(file) => {
                let bytes = source.read(file)?;
                let shown = source.display(file);
                weights.files.push((shown.clone(), bytes.len() as u64));
                weights.add(torch::read(&shown, &bytes, ema)?)?;
            }
        }
        Ok(weights)
    }

    fn empty() -> Self {
        Self { tensors: ByName::new(), absent: BTreeMap::new(), files: Vec::new() }
    }

    fn read(&mut self, source: &Source, file: &str) -> Result<ByName> {
        let bytes = source.read(file)?;
        let shown = source.display(file);
        self.files.push((shown.clone(), bytes.len() as u64));
        safetensors::read(&shown, &bytes)
    }

    fn add_indexed(&mut self, source: &Source, index: &str) -> Result<()> {
        let shown = source.display(index);
        let text = source.read_whole(index, "an index", INDEX_BYTES_MAX)?;
        let Index { weight_map } = serde_json::from_slice(&text).map_err(|error| {
            let problem = json_words(&error.to_string());
            Error::Json { file: shown.clone(), problem }
        })?;
        let folder = index.rsplit_once('/').map_or("", |(folder, _)| folder);
        let mut shards: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for (tensor, shard) in weight_map {
            shards.entry(shard).or_default().push(tensor);
        }
        for (shard, tensors) in shards {
            let problem = |problem| Error::Corrupt { file: shown.clone(), problem };
            if shard.contains(['/', '\\']) || shard == ".." {
                return Err(problem(format!("`{shard}` is not the name of a file beside it")));
            }
            let path = join(folder, &shard);
            if !source.has(&path) {
                let file = source.display(&path);
                for tensor in tensors {
                    let absent = Absent { file: file.clone(), index: shown.clone() };
                    self.absent.insert(clean(&tensor), absent);
                }
                continue;
            }
            let mut held = self.read(source, &path)?;
            let mut indexed = ByName::new();
            for tensor in tensors {
                let stored = held.remove(&tensor).ok_or_else(|| {
                    problem(format!("says that {shard} holds `{tensor}`, which it does not"))
                })?;
                indexed.insert(tensor, stored);
            }
            self.add(indexed)?;
        }
        Ok(())
    }

    /// Adds tensors under their cleaned names.
    fn add(&mut self, tensors: ByName) -> Result<()> {
        for (name, stored) in tensors {
            if TRAINING_ONLY.iter().any(|part| name.contains(part)) {
                continue;
            }
            let file = stored.file.to_string();
            let cleaned = clean(&name);
            if self.tensors.insert(cleaned.clone(), stored).is_some() {
                let problem = format!("tensor `{cleaned}` occurs twice (once as `{name}`)");
                return Err(Error::Corrupt { file, problem });
            }
        }
        Ok(())
    }

    /// The file that messages name when a tensor is in none.
    pub(crate) fn some_file(&self) -> String {
        self.files.first().map(|(file, _)| file.clone()).unwrap_or_default()
    }
}

/// A name without what training wrappers put into it.
fn clean(name: &str) -> String {
    let mut name = name.to_owned();
    for wrapper in WRAPPERS {
        name = name.replace(wrapper, "");
    }
    name.strip_prefix("model.").map(str::to_owned).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use ::safetensors::{Dtype, serialize, tensor::TensorView};

    use super::*;

    #[test]
    fn training_wrappers_vanish_from_names() {
        let wrapped = "model._fsdp_wrapped_module.blocks.0._checkpoint_wrapped_module.norm3.bias";
        assert_eq!(clean(wrapped), "blocks.0.norm3.bias");
        assert_eq!(clean("_orig_mod.model.head.modulation"), "head.modulation");
        assert_eq!(clean("encoder.block.0.model.weight"), "encoder.block.0.model.weight");
    }

    #[test]
    fn the_index_wins_then_the_usual_name_then_a_whole_set() {
        let index = "diffusion_pytorch_model.safetensors.index.json";
        let shards = ["m-00001-of-00002.safetensors", "m-00002-of-00002.safetensors"];
        assert_eq!(find(&[index, shards[0]]).unwrap(), WeightFiles::Index(format!("p/{index}")));
        let usual = "model.safetensors";
        assert_eq!(
            find(&["model.fp16.safetensors", usual]).unwrap(),
            WeightFiles::Safetensors(vec![format!("p/{usual}")])
        );
        let both = shards.map(|shard| format!("p/{shard}")).to_vec();
        assert_eq!(find(&shards).unwrap(), WeightFiles::Safetensors(both));
        assert_eq!(find(&["model.pt"]).unwrap(), WeightFiles::Torch("p/model.pt".into()));
    }

    #[test]
    fn doubt_about_the_weight_file_is_an_error_that_lists_the_candidates() {
        let half = find(&["m-00001-of-00002.safetensors"]).unwrap_err().to_string();
        assert!(half.contains("m-00001-of-00002.safetensors"), "{half}");
        let two = find(&["a.pt", "b.pt"]).unwrap_err().to_string();
        assert!(two.contains("a.pt, b.pt"), "{two}");
        let none = find(&["config.json"]).unwrap_err().to_string();
        assert!(none.contains("looked for .safetensors"), "{none}");
    }

    #[test]
    fn an_index_may_not_point_outside_its_folder() {
        let index = br#"{"weight_map": {"a": "../secret.safetensors"}}"#.to_vec();
        let source = Source::memory([("model.safetensors.index.json".into(), index)]);
        let files = WeightFiles::find(&source, "").unwrap();

        let error = Weights::open(&source, &files, Ema::Prefer).unwrap_err().to_string();

        assert!(error.contains("../secret.safetensors"), "{error}");
    }

    #[test]
    fn an_absurd_index_is_not_parsed() {
        let index = vec![b' '; INDEX_BYTES_MAX + 1];
        let source = Source::memory([("model.safetensors.index.json".into(), index)]);
        let files = WeightFiles::find(&source, "").unwrap();

        let error = Weights::open(&source, &files, Ema::Prefer).unwrap_err().to_string();

        assert!(error.contains("4194305 bytes are absurd"), "{error}");
    }

    #[test]
    fn what_only_training_used_is_dropped() {
        let torch = include_bytes!("../tests/fixtures/torch.pt").to_vec();
        let source = Source::memory([("model.pt".into(), torch)]);
        let files = WeightFiles::find(&source, "").unwrap();

        let weights = Weights::open(&source, &files, Ema::Ignore).unwrap();

        let names: Vec<&str> = weights.tensors.keys().map(String::as_str).collect();
        let expected =
            ["bf16", "count", "empty", "f16", "f32", "f64", "row", "scalar", "transposed"];
        assert_eq!(names, expected);
    }

    #[test]
    fn a_tensor_in_two_shards_is_an_error() {
        let view = || TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
        let shards = [("a", 1), ("model.a", 2)].map(|(name, number)| {
            let file = serialize([(name, view())], None).unwrap();
            (format!("m-0000{number}-of-00002.safetensors"), file)
        });
        let source = Source::memory(shards);
        let files = WeightFiles::find(&source, "").unwrap();

        let error = Weights::open(&source, &files, Ema::Prefer).unwrap_err().to_string();

        assert!(error.contains("m-00002-of-00002.safetensors: tensor `a` occurs twice"), "{error}");
    }

    #[test]
    fn an_index_that_contradicts_a_shard_is_an_error() {
        let view = TensorView::new(Dtype::F32, vec![1], &[0; 4]).unwrap();
        let shard = serialize([("a", view)], None).unwrap();
        let index = br#"{"weight_map": {"b": "m.safetensors"}}"#.to_vec();
        let files = [("m.safetensors", shard), ("m.safetensors.index.json", index)];
        let source = Source::memory(files.map(|(name, bytes)| (name.to_owned(), bytes)));
        let files = WeightFiles::find(&source, "").unwrap();

        let error = Weights::open(&source, &files, Ema::Prefer).unwrap_err().to_string();

        assert!(error.contains("m.safetensors.index.json: says that m.safetensors holds `b`"));
    }

    fn find(names: &[&str]) -> Result<WeightFiles> {
        let files = names.iter().map(|name| (format!("p/{name}"), Vec::new()));
        WeightFiles::find(&Source::memory(files), "p")
    }
}
