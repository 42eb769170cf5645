//! A case: a model folder, inputs, and the outputs they must give.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use model::forward::Array;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;

/// One folder under `cases`.
#[derive(Debug)]
pub(crate) struct Case {
    pub(crate) name: String,
    pub(crate) part: Part,
    pub(crate) model: PathBuf,
    pub(crate) tolerance: Tolerance,
    pub(crate) masked_rows: bool,
    pub(crate) also_streamed: bool,
    pub(crate) input: Tensors,
    pub(crate) output: Tensors,
    pub(crate) draws: Vec<Draw>,
}

/// Tensors of a file. Integers and bytes are widened to f64, exactly.
#[derive(Debug, Default)]
pub(crate) struct Tensors(BTreeMap<String, (Vec<usize>, Vec<f64>)>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Part {
    Text,
    Transformer,
    Vae,
    Pipeline,
    Noise,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Tolerance {
    pub(crate) f32: f64,
    #[serde(default)]
    pub(crate) bf16: f64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Draw {
    pub(crate) seed: String,
    pub(crate) chunk: u32,
    pub(crate) step: u32,
    #[serde(default)]
    pub(crate) domain: u32,
}

/// How far a result may be from its reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Measure {
    /// By norm only.
    Norm,
    /// By norm and by largest difference.
    Strict,
}

#[derive(Deserialize)]
struct File {
    part: Part,
    #[serde(default)]
    model: String,
    tolerance: Tolerance,
    rows: Option<String>,
    #[serde(default)]
    also_streamed: bool,
    #[serde(default)]
    draws: Vec<Draw>,
}

impl Case {
    pub(crate) fn read(folder: &Path) -> Self {
        let text = std::fs::read_to_string(folder.join("case.json")).expect("case.json is there");
        let file: File = serde_json::from_str(&text).expect("case.json is as README.md says");
        Self {
            name: folder.file_name().expect("a name").to_string_lossy().into_owned(),
            part: file.part,
            model: folder.join(file.model),
            tolerance: file.tolerance,
            masked_rows: file.rows.is_some(),
            also_streamed: file.also_streamed,
            input: Tensors::read(&folder.join("in.safetensors")),
            output: Tensors::read(&folder.join("out.safetensors")),
            draws: file.draws,
        }
    }

    /// Whether a weight file of the case's model holds bf16.
    pub(crate) fn has_bf16_weights(&self) -> bool {
        let files = |folder: &Path| {
            let entries = std::fs::read_dir(folder).into_iter().flatten();
            entries.map(|entry| entry.expect("a folder entry").path())
        };
        let folders = ["text_encoder", "transformer", "vae"].map(|part| self.model.join(part));
        let weights = folders
            .iter()
            .flat_map(|folder| files(folder))
            .filter(|path| path.extension().is_some_and(|extension| extension == "safetensors"));
        weights.into_iter().any(|path| {
            let bytes = std::fs::read(path).expect("a file of the repository");
            let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
            file.tensors().iter().any(|(_, tensor)| tensor.dtype() == Dtype::BF16)
        })
    }

    /// Compares a result with the reference of this name.
    pub(crate) fn compare(
        &self,
        name: &str,
        got: &Array,
        tolerance: f64,
        measure: Measure,
    ) -> Result<(), String> {
        let Some((shape, want)) = self.output.0.get(name) else {
            return Err(format!("no reference for {name}"));
        };
        if &got.shape != shape {
            return Err(format!("{name}: shape {:?} instead of {shape:?}", got.shape));
        }
        compare(name, &got.values, want, tolerance, measure)
    }
}

/// Compares values with a reference.
pub(crate) fn compare(
    name: &str,
    got: &[f32],
    want: &[f64],
    tolerance: f64,
    measure: Measure,
) -> Result<(), String> {
    assert_eq!(got.len(), want.len(), "{name}: number of values");
    let pairs = || got.iter().zip(want).map(|(&got, &want)| (f64::from(got) - want, want));
    let error: f64 = pairs().map(|(error, _)| error * error).sum::<f64>().sqrt();
    let size: f64 = pairs().map(|(_, want)| want * want).sum::<f64>().sqrt();
    let largest = |f: &dyn Fn((f64, f64)) -> f64| pairs().map(f).fold(0.0, f64::max);
    let worst = largest(&|(error, _)| error.abs()) / largest(&|(_, want)| want.abs());
    let by_norm = error / size;
    // Not `tolerance < by_norm`, so that NaN fails.
    let near = by_norm <= tolerance && (measure == Measure::Norm || worst <= tolerance);
    match near {
        true => Ok(()),
        false => Err(format!("{name}: off by {by_norm:.1e} (norm), {worst:.1e} (worst)")),
    }
}

impl Tensors {
    fn read(path: &Path) -> Self {
        let Ok(bytes) = std::fs::read(path) else { return Self::default() };
        let file = SafeTensors::deserialize(&bytes).expect("a safetensors file");
        let tensors = file.tensors().into_iter().map(|(name, tensor)| {
            (name, (tensor.shape().to_vec(), values(tensor.dtype(), tensor.data())))
        });
        Self(tensors.collect())
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// Values of a tensor that must be there.
    pub(crate) fn values(&self, name: &str) -> &[f64] {
        &self.0[name].1
    }

    /// A tensor as f32, if it is there.
    #[expect(clippy::cast_possible_truncation, reason = "stored as f32 or narrower")]
    pub(crate) fn array(&self, name: &str) -> Option<Array> {
        let (shape, values) = self.0.get(name)?;
        Some(Array { shape: shape.clone(), values: values.iter().map(|&x| x as f32).collect() })
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "no other kind is in a case")]
fn values(dtype: Dtype, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        Dtype::F32 => {
            bytes.as_chunks().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
        }
        Dtype::I64 => bytes.as_chunks().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
        Dtype::U8 => bytes.iter().map(|&b| f64::from(b)).collect(),
        other => panic!("cases hold F32, I64 and U8, not {other:?}"),
    }
}
