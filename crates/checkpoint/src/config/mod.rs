//! Configuration files, each in a struct that mirrors it, turned once into the
//! resolved forms of `types::config`.
//!
//! A value that contradicts another one, or that asks for something not
//! implemented, is an error naming file and field. Unknown keys are errors in
//! our own files (`CausalWanMLATransformer3DModel`, `filmloom.json`, the
//! `video` section); in foreign ones they are ignored, except those known to
//! change the mathematics.

mod causal;
pub(crate) mod latent;
pub(crate) mod run;
pub(crate) mod text;
pub(crate) mod vae;
pub(crate) mod wan;

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{Error, Result, Source, json_words};

/// The on-disk family of a transformer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// `CausalWanMLATransformer3DModel`: ours.
    Filmloom,
    /// `WanTransformer3DModel`, in diffusers' layout: a teacher.
    Diffusers,
    /// `CausalWanTransformer3DModel`: a student in diffusers' layout.
    CausalDiffusers,
    /// `WanModel`, as in the Wan repository: a teacher.
    Original,
    /// `CausalWanModel`: a student as in the Self-Forcing repository.
    CausalOriginal,
}

impl Family {
    /// The family of a transformer's file, by its class or else by its keys.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if the class is another one.
    pub(crate) fn of(file: &File) -> Result<Self> {
        let has = |key: &str| file.object.contains_key(key);
        match file.text("_class_name") {
            "CausalWanMLATransformer3DModel" => Ok(Self::Filmloom),
            "WanTransformer3DModel" => Ok(Self::Diffusers),
            "CausalWanTransformer3DModel" => Ok(Self::CausalDiffusers),
            "WanModel" => Ok(Self::Original),
            "CausalWanModel" => Ok(Self::CausalOriginal),
            "" if has("chunk_frames") => Ok(Self::Filmloom),
            "" if has("attention_head_dim") => Ok(Self::Diffusers),
            "" if has("in_dim") => Ok(Self::Original),
            found => {
                let problem = format!(
                    "expected CausalWanMLATransformer3DModel, [Causal]WanTransformer3DModel or \
                     [Causal]WanModel, found `{found}`"
                );
                Err(file.error("_class_name", problem))
            }
        }
    }

    /// Whether its models always have a window.
    pub(crate) fn is_causal(self) -> bool {
        match self {
            Self::Filmloom | Self::CausalDiffusers | Self::CausalOriginal => true,
            Self::Diffusers | Self::Original => false,
        }
    }
}

/// The largest width, rank or row count accepted, so that products of a few
/// of them cannot overflow.
const SIZE_MAX: usize = 1 << 20;
/// The largest number of layers accepted, since lists of tensors grow with it.
const LAYERS_MAX: usize = 1 << 12;

/// The largest configuration read; they have some kilobytes, and parsing takes
/// some twenty times their length.
const FILE_BYTES_MAX: usize = 1 << 20;

/// A JSON object together with its name in messages.
pub(crate) struct File {
    pub(crate) name: String,
    pub(crate) object: Map<String, Value>,
}

impl File {
    /// Reads the JSON object at `path`.
    ///
    /// # Errors
    ///
    /// [`Error::Io`], [`Error::TooLarge`], or [`Error::Json`] if it is not a JSON
    /// object.
    pub(crate) fn read(source: &Source, path: &str) -> Result<Self> {
        let name = source.display(path);
        let bytes = source.read_whole(path, "a configuration", FILE_BYTES_MAX)?;
        match serde_json::from_slice(&bytes) {
            Ok(object) => Ok(Self { name, object }),
            Err(error) => Err(Error::Json { file: name, problem: json_words(&error.to_string()) }),
        }
    }

    /// The text under `key`, or `""`.
    pub(crate) fn text(&self, key: &str) -> &str {
        self.object.get(key).and_then(Value::as_str).unwrap_or_default()
    }

