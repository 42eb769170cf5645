//! Dense Wan transformers: diffusers' `WanTransformer3DModel` and the original
//! `WanModel`, with the causal students that keep their layout.
//!
//! Neither file says anything of positions or of the sampler; that is what
//! `filmloom.json` beside them is for. A causal class has a window (see
//! [`causal`]); any other is bidirectional, one pass sees the whole clip, unless
//! its own keys or `filmloom.json` give a window.

use serde::Deserialize;
use types::{Attention, Positions, Rope, Transformer, Window, wan as published};

use super::{Family, File, causal, run::Overrides};
use crate::Result;

/// The one kind of query and key norm that Wan has.
const NORM: &str = "rms_norm_across_heads";

/// diffusers' file. Defaults are the class's own.
#[derive(Deserialize)]
struct Diffusers {
    #[serde(default = "default_patch")]
    patch_size: [usize; 3],
    num_attention_heads: usize,
    attention_head_dim: usize,
    in_channels: usize,
    out_channels: usize,
    text_dim: usize,
    freq_dim: usize,
    ffn_dim: usize,
    num_layers: usize,
    #[serde(default = "yes")]
    cross_attn_norm: bool,
    #[serde(default = "default_norm")]
    qk_norm: Option<String>,
    #[serde(default = "default_eps")]
    eps: f32,
}

/// The original file. Wan's class defaults belong to no released model, so
/// what the released files state is required.
#[derive(Deserialize)]
struct Original {
    model_type: Option<String>,
    dim: usize,
    ffn_dim: usize,
    freq_dim: usize,
    in_dim: usize,
    out_dim: usize,
    num_heads: usize,
    num_layers: usize,
    #[serde(default = "default_eps")]
    eps: f32,
    text_len: Option<usize>,
    text_dim: Option<usize>,
    #[serde(default = "default_patch")]
    patch_size: [usize; 3],
    #[serde(default = "yes")]
    qk_norm: bool,
    #[serde(default = "yes")]
    cross_attn_norm: bool,
}

fn yes() -> bool {
    true
}

fn default_patch() -> [usize; 3] {
    [1, 2, 2]
}

fn default_eps() -> f32 {
    1e-6
}

#[expect(clippy::unnecessary_wraps, reason = "serde wants the field's type")]
fn default_norm() -> Option<String> {
    Some(NORM.to_owned())
}

/// The resolved form of a diffusers file.
///
/// # Errors
///
/// [`crate::Error::Json`] or [`crate::Error::Config`], naming file and field.
pub(crate) fn resolve_diffusers(
    file: &File,
    family: Family,
    overrides: &Overrides,
) -> Result<Transformer> {
    file.refuse(&["image_dim", "added_kv_proj_dim", "pos_embed_seq_len"])?;
    let config: Diffusers = file.parse()?;
    let heads = file.size("num_attention_heads", config.num_attention_heads)?;
    let head_dim = even(file, "attention_head_dim", config.attention_head_dim)?;
    let qk_norm = match config.qk_norm.as_deref() {
        Some(NORM) => true,
        None => false,
        Some(other) => {
            return Err(file.error("qk_norm", format!("expected `{NORM}`, found `{other}`")));
        }
    };
    Ok(Transformer {
        dim: file.size("attention_head_dim", heads * head_dim)?,
        ffn_dim: file.size("ffn_dim", config.ffn_dim)?,
        layers: file.layers("num_layers", config.num_layers)?,
        heads,
        in_channels: file.size("in_channels", config.in_channels)?,
        out_channels: file.size("out_channels", config.out_channels)?,
        patch: file.patch("patch_size", config.patch_size)?,
        freq_dim: even(file, "freq_dim", config.freq_dim)?,
        text_dim: file.size("text_dim", config.text_dim)?,
        text_len: overrides.text_len.unwrap_or(published::TEXT_LEN),
        eps: file.eps("eps", config.eps)?,
        cross_attention_norm: config.cross_attn_norm,
        qk_norm,
        attention: Attention::Dense,
        rope: rope(head_dim, overrides),
        window: window_of(file, family, overrides)?,
    })
}

/// The resolved form of an original file.
///
/// # Errors
///
/// [`crate::Error::Json`] or [`crate::Error::Config`], naming file and field.
pub(crate) fn resolve_original(
    file: &File,
    family: Family,
    overrides: &Overrides,
) -> Result<Transformer> {
    let config: Original = file.parse()?;
    if config.model_type.as_deref().is_some_and(|kind| kind != "t2v") {
        return Err(file.error("model_type", "only `t2v` is supported"));
    }
    let head_dim = head_dim(file, "num_heads", config.dim, config.num_heads)?;
    rotated(file, "num_heads", head_dim)?;
    // The file leaves out the width of the only encoder there is.
    let text_dim = config.text_dim.unwrap_or_else(|| published::umt5_xxl().dim);
    let own_text_len = config.text_len.map(|rows| file.size("text_len", rows)).transpose()?;
    Ok(Transformer {
        dim: file.size("dim", config.dim)?,
        ffn_dim: file.size("ffn_dim", config.ffn_dim)?,
        layers: file.layers("num_layers", config.num_layers)?,
        heads: config.num_heads,
        in_channels: file.size("in_dim", config.in_dim)?,
        out_channels: file.size("out_dim", config.out_dim)?,
        patch: file.patch("patch_size", config.patch_size)?,
        freq_dim: even(file, "freq_dim", config.freq_dim)?,
        text_dim: file.size("text_dim", text_dim)?,
        text_len: overrides.text_len.or(own_text_len).unwrap_or(published::TEXT_LEN),
        eps: file.eps("eps", config.eps)?,
        cross_attention_norm: config.cross_attn_norm,
        qk_norm: config.qk_norm,
        attention: Attention::Dense,
        rope: rope(head_dim, overrides),
        window: window_of(file, family, overrides)?,
    })
}

