//! Tests of [`super`]: counts from published files and papers, then properties.

use proptest::prelude::*;
use types::{Attention, Axis, Mla, Positions, QueryNorm, Rope, TextEncoder, Window};

use super::*;
use crate::{presets::preset, units::Bytes};

const BF16: Engine = Engine {
    layout: Layout::bf16(),
    tiles: TILES,
    uncommitted_chunks_max: 1,
    finished_chunks_max: 2,
};
/// Tiles and waves as on a processor.
const TILES: Tiles =
    Tiles { keys: 128, group_bytes: 4, value_multiple: 16, wave_bytes_max: 64 << 20 };
const SIZE_480P: Size = Size { width: 832, height: 480 };

#[test]
fn transformers_have_as_many_parameters_as_published() {
    let count = |name| {
        let transformer = preset(name).unwrap().transformer.unwrap();
        parameters(&transformer, 0..transformer.layers).total()
    };
    // `diffusion_pytorch_model.safetensors` of Wan2.1-T2V-1.3B, and diffusers'
    // `WanTransformer3DModel` in the shapes of the 14B model.
    assert_eq!(count("wan-1.3b"), 1_418_996_800);
    assert_eq!(count("wan-14b"), 14_288_491_584);
    // Each layer: 3 x (1536 x 1536 + 1536) and two norms of 1536 leave; the
    // paper's seven matrices (3.219 M, without the output's) and the norms of
    // its two latents come.
    let leaves = 3 * (1536 * 1536 + 1536) + 2 * 1536;
    let comes = 3_219_456 + 192 + 768;
    assert_eq!(count("videomla-1.3b"), 1_418_996_800 - 30 * leaves + 30 * comes);
}

#[test]
fn embedded_models_parts_have_as_many_parameters_as_their_files() {
    // Sums over the headers of models/mini/weights.
    let transformer = embedded_transformer();
    assert_eq!(parameters(&transformer, 0..8).total(), 18_339_056);
    assert_eq!(text_encoder_parameters(&embedded_text_encoder()), 363_392);
    assert_eq!(vae_decoder_parameters(&embedded_vae()), 1_543_983);
}

#[test]
fn vae_and_text_encoder_have_as_many_parameters_as_diffusers_builds() {
    let model = preset("wan-1.3b").unwrap();
    // Counted with `torch.device("meta")`, diffusers 0.42.1 and transformers 5.17:
    // decoder and `post_quant_conv`; `UMT5EncoderModel`.
    assert_eq!(vae_decoder_parameters(&model.vae.unwrap()), 73_295_331 + 272);
    assert_eq!(text_encoder_parameters(&model.text_encoder.unwrap()), 5_680_910_336);
    let odd = Vae {
        decoder_base_dim: 20,
        z_dim: 5,
        dim_mult: vec![1, 3, 2],
        res_units: 2,
        temporal_downsample: vec![true, false],
        ..embedded_vae()
    };
    assert_eq!(vae_decoder_parameters(&odd), 1_083_063 + 30);
}

#[test]
fn stages_and_the_text_side_add_up_to_the_transformer() {
    let transformer = embedded_transformer();
    let whole = parameters(&transformer, 0..8);
    let stages = [0..3, 3..5, 5..8].map(|layers| parameters(&transformer, layers));

    // Each stage computes the modulation of its own layers.
    let repeated = 2 * whole.time_embedding;
    let sum: u64 = stages.iter().map(TransformerParameters::stage).sum();
    assert_eq!(whole.text_projection + sum - repeated, whole.total());
    assert_eq!(whole.text_projection, (128 + 1 + 384 + 1) * 384);
    assert_eq!(stages[1].stage(), whole.time_embedding + 2 * whole.layers / 8);
}

