//! Hugging Face's `UMT5EncoderModel`.

use serde::Deserialize;
use types::TextEncoder;

use super::{File, wan};
use crate::Result;

/// The file.
#[derive(Deserialize)]
struct Config {
    vocab_size: usize,
    d_model: usize,
    d_kv: usize,
    d_ff: usize,
    num_layers: usize,
    num_heads: usize,
    #[serde(default = "default_buckets")]
    relative_attention_num_buckets: usize,
    #[serde(default = "default_distance")]
    relative_attention_max_distance: usize,
    #[serde(default = "default_eps")]
    layer_norm_epsilon: f32,
    #[serde(default = "default_projection")]
    feed_forward_proj: String,
}

fn default_buckets() -> usize {
    32
}

fn default_distance() -> usize {
    128
}

fn default_eps() -> f32 {
    1e-6
}

fn default_projection() -> String {
    "gated-gelu".to_owned()
}

/// The resolved form of `file`.
///
/// # Errors
///
/// [`crate::Error::Json`] or [`crate::Error::Config`], naming file and field.
pub(crate) fn resolve(file: &File) -> Result<TextEncoder> {
    if file.text("model_type") != "umt5" {
        let found = file.text("model_type");
        return Err(file.error("model_type", format!("expected `umt5`, found `{found}`")));
    }
    let config: Config = file.parse()?;
    if config.feed_forward_proj != "gated-gelu" {
        let problem = format!("expected `gated-gelu`, found `{}`", config.feed_forward_proj);
        return Err(file.error("feed_forward_proj", problem));
    }
    let buckets = config.relative_attention_num_buckets;
    wan::even(file, "relative_attention_num_buckets", buckets)?;
    // Half of the buckets look back; half of those are one position wide.
    if config.relative_attention_max_distance <= buckets / 4 {
        let problem = format!("expected more than {}, a quarter of the buckets", buckets / 4);
        return Err(file.error("relative_attention_max_distance", problem));
    }
    Ok(TextEncoder {
        vocabulary: file.size("vocab_size", config.vocab_size)?,
        dim: file.size("d_model", config.d_model)?,
        head_dim: file.size("d_kv", config.d_kv)?,
        heads: file.size("num_heads", config.num_heads)?,
        ffn_dim: file.size("d_ff", config.d_ff)?,
        layers: file.layers("num_layers", config.num_layers)?,
        position_buckets: buckets,
        position_distance_max: file
            .size("relative_attention_max_distance", config.relative_attention_max_distance)?,
        eps: file.eps("layer_norm_epsilon", config.layer_norm_epsilon)?,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_published_file_is_umt5_xxl() {
        assert_eq!(resolve(&published()).unwrap(), types::wan::umt5_xxl());
    }

    #[test]
    fn contradictions_name_file_and_field() {
        let cases = [
            ("model_type", json!("t5")),
            ("feed_forward_proj", json!("relu")),
            ("relative_attention_num_buckets", json!(31)),
            ("relative_attention_max_distance", json!(8)),
            ("vocab_size", json!(0)),
            ("layer_norm_epsilon", json!(2.0)),
        ];
        for (field, value) in cases {
            let mut file = published();
            file.object.insert(field.into(), value);
            let error = resolve(&file).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config.json: field `{field}`")), "{error}");
        }
    }

    fn published() -> File {
        let object = json!({
            "architectures": ["UMT5EncoderModel"], "model_type": "umt5", "vocab_size": 256_384,
            "d_model": 4096, "d_kv": 64, "d_ff": 10_240, "num_layers": 24, "num_heads": 64,
            "relative_attention_num_buckets": 32, "relative_attention_max_distance": 128,
            "layer_norm_epsilon": 1e-6, "feed_forward_proj": "gated-gelu"
        });
        let Value::Object(object) = object else { unreachable!("an object is written above") };
        File { name: "config.json".into(), object }
    }
}
