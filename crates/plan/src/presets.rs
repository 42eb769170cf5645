//! Shapes that can be planned without their files.
//!
//! | name | attention | source |
//! | --- | --- | --- |
//! | `wan-1.3b` | dense | Wan2.1-T2V-1.3B with the window of Self-Forcing |
//! | `videomla-1.3b` | MLA | arXiv:2605.30351, section 3 and appendix D |
//! | `wan-14b` | dense | Wan2.1-T2V-14B with the same window, chosen |
//! | `wan-14b-mla` | MLA | the same with VideoMLA's ranks; not published, for comparison |
//! | `32x32x128` | dense | 32 layers of 32 heads of 128: the shape of a 7B language model |
//!
//! All make 832x480 pictures at 16 a second with Wan's VAE and UMT5-XXL.
//!
//! [`counterpart`] gives any transformer's twin of the other attention kind at
//! the same shapes, for comparison: its weights exist only as random numbers.

use types::{Attention, Axis, Mla, Model, Positions, QueryNorm, Rope, Transformer, Window, wan};

/// Names of all built-in shapes, as [`preset`] takes them.
pub const NAMES: [&str; 5] = ["wan-1.3b", "videomla-1.3b", "wan-14b", "wan-14b-mla", "32x32x128"];

/// The built-in shape of that name, `None` for any other.
pub fn preset(name: &str) -> Option<Model> {
    let transformer = match name {
        "wan-1.3b" => wan_1_3b(),
        "videomla-1.3b" => videomla_1_3b(),
        "wan-14b" => wan_14b(),
        "wan-14b-mla" => Transformer { attention: VIDEOMLA, rope: mla_rope(128), ..wan_14b() },
        "32x32x128" => seed_shape(),
        _ => return None,
    };
    Some(Model {
        text_encoder: Some(wan::umt5_xxl()),
        transformer: Some(transformer),
        vae: Some(wan::vae()),
        sampler: wan::student_sampler(),
        video: wan::VIDEO,
    })
}

/// The twin of a transformer with the other kind of self-attention and the
/// same dim, heads, layers and window.
///
/// Dense becomes MLA of VideoMLA's form with its ranks in proportion to a head
/// (a head of 128 gives its 192, 768, 96 and 32). MLA becomes dense with Wan's
/// rotary axes. `None` if the heads cannot be cut that way: MLA needs heads
/// that divide the dim and are multiples of 8.
///
/// Source of the ranks: arXiv:2605.30351, section 3.
pub fn counterpart(transformer: &Transformer) -> Option<Transformer> {
    let head = transformer.dim.checked_div(transformer.heads)?;
    if head * transformer.heads != transformer.dim || head == 0 {
        return None;
    }
    let theta = transformer.rope.axes[0].theta;
    let positions = transformer.rope.positions;
    let (attention, axes) = match transformer.attention {
        Attention::Mla(_) if head % 2 == 0 => (Attention::Dense, wan::dense_axes(head, theta)),
        Attention::Dense if head % 8 == 0 => {
            (Attention::Mla(mla_in_proportion(head)), mla_axes(head, theta))
        }
        Attention::Mla(_) | Attention::Dense => return None,
    };
    let rope = Rope { axes, positions };
    Some(Transformer { attention, rope, ..transformer.clone() })
}

/// VideoMLA's ranks: arXiv:2605.30351, section 3 and appendix D.2.
const VIDEOMLA: Attention = Attention::Mla(mla_in_proportion(128));

const fn mla_in_proportion(head: usize) -> Mla {
    Mla {
        kv_rank: head / 2 * 3,
        query_rank: Some(head.saturating_mul(6)),
        nope: head / 4 * 3,
        rope: head / 4,
        value: head,
        query_norm: QueryNorm::Latent,
        fused_kv_down: false,
        query_bias: false,
    }
}

