//! Every family's own tensor names are found under the canonical ones.
//!
//! The lists in `fixtures/` come from the libraries' own classes. A model is
//! made of each, so a name or shape that differs shows as missing or surplus.

use std::collections::BTreeMap;

use checkpoint::{Checkpoint, Ema, Error, Part, Source};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};

#[test]
fn diffusers_transformers_are_found_whole() {
    let source = source("transformer", DIFFUSERS_TRANSFORMER, &diffusers_config());
    let opened = open(&source).open_transformer(None).unwrap();
    assert_eq!(opened.warnings, [""; 0]);
    // Diffusers names the cross-attention's norm by the order of use.
    let norm = opened.tensors.get("blocks.1.norm3.bias", &[24]).unwrap();
    assert_eq!(norm.to_f32()[0], number(DIFFUSERS_TRANSFORMER, "blocks.1.norm2.bias"));
}

#[test]
fn original_transformers_are_found_whole() {
    let config = json!({
        "_class_name": "WanModel", "dim": 24, "eps": 1e-6, "ffn_dim": 20, "freq_dim": 8,
        "in_dim": 4, "model_type": "t2v", "num_heads": 2, "num_layers": 2, "out_dim": 4,
        "text_len": 512, "text_dim": 8
    });
    let opened = open(&source("", WAN_TRANSFORMER, &config)).open_transformer(None).unwrap();
    assert_eq!(opened.warnings, [""; 0]);
}

#[test]
fn original_names_in_a_diffusers_folder_are_found_too() {
    let source = source("transformer", WAN_TRANSFORMER, &diffusers_config());
    assert_eq!(open(&source).open_transformer(None).unwrap().warnings, [""; 0]);
}

#[test]
fn both_vaes_are_found_whole_and_their_encoders_left_alone() {
    let config = json!({
        "_class_name": "AutoencoderKLWan", "base_dim": 4, "z_dim": 3,
        "latents_mean": [0, 0, 0], "latents_std": [1, 1, 1]
    });
    for (names, unit) in [
        (DIFFUSERS_VAE, "decoder.up_blocks.1.resnets.0.conv_shortcut.bias"),
        (WAN_VAE, "decoder.upsamples.4.shortcut.bias"),
    ] {
        let opened = open(&source("vae", names, &config)).open_vae().unwrap();
        assert_eq!(opened.warnings, [""; 0]);
        let canonical = "decoder.up_blocks.1.resnets.0.conv_shortcut.bias";
        let bias = opened.tensors.get(canonical, &[16]).unwrap();
        assert_eq!(bias.to_f32()[0], number(names, unit));
    }
}

#[test]
fn a_vae_without_its_encoder_is_whole() {
    let config = json!({
        "base_dim": 4, "z_dim": 3, "latents_mean": [0, 0, 0], "latents_std": [1, 1, 1]
    });
    let decoder: String = DIFFUSERS_VAE
        .lines()
        .filter(|line| line.starts_with("decoder") || line.starts_with("post_quant"))
        .flat_map(|line| [line, "\n"])
        .collect();
    assert_eq!(open(&source("vae", &decoder, &config)).open_vae().unwrap().warnings, [""; 0]);
}

#[test]
fn text_encoders_are_found_whole_under_all_three_embedding_names() {
    let config = json!({
        "model_type": "umt5", "vocab_size": 10, "d_model": 8, "d_kv": 3, "d_ff": 12,
        "num_layers": 2, "num_heads": 2
    });
    let without = |name: &str| -> String {
        let others = HUGGING_FACE.lines().filter(|line| !line.starts_with(name));
        others.flat_map(|line| [line, "\n"]).collect()
    };
    let (shared, tied) = (without("encoder.embed_tokens"), without("shared"));
    for names in [HUGGING_FACE, &shared, &tied, WAN_TEXT_ENCODER] {
        let opened = open(&source("text_encoder", names, &config)).open_text_encoder().unwrap();
        assert_eq!(opened.warnings, [""; 0], "{names}");
        assert_eq!(opened.tensors.get("shared.weight", &[10, 8]).unwrap().elements(), 80);
    }
}

