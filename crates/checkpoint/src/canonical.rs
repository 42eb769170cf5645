//! A resolved model as one text, the same for the same model everywhere: what its
//! digest is made of.
//!
//! ```text
//! filmloom model 1
//! text_encoder none
//! transformer.dim 384
//! transformer.eps 358637bd
//! sampler.later_chunks.steps warped [408f400000000000,4087700000000000]
//! tokenizer 9f0c..
//! tensor transformer blocks.0.ffn.0.weight BF16 [1536,384] 51aa..
//! ```
//!
//! A line for every field, in the order of `types::config`, then one for every
//! tensor, by part and name. Counts are decimal, floats are their bits in hex
//! (8 digits for f32, 16 for f64), what is absent is `none`; every line ends with a
//! line feed. Nothing depends on how files spell a value or share out tensors.
//!
//! Invariant: the first line changes with the form, so digests of two forms never
//! meet. Structs are taken apart field by field, so that a new field cannot be
//! left out.

use std::fmt::{Display, Write};

use types::{
    Attention, Axis, Mla, Model, Positions, QueryNorm, Rope, Sampler, SizedChunk, StepList,
    TextEncoder, Transformer, Update, Vae, Video, Window,
};

use crate::{
    Part,
    contents::{Digest, TensorEntry},
};

/// The form of the text.
const FORM: &str = "filmloom model 1";
const NONE: &str = "none";

/// The text of a model: `tensors` by part and name, the digest of its tokenizer's
/// file.
pub(crate) fn text(model: &Model, tokenizer: Option<Digest>, tensors: &[TensorEntry]) -> String {
    let Model { text_encoder: text, transformer, vae: decoder, sampler: run, video: size } = model;
    let mut lines = Lines(format!("{FORM}\n"));
    lines.part("text_encoder", text.as_ref(), text_encoder);
    lines.part("transformer", transformer.as_ref(), self::transformer);
    lines.part("vae", decoder.as_ref(), vae);
    sampler(&mut lines, run);
    video(&mut lines, *size);
    lines.put("tokenizer", or_none(tokenizer));
    for TensorEntry { part, name, dtype, shape, digest, bytes: _ } in tensors {
        let (part, dtype, shape) = (word(*part), dtype.name(), list(shape));
        lines.put("tensor", format_args!("{part} {name} {dtype} {shape} {digest}"));
    }
    lines.0
}

/// A part's name in the text.
fn word(part: Part) -> &'static str {
    match part {
        Part::TextEncoder => "text_encoder",
        Part::Tokenizer => "tokenizer",
        Part::Transformer => "transformer",
        Part::Vae => "vae",
    }
}

struct Lines(String);

impl Lines {
    fn put(&mut self, field: &str, value: impl Display) {
        writeln!(self.0, "{field} {value}").expect("a string takes everything");
    }

    fn part<C>(&mut self, name: &str, config: Option<&C>, fill: fn(&mut Self, &C)) {
        match config {
            None => self.put(name, NONE),
            Some(config) => fill(self, config),
        }
    }
}

fn text_encoder(lines: &mut Lines, config: &TextEncoder) {
    let TextEncoder {
        vocabulary,
        dim,
        head_dim,
        heads,
        ffn_dim,
        layers,
        position_buckets,
        position_distance_max,
        eps,
    } = config;
    for (field, size) in [
        ("vocabulary", vocabulary),
        ("dim", dim),
        ("head_dim", head_dim),
        ("heads", heads),
        ("ffn_dim", ffn_dim),
        ("layers", layers),
        ("position_buckets", position_buckets),
        ("position_distance_max", position_distance_max),
    ] {
        lines.put(&format!("text_encoder.{field}"), size);
    }
    lines.put("text_encoder.eps", bits32(*eps));
}

fn transformer(lines: &mut Lines, config: &Transformer) {
    let Transformer {
        dim,
        ffn_dim,
        layers,
        heads,
        in_channels,
        out_channels,
        patch,
        freq_dim,
        text_dim,
        text_len,
        eps,
        cross_attention_norm,
        qk_norm,
        attention: kind,
        rope: positions,
        window: frames,
    } = config;
    for (field, size) in [
        ("dim", dim),
        ("ffn_dim", ffn_dim),
        ("layers", layers),
        ("heads", heads),
        ("in_channels", in_channels),
        ("out_channels", out_channels),
        ("freq_dim", freq_dim),
        ("text_dim", text_dim),
        ("text_len", text_len),
    ] {
        lines.put(&format!("transformer.{field}"), size);
    }
    lines.put("transformer.patch", list(patch));
    lines.put("transformer.eps", bits32(*eps));
    lines.put("transformer.cross_attention_norm", cross_attention_norm);
    lines.put("transformer.qk_norm", qk_norm);
    attention(lines, kind);
    rope(lines, positions);
    lines.part("transformer.window", frames.as_ref(), window);
}