/// `Wan-AI/Wan2.1-T2V-1.3B`, `config.json`; the window of Self-Forcing's 21
/// frames (arXiv:2506.08009), which include the chunk.
fn wan_1_3b() -> Transformer {
    Transformer {
        dim: 1536,
        ffn_dim: 8960,
        layers: 30,
        heads: 12,
        in_channels: 16,
        out_channels: 16,
        patch: [1, 2, 2],
        freq_dim: 256,
        text_dim: 4096,
        text_len: wan::TEXT_LEN,
        eps: 1e-6,
        cross_attention_norm: true,
        qk_norm: true,
        attention: Attention::Dense,
        rope: Rope { axes: wan::dense_axes(128, wan::THETA), positions: Positions::Absolute },
        window: Window::from_local_attention(wan::STUDENT_FRAMES, 0, wan::STUDENT_CHUNK),
    }
}

/// arXiv:2605.30351, section 3 and appendix D; the window of its text, one
/// sink frame and six recent ones besides the chunk.
fn videomla_1_3b() -> Transformer {
    Transformer {
        attention: VIDEOMLA,
        rope: mla_rope(128),
        window: Some(Window { sink: 1, recent: 6, chunk: 3 }),
        ..wan_1_3b()
    }
}

/// `Wan-AI/Wan2.1-T2V-14B`, `config.json`; the 1.3B model's window, chosen.
fn wan_14b() -> Transformer {
    Transformer { dim: 5120, ffn_dim: 13_824, layers: 40, heads: 40, ..wan_1_3b() }
}

/// 32 layers of 32 heads of 128, the attention of LLaMA-7B
/// (arXiv:2302.13971, table 2), in Wan's surroundings. The feed-forward width
/// is chosen: four times the dim.
fn seed_shape() -> Transformer {
    Transformer { dim: 4096, ffn_dim: 16_384, layers: 32, heads: 32, ..wan_1_3b() }
}

/// The first, fastest pairs of the dense axes: arXiv:2605.30351, section 3.
fn mla_axes(head: usize, theta: f64) -> [Axis; 3] {
    let [frame, row, column] = wan::dense_axes(head, theta);
    let [frame_pairs, row_pairs, column_pairs] = wan::axis_pairs(head / 4);
    [
        Axis { pairs: frame_pairs, ..frame },
        Axis { pairs: row_pairs, ..row },
        Axis { pairs: column_pairs, ..column },
    ]
}

fn mla_rope(head: usize) -> Rope {
    Rope { axes: mla_axes(head, wan::THETA), positions: Positions::Window }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_a_shape_and_no_other() {
        assert!(NAMES.iter().all(|name| preset(name).is_some()));
        assert_eq!(preset("wan"), None);
    }

    #[test]
    fn videomla_keeps_the_fastest_pairs_of_wans_axes() {
        let rope = preset("videomla-1.3b").unwrap().transformer.unwrap().rope;
        let axes = rope.axes.map(|axis| (axis.pairs, axis.denominator));
        assert_eq!(axes, [(6, 44.0), (5, 42.0), (5, 42.0)]);
        assert_eq!(wan_1_3b().rope.axes.map(|axis| axis.pairs), [22, 21, 21]);
    }

    #[test]
    fn counterpart_of_wan_is_the_papers_attention_and_back() {
        let mla = counterpart(&wan_1_3b()).unwrap();
        let Attention::Mla(ranks) = mla.attention else { panic!("the twin of dense is MLA") };
        let papers = (192, Some(768), 96, 32, 128);
        assert_eq!((ranks.kv_rank, ranks.query_rank, ranks.nope, ranks.rope, ranks.value), papers);
        assert_eq!(counterpart(&mla), Some(wan_1_3b()));
    }

    #[test]
    fn heads_that_cannot_be_cut_have_no_counterpart() {
        assert_eq!(counterpart(&Transformer { heads: 11, ..wan_1_3b() }), None);
        assert_eq!(counterpart(&Transformer { heads: 0, ..wan_1_3b() }), None);
        assert_eq!(counterpart(&Transformer { dim: 12 * 12, ..wan_1_3b() }), None);
    }
}