#[test]
fn original_folders_keep_all_parts_in_their_root() {
    let config = json!({
        "_class_name": "WanModel", "dim": 24, "eps": 1e-6, "ffn_dim": 20, "freq_dim": 8,
        "in_dim": 16, "model_type": "t2v", "num_heads": 2, "num_layers": 2, "out_dim": 16
    });
    let mut files = files("", WAN_TRANSFORMER, &config);
    let others =
        ["Wan2.1_VAE.pth", "models_t5_umt5-xxl-enc-bf16.pth", "google/umt5-xxl/tokenizer.json"];
    files.extend(others.map(|name| (name.to_owned(), b"PK".to_vec())));
    let checkpoint = open(&Source::memory(files));

    for part in [Part::Transformer, Part::Vae, Part::TextEncoder, Part::Tokenizer] {
        assert!(checkpoint.has(part), "{part}");
    }
    let model = checkpoint.model().unwrap();
    assert_eq!(model.vae.unwrap().z_dim, 16);
    assert_eq!(model.text_encoder.unwrap().vocabulary, 256_384);
    let error = checkpoint.open_vae().unwrap_err().to_string();
    assert!(error.starts_with("<model in memory>/Wan2.1_VAE.pth:"), "{error}");
}

#[test]
fn an_original_text_encoder_is_a_whole_file_and_one() {
    let folder = |names: &[&str]| {
        let names = ["google/umt5-xxl/tokenizer.json"].iter().chain(names);
        open(&Source::memory(names.map(|name| ((*name).to_owned(), b"PK".to_vec()))))
    };
    let [half, other] = ["bf16", "fp32"].map(|dtype| format!("models_t5_umt5-xxl-enc-{dtype}.pth"));
    let download = format!("{half}.aria2");

    let error = folder(&[&download]).open_text_encoder().unwrap_err().to_string();
    assert!(error.contains("looked for text_encoder/config.json and models_t5"), "{error}");
    let error = folder(&[&half, &download]).open_text_encoder().unwrap_err().to_string();
    assert!(error.starts_with(&format!("<model in memory>/{half}:")), "{error}");
    let both = folder(&[&other, &half, &download]);
    let error = both.open_text_encoder().unwrap_err().to_string();
    assert!(error.ends_with(&format!("is unclear: keep one of {half}, {other}")), "{error}");
    // The other parts can be told all the same.
    assert!(both.has(Part::TextEncoder) && both.model().is_ok());
}

#[test]
fn a_part_may_be_given_by_its_own_folder() {
    let vae = json!({"_class_name": "AutoencoderKLWan"});
    let text = json!({"model_type": "umt5"});
    for (config, part) in
        [(vae, Part::Vae), (text, Part::TextEncoder), (diffusers_config(), Part::Transformer)]
    {
        let checkpoint = open(&source("", WAN_TRANSFORMER, &config));
        let parts = [Part::Transformer, Part::Vae, Part::TextEncoder, Part::Tokenizer];
        assert_eq!(parts.map(|other| checkpoint.has(other)), parts.map(|other| other == part));
    }
}

#[test]
fn what_is_missing_or_too_much_or_wrong_is_named() {
    let config = diffusers_config();
    let line = "blocks.1.norm2.bias 24\n";
    let missing = DIFFUSERS_TRANSFORMER.replace(line, "");
    let error = open(&source("transformer", &missing, &config)).open_transformer(None).unwrap_err();
    assert!(matches!(&error, Error::NoTensor { tensor, expected, .. }
        if tensor == "blocks.1.norm2.bias" && expected == &[24]));
    let expected = "<model in memory>/transformer/model.safetensors: tensor \
         `blocks.1.norm2.bias` is missing, expected shape [24]: take weights and configuration of \
         one model, whole";
    assert_eq!(error.to_string(), expected);

    let wrong = DIFFUSERS_TRANSFORMER.replace(line, "blocks.1.norm2.bias 23\n");
    let error = open(&source("transformer", &wrong, &config)).open_transformer(None).unwrap_err();
    let expected = "expected shape [24], found [23]: take weights and configuration of one model";
    assert!(error.to_string().ends_with(expected), "{error}");

    // A tensor beside the layers does no harm; an image model's keys are not left out.
    let surplus = format!("{DIFFUSERS_TRANSFORMER}extra_head.weight 24 24\n");
    let opened = open(&source("transformer", &surplus, &config)).open_transformer(None).unwrap();
    let expected = "<model in memory>/transformer/model.safetensors: tensor `extra_head.weight` \
         [24, 24] is not part of the configured model (1 such): it is not read";
    assert_eq!(opened.warnings, [expected]);
    let other = format!("{DIFFUSERS_TRANSFORMER}blocks.0.attn2.add_k_proj.weight 24 24\n");
    let error = open(&source("transformer", &other, &config)).open_transformer(None).unwrap_err();
    assert!(matches!(&error, Error::Contradicts { .. }), "{error}");

    let error = open(&source("transformer", line, &config)).open_vae().unwrap_err();
    assert!(matches!(&error, Error::NoPart { part: Part::Vae, .. }), "{error}");
}