#[test]
fn wans_decoder_remembers_what_its_public_code_caches() {
    let inputs = vae_cache(&preset("wan-1.3b").unwrap().vae.unwrap(), grid_480p());

    let input = |convolutions, channels, rows, columns| CausalInput {
        convolutions,
        channels,
        rows,
        columns,
    };
    let expected = [
        input(1, 16, 60, 104),
        input(11, 384, 60, 104),
        input(1, 192, 120, 208),
        input(6, 384, 120, 208),
        input(6, 192, 240, 416),
        input(7, 96, 480, 832),
    ];
    assert_eq!(inputs, expected);
    assert_eq!(inputs.iter().map(|input| input.convolutions).sum::<usize>(), 32);
    let elements: u64 = inputs.iter().map(CausalInput::elements).sum();
    // Two frames each: 944.3 million numbers.
    assert_eq!(elements, 944_286_720);
}

#[test]
fn cache_weighs_what_the_paper_says() {
    // arXiv:2605.30351, section 3, table 1 and their arithmetic: bytes in bf16.
    let bytes = |name, frames| {
        let transformer = preset(name).unwrap().transformer.unwrap();
        2 * cache_elements(&transformer, grid_480p(), 30, frames)
    };
    let frames = [3, 6, 7, 12, 21, 240];
    let dense = frames.map(|frames| Bytes(bytes("wan-1.3b", frames)).to_string());
    let mla = frames.map(|frames| Bytes(bytes("videomla-1.3b", frames)).to_string());

    assert_eq!(dense, ["863 MB", "1.73 GB", "2.01 GB", "3.45 GB", "6.04 GB", "69.0 GB"]);
    assert_eq!(mla, ["62.9 MB", "126 MB", "147 MB", "252 MB", "440 MB", "5.03 GB"]);
    let krea = preset("wan-14b").unwrap().transformer.unwrap();
    assert_eq!(2 * cache_elements(&krea, grid_480p(), 40, 21), 819_200 * 32_760);
}

#[test]
fn terms_are_counted_for_the_parts_and_layers_held() {
    let model = preset("videomla-1.3b").unwrap();
    let whole = memory(&model, &load(0..30)).unwrap();
    assert_eq!(whole.per_job.cross_attention_bytes, 94_371_840);
    // Five slots of three frames: sink, two of the window, in generation, roll-back.
    assert_eq!(whole.per_job.cache_slots_bytes, 5 * 3 * 1560 * 13_440);
    assert_eq!(whole.total_bytes, whole.shared_bytes + whole.per_job_bytes);

    let parts = [
        Parts { text: true, layers: None, decoder: false },
        Parts { text: false, layers: Some(0..10), decoder: false },
        Parts { text: false, layers: Some(10..30), decoder: false },
        Parts { text: false, layers: None, decoder: true },
    ];
    let parts = parts.map(|parts| memory(&model, &Load { parts, ..load(0..30) }).unwrap());
    let [text, first, last, decoder] = &parts;
    let shared: u64 = parts.iter().map(|part| part.shared_bytes).sum();
    // The second stage has a time embedding of its own: f32 in every class.
    let time = 4 * (1536 * (256 + 1) + 7 * 1536 * (1536 + 1));
    assert_eq!(shared, whole.shared_bytes + time);
    let cache = |part: &Memory| part.per_job.cache_slots_bytes;
    assert_eq!((2 * cache(first), cache(first) + cache(last)), (cache(last), cache(&whole)));
    assert_eq!(decoder.per_job.vae_cache_bytes, whole.per_job.vae_cache_bytes);
    assert_eq!(text.per_job_bytes, text.per_job.moment_bytes);
    assert!(parts.iter().all(|part| 0 < part.per_job.moment_bytes));
}

#[test]
fn a_worker_needs_only_its_own_parts_configuration() {
    let whole = preset("wan-1.3b").unwrap();
    let parts = Parts { text: false, layers: None, decoder: true };
    let alone = Model { text_encoder: None, transformer: None, ..whole.clone() };

    let alone = memory(&alone, &Load { parts: parts.clone(), video_frames: 3, ..load(0..30) });

    assert_eq!(alone, memory(&whole, &Load { parts, ..load(0..30) }));
}

