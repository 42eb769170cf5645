//! A model's work against published numbers, and against what one process holds.

use std::ops::Range;

use proptest::prelude::*;
use types::{
    Attention, Axis, Mla, Model, Positions, QueryNorm, Rope, Sampler, SizedChunk, StepList,
    TextEncoder, Tiles, Transformer, Update, Vae, Video, Window,
};

use super::*;
use crate::{
    memory::{Engine, Layout, Load, Memory, Parts, Size, memory, prompts_per_pass},
    presets::preset,
};

const BF16: Engine = Engine {
    layout: Layout::bf16(),
    tiles: Tiles { keys: 128, group_bytes: 4, value_multiple: 16, wave_bytes_max: 64 << 20 },
    uncommitted_chunks_max: 1,
    finished_chunks_max: 2,
};
const MODELS: [&str; 4] = ["mini", "wan-1.3b", "videomla-1.3b", "wan-14b"];

#[test]
fn messages_have_the_published_sizes() {
    // A chunk of 480p has 4,680 tokens of 1,536 numbers and 16 x 3 x 60 x 104 numbers of
    // frame tensors; in bf16 a hidden state takes half of this, 14.4 MB.
    let work = work_of("videomla-1.3b");
    assert_eq!(
        (work.hidden_bytes, work.velocity_bytes, work.x0_bytes),
        (28_753_920, 1_198_080, 1_198_080)
    );
    // 192 tokens of 384 numbers; 12 channels of 16 x 16 pixels.
    let work = work_of("mini");
    assert_eq!((work.hidden_bytes, work.velocity_bytes), (192 * 384 * 4, 12 * 3 * 256 * 4));
}

#[test]
fn guided_passes_run_twice() {
    let mini = work_of("mini");
    assert_eq!(mini.first_chunk, Runs { passes: 10, runs: 20 });
    assert_eq!(mini.later_chunks, Runs { passes: 4, runs: 4 });

    let mut unguided = shape(&model("mini"));
    unguided.sampler.first_chunk.guidance = 1.0;
    let work = Work::of(&model("mini"), &unguided).unwrap();

    assert_eq!(work.first_chunk, Runs { passes: 10, runs: 10 });
    // And one prompt's cross-attention is enough: 2 x 48 x 384 numbers in bf16.
    let spared = mini.footprint.layer_job_bytes - work.footprint.layer_job_bytes;
    assert_eq!(spared, 2 * 48 * 384 * 2);
}

#[test]
fn all_layers_and_parts_are_one_process_but_for_its_moments() {
    for name in MODELS {
        let (model, work) = (model(name), work_of(name));
        let whole = measured(&model, Parts::whole(&model));
        let side = |text, decoder| measured(&model, Parts { text, layers: None, decoder });
        let (text, decoder) = (side(true, false), side(false, true));
        let stage = measured(&model, stage(0..work.layers));

        let found = stage_bytes(&work, 0..work.layers)
            + work.footprint.text_bytes
            + work.footprint.decoder_bytes
            + work.footprint.decoder_job_bytes;

        // Apart, every part has a moment of its own.
        let moments = [&text, &decoder, &stage].map(|part| part.per_job.moment_bytes);
        let apart = whole.total_bytes - whole.per_job.moment_bytes + moments.iter().sum::<u64>();
        let spare = found - apart;
        assert!(spare <= prompt_bytes(&model), "{name}: {spare} of {found}");
        assert!((found as f64) < 1.09 * whole.total_bytes as f64, "{name}: {found} {whole:?}");
    }
}

#[test]
fn parts_that_are_missing_and_sizes_that_do_not_divide_are_errors() {
    let whole = model("mini");
    let no_vae = Model { vae: None, ..whole.clone() };
    let odd = JobShape { size: Size { width: 120, height: 128 }, ..shape(&whole) };
    let mut no_steps = shape(&whole);
    no_steps.sampler.later_chunks.steps = StepList::Even(0);

    assert!(matches!(Work::of(&no_vae, &shape(&whole)), Err(WorkError::Memory(_))));
    assert!(matches!(Work::of(&whole, &odd), Err(WorkError::Memory(_))));
    assert!(matches!(Work::of(&whole, &no_steps), Err(WorkError::Passes(_))));
}

