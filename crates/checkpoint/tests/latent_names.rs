//! Latent self-attention under other names and in other forms is put together
//! as ours, and refused where that would be a guess.

use std::collections::BTreeMap;

use checkpoint::{Checkpoint, Ema, Error, Opened, Source, manifest};
use safetensors::{Dtype, tensor::TensorView};
use serde_json::{Value, json};
use types::Transformer;

/// A self-attention's matrices by name: rows, columns, first element.
type Matrices = BTreeMap<&'static str, (usize, usize, f32)>;

const DIM: usize = 12;
const HEADS: usize = 2;
const KV: usize = 5;
const Q: usize = 9;
const NOPE: usize = 4;
const ROPE: usize = 2;
const VALUE: usize = 6;

#[test]
fn names_of_the_paper_are_matched_by_shape() {
    let opened = open(&separate(), &paper(), None).unwrap();

    let query = rows(&opened, "q_up.weight", &[HEADS * (NOPE + ROPE), Q]);
    // Per head: four rows of the one matrix, then two of the other.
    let [nope, rope] = [1000.0, 2000.0];
    let expected = [0., 1., 2., 3.].map(|row| nope + row).into_iter();
    let expected = expected.chain([0., 1.].map(|row| rope + row));
    let expected = expected.chain([4., 5., 6., 7.].map(|row| nope + row));
    let expected: Vec<f32> = expected.chain([2., 3.].map(|row| rope + row)).collect();
    assert_eq!(query, expected);
    assert_eq!(rows(&opened, "kv_down.weight", &[KV, DIM]), count(3000.0, KV));
    assert_eq!(rows(&opened, "k_rope.weight", &[ROPE, DIM]), count(4000.0, ROPE));
    assert_eq!(rows(&opened, "k_up.weight", &[HEADS * NOPE, KV]), count(5000.0, 8));
    assert_eq!(rows(&opened, "v_up.weight", &[HEADS * VALUE, KV]), count(6000.0, 12));
    assert_eq!(rows(&opened, "q_down.weight", &[Q, DIM]), count(7000.0, Q));
    assert_eq!(rows(&opened, "o.weight", &[DIM, DIM]), count(8000.0, DIM));
    let warning = &opened.warnings[0];
    assert!(warning.contains("q_up.weight from W_QR.weight and W_UQ.weight"), "{warning}");
}

#[test]
fn content_and_rope_key_are_split_and_joined_as_configured() {
    let mut fused = separate();
    fused.remove("W_DKV");
    fused.remove("W_KR");
    fused.insert("kv_a_proj_with_mqa", (KV + ROPE, DIM, 3000.0));
    let opened = open(&fused, &paper(), None).unwrap();
    assert_eq!(rows(&opened, "kv_down.weight", &[KV, DIM]), count(3000.0, KV));
    assert_eq!(rows(&opened, "k_rope.weight", &[ROPE, DIM]), [3005.0, 3006.0]);

    let mut config = paper();
    config["fused_kv_down"] = json!(true);
    let opened = open(&separate(), &config, None).unwrap();
    let joined = rows(&opened, "kv_down.weight", &[KV + ROPE, DIM]);
    assert_eq!(joined, [count(3000.0, KV), count(4000.0, ROPE)].concat());
}

#[test]
fn fused_heads_are_refused_until_their_order_is_stated() {
    let mut fused = separate();
    fused.remove("W_UK");
    fused.remove("W_UV");
    fused.insert("W_UKV", (HEADS * (NOPE + VALUE), KV, 0.0));
    let error = open(&fused, &paper(), None).unwrap_err();
    assert!(matches!(&error, Error::Ambiguous { layer: 0, .. }), "{error}");
    let message = error.to_string();
    assert!(message.contains("`W_UKV.weight` holds `k_up` and `v_up` of 2 heads"), "{message}");
    assert!(message.contains("\"fused_heads\""), "{message}");

    let per_head = open(&fused, &paper(), Some("per_head")).unwrap();
    let keys = rows(&per_head, "k_up.weight", &[8, KV]);
    assert_eq!(keys, [0., 1., 2., 3., 10., 11., 12., 13.]);
    let blocks = open(&fused, &paper(), Some("blocks")).unwrap();
    assert_eq!(rows(&blocks, "k_up.weight", &[8, KV]), count(0.0, 8));
    assert_eq!(rows(&blocks, "v_up.weight", &[12, KV]), count(8.0, 12));
}

#[test]
fn fused_queries_follow_the_stated_order_too() {
    let mut fused = separate();
    fused.remove("W_UQ");
    fused.remove("W_QR");
    fused.insert("W_UQR", (HEADS * (NOPE + ROPE), Q, 0.0));
    assert!(open(&fused, &paper(), None).is_err());
    let query = |order| {
        let opened = open(&fused, &paper(), Some(order)).unwrap();
        rows(&opened, "q_up.weight", &[12, Q])
    };
    assert_eq!(query("per_head"), count(0.0, 12));
    let blocks = [0., 1., 2., 3., 8., 9., 4., 5., 6., 7., 10., 11.];
    assert_eq!(query("blocks"), blocks);
}