fn window_of(file: &File, family: Family, overrides: &Overrides) -> Result<Option<Window>> {
    match overrides.window {
        Some(window) => Ok(Some(window)),
        None => causal::window(file, family),
    }
}

fn rope(head_dim: usize, overrides: &Overrides) -> Rope {
    let axes = published::dense_axes(head_dim, published::THETA);
    Rope { axes, positions: overrides.positions.unwrap_or(Positions::Absolute) }
}

/// Width of a head.
pub(crate) fn head_dim(file: &File, field: &str, dim: usize, heads: usize) -> Result<usize> {
    file.size("dim", dim)?;
    file.size(field, heads)?;
    if !dim.is_multiple_of(heads) {
        let problem = format!("{heads} heads do not split dim {dim} into equal widths");
        return Err(file.error(field, problem));
    }
    Ok(dim / heads)
}

/// Checks that a head can be rotated, which turns pairs; `field` set its width.
pub(crate) fn rotated(file: &File, field: &str, head_dim: usize) -> Result<usize> {
    match head_dim % 2 {
        0 => Ok(head_dim),
        _ => Err(file.error(field, format!("heads are {head_dim} wide, rotation needs even ones"))),
    }
}

/// Checks that a size is even.
pub(crate) fn even(file: &File, field: &str, value: usize) -> Result<usize> {
    match file.size(field, value)? % 2 {
        0 => Ok(value),
        _ => Err(file.error(field, format!("expected an even number, found {value}"))),
    }
}

/// Checks a window; `fields` are the names of its sink, recent frames and chunk.
pub(crate) fn window(file: &File, fields: [&str; 3], window: Window) -> Result<Window> {
    /// A day of video at 4 frames a second; more is a mistake.
    const FRAMES_MAX: usize = 1 << 20;
    let [sink, recent, chunk] = fields;
    for (field, frames) in [(sink, window.sink), (recent, window.recent), (chunk, window.chunk)] {
        if FRAMES_MAX < frames {
            let problem = format!("expected at most {FRAMES_MAX} frames, found {frames}");
            return Err(file.error(field, problem));
        }
    }
    file.size(chunk, window.chunk)?;
    Ok(window)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn diffusers_and_original_files_of_the_same_model_agree() {
        let diffusers =
            resolve_diffusers(&diffusers_1_3b(), Family::Diffusers, &Overrides::default()).unwrap();
        let original =
            resolve_original(&original_1_3b(), Family::Original, &Overrides::default()).unwrap();

        assert_eq!(diffusers, original);
        assert_eq!(diffusers.dim, 1536);
        assert_eq!(diffusers.text_len, 512);
        assert_eq!(diffusers.window, None);
        assert_eq!(diffusers.rope.axes.map(|axis| axis.pairs), [22, 21, 21]);
    }

    #[test]
    fn what_would_change_the_mathematics_is_refused() {
        let cases = [
            ("image_dim", json!(1280)),
            ("added_kv_proj_dim", json!(5120)),
            ("pos_embed_seq_len", json!(514)),
            ("qk_norm", json!("layer_norm")),
            ("attention_head_dim", json!(127)),
            ("num_attention_heads", json!(0)),
            ("patch_size", json!([2, 2, 2])),
        ];
        for (field, value) in cases {
            let mut file = diffusers_1_3b();
            file.object.insert(field.into(), value);
            let error = resolve_diffusers(&file, Family::Diffusers, &Overrides::default())
                .unwrap_err()
                .to_string();
            assert!(error.starts_with(&format!("config.json: field `{field}`")), "{error}");
        }
    }

    #[test]
    fn heads_must_split_the_width() {
        let mut file = original_1_3b();
        file.object.insert("num_heads".into(), json!(13));
        let error = resolve_original(&file, Family::Original, &Overrides::default())
            .unwrap_err()
            .to_string();
        assert!(error.contains("13 heads do not split dim 1536"), "{error}");
    }

    fn diffusers_1_3b() -> File {
        file(json!({
            "_class_name": "WanTransformer3DModel", "added_kv_proj_dim": null,
            "attention_head_dim": 128, "cross_attn_norm": true, "eps": 1e-6, "ffn_dim": 8960,
            "freq_dim": 256, "image_dim": null, "in_channels": 16, "num_attention_heads": 12,
            "num_layers": 30, "out_channels": 16, "patch_size": [1, 2, 2],
            "qk_norm": "rms_norm_across_heads", "rope_max_seq_len": 1024, "text_dim": 4096
        }))
    }

    fn original_1_3b() -> File {
        file(json!({
            "_class_name": "WanModel", "_diffusers_version": "0.30.0", "dim": 1536, "eps": 1e-6,
            "ffn_dim": 8960, "freq_dim": 256, "in_dim": 16, "model_type": "t2v",
            "num_heads": 12, "num_layers": 30, "out_dim": 16, "text_len": 512
        }))
    }

    fn file(object: Value) -> File {
        let Value::Object(object) = object else { unreachable!("callers pass objects") };
        File { name: "config.json".into(), object }
    }
}
