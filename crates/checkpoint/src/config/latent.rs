//! `CausalWanMLATransformer3DModel`: our own family.
//!
//! A causal transformer whose self-attention is latent (`"attention": "mla"`,
//! the default) or dense with a cache. Every key is known; others are errors.

use serde::Deserialize;
use types::{
    Attention, Axis, Mla, Positions, QueryNorm, Rope, Transformer, Window, wan as published,
};

use super::{File, wan};
use crate::Result;

/// The file, key by key.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Config {
    model_type: Option<String>,
    dim: usize,
    ffn_dim: usize,
    num_layers: usize,
    num_heads: usize,
    #[serde(default)]
    attention: Kind,
    qk_nope_head_dim: Option<usize>,
    qk_rope_head_dim: Option<usize>,
    v_head_dim: Option<usize>,
    kv_latent_dim: Option<usize>,
    q_latent_dim: Option<usize>,
    q_norm: Option<Norm>,
    q_bias: Option<bool>,
    fused_kv_down: Option<bool>,
    freq_dim: usize,
    text_dim: usize,
    text_len: usize,
    in_dim: usize,
    out_dim: usize,
    patch_size: [usize; 3],
    eps: f32,
    rope_theta: Option<f64>,
    rope_axes_dim: Option<[usize; 3]>,
    rope_freq_dims: Option<[f64; 3]>,
    #[serde(default = "yes")]
    rope_interleaved: bool,
    #[serde(default)]
    rope_positions: FramePositions,
    chunk_frames: usize,
    window_frames: usize,
    #[serde(default)]
    sink_frames: usize,
    #[serde(default = "yes")]
    qk_norm: bool,
    #[serde(default = "yes")]
    cross_attn_norm: bool,
    timestep_scale: Option<f64>,
}

#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Mla,
    Dense,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Norm {
    Full,
    Latent,
    None,
}

/// What counts as a frame's position, as files spell it.
#[derive(Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FramePositions {
    #[default]
    Absolute,
    Window,
}

impl From<FramePositions> for Positions {
    fn from(positions: FramePositions) -> Self {
        match positions {
            FramePositions::Absolute => Self::Absolute,
            FramePositions::Window => Self::Window,
        }
    }
}

fn yes() -> bool {
    true
}

/// The resolved form of `file`.
///
/// # Errors
///
/// [`crate::Error::Json`] or [`crate::Error::Config`], naming file and field.
pub(crate) fn resolve(file: &File) -> Result<Transformer> {
    let config: Config = file.parse()?;
    config.refuse_unsupported(file)?;
    let (attention, rotated) = match config.attention {
        Kind::Mla => {
            let mla = config.mla(file)?;
            (Attention::Mla(mla), mla.rope)
        }
        Kind::Dense => (Attention::Dense, config.dense_head(file)?),
    };
    Ok(Transformer {
        dim: file.size("dim", config.dim)?,
        ffn_dim: file.size("ffn_dim", config.ffn_dim)?,
        layers: file.layers("num_layers", config.num_layers)?,
        heads: file.size("num_heads", config.num_heads)?,
        in_channels: file.size("in_dim", config.in_dim)?,
        out_channels: file.size("out_dim", config.out_dim)?,
        patch: file.patch("patch_size", config.patch_size)?,
        freq_dim: wan::even(file, "freq_dim", config.freq_dim)?,
        text_dim: file.size("text_dim", config.text_dim)?,
        text_len: file.size("text_len", config.text_len)?,
        eps: file.eps("eps", config.eps)?,
        cross_attention_norm: config.cross_attn_norm,
        qk_norm: config.qk_norm,
        attention,
        rope: config.rope(file, rotated)?,
        window: Some(wan::window(
            file,
            ["sink_frames", "window_frames", "chunk_frames"],
            Window {
                sink: config.sink_frames,
                recent: config.window_frames,
                chunk: config.chunk_frames,
            },
        )?),
    })
}

impl Config {
    fn refuse_unsupported(&self, file: &File) -> Result<()> {
        if self.model_type.as_deref().is_some_and(|kind| kind != "t2v") {
            return Err(file.error("model_type", "only `t2v` is supported"));
        }
        if !self.rope_interleaved {
            return Err(file.error("rope_interleaved", "only adjacent pairs (true) are supported"));
        }
        if self.timestep_scale.is_some_and(|scale| scale != 1000.0) {
            return Err(file.error("timestep_scale", "only 1000 is supported"));
        }
        Ok(())
    }

