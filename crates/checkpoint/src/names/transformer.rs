//! Transformer: original Wan names to diffusers' names.

use super::swap;

/// The diffusers name of the tensor that Wan calls `canonical`.
pub(super) fn diffusers(canonical: &str) -> String {
    let Some(rest) = canonical.strip_prefix("blocks.") else {
        return swap(
            canonical,
            &[
                ("text_embedding.0.", "condition_embedder.text_embedder.linear_1."),
                ("text_embedding.2.", "condition_embedder.text_embedder.linear_2."),
                ("time_embedding.0.", "condition_embedder.time_embedder.linear_1."),
                ("time_embedding.2.", "condition_embedder.time_embedder.linear_2."),
                ("time_projection.1.", "condition_embedder.time_proj."),
                ("head.modulation", "scale_shift_table"),
                ("head.head.", "proj_out."),
            ],
        );
    };
    let (layer, name) = rest.split_once('.').unwrap_or((rest, ""));
    let attention = |ours: &str, theirs: &str| {
        let name = name.strip_prefix(ours)?;
        let projection = [("q.", "to_q."), ("k.", "to_k."), ("v.", "to_v."), ("o.", "to_out.0.")];
        Some(format!("{theirs}{}", swap(name, &projection)))
    };
    let name = attention("self_attn.", "attn1.")
        .or_else(|| attention("cross_attn.", "attn2."))
        .unwrap_or_else(|| {
            swap(
                name,
                &[
                    ("modulation", "scale_shift_table"),
                    // Diffusers numbers norms in the order of use, Wan does not.
                    ("norm3.", "norm2."),
                    ("ffn.0.", "ffn.net.0.proj."),
                    ("ffn.2.", "ffn.net.2."),
                ],
            )
        });
    format!("blocks.{layer}.{name}")
}