#[test]
fn deepseeks_names_say_the_order() {
    let mut named = separate();
    for name in ["W_UK", "W_UV", "W_UQ", "W_QR"] {
        named.remove(name);
    }
    named.insert("kv_b_proj", (HEADS * (NOPE + VALUE), KV, 0.0));
    named.insert("q_b_proj", (HEADS * (NOPE + ROPE), Q, 0.0));
    let opened = open(&named, &paper(), None).unwrap();
    assert_eq!(rows(&opened, "v_up.weight", &[12, KV])[0], 4.0);
    assert_eq!(rows(&opened, "q_up.weight", &[12, Q]), count(0.0, 12));
}

#[test]
fn two_tensors_of_one_shape_are_refused_and_so_is_a_surplus() {
    let mut twice = separate();
    twice.insert("W_DKV2", (KV, DIM, 0.0));
    let error = open(&twice, &paper(), None).unwrap_err().to_string();
    assert!(error.contains("`W_DKV.weight` and `W_DKV2.weight` both"), "{error}");

    let mut more = separate();
    more.insert("W_gate", (3, 3, 0.0));
    let error = open(&more, &paper(), None).unwrap_err();
    assert!(matches!(&error, Error::Contradicts { count: 1, .. }), "{error}");

    let mut fewer = separate();
    fewer.remove("W_UV");
    let error = open(&fewer, &paper(), None).unwrap_err();
    assert!(matches!(&error, Error::NoTensor { expected, .. } if expected == &[12, KV]), "{error}");
}

/// All projections apart, under made-up names.
fn separate() -> Matrices {
    [
        ("W_UQ", (HEADS * NOPE, Q, 1000.0)),
        ("W_QR", (HEADS * ROPE, Q, 2000.0)),
        ("W_DKV", (KV, DIM, 3000.0)),
        ("W_KR", (ROPE, DIM, 4000.0)),
        ("W_UK", (HEADS * NOPE, KV, 5000.0)),
        ("W_UV", (HEADS * VALUE, KV, 6000.0)),
        ("W_DQ", (Q, DIM, 7000.0)),
        ("W_O", (DIM, HEADS * VALUE, 8000.0)),
    ]
    .into()
}

fn paper() -> Value {
    json!({
        "dim": DIM, "ffn_dim": 20, "num_layers": 1, "num_heads": HEADS,
        "qk_nope_head_dim": NOPE, "qk_rope_head_dim": ROPE, "v_head_dim": VALUE,
        "kv_latent_dim": KV, "q_latent_dim": Q, "fused_kv_down": false, "freq_dim": 8,
        "text_dim": 8, "text_len": 4, "in_dim": 4, "out_dim": 4, "patch_size": [1, 2, 2],
        "eps": 1e-6, "rope_axes_dim": [2, 0, 0], "chunk_frames": 3, "window_frames": 6
    })
}

fn open(
    matrices: &Matrices,
    config: &Value,
    fused_heads: Option<&str>,
) -> Result<Opened<Transformer>, Error> {
    let mut files = vec![("transformer/config.json".to_owned(), config.to_string().into_bytes())];
    files.push(("transformer/model.safetensors".to_owned(), weights(matrices, config)));
    if let Some(order) = fused_heads {
        let stated = json!({"fused_heads": order}).to_string();
        files.push(("filmloom.json".to_owned(), stated.into_bytes()));
    }
    Checkpoint::open(Source::memory(files), Ema::Prefer)?.open_transformer(None)
}

/// A whole transformer, its self-attention as given. Every element of row r of
/// a matrix is its first element plus r.
fn weights(matrices: &Matrices, config: &Value) -> Vec<u8> {
    let only = [("transformer/config.json".to_owned(), config.to_string().into_bytes())];
    let checkpoint = Checkpoint::open(Source::memory(only), Ema::Prefer).expect("a part is there");
    let resolved = checkpoint.transformer().expect("the configuration is sound");
    let mut tensors: Vec<(String, Vec<usize>, Vec<u8>)> = Vec::new();
    for (name, shape) in manifest::whole_transformer(&resolved) {
        let replaced = name.contains("self_attn") && shape.len() == 2;
        if !replaced {
            let bytes = vec![0; 4 * shape.iter().product::<usize>()];
            tensors.push((name, shape, bytes));
        }
    }
    for (name, (rows, columns, first)) in matrices {
        let values = count(*first, *rows);
        let bytes = values.iter().flat_map(|row| row.to_le_bytes().repeat(*columns)).collect();
        let name = format!("blocks.0.self_attn.{name}.weight");
        tensors.push((name, vec![*rows, *columns], bytes));
    }
    let views = tensors.iter().map(|(name, shape, bytes)| {
        let view = TensorView::new(Dtype::F32, shape.clone(), bytes).expect("sizes agree");
        (name, view)
    });
    safetensors::serialize(views, None).expect("names are distinct")
}

/// First elements of the rows of a self-attention's matrix.
fn rows(opened: &Opened<Transformer>, name: &str, shape: &[usize]) -> Vec<f32> {
    let name = format!("blocks.0.self_attn.{name}");
    let tensor = opened.tensors.get(&name, shape).expect("it was checked");
    tensor.to_f32().chunks(shape[1]).map(|row| row[0]).collect()
}

fn count(first: f32, rows: usize) -> Vec<f32> {
    let numbers = std::iter::successors(Some(first), |number| Some(number + 1.0));
    numbers.take(rows).collect()
}