#[test]
fn factors_are_half_as_wide_in_bf16_and_all_else_is_not() {
    let model = preset("wan-14b").unwrap();
    let engine = |layout| Load { engine: Engine { layout, ..BF16 }, ..load(0..40) };
    let [narrow, wide] =
        [Layout::bf16(), Layout::f32()].map(|layout| memory(&model, &engine(layout)).unwrap());

    let extra =
        |memory: Memory| 2 * narrow.shared.transformer_bytes - memory.shared.transformer_bytes;
    // Time and patch embedding and the head stay in f32: 186 million numbers; norms and
    // biases are few.
    assert!((0.74e9..0.78e9).contains(&(extra(wide) as f64)), "{}", extra(wide));
    assert_eq!(narrow.shared.text_projection_bytes, wide.shared.text_projection_bytes);
    // 4,680 tokens: rows (two), queries of both attentions in f32; normed residual,
    // queries, both attentions' outputs and 13,824 in bf16; the modulation of 3 frames.
    let buffers = 4_680 * (4 * 4 * 5120 + 2 * (4 * 5120 + 13_824)) + 4 * 3 * 6 * 5120;
    assert_eq!(narrow.per_job.pass_activations_bytes, buffers);
}

#[test]
fn pass_holds_a_wave_of_heads_beside_its_residual() {
    // 15,600 keys fill 122 tiles of 128; eight of the twelve heads fit in 64 MiB.
    let rebuilt = 8 * 122 * 128 * 2 * (128 + 128);
    assert_eq!(largest_moment_of_a_stage("videomla-1.3b", 192), residual() + rebuilt);
    // A latent of 64 is absorbed: one set of keys and values for all heads.
    let absorbed = 122 * 128 * 2 * (64 + 32 + 64);
    let head = 4 * (4_680 * (1536 + 64) + 16 * 3 * 60 * 104);
    assert!(absorbed < head);
    assert_eq!(largest_moment_of_a_stage("videomla-1.3b", 64), residual() + head);
    // Dense, 32,760 keys: four heads.
    assert_eq!(largest_moment_of_a_stage("wan-1.3b", 0), residual() + (64 << 20));
}

#[test]
fn attention_holds_one_set_of_tiles_absorbed_and_all_the_prompts_heads() {
    let (grid, tiles) = (grid_480p(), attention::layer_tiles);
    let mut transformer = preset("videomla-1.3b").unwrap().transformer.unwrap();

    let absorbed = 122 * 128 * 2 * (192 + 32 + 192);
    assert_eq!(tiles(&transformer, grid, 3, true, &BF16), absorbed);
    // Of one token there are 1 + 6 + 3 keys, and 512 of the prompt.
    let token = Grid { frame_tokens: 1, ..grid };
    assert_eq!(tiles(&transformer, token, 3, true, &BF16), 12 * 512 * 2 * (128 + 128));
    // Without a window all frames are one pass'.
    transformer.window = None;
    assert_eq!(tiles(&transformer, grid, 10, true, &BF16), absorbed);
}

#[test]
fn decoding_holds_the_tiles_of_its_attention_beside_all_pictures() {
    let mut model = preset("wan-1.3b").unwrap();
    model.transformer = None;
    let parts = Parts { text: false, layers: None, decoder: true };
    let load = |size| Load { parts: parts.clone(), size, video_frames: 3, ..load(0..30) };
    let planned = |size| memory(&model, &load(size)).unwrap().per_job.moment_bytes;

    // 6,240 pixels fill 49 tiles, which are less than 12 pictures as bytes.
    let (frames, pictures) = (3 * 16 * 6_240, 12 * 832 * 480 * 3);
    let tiles = 49 * 128 * 2 * (384 + 384);
    assert!(4 * frames + tiles < pictures);
    assert_eq!(planned(SIZE_480P), 4 * frames + 4 * pictures + pictures);
    // The one pixel of a small frame tensor takes a whole tile.
    let small = Size { width: 8, height: 8 };
    let (frames, pictures) = (3 * 16, 12 * 8 * 8 * 3);
    assert_eq!(planned(small), 4 * (frames + pictures + frames) + 128 * 2 * (384 + 384));
}

