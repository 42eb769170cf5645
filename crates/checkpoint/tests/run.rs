//! Window, sampler and picture size: defaults, and what overrides what.

use checkpoint::{Checkpoint, Ema, Result, Source};
use serde_json::{Value, json};
use types::{Model, Positions, Sampler, SizedChunk, StepList, Update, Video, Window, wan};

const SCHEDULER: &str = "scheduler/scheduler_config.json";

#[test]
fn a_teacher_takes_wans_own_numbers() {
    let model = resolve(&[]).unwrap();

    let chunk = SizedChunk { steps: StepList::Even(50), guidance: 5.0 };
    let expected = Sampler {
        update: Update::Euler,
        shift: 5.0,
        first_chunk: chunk.clone(),
        later_chunks: chunk,
    };
    assert_eq!(model.sampler, expected);
    assert_eq!(model.video, Video { width: 832, height: 480, fps: 16 });
}

#[test]
fn a_window_makes_it_a_student_of_the_self_forcing_family() {
    let stated = json!({
        "window": {"sink": 1, "recent": 2, "chunk": 3}, "rope_positions": "window", "text_len": 99
    });
    let model = resolve(&[("filmloom.json", stated)]).unwrap();

    assert_eq!(model.sampler.update, Update::Renoise);
    let steps = StepList::Warped(vec![1000.0, 750.0, 500.0, 250.0]);
    assert_eq!(model.sampler.later_chunks, SizedChunk { steps, guidance: 1.0 });
    let transformer = model.transformer.unwrap();
    assert_eq!(transformer.window, Some(Window { sink: 1, recent: 2, chunk: 3 }));
    assert_eq!(transformer.rope.positions, Positions::Window);
    assert_eq!(transformer.text_len, 99);
}

#[test]
fn a_causal_class_is_a_student_with_its_own_window_in_either_layout() {
    for (class, base) in
        [("CausalWanModel", original()), ("CausalWanTransformer3DModel", diffusers())]
    {
        for (keys, [sink, recent, chunk]) in [
            (json!({}), [0, 18, 3]),
            (json!({"local_attn_size": -1}), [0, 18, 3]),
            (json!({"local_attn_size": 6, "sink_size": 1}), [1, 2, 3]),
            (json!({"local_attn_size": 12, "sink_size": 3}), [3, 6, 3]),
        ] {
            let stated = merged(&base, &merged(&keys, &json!({"_class_name": class})));
            let leftover = json!({"_class_name": "UniPCMultistepScheduler", "flow_shift": 3.0});
            let files = [("transformer/config.json", stated), (SCHEDULER, leftover)];
            let model = resolve(&files).unwrap();

            let window = Some(Window { sink, recent, chunk });
            assert_eq!(model.transformer.unwrap().window, window, "{class} {keys}");
            assert_eq!(model.sampler, wan::student_sampler(), "{class} {keys}");
        }
    }
}

#[test]
fn the_papers_count_of_a_window_is_stated_beside_the_student() {
    let keys = json!({"_class_name": "CausalWanModel", "local_attn_size": 3, "sink_size": 1});
    let student = ("transformer/config.json", merged(&original(), &keys));
    let error = resolve(std::slice::from_ref(&student)).unwrap_err().to_string();
    assert!(error.contains("transformer/config.json: field `local_attn_size`"), "{error}");
    assert!(error.contains("state `window` in filmloom.json"), "{error}");

    let stated = json!({"window": {"sink": 1, "recent": 6, "chunk": 3}});
    let model = resolve(&[student, ("filmloom.json", stated)]).unwrap();

    let window = Some(Window { sink: 1, recent: 6, chunk: 3 });
    assert_eq!(model.transformer.unwrap().window, window);
    assert_eq!(model.sampler, wan::student_sampler());
}

#[test]
fn teachers_of_either_layout_stay_bidirectional() {
    for (class, base) in [("WanModel", original()), ("WanTransformer3DModel", diffusers())] {
        let keys = json!({"_class_name": class, "local_attn_size": -1});
        let file = ("transformer/config.json", merged(&base, &keys));
        let model = resolve(&[file]).unwrap();
        assert_eq!(model.transformer.unwrap().window, None);
        assert_eq!(model.sampler, wan::teacher_sampler());
    }
}

