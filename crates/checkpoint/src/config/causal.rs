//! The window of a causal student that keeps Wan's layout.
//!
//! Its file counts as the public code does: `local_attn_size` holds the sink
//! and the chunk too, and -1, the default, stands for the 21 frames of the
//! training clip, the chunk among them. The paper's count of VideoMLA's window,
//! one sink frame and six recent ones *besides* the chunk, needs another one
//! (`la6_sink1` is 1 + 2 + 3 frames here); `filmloom.json` states it as
//! `window`, which goes over all of this.
//!
//! | key | of a causal class | of another class |
//! |---|---|---|
//! | `local_attn_size` | frames, or -1 | frames make it causal, -1 does not |
//! | `sink_size` | 0 where absent | the same |
//! | `num_frame_per_block` | 3 where absent | must be there |
//! | `sliding_window_num_frames` | frames for -1, 21 where absent | ignored |
//!
//! Sources: `guandeh17/Self-Forcing` at 33593df (`wan/modules/causal_model.py`,
//! `pipeline/causal_inference.py`); `NVlabs/LongLive` and
//! `yesiltepe-hidir/infinity-rope` count alike; `hao-ai-lab/FastVideo` at
//! 2f3d407 has the last key and writes `num_frames_per_block`.

use serde::Deserialize;
use types::{Window, wan as published};

use super::{Family, File, wan};
use crate::Result;

/// The keys of either layout.
#[derive(Deserialize)]
struct Config {
    local_attn_size: Option<i64>,
    sink_size: Option<usize>,
    #[serde(alias = "num_frames_per_block")]
    num_frame_per_block: Option<usize>,
    sliding_window_num_frames: Option<usize>,
}

/// FastVideo's name of `num_frame_per_block`.
const FASTVIDEO_CHUNK: &str = "num_frames_per_block";
/// What helps against every error here.
const WAY_OUT: &str = "state `window` in filmloom.json";
/// The size that asks for no local attention.
const WHOLE_CLIP: i64 = -1;

/// The window of a transformer of `family`, `None` if it is bidirectional.
///
/// # Errors
///
/// [`crate::Error::Config`], naming file and field: what cannot be resolved
/// must be stated in `filmloom.json`.
pub(crate) fn window(file: &File, family: Family) -> Result<Option<Window>> {
    let config: Config = file.parse()?;
    let causal = family.is_causal();
    let (field, size) = match config.local_attn_size {
        None | Some(..=WHOLE_CLIP) if !causal => return Ok(None),
        None | Some(WHOLE_CLIP) => (
            "sliding_window_num_frames",
            config.sliding_window_num_frames.unwrap_or(published::STUDENT_FRAMES),
        ),
        Some(size) => match usize::try_from(size) {
            Ok(size) => ("local_attn_size", size),
            Err(_) => {
                let problem = format!("{size} is neither -1 nor a number of frames: {WAY_OUT}");
                return Err(file.error("local_attn_size", problem));
            }
        },
    };
    // Then the first chunk is of another length than the others.
    file.refuse(&["independent_first_frame"])?;
    let chunk_field = match file.object.contains_key(FASTVIDEO_CHUNK) {
        true => FASTVIDEO_CHUNK,
        false => "num_frame_per_block",
    };
    let chunk = match config.num_frame_per_block {
        Some(chunk) => chunk,
        None if causal => published::STUDENT_CHUNK,
        None => {
            let problem =
                format!("is missing: `local_attn_size` says that the model is causal: {WAY_OUT}");
            return Err(file.error(chunk_field, problem));
        }
    };
    let sink = config.sink_size.unwrap_or(0);
    let Some(window) = Window::from_local_attention(size, sink, chunk) else {
        let problem =
            format!("{size} frames cannot hold a sink of {sink} and {chunk} new ones: {WAY_OUT}");
        return Err(file.error(field, problem));
    };
    wan::window(file, ["sink_size", field, chunk_field], window).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn every_published_student_is_counted_as_its_own_code_does() {
        let cases = [
            ("Self-Forcing, by default", json!({}), [0, 18, 3]),
            ("Self-Forcing", json!({"local_attn_size": -1, "sink_size": 0}), [0, 18, 3]),
            ("Infinity-RoPE, la6_sink1", json!({"local_attn_size": 6, "sink_size": 1}), [1, 2, 3]),
            ("LongLive", json!({"local_attn_size": 12, "sink_size": 3}), [3, 6, 3]),
            ("Krea", json!({"local_attn_size": 6, "num_frame_per_block": 3}), [0, 3, 3]),
            (
                "FastVideo",
                json!({"local_attn_size": -1, "num_frames_per_block": 3,
                    "sliding_window_num_frames": 21}),
                [0, 18, 3],
            ),
            (
                "Rolling Forcing's sink and block",
                json!({"sink_size": 3, "num_frames_per_block": 3}),
                [3, 15, 3],
            ),
            ("frame by frame", json!({"num_frame_per_block": 1}), [0, 20, 1]),
            ("no history", json!({"local_attn_size": 3}), [0, 0, 3]),
        ];
        for (name, config, [sink, recent, chunk]) in cases {
            for family in [Family::CausalOriginal, Family::CausalDiffusers] {
                let found = window(&file(config.clone()), family).unwrap();
                assert_eq!(found, Some(Window { sink, recent, chunk }), "{name}, {family:?}");
            }
        }
    }

    #[test]
    fn another_class_is_causal_only_where_frames_say_so() {
        for config in [json!({}), json!({"local_attn_size": -1}), json!({"sink_size": 1})] {
            assert_eq!(window(&file(config), Family::Original).unwrap(), None);
        }
        let stated = json!({"local_attn_size": 6, "num_frame_per_block": 3});
        let found = window(&file(stated), Family::Diffusers).unwrap();
        assert_eq!(found, Some(Window { sink: 0, recent: 3, chunk: 3 }));
        let error = window(&file(json!({"local_attn_size": 6})), Family::Original).unwrap_err();
        assert!(error.to_string().contains("field `num_frame_per_block`"), "{error}");
    }

    #[test]
    fn what_cannot_be_resolved_names_the_field_and_the_way_out() {
        let cases = [
            ("local_attn_size", json!({"local_attn_size": 3, "sink_size": 1})),
            ("local_attn_size", json!({"local_attn_size": 0})),
            ("local_attn_size", json!({"local_attn_size": -2})),
            ("sliding_window_num_frames", json!({"sliding_window_num_frames": 2})),
        ];
        for (field, config) in cases {
            let error = window(&file(config), Family::CausalOriginal).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config.json: field `{field}`")), "{error}");
            assert!(error.ends_with("state `window` in filmloom.json"), "{error}");
        }
        for (field, config) in [
            ("num_frames_per_block", json!({"num_frames_per_block": 0})),
            ("local_attn_size", json!({"local_attn_size": 99_999_999})),
            ("independent_first_frame", json!({"independent_first_frame": true})),
        ] {
            let error = window(&file(config), Family::CausalDiffusers).unwrap_err().to_string();
            assert!(error.starts_with(&format!("config.json: field `{field}`")), "{error}");
        }
    }

    fn file(object: Value) -> File {
        let Value::Object(object) = object else { unreachable!("callers pass objects") };
        File { name: "config.json".into(), object }
    }
}
