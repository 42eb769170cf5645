//! Text encoder: Hugging Face's names to Wan's names.

use super::swap;

/// The Wan name of the tensor that Hugging Face calls `canonical`.
pub(super) fn original(canonical: &str) -> String {
    let Some(rest) = canonical.strip_prefix("encoder.block.") else {
        return swap(
            canonical,
            &[("shared.", "token_embedding."), ("encoder.final_layer_norm.", "norm.")],
        );
    };
    let (layer, name) = rest.split_once('.').unwrap_or((rest, ""));
    let name = swap(
        name,
        &[
            ("layer.0.layer_norm.", "norm1."),
            ("layer.0.SelfAttention.relative_attention_bias.", "pos_embedding.embedding."),
            ("layer.0.SelfAttention.", "attn."),
            ("layer.1.layer_norm.", "norm2."),
            ("layer.1.DenseReluDense.wi_0.", "ffn.gate.0."),
            ("layer.1.DenseReluDense.wi_1.", "ffn.fc1."),
            ("layer.1.DenseReluDense.wo.", "ffn.fc2."),
        ],
    );
    format!("blocks.{layer}.{name}")
}