#[test]
fn filmloom_json_overrides_the_index_which_overrides_the_scheduler() {
    let scheduler = json!({"_class_name": "UniPCMultistepScheduler", "flow_shift": 3.0,
        "prediction_type": "flow_prediction", "num_train_timesteps": 1000});
    let index = json!({"video": {"width": 64, "height": 32, "fps": 8, "num_inference_steps": 6}});
    let stated = json!({
        "sampler": {"update": "renoise", "steps": [900, 300.5], "warp": false,
            "first_chunk_steps": 7, "guidance": 2.0, "first_chunk_guidance": 3.0},
        "video": {"width": 128, "height": 96, "fps": 24}
    });
    let files = [(SCHEDULER, scheduler), ("model_index.json", index)];
    let model = resolve(&files).unwrap();
    assert_eq!(model.sampler.shift, 3.0);
    assert_eq!(model.sampler.first_chunk.steps, StepList::Even(6));
    assert_eq!(model.video, Video { width: 64, height: 32, fps: 8 });

    let model = resolve(&[&files[..], &[("filmloom.json", stated)]].concat()).unwrap();
    let expected = Sampler {
        update: Update::Renoise,
        shift: 3.0,
        first_chunk: SizedChunk { steps: StepList::Even(7), guidance: 3.0 },
        later_chunks: SizedChunk { steps: StepList::Listed(vec![900.0, 300.5]), guidance: 2.0 },
    };
    assert_eq!(model.sampler, expected);
    assert_eq!(model.video, Video { width: 128, height: 96, fps: 24 });
}

#[test]
fn the_first_chunk_follows_the_others_unless_it_is_stated() {
    let stated = json!({"sampler": {"steps": 3, "guidance": 2.0}});
    let sampler = resolve(&[("filmloom.json", stated)]).unwrap().sampler;
    assert_eq!(sampler.first_chunk, SizedChunk { steps: StepList::Even(3), guidance: 2.0 });
    assert_eq!(sampler.later_chunks, sampler.first_chunk);
}

#[test]
fn a_stochastic_euler_scheduler_renoises() {
    let name = "FlowMatchEulerDiscreteScheduler";
    for (stochastic, update) in [(true, Update::Renoise), (false, Update::Euler)] {
        let file = json!({"_class_name": name, "shift": 2.0, "stochastic_sampling": stochastic});
        let model = resolve(&[(SCHEDULER, file)]).unwrap();
        assert_eq!((model.sampler.update, model.sampler.shift), (update, 2.0));
    }
}

#[test]
fn nonsense_is_refused_with_file_and_field() {
    let stated = |value: Value| ("filmloom.json", value);
    let scheduler = |value: Value| (SCHEDULER, value);
    let index = |value: Value| ("model_index.json", json!({"video": value}));
    let cases = [
        (stated(json!({"sampler": {"steps": 0}})), "`steps`"),
        (stated(json!({"sampler": {"steps": []}})), "`steps`"),
        (stated(json!({"sampler": {"steps": [250, 500]}})), "`steps`"),
        (stated(json!({"sampler": {"steps": [500, 500]}})), "`steps`"),
        (stated(json!({"sampler": {"steps": vec![1; 1001]}})), "expected 1 to 1000, found 1001"),
        (stated(json!({"sampler": {"first_chunk_steps": [500, 0]}})), "`first_chunk_steps`"),
        (stated(json!({"sampler": {"shift": -1.0}})), "`shift`"),
        (stated(json!({"sampler": {"guidance": -1.0}})), "`guidance`"),
        (stated(json!({"sampler": {"speed": 1}})), "`speed`"),
        (stated(json!({"widow": {}})), "`widow`"),
        (stated(json!({"window": {"sink": 0, "recent": 3, "chunk": 0}})), "`window.chunk`"),
        (
            stated(json!({"window": {"sink": 0, "recent": 99_999_999, "chunk": 3}})),
            "`window.recent`",
        ),
        (stated(json!({"text_len": 0})), "`text_len`"),
        (stated(json!({"video": {"width": 0, "height": 32, "fps": 16}})), "`video.width`"),
        (stated(json!({"video": {"width": 32, "height": 32, "fps": 0}})), "`video.fps`"),
        (stated(json!({"video": {"width": 32, "height": 40, "fps": 16}})), "`video.height`"),
        (scheduler(json!({"num_train_timesteps": 100})), "`num_train_timesteps`"),
        (scheduler(json!({"prediction_type": "epsilon"})), "`prediction_type`"),
        (scheduler(json!({"use_dynamic_shifting": true})), "`use_dynamic_shifting`"),
        (scheduler(json!({"flow_shift": 0})), "`flow_shift`"),
        (index(json!([])), "`video`"),
        (
            index(json!({"width": 32, "height": 32, "fps": 16, "latent_width": 3})),
            "`video.latent_width`",
        ),
        (index(json!({"width": 32, "height": 32, "fps": 16, "size": 3})), "`size`"),
    ];
    for (file, field) in cases {
        let error = resolve(std::slice::from_ref(&file)).unwrap_err().to_string();
        assert!(error.contains(field), "{file:?}: {error}");
        assert!(error.contains(file.0), "{file:?}: {error}");
    }
}