proptest! {
    #[test]
    fn no_stage_holds_more_than_is_counted_nor_much_less(
        name in prop::sample::select(&MODELS[..]),
        ends in prop::collection::vec(0_usize..40, 2),
        side in 1_usize..60,
        bf16 in prop::bool::ANY,
    ) {
        let model = model(name);
        let layers = model.transformer.as_ref().unwrap().layers;
        let (first, end) = (ends[0].min(ends[1]) % layers, ends[0].max(ends[1]).min(layers));
        prop_assume!(first < end);
        let layout = if bf16 { Layout::bf16() } else { Layout::f32() };
        let size = Size { width: 16 * side, height: 32 };
        let shape = JobShape { engine: Engine { layout, ..BF16 }, size, ..shape(&model) };

        let work = Work::of(&model, &shape).unwrap();
        let parts = stage(first..end);
        let load = Load { parts, engine: shape.engine, size, video_frames: 21 };
        let held = memory(&model, &load).unwrap();

        let found = stage_bytes(&work, first..end);
        prop_assert!(held.total_bytes <= found, "{} {}", held.total_bytes, found);
        let twice = held.per_job.cross_attention_bytes + 2 * held.per_job.moment_bytes;
        prop_assert!(found <= held.total_bytes + twice, "{} {}", held.total_bytes, found);
    }
}

/// What the planner counts for a stage of one job.
fn stage_bytes(work: &Work, layers: Range<usize>) -> u64 {
    let footprint = &work.footprint;
    let first = if layers.start == 0 { footprint.first_stage_bytes } else { 0 };
    let last = if layers.end == work.layers { footprint.last_stage_bytes } else { 0 };
    let layer = footprint.layer_bytes + footprint.layer_job_bytes;
    layers.len() as u64 * layer + footprint.stage_bytes + first + last
}

/// One prompt's cross-attention in all layers.
fn prompt_bytes(model: &Model) -> u64 {
    let stage = measured(model, stage(0..model.transformer.as_ref().unwrap().layers));
    stage.per_job.cross_attention_bytes / prompts_per_pass(&model.sampler)
}

fn measured(model: &Model, parts: Parts) -> Memory {
    let JobShape { engine, size, video_frames, .. } = shape(model);
    memory(model, &Load { parts, engine, size, video_frames }).unwrap()
}

fn stage(layers: Range<usize>) -> Parts {
    Parts { text: false, layers: Some(layers), decoder: false }
}

fn work_of(name: &str) -> Work {
    let model = model(name);
    Work::of(&model, &shape(&model)).unwrap()
}

fn shape(model: &Model) -> JobShape {
    let Video { width, height, .. } = model.video;
    JobShape {
        size: Size { width, height },
        sampler: model.sampler.clone(),
        video_frames: 21,
        engine: BF16,
    }
}

fn model(name: &str) -> Model {
    if name == "mini" { mini() } else { preset(name).unwrap() }
}

/// The embedded model.
fn mini() -> Model {
    let chunk = |steps, guidance| SizedChunk { steps: StepList::Even(steps), guidance };
    Model {
        text_encoder: Some(TextEncoder {
            vocabulary: 272,
            dim: 128,
            head_dim: 32,
            heads: 4,
            ffn_dim: 256,
            layers: 2,
            position_buckets: 32,
            position_distance_max: 128,
            eps: 1e-6,
        }),
        transformer: Some(mini_transformer()),
        vae: Some(Vae {
            decoder_base_dim: 16,
            z_dim: 12,
            dim_mult: vec![1, 2, 4, 4],
            res_units: 1,
            temporal_downsample: vec![false, true, true],
            latents_mean: vec![0.0; 12],
            latents_std: vec![1.0; 12],
        }),
        sampler: Sampler {
            update: Update::Euler,
            shift: 3.0,
            first_chunk: chunk(10, 2.5),
            later_chunks: chunk(4, 1.0),
        },
        video: Video { width: 128, height: 128, fps: 16 },
    }
}

fn mini_transformer() -> Transformer {
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