fn attention(lines: &mut Lines, kind: &Attention) {
    let Attention::Mla(mla) = kind else {
        return lines.put("transformer.attention", "dense");
    };
    let Mla { kv_rank, query_rank, nope, rope, value, query_norm, fused_kv_down, query_bias } = mla;
    lines.put("transformer.attention", "mla");
    let norm = match query_norm {
        QueryNorm::None => NONE,
        QueryNorm::Full => "full",
        QueryNorm::Latent => "latent",
    };
    for (field, size) in [("kv_rank", kv_rank), ("nope", nope), ("rope", rope), ("value", value)] {
        lines.put(&format!("transformer.mla.{field}"), size);
    }
    lines.put("transformer.mla.query_rank", or_none(*query_rank));
    lines.put("transformer.mla.query_norm", norm);
    lines.put("transformer.mla.fused_kv_down", fused_kv_down);
    lines.put("transformer.mla.query_bias", query_bias);
}

fn rope(lines: &mut Lines, rope: &Rope) {
    let Rope { axes, positions } = rope;
    for (name, Axis { pairs, theta, denominator }) in ["frame", "row", "column"].iter().zip(axes) {
        let (theta, denominator) = (bits64(*theta), bits64(*denominator));
        let axis = format_args!("{pairs} {theta} {denominator}");
        lines.put(&format!("transformer.rope.{name}"), axis);
    }
    let positions = match positions {
        Positions::Absolute => "absolute",
        Positions::Window => "window",
    };
    lines.put("transformer.rope.positions", positions);
}

fn window(lines: &mut Lines, window: &Window) {
    let Window { sink, recent, chunk } = window;
    lines.put("transformer.window", format_args!("{sink} {recent} {chunk}"));
}

fn vae(lines: &mut Lines, config: &Vae) {
    let Vae {
        decoder_base_dim,
        z_dim,
        dim_mult,
        res_units,
        temporal_downsample,
        latents_mean,
        latents_std,
    } = config;
    lines.put("vae.decoder_base_dim", decoder_base_dim);
    lines.put("vae.z_dim", z_dim);
    lines.put("vae.dim_mult", list(dim_mult));
    lines.put("vae.res_units", res_units);
    lines.put("vae.temporal_downsample", list(temporal_downsample));
    for (field, values) in [("latents_mean", latents_mean), ("latents_std", latents_std)] {
        lines.put(&format!("vae.{field}"), list(values.iter().map(|value| bits32(*value))));
    }
}

fn sampler(lines: &mut Lines, sampler: &Sampler) {
    let Sampler { update, shift, first_chunk, later_chunks } = sampler;
    let update = match update {
        Update::Euler => "euler",
        Update::Renoise => "renoise",
    };
    lines.put("sampler.update", update);
    lines.put("sampler.shift", bits64(*shift));
    for (chunk, SizedChunk { steps, guidance }) in
        [("first_chunk", first_chunk), ("later_chunks", later_chunks)]
    {
        lines.put(&format!("sampler.{chunk}.steps"), step_list(steps));
        lines.put(&format!("sampler.{chunk}.guidance"), bits32(*guidance));
    }
}

fn step_list(steps: &StepList) -> String {
    let times = |times: &[f64]| list(times.iter().map(|time| bits64(*time)));
    match steps {
        StepList::Even(count) => format!("even {count}"),
        StepList::Warped(listed) => format!("warped {}", times(listed)),
        StepList::Listed(listed) => format!("listed {}", times(listed)),
    }
}

fn video(lines: &mut Lines, video: Video) {
    let Video { width, height, fps } = video;
    lines.put("video", format_args!("{width} {height} {fps}"));
}

fn bits32(value: f32) -> String {
    format!("{:08x}", value.to_bits())
}

fn bits64(value: f64) -> String {
    format!("{:016x}", value.to_bits())
}

fn or_none(value: Option<impl Display>) -> String {
    value.map_or_else(|| NONE.to_owned(), |value| value.to_string())
}

fn list(values: impl IntoIterator<Item = impl Display>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    format!("[{}]", values.join(","))
}

#[cfg(test)]
mod tests {
    use types::wan;

    use super::*;
    use crate::Dtype;