#[test]
fn transformed_kernels_hold_sixteen_places_of_nine() {
    let vae = preset("wan-1.3b").unwrap().vae.unwrap();
    let [f32, bf16] =
        [Layout::f32(), Layout::bf16()].map(|layout| decoder::weights_bytes(&vae, &layout));

    // Nearly all of the 73 million numbers are in 3x3x3 kernels.
    let expansion = f32 as f64 / (4.0 * 73_295_603.0);
    assert!((1.7..16.0 / 9.0).contains(&expansion), "{expansion}");
    assert!((1.0..1.1).contains(&(bf16 as f64 / (2.0 * 73_295_603.0))), "{bf16}");
}

#[test]
fn decoder_holds_three_bordered_frames_of_every_causal_input() {
    let small =
        Vae { dim_mult: vec![1], temporal_downsample: vec![], res_units: 0, ..embedded_vae() };
    let grid = Grid { rows: 3, columns: 4, frame_tokens: 0, patch_frames: 1 };

    let held = decoder::volumes_bytes(&small, grid, &Layout::bf16());

    // conv_in; two convolutions of three units and conv_out, over 6 x 6 pixels.
    let pixels = 3 * 6 * 6 + 16;
    assert_eq!(held, 2 * pixels * (12 + 7 * 16));
}

#[test]
fn model_without_a_window_holds_one_slot_and_one_long_pass() {
    let mut model = preset("wan-1.3b").unwrap();
    let chunked = memory(&model, &load(0..30)).unwrap().per_job;
    model.transformer.as_mut().unwrap().window = None;
    let engine = Engine { uncommitted_chunks_max: 0, ..BF16 };
    let whole = memory(&model, &Load { engine, ..load(0..30) }).unwrap().per_job;

    assert_eq!(whole.cache_slots_bytes, 21 * 1560 * 184_320);
    assert!(6 * chunked.pass_activations_bytes < whole.pass_activations_bytes);
}

#[test]
fn guidance_holds_the_cross_attention_of_two_prompts() {
    let mut model = preset("wan-1.3b").unwrap();
    model.sampler.first_chunk.guidance = 2.5;

    let memory = memory(&model, &load(0..30)).unwrap();
    assert_eq!(memory.per_job.cross_attention_bytes, 2 * 94_371_840);
}

#[test]
fn impossible_loads_are_named() {
    let model = preset("wan-1.3b").unwrap();
    let size = Size { width: 833, height: 480 };
    let (width, height, column_pixels, row_pixels) = (833, 480, 16, 16);
    let refused = memory(&model, &Load { size, ..load(0..30) });
    assert_eq!(refused, Err(Error::Size { width, height, column_pixels, row_pixels }));
    let (first, end, layers) = (20, 31, 30);
    assert_eq!(memory(&model, &load(20..31)), Err(Error::Layers { first, end, layers }));
    assert!(matches!(memory(&model, &load(3..3)), Err(Error::Layers { .. })));
    let headless = Model { text_encoder: None, ..model };
    let refused = memory(&headless, &load(0..30));
    assert_eq!(
        refused.unwrap_err().to_string(),
        "the model has no text encoder, which a plan counts: put text_encoder/config.json into \
         its folder, or name another model"
    );
}

#[test]
fn verdict_carries_the_numbers_and_the_advice() {
    let (cache_slots_bytes, moment_bytes) = (6_000_000_000, 500_000_000);
    let per_job = PerJob { cache_slots_bytes, moment_bytes, ..PerJob::default() };
    let memory = Memory::new(Shared::default(), per_job);
    let budget = |available_bytes| Budget { available_bytes, headroom_bytes: 500_000_000 };

    assert_eq!(memory.fits(budget(7_000_000_000)), Ok(0));
    assert_eq!(memory.fits(budget(7_000_000_001)), Ok(1));
    let error = memory.fits(budget(6_999_999_999)).unwrap_err();
    assert_eq!((error.need_bytes, error.missing_bytes), (6_500_000_000, 1));
    let message = memory.fits(budget(4_000_000_000)).unwrap_err().to_string();
    assert_eq!(
        message,
        "6.50 GB are needed and 500 MB must stay free, but 4.00 GB are available, 3.00 GB too \
         few; the largest part is cache slots: make the window shorter or the pictures smaller"
    );
}