#[test]
fn element_types_that_cannot_be_computed_with_are_named() {
    let bytes = vec![0; 24 * 8];
    let mut files = files("transformer", DIFFUSERS_TRANSFORMER, &diffusers_config());
    let view = TensorView::new(Dtype::I64, vec![24], &bytes).unwrap();
    let rest = DIFFUSERS_TRANSFORMER.replace("blocks.1.norm2.bias 24\n", "");
    let first = files.insert("transformer/m-00001-of-00002.safetensors".into(), weights(&rest));
    assert!(first.is_none());
    let second = safetensors::serialize([("blocks.1.norm2.bias", view)], None).unwrap();
    files.insert("transformer/m-00002-of-00002.safetensors".into(), second);
    files.remove("transformer/model.safetensors");

    let error = open(&Source::memory(files)).open_transformer(None).unwrap_err().to_string();

    assert!(error.contains("m-00002-of-00002"), "{error}");
    assert!(
        error.ends_with("expected F32, F16, BF16 or F64, found I64: convert it to one of them"),
        "{error}"
    );
}

const DIFFUSERS_TRANSFORMER: &str = include_str!("fixtures/diffusers_transformer.names");
const DIFFUSERS_VAE: &str = include_str!("fixtures/diffusers_vae.names");
const HUGGING_FACE: &str = include_str!("fixtures/hugging_face_text_encoder.names");
const WAN_TRANSFORMER: &str = include_str!("fixtures/wan_transformer.names");
const WAN_VAE: &str = include_str!("fixtures/wan_vae.names");
const WAN_TEXT_ENCODER: &str = include_str!("fixtures/wan_text_encoder.names");

fn diffusers_config() -> Value {
    json!({
        "_class_name": "WanTransformer3DModel", "attention_head_dim": 12,
        "num_attention_heads": 2, "in_channels": 4, "out_channels": 4, "text_dim": 8,
        "freq_dim": 8, "ffn_dim": 20, "num_layers": 2
    })
}

fn open(source: &Source) -> Checkpoint {
    Checkpoint::open(source.clone(), Ema::Prefer).expect("the folder has a part")
}

fn source(folder: &str, names: &str, config: &Value) -> Source {
    Source::memory(files(folder, names, config))
}

fn files(folder: &str, names: &str, config: &Value) -> BTreeMap<String, Vec<u8>> {
    let path =
        |name| if folder.is_empty() { String::from(name) } else { format!("{folder}/{name}") };
    [
        (path("config.json"), config.to_string().into_bytes()),
        (path("model.safetensors"), weights(names)),
    ]
    .into()
}

/// A file of the listed tensors; all elements of a tensor are its number.
fn weights(names: &str) -> Vec<u8> {
    let tensors: Vec<(&str, Vec<usize>, Vec<u8>)> = names
        .lines()
        .map(|line| {
            let mut words = line.split(' ');
            let name = words.next().expect("a line begins with a name");
            let shape: Vec<usize> = words.map(|size| size.parse().expect("a size")).collect();
            let element = number(names, name).to_le_bytes();
            (name, shape.clone(), element.repeat(shape.iter().product()))
        })
        .collect();
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("sizes agree");
        (*name, view)
    });
    safetensors::serialize(views, None).expect("the names are distinct")
}

/// The number of the line that begins with `name`.
fn number(names: &str, name: &str) -> f32 {
    let line = names.lines().position(|line| line.split(' ').next() == Some(name));
    f32::from(u16::try_from(line.expect("the name is listed")).expect("the lists are short"))
}