    fn mla(&self, file: &File) -> Result<Mla> {
        // The heads of the cross-attention, which is never latent.
        wan::head_dim(file, "num_heads", self.dim, self.num_heads)?;
        let needed = |field: &str, value: Option<usize>| match value {
            Some(value) => file.size(field, value),
            None => Err(file.error(field, "is missing, latent attention needs it")),
        };
        let query_rank =
            self.q_latent_dim.map(|rank| file.size("q_latent_dim", rank)).transpose()?;
        let query_norm = match (self.q_norm, query_rank) {
            (Some(Norm::Latent), None) => {
                return Err(file.error("q_norm", "`latent` needs `q_latent_dim`"));
            }
            (Some(Norm::Latent), Some(_)) => QueryNorm::Latent,
            (Some(Norm::Full), _) => QueryNorm::Full,
            (Some(Norm::None), _) => QueryNorm::None,
            (None, Some(_)) => QueryNorm::Latent,
            (None, None) if self.qk_norm => QueryNorm::Full,
            (None, None) => QueryNorm::None,
        };
        Ok(Mla {
            kv_rank: needed("kv_latent_dim", self.kv_latent_dim)?,
            query_rank,
            nope: needed("qk_nope_head_dim", self.qk_nope_head_dim)?,
            rope: needed("qk_rope_head_dim", self.qk_rope_head_dim)?,
            value: needed("v_head_dim", self.v_head_dim)?,
            query_norm,
            fused_kv_down: self.fused_kv_down.unwrap_or(true),
            query_bias: self.q_bias.unwrap_or(query_rank.is_none()),
        })
    }

    /// Width of a dense head.
    fn dense_head(&self, file: &File) -> Result<usize> {
        let foreign = [
            ("qk_nope_head_dim", self.qk_nope_head_dim.is_some()),
            ("qk_rope_head_dim", self.qk_rope_head_dim.is_some()),
            ("v_head_dim", self.v_head_dim.is_some()),
            ("kv_latent_dim", self.kv_latent_dim.is_some()),
            ("q_latent_dim", self.q_latent_dim.is_some()),
            ("q_norm", self.q_norm.is_some()),
            ("q_bias", self.q_bias.is_some()),
            ("fused_kv_down", self.fused_kv_down.is_some()),
        ];
        if let Some((field, _)) = foreign.iter().find(|(_, present)| *present) {
            return Err(file.error(field, "contradicts `\"attention\": \"dense\"`"));
        }
        let head_dim = wan::head_dim(file, "num_heads", self.dim, self.num_heads)?;
        wan::rotated(file, "num_heads", head_dim)
    }