    /// The object as `T`, without the keys that begin with `_`.
    ///
    /// # Errors
    ///
    /// [`Error::Config`] if a field is of another type than `T`'s, [`Error::Json`]
    /// if one is missing or unknown to `T`.
    pub(crate) fn parse<T: DeserializeOwned>(&self) -> Result<T> {
        let mut object = self.object.clone();
        object.retain(|key, _| !key.starts_with('_'));
        serde_path_to_error::deserialize(Value::Object(object)).map_err(|error| {
            let field = error.path().to_string();
            let problem = json_words(&error.inner().to_string());
            // Of a field that is missing or unknown the message says the name itself.
            match field.as_str() {
                "." => Error::Json { file: self.name.clone(), problem },
                _ => self.error(&field, problem),
            }
        })
    }

    /// An error about `field`.
    pub(crate) fn error(&self, field: &str, problem: impl Into<String>) -> Error {
        Error::Config { file: self.name.clone(), field: field.to_owned(), problem: problem.into() }
    }

    /// Checks that a count is neither 0 nor absurd.
    pub(crate) fn size(&self, field: &str, value: usize) -> Result<usize> {
        match value {
            1..=SIZE_MAX => Ok(value),
            _ => Err(self.error(field, format!("expected 1 to {SIZE_MAX}, found {value}"))),
        }
    }

    /// Checks a number of layers.
    pub(crate) fn layers(&self, field: &str, value: usize) -> Result<usize> {
        match value {
            1..=LAYERS_MAX => Ok(value),
            _ => Err(self.error(field, format!("expected 1 to {LAYERS_MAX}, found {value}"))),
        }
    }

    /// Checks that a number is positive and finite.
    pub(crate) fn positive(&self, field: &str, value: f64) -> Result<f64> {
        if value.is_finite() && 0.0 < value {
            Ok(value)
        } else {
            Err(self.error(field, format!("expected a positive number, found {value}")))
        }
    }

    /// Checks that an epsilon is small and not negative.
    pub(crate) fn eps(&self, field: &str, value: f32) -> Result<f32> {
        match value {
            0.0..=0.1 => Ok(value),
            _ => Err(self.error(field, format!("expected 0 to 0.1, found {value}"))),
        }
    }

    /// Checks a patch size: one frame at a time.
    pub(crate) fn patch(&self, field: &str, patch: [usize; 3]) -> Result<[usize; 3]> {
        match patch {
            [1, 1..=16, 1..=16] => Ok(patch),
            _ => Err(self.error(field, format!("expected [1, 1..16, 1..16], found {patch:?}"))),
        }
    }

    /// Refuses keys that are there with a value other than null or false.
    pub(crate) fn refuse(&self, keys: &[&str]) -> Result<()> {
        for key in keys {
            let value = self.object.get(*key).unwrap_or(&Value::Null);
            if !matches!(value, Value::Null | Value::Bool(false)) {
                return Err(self.error(key, format!("{value} is not supported")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absurd_files_are_refused_before_they_are_parsed() {
        let read = |content: Vec<u8>| {
            let source = Source::memory([("config.json".to_owned(), content)]);
            File::read(&source, "config.json")
        };
        let nested = format!("{{\"a\":{}{}}}", "[".repeat(10_000), "]".repeat(10_000));
        let large = [b"{}".to_vec(), vec![b' '; FILE_BYTES_MAX - 1]].concat();

        for (content, problem) in
            [(nested.into_bytes(), "recursion limit"), (large, "1048577 bytes are absurd")]
        {
            let error = read(content).err().map(|error| error.to_string()).unwrap_or_default();
            assert!(error.starts_with("<model in memory>/config.json"), "{error}");
            assert!(error.contains(problem), "{error}");
        }
        assert!(read([b"{}".to_vec(), vec![b' '; FILE_BYTES_MAX - 2]].concat()).is_ok());
    }
}
