//! The embedded model's folder is opened, checked and read.

use std::path::Path;

use checkpoint::{Checkpoint, Ema, Error, Source, Tally, manifest};
use types::{
    Attention, Mla, QueryNorm, Rope, Sampler, SizedChunk, StepList, Update, Video, Window,
};

#[test]
fn every_tensor_that_is_handed_out_counts_as_read_and_no_other() {
    let tally = Tally::default();
    let counted = open().counted(tally.clone());
    let opened = counted.open_transformer(Some(0..1)).unwrap();
    assert_eq!(tally.read(), 0, "opening reads none");

    let manifest = manifest::transformer(&opened.config, 0..1);
    let handed = manifest.iter().map(|(name, shape)| opened.tensors.get(name, shape).unwrap());

    let bytes: u64 = handed.map(|tensor| tensor.bytes.len() as u64).sum();
    assert_eq!(tally.read(), bytes);
    open()
        .open_transformer(Some(0..1))
        .unwrap()
        .tensors
        .get(&manifest[0].0, &manifest[0].1)
        .unwrap();
    assert_eq!(tally.read(), bytes, "of another checkpoint");
}

#[test]
fn the_embedded_model_resolves_as_its_card_says() {
    let model = open().model().unwrap();

    let transformer = model.transformer.unwrap();
    let mla = Mla {
        kv_rank: 40,
        query_rank: None,
        nope: 48,
        rope: 16,
        value: 64,
        query_norm: QueryNorm::Full,
        fused_kv_down: true,
        query_bias: true,
    };
    assert_eq!(transformer.attention, Attention::Mla(mla));
    assert_eq!(transformer.window, Some(Window { sink: 0, recent: 21, chunk: 3 }));
    let Rope { axes, .. } = transformer.rope;
    assert_eq!(axes.map(|axis| axis.pairs), [4, 2, 2]);
    assert_eq!(axes.map(|axis| axis.denominator), [8.0, 4.0, 4.0]);
    assert_eq!(model.video, Video { width: 128, height: 128, fps: 16 });
    let expected = Sampler {
        update: Update::Euler,
        shift: 3.0,
        first_chunk: SizedChunk { steps: StepList::Even(10), guidance: 2.5 },
        later_chunks: SizedChunk { steps: StepList::Even(4), guidance: 1.0 },
    };
    assert_eq!(model.sampler, expected);
    assert_eq!(model.vae.unwrap().dim_mult, [1, 2, 4, 4]);
    assert_eq!(model.text_encoder.unwrap().vocabulary, 272);
}

#[test]
fn the_embedded_model_holds_what_its_configuration_calls_for() {
    let checkpoint = open();

    let transformer = checkpoint.open_transformer(None).unwrap();
    let vae = checkpoint.open_vae().unwrap();
    let text_encoder = checkpoint.open_text_encoder().unwrap();

    for warnings in [&transformer.warnings, &vae.warnings, &text_encoder.warnings] {
        assert_eq!(warnings, &[""; 0]);
    }
    // The count is the model card's.
    let all = manifest::whole_transformer(&transformer.config);
    assert_eq!(manifest::parameters(&all), 18_339_056);
    for (name, shape) in &all {
        let tensor = transformer.tensors.get(name, shape).unwrap();
        assert_eq!(tensor.elements(), shape.iter().product::<usize>());
    }
    let norm = transformer.tensors.get("blocks.7.norm3.weight", &[384]).unwrap().to_f32();
    assert!(norm.iter().all(|value| value.is_finite() && 0.0 < *value && *value < 10.0));
    let tokenizer = checkpoint.tokenizer().unwrap();
    assert!(tokenizer.starts_with(b"{"));
}

#[test]
fn a_stage_needs_its_own_layers_only() {
    let source = Source::folder(folder());
    // The middle shard alone holds layer 4.
    let names = ["config.json", "diffusion_pytorch_model.safetensors.index.json"];
    let shard = "diffusion_pytorch_model-00002-of-00003.safetensors";
    let files = names.into_iter().chain([shard]).map(|name| {
        let path = format!("transformer/{name}");
        let bytes = source.read(&path).unwrap().to_vec();
        (path, bytes)
    });
    let checkpoint = Checkpoint::open(Source::memory(files), Ema::Prefer).unwrap();

    let error = checkpoint.open_transformer(None).unwrap_err();
    assert!(matches!(&error, Error::NoShard { .. }), "{error}");
    let error = error.to_string();
    assert!(error.contains("00001-of-00003.safetensors: missing"), "{error}");
    assert!(error.ends_with("put it there"), "{error}");
    // Every stage embeds time, which the first shard holds.
    let error = checkpoint.open_transformer(Some(4..5)).unwrap_err();
    assert!(error.to_string().contains("time_embedding"), "{error}");
}

#[test]
fn layers_outside_the_model_are_refused() {
    for layers in [7..9, 3..3] {
        let error = open().open_transformer(Some(layers)).unwrap_err();
        assert!(matches!(&error, Error::Layers { layers: 8, .. }), "{error}");
    }
}

fn open() -> Checkpoint {
    Checkpoint::open(Source::folder(folder()), Ema::Prefer).expect("the model is committed")
}

fn folder() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models/mini/weights")
}
