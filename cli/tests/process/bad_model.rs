//! Model folders with something wrong in them: one line that names the file,
//! status 2, nothing left behind.

use serde_json::json;

use crate::support::{ModelFolder, assert_empty, filmloom, generate, run};

const CONFIG: &str = "transformer/config.json";
const SHARD: &str = "transformer/diffusion_pytorch_model-00002-of-00003.safetensors";
const VAE: &str = "vae/diffusion_pytorch_model.safetensors";

#[test]
fn folder_that_is_no_model_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("notes.txt"), "nothing").unwrap();
    let [empty, file, absent] = ["", "notes.txt", "absent"]
        .map(|name| folder.path().join(name).to_str().unwrap().to_owned());
    for (model, expected) in
        [(&empty, "no model here"), (&file, "is a file"), (&absent, "No such file")]
    {
        let outputs = tempfile::tempdir().unwrap();
        let output = outputs.path().join("a.mp4");

        run(&mut generate("a red ball", &output, &["--model", model])).failed(2, &[expected]);
        run(&mut filmloom(&["model", "inspect", model])).failed(2, &[expected]);
        assert_empty(outputs.path());
    }
}

#[test]
fn missing_shard_is_named() {
    let model = ModelFolder::new();
    model.remove(SHARD);

    refused(&model, &[SHARD, "missing", "diffusion_pytorch_model.safetensors.index.json"]);
}

#[test]
fn truncated_shard_is_named() {
    for name in [SHARD, VAE] {
        let model = ModelFolder::new();
        model.change(name, |mut bytes| {
            bytes.truncate(bytes.len() / 2);
            bytes
        });

        refused(&model, &[name]);
    }
}

#[test]
fn corrupt_shard_is_named() {
    let model = ModelFolder::new();
    model.change(SHARD, |mut bytes| {
        bytes[..64].fill(0xa5);
        bytes
    });

    refused(&model, &[SHARD]);
}

#[test]
fn configuration_that_contradicts_the_tensors_is_refused() {
    let model = ModelFolder::new();
    model.set(CONFIG, "ffn_dim", json!(1024));

    refused(&model, &["ffn.0.weight", "expected shape [1024, 384]", "found [1536, 384]"]);
}

#[test]
fn configurations_that_contradict_each_other_or_themselves_are_refused() {
    for (field, value, expected) in [
        ("text_dim", json!(64), "the text encoder is 128 wide"),
        ("num_heads", json!(0), "num_heads"),
        ("num_heads", json!(5), "field `num_heads`: 5 heads do not split dim 384"),
        ("qk_rope_head_dim", json!(14), "rope_axes_dim"),
        ("windows", json!(3), "windows"),
        (
            "dim",
            json!("wide"),
            "field `dim`: invalid type: string \"wide\", expected a whole number",
        ),
        ("rope_axes_dim", json!([8, 4, "4"]), "field `rope_axes_dim[2]`"),
    ] {
        let model = ModelFolder::new();
        model.set(CONFIG, field, value);

        refused(&model, &[CONFIG, expected]);
    }
}

#[test]
fn configuration_of_a_smaller_model_than_the_tensors_is_refused() {
    for (config, field, tensor) in [
        ("vae/config.json", "num_res_blocks", "decoder.up_blocks.0.resnets.1"),
        ("text_encoder/config.json", "num_layers", "encoder.block.1."),
    ] {
        let model = ModelFolder::new();
        let value = if field == "num_layers" { 1 } else { 0 };
        model.set(config, field, json!(value));

        refused(&model, &[tensor, "has no place in the configured model"]);
    }
}

#[test]
fn weights_that_are_no_numbers_are_refused() {
    let model = ModelFolder::new();
    model.change(SHARD, |mut bytes| {
        let middle = bytes.len() / 2;
        bytes[middle..middle + 1000].fill(0xff);
        bytes
    });

    refused(&model, &[SHARD, "tensor `blocks.", "no numbers"]);
}

#[test]
fn our_own_family_states_how_it_is_sampled() {
    for (file, expected) in [
        ("scheduler/scheduler_config.json", "shift and update rule"),
        ("model_index.json", "steps and guidance"),
    ] {
        let model = ModelFolder::new();
        model.remove(file);

        refused(&model, &[file, expected, "filmloom.json"]);
    }
}

#[test]
fn missing_part_is_named() {
    for (name, expected) in [
        ("vae/config.json", "VAE"),
        ("text_encoder/config.json", "text encoder"),
        ("tokenizer/tokenizer.json", "tokenizer"),
        (CONFIG, "transformer"),
    ] {
        let model = ModelFolder::new();
        model.remove(name);

        refused(&model, &[expected]);
    }
}

#[test]
fn pickle_that_would_run_something_is_refused() {
    let foreign_class = b"\x80\x02cos\nsystem\nX\x02\0\0\0id\x85R.";
    let foreign_opcode = b"\x80\x02ccollections\nOrderedDict\n)\x81.";
    for (pickle, expected) in [
        (&foreign_class[..], "class or function `os.system`"),
        (&foreign_opcode[..], "opcode 0x81"),
    ] {
        let model = ModelFolder::new();
        model.remove(VAE);
        model.add("vae/diffusion_pytorch_model.pt", &torch_archive(pickle));

        refused(&model, &["vae/diffusion_pytorch_model.pt", "refused", expected]);
    }
}

#[test]
fn window_that_does_not_fit_is_refused_before_loading() {
    let model = ModelFolder::new();
    model.set(CONFIG, "window_frames", json!(1_000_000));
    // Were it loaded first, this would be found instead.
    model.remove(SHARD);

    let parts = ["not enough memory", "are needed", "are available", "cache slots"];
    refused_with(&model, &["--size", "512x512"], &parts);
}

#[test]
fn window_beyond_counting_is_refused() {
    let model = ModelFolder::new();
    model.set(CONFIG, "window_frames", json!(u64::MAX));

    refused(&model, &["window"]);
}

/// Asserts that a video with this model fails and leaves nothing.
fn refused(model: &ModelFolder, parts: &[&str]) {
    refused_with(model, &[], parts);
}

fn refused_with(model: &ModelFolder, more: &[&str], parts: &[&str]) {
    let folder = tempfile::tempdir().unwrap();
    for output in ["a.mp4", "pictures/"] {
        let output = folder.path().join(output);

        let options = ["-s", "0.2", "--model", model.arg()];
        let outcome = run(generate("a red ball", &output, &options).args(more));

        outcome.failed(2, parts);
        assert_empty(folder.path());
    }
}

/// A zip archive with one stored entry, `x/data.pkl`, as `torch.save` makes it.
fn torch_archive(pickle: &[u8]) -> Vec<u8> {
    let name = b"x/data.pkl";
    let size = u32::try_from(pickle.len()).unwrap().to_le_bytes();
    let name_bytes = u16::try_from(name.len()).unwrap().to_le_bytes();
    // Version, flags, method, time and date are 0; the reader takes no checksum.
    let common = [&[0; 14][..], &size, &size, &name_bytes, &[0; 2]].concat();
    let local = [b"PK\x03\x04", &common[..], name, pickle].concat();
    let directory = [b"PK\x01\x02\0\0", &common[..], &[0; 14], name].concat();
    let [offset, directory_bytes] =
        [local.len(), directory.len()].map(|bytes| u32::try_from(bytes).unwrap().to_le_bytes());
    let end = [b"PK\x05\x06\0\0\0\0\x01\0\x01\0", &directory_bytes[..], &offset, &[0; 2]].concat();
    [local, directory, end].concat()
}