#[test]
fn parts_that_do_not_fit_each_other_are_refused() {
    let vae = json!({"z_dim": 3, "latents_mean": [0, 0, 0], "latents_std": [1, 1, 1]});
    let error = resolve(&[("vae/config.json", vae)]).unwrap_err().to_string();
    assert!(error.contains("transformer/config.json: field `in_channels`"), "{error}");
    assert!(error.contains("the VAE is 3 wide"), "{error}");
}

#[test]
fn our_own_family_may_not_state_its_window_twice() {
    let ours = json!({
        "dim": 12, "ffn_dim": 20, "num_layers": 1, "num_heads": 2, "attention": "dense",
        "freq_dim": 8, "text_dim": 8, "text_len": 4, "in_dim": 4, "out_dim": 4,
        "patch_size": [1, 2, 2], "eps": 1e-6, "chunk_frames": 3, "window_frames": 6
    });
    let stated = json!({"window": {"sink": 0, "recent": 6, "chunk": 3}});
    let files = [("transformer/config.json", ours), ("filmloom.json", stated)];
    let error = resolve(&files).unwrap_err().to_string();
    assert!(error.contains("filmloom.json: field `window`"), "{error}");
}

#[test]
fn a_folder_that_is_no_model_and_a_class_that_is_not_known_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let error = Checkpoint::open(Source::folder(folder.path()), Ema::Prefer).unwrap_err();
    let shown = folder.path().display().to_string();
    assert!(error.to_string().starts_with(&format!("{shown}: no model here")), "{error}");

    let other = json!({"_class_name": "FluxTransformer2DModel"});
    let error = resolve(&[("transformer/config.json", other)]).unwrap_err().to_string();
    assert!(error.contains("field `_class_name`"), "{error}");
    assert!(error.contains("found `FluxTransformer2DModel`"), "{error}");
}

/// Resolves a small dense transformer and VAE, with other files over them.
fn resolve(others: &[(&str, Value)]) -> Result<Model> {
    let base = [("transformer/config.json", diffusers()), ("vae/config.json", json!({}))];
    let files = base.iter().chain(others);
    let files = files.map(|(path, file)| ((*path).to_owned(), file.to_string().into_bytes()));
    Checkpoint::open(Source::memory(files), Ema::Prefer)?.model()
}

fn diffusers() -> Value {
    json!({
        "_class_name": "WanTransformer3DModel", "attention_head_dim": 12,
        "num_attention_heads": 2, "in_channels": 16, "out_channels": 16, "text_dim": 8,
        "freq_dim": 8, "ffn_dim": 20, "num_layers": 2
    })
}

fn original() -> Value {
    json!({
        "_class_name": "WanModel", "model_type": "t2v", "dim": 24, "ffn_dim": 20, "freq_dim": 8,
        "in_dim": 16, "out_dim": 16, "num_heads": 2, "num_layers": 2, "text_dim": 8
    })
}

/// An object with the keys of another one over its own.
fn merged(base: &Value, over: &Value) -> Value {
    let mut merged = base.clone();
    for (key, value) in over.as_object().expect("callers pass objects") {
        merged[key] = value.clone();
    }
    merged
}