    #[test]
    fn the_form_is_pinned() {
        let steps = |steps| SizedChunk { steps, guidance: 2.5 };
        let sampler = Sampler {
            update: Update::Renoise,
            shift: 3.0,
            first_chunk: steps(StepList::Even(10)),
            later_chunks: steps(StepList::Warped(vec![1000.0, 750.0])),
        };
        let model =
            Model { text_encoder: None, transformer: None, vae: None, sampler, video: wan::VIDEO };
        let tensor = TensorEntry {
            part: Part::Vae,
            name: "decoder.conv_in.bias".into(),
            dtype: Dtype::Bf16,
            shape: vec![2, 3],
            bytes: 12,
            digest: Digest([0xab; 32]),
        };
        let expected = format!(
            "filmloom model 1\ntext_encoder none\ntransformer none\nvae none\n\
             sampler.update renoise\nsampler.shift 4008000000000000\n\
             sampler.first_chunk.steps even 10\nsampler.first_chunk.guidance 40200000\n\
             sampler.later_chunks.steps warped [408f400000000000,4087700000000000]\n\
             sampler.later_chunks.guidance 40200000\nvideo 832 480 16\ntokenizer none\n\
             tensor vae decoder.conv_in.bias BF16 [2,3] {}\n",
            "ab".repeat(32)
        );

        assert_eq!(text(&model, None, &[tensor]), expected);
    }

    #[test]
    fn every_value_of_every_part_is_in_it() {
        let model = Model {
            text_encoder: Some(wan::umt5_xxl()),
            transformer: Some(transformer()),
            vae: Some(wan::vae()),
            sampler: wan::student_sampler(),
            video: wan::VIDEO,
        };
        let whole = text(&model, None, &[]);
        let changed = |change: fn(&mut Model)| {
            let mut other = model.clone();
            change(&mut other);
            text(&other, None, &[])
        };

        let others = [
            changed(|model| model.text_encoder.as_mut().unwrap().position_buckets += 1),
            changed(|model| model.text_encoder.as_mut().unwrap().eps *= 1.000_001),
            changed(|model| model.vae.as_mut().unwrap().latents_std[15] += 1e-6),
            changed(|model| model.vae.as_mut().unwrap().temporal_downsample[0] ^= true),
            changed(|model| model.vae = None),
            changed(|model| model.sampler.later_chunks.guidance += 1.0),
            changed(|model| model.sampler.first_chunk.steps = StepList::Listed(vec![1000.0])),
            changed(|model| model.video.fps += 1),
            text(&model, Some(Digest([0; 32])), &[]),
        ];

        for (place, other) in others.iter().enumerate() {
            assert_ne!(whole, *other, "change {place}");
        }
    }

    #[test]
    fn every_value_of_a_transformer_is_in_it() {
        let lines = |config: &Transformer| {
            let mut lines = Lines(String::new());
            super::transformer(&mut lines, config);
            lines.0
        };
        let changed = |change: fn(&mut Transformer)| {
            let mut config = transformer();
            change(&mut config);
            lines(&config)
        };
        fn mla(config: &mut Transformer) -> &mut Mla {
            let Attention::Mla(mla) = &mut config.attention else { panic!("it is latent") };
            mla
        }

        let others = [
            changed(|config| config.text_len += 1),
            changed(|config| config.patch = [1, 2, 4]),
            changed(|config| config.eps = 1e-5),
            changed(|config| config.cross_attention_norm = false),
            changed(|config| config.qk_norm = false),
            changed(|config| config.attention = Attention::Dense),
            changed(|config| mla(config).rope += 2),
            changed(|config| mla(config).query_rank = Some(4)),
            changed(|config| mla(config).query_norm = QueryNorm::None),
            changed(|config| mla(config).fused_kv_down = false),
            changed(|config| mla(config).query_bias = false),
            changed(|config| config.rope.axes[2].theta += 1e-9),
            changed(|config| config.rope.axes.swap(0, 1)),
            changed(|config| config.rope.positions = Positions::Window),
            changed(|config| config.window = None),
            changed(|config| config.window.as_mut().unwrap().sink = 1),
        ];

        for (place, other) in others.iter().enumerate() {
            assert_ne!(lines(&transformer()), *other, "change {place}");
        }
    }

    fn transformer() -> Transformer {
        Transformer {
            dim: 384,
            ffn_dim: 1536,
            layers: 8,
            heads: 6,
            in_channels: 12,
            out_channels: 12,
            patch: [1, 2, 2],
            freq_dim: 256,
            text_dim: 128,
            text_len: 48,
            eps: 1e-6,
            cross_attention_norm: true,
            qk_norm: true,
            attention: Attention::Mla(Mla {
                kv_rank: 40,
                query_rank: None,
                nope: 48,
                rope: 16,
                value: 64,
                query_norm: QueryNorm::Full,
                fused_kv_down: true,
                query_bias: true,
            }),
            rope: Rope {
                axes: [Axis::full(4, 100.0), Axis::full(2, 100.0), Axis::full(2, 100.0)],
                positions: Positions::Absolute,
            },
            window: Some(Window { sink: 0, recent: 21, chunk: 3 }),
        }
    }
}
