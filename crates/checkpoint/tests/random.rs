//! Random weights stand behind the same door as stored ones.

use checkpoint::{Dtype, Error, Tensors, manifest};
use types::{Attention, Axis, Positions, Rope, Transformer};

#[test]
fn random_weights_are_had_by_name_and_shape() {
    let config = wan_1_3b();
    let manifest = manifest::transformer(&config, 0..config.layers);
    let tensors = Tensors::random(manifest.clone(), 1);

    assert!(tensors.check(&manifest).is_ok());
    assert!(tensors.check_surplus(&manifest).is_ok());
    let tensor = tensors.get("blocks.29.ffn.0.bias", &[8960]).unwrap();
    assert_eq!((tensor.dtype, tensor.elements()), (Dtype::Bf16, 8960));
    let error = tensors.get("blocks.30.ffn.0.bias", &[8960]).unwrap_err();
    assert!(matches!(error, Error::NoTensor { .. }), "{error}");
    let error = tensors.get("blocks.29.ffn.0.bias", &[8961]).unwrap_err();
    assert!(matches!(error, Error::Shape { .. }), "{error}");
}

#[test]
fn wan_1_3b_has_the_published_number_of_parameters_and_tensors() {
    let config = wan_1_3b();
    let manifest = manifest::whole_transformer(&config);
    // The released file holds 825 tensors, 5.68 GB of f32.
    assert_eq!(manifest.len(), 825);
    assert_eq!(manifest::parameters(&manifest), 1_418_996_800);
}

#[test]
fn stages_share_the_time_embedding_and_split_the_layers() {
    let config = wan_1_3b();
    let names = |layers| -> Vec<String> {
        manifest::transformer(&config, layers).into_iter().map(|(name, _)| name).collect()
    };
    let (first, last) = (names(0..10), names(10..30));
    let (common, text) = (6, manifest::text_projection(&config).len());

    assert_eq!(first.len() + last.len() + text, 825 + common);
    assert!(first.contains(&"patch_embedding.weight".into()));
    assert!(!last.contains(&"patch_embedding.weight".into()));
    assert!(!first.contains(&"head.modulation".into()));
    assert!(last.contains(&"head.modulation".into()));
    assert!(first.contains(&"blocks.9.modulation".into()));
    assert!(!first.contains(&"blocks.10.modulation".into()));
}

fn wan_1_3b() -> Transformer {
    let axes = [22, 21, 21].map(|pairs| Axis::full(pairs, 10_000.0));
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
        text_len: 512,
        eps: 1e-6,
        cross_attention_norm: true,
        qk_norm: true,
        attention: Attention::Dense,
        rope: Rope { axes, positions: Positions::Absolute },
        window: None,
    }
}