    /// Rotary positions of vectors `rotated` wide.
    fn rope(&self, file: &File, rotated: usize) -> Result<Rope> {
        let widths = match (self.rope_axes_dim, self.attention) {
            (Some(widths), _) => widths,
            (None, Kind::Dense) => published::axis_pairs(rotated).map(|pairs| 2 * pairs),
            (None, Kind::Mla) => return Err(file.error("rope_axes_dim", "is missing")),
        };
        let sum = widths.iter().try_fold(0usize, |sum, &width| sum.checked_add(width));
        if widths.iter().any(|width| width % 2 != 0) || sum != Some(rotated) {
            let problem = format!("expected three even widths summing to {rotated}: {widths:?}");
            return Err(file.error("rope_axes_dim", problem));
        }
        let theta = file.positive("rope_theta", self.rope_theta.unwrap_or(published::THETA))?;
        let mut axes = widths.map(|width| Axis::full(width / 2, theta));
        if let Some(denominators) = self.rope_freq_dims {
            for (axis, denominator) in axes.iter_mut().zip(denominators) {
                axis.denominator = file.positive("rope_freq_dims", denominator)?;
            }
        }
        Ok(Rope { axes, positions: self.rope_positions.into() })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn the_papers_form_is_resolved() {
        let transformer = resolve(&paper()).unwrap();

        let expected = Mla {
            kv_rank: 192,
            query_rank: Some(768),
            nope: 96,
            rope: 32,
            value: 128,
            query_norm: QueryNorm::Latent,
            fused_kv_down: false,
            query_bias: false,
        };
        assert_eq!(transformer.attention, Attention::Mla(expected));
        assert_eq!(transformer.window, Some(Window { sink: 1, recent: 6, chunk: 3 }));
        let axis = |pairs, denominator| Axis { pairs, theta: 10_000.0, denominator };
        let axes = [axis(6, 44.0), axis(5, 42.0), axis(5, 42.0)];
        assert_eq!(transformer.rope, Rope { axes, positions: Positions::Window });
    }

    #[test]
    fn dense_self_attention_splits_its_head_as_wan_does() {
        let transformer = resolve(&dense()).unwrap();

        assert_eq!(transformer.attention, Attention::Dense);
        assert_eq!(transformer.rope.axes.map(|axis| axis.pairs), [22, 21, 21]);
        assert_eq!(transformer.rope.axes.map(|axis| axis.denominator), [44.0, 42.0, 42.0]);
    }

    #[test]
    fn contradictions_name_file_and_field() {
        let cases: [(&str, Value); 16] = [
            ("dim", json!(0)),
            ("num_layers", json!(99_999_999)),
            ("eps", json!(-1.0)),
            ("patch_size", json!([2, 2, 2])),
            ("rope_axes_dim", json!([12, 10, 8])),
            ("rope_axes_dim", json!([11, 11, 10])),
            ("rope_freq_dims", json!([44.0, 0.0, 42.0])),
            ("rope_theta", json!(0.0)),
            ("rope_interleaved", json!(false)),
            ("timestep_scale", json!(1.0)),
            ("model_type", json!("i2v")),
            ("q_latent_dim", json!(0)),
            ("kv_latent_dim", Value::Null),
            ("freq_dim", json!(255)),
            ("chunk_frames", json!(0)),
            ("attention", json!("dense")),
        ];
        for (field, value) in cases {
            let mut file = paper();
            file.object.insert(field.into(), value.clone());
            let error = resolve(&file).unwrap_err().to_string();
            assert!(error.starts_with("paper.json: field `"), "{error}");
            let named = if field == "attention" { "qk_nope_head_dim" } else { field };
            assert!(error.contains(&format!("`{named}`")), "{field} = {value}: {error}");
        }
    }

    #[test]
    fn a_latent_norm_needs_a_query_latent() {
        let mut file = paper();
        file.object.remove("q_latent_dim");
        file.object.insert("q_norm".into(), json!("latent"));

        let error = resolve(&file).unwrap_err().to_string();

        assert!(error.contains("`q_norm`"), "{error}");
    }

    #[test]
    fn heads_must_split_the_width_and_only_dense_ones_must_be_even() {
        let with = |mut file: File, dim: usize, heads: usize| {
            file.object.insert("dim".into(), json!(dim));
            file.object.insert("num_heads".into(), json!(heads));
            resolve(&file)
        };
        for (dim, heads) in [(24, 5), (24, 48), (7, 2)] {
            for file in [paper(), dense()] {
                let error = with(file, dim, heads).unwrap_err().to_string();
                assert!(error.starts_with("paper.json: field `num_heads`"), "{error}");
                assert!(error.contains(&format!("{heads} heads do not split dim {dim}")));
            }
        }
        // A head of 3: only self-attention is rotated, and it has its own widths.
        assert_eq!(with(paper(), 24, 8).unwrap().heads, 8);
        let error = with(dense(), 24, 8).unwrap_err().to_string();
        assert!(error.contains("field `num_heads`: heads are 3 wide, rotation"), "{error}");
    }

    #[test]
    fn an_axis_may_have_no_pairs() {
        let mut file = paper();
        file.object.insert("qk_rope_head_dim".into(), json!(8));
        file.object.insert("rope_axes_dim".into(), json!([0, 4, 4]));
        assert_eq!(resolve(&file).unwrap().rope.axes.map(|axis| axis.pairs), [0, 2, 2]);
    }

    #[test]
    fn unknown_keys_are_errors_unless_they_are_private() {
        let mut file = paper();
        file.object.insert("_note".into(), json!("kept for us"));
        assert!(resolve(&file).is_ok());

        file.object.insert("windows_frames".into(), json!(3));
        let error = resolve(&file).unwrap_err().to_string();
        assert!(error.contains("`windows_frames`"), "{error}");
    }

    /// The paper's surroundings with a dense self-attention.
    fn dense() -> File {
        let mut file = paper();
        let latent = ["q_", "qk_n", "qk_r", "v_h", "kv_", "fused", "rope_"];
        file.object.retain(|key, _| !latent.iter().any(|start| key.starts_with(start)));
        file.object.insert("attention".into(), json!("dense"));
        file
    }

    fn paper() -> File {
        let object = json!({
            "_class_name": "CausalWanMLATransformer3DModel", "model_type": "t2v",
            "dim": 1536, "ffn_dim": 8960, "num_layers": 30, "num_heads": 12,
            "qk_nope_head_dim": 96, "qk_rope_head_dim": 32, "v_head_dim": 128,
            "kv_latent_dim": 192, "q_latent_dim": 768, "fused_kv_down": false,
            "freq_dim": 256, "text_dim": 4096, "text_len": 512, "in_dim": 16, "out_dim": 16,
            "patch_size": [1, 2, 2], "eps": 1e-6, "rope_theta": 10000.0,
            "rope_axes_dim": [12, 10, 10], "rope_freq_dims": [44, 42, 42],
            "rope_positions": "window", "chunk_frames": 3, "window_frames": 6, "sink_frames": 1
        });
        let Value::Object(object) = object else { unreachable!("an object is written above") };
        File { name: "paper.json".into(), object }
    }
}