proptest! {
    #[test]
    fn no_configuration_overflows(
        sizes in proptest::array::uniform8(size()), window in (size(), size(), size()),
        vae in (size(), size(), size()), uncommitted_chunks_max: u32, guided: bool,
    ) {
        let [dim, ffn_dim, layers, heads, text_len, rank, side, element] = sizes;
        let mla = Mla { kv_rank: rank, query_rank: Some(rank), nope: side, rope: side, ..MLA };
        let window = Window { sink: window.0, recent: window.1, chunk: window.2 };
        let mut model = preset("wan-1.3b").unwrap();
        let wan = model.transformer.unwrap();
        model.transformer = Some(Transformer {
            dim, ffn_dim, layers, heads, text_len,
            attention: Attention::Mla(mla), window: Some(window), ..wan
        });
        let small = embedded_vae();
        let (decoder_base_dim, z_dim, res_units) = (vae.0, vae.1, vae.2.min(20));
        model.vae = Some(Vae { decoder_base_dim, z_dim, res_units, ..small });
        model.sampler.first_chunk.guidance = if guided { 2.0 } else { 1.0 };
        let layout = Layout { factor_bytes: element, full_bytes: element, ..Layout::f32() };
        let tiles = Tiles { keys: element, wave_bytes_max: side, ..TILES };
        let engine = Engine { layout, tiles, uncommitted_chunks_max, finished_chunks_max: element };
        let load = Load { engine, ..load(0..layers) };

        if let Ok(memory) = memory(&model, &load) {
            let terms = memory.shared.terms().into_iter().chain(memory.per_job.terms());
            prop_assert!(terms.into_iter().all(|(_, bytes)| bytes <= memory.total_bytes));
        }
    }
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![Just(0), 1_usize..4096, Just(usize::MAX), Just(usize::MAX / 2)]
}

/// The embedded model's attention.
const MLA: Mla = Mla {
    kv_rank: 40,
    query_rank: None,
    nope: 48,
    rope: 16,
    value: 64,
    query_norm: QueryNorm::Full,
    fused_kv_down: true,
    query_bias: true,
};

fn load(layers: Range<usize>) -> Load {
    let parts = Parts { text: true, layers: Some(layers), decoder: true };
    Load { parts, engine: BF16, size: SIZE_480P, video_frames: 21 }
}

/// The largest moment of the last two layers alone, with latents of this rank if
/// they are latent.
fn largest_moment_of_a_stage(name: &str, kv_rank: usize) -> u64 {
    let mut model = preset(name).unwrap();
    if let Attention::Mla(mla) = &mut model.transformer.as_mut().unwrap().attention {
        mla.kv_rank = kv_rank;
    }
    let parts = Parts { text: false, layers: Some(28..30), decoder: false };
    memory(&model, &Load { parts, ..load(0..30) }).unwrap().per_job.moment_bytes
}

/// What stays through a pass of that stage: residual, time's waves and vectors,
/// and a velocity; all in f32.
fn residual() -> u64 {
    4 * (4_680 * 1536 + 3 * (10 * 1536 + 256) + 16 * 3 * 60 * 104)
}

fn grid_480p() -> Grid {
    Grid { rows: 60, columns: 104, frame_tokens: 1560, patch_frames: 1 }
}

fn embedded_transformer() -> Transformer {
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
        attention: Attention::Mla(MLA),
        rope: Rope {
            axes: [Axis::full(4, 100.0), Axis::full(2, 100.0), Axis::full(2, 100.0)],
            positions: Positions::Absolute,
        },
        window: Some(Window { sink: 0, recent: 21, chunk: 3 }),
    }
}

fn embedded_text_encoder() -> TextEncoder {
    TextEncoder {
        vocabulary: 272,
        dim: 128,
        head_dim: 32,
        heads: 4,
        ffn_dim: 256,
        layers: 2,
        position_buckets: 32,
        position_distance_max: 128,
        eps: 1e-6,
    }
}

fn embedded_vae() -> Vae {
    Vae {
        decoder_base_dim: 16,
        z_dim: 12,
        dim_mult: vec![1, 2, 4, 4],
        res_units: 1,
        temporal_downsample: vec![false, true, true],
        latents_mean: vec![0.0; 12],
        latents_std: vec![1.0; 12],
    }
}
