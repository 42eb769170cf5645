//! What to say of a field that this server does not know.
//!
//! Clients of other servers send fields that mean something there. To ignore one
//! would make another video than was asked for, so it is refused: with what to
//! give instead if there is such a thing, with the likely name if it was
//! misspelt.
//!
//! Source of the names: the interfaces of OpenAI, vLLM-Omni, SGLang and FastVideo.

use crate::{
    fields::{NAMES, repeated},
    refusal::{Refusal, invalid},
};

/// Fields whose wish can be said in another way.
const SAID_OTHERWISE: [(&str, &str); 6] = [
    ("extra_body", "give its fields beside the others"),
    ("height", "give `size` as WIDTHxHEIGHT"),
    ("n", "ask once for each video"),
    ("num_frames", "give `seconds`"),
    ("num_outputs_per_prompt", "ask once for each video"),
    ("width", "give `size` as WIDTHxHEIGHT"),
];

/// Other fields of other servers.
const FOREIGN: [&str; 38] = [
    "audio_reference",
    "boundary_ratio",
    "diffusers_kwargs",
    "enable_frame_interpolation",
    "enable_teacache",
    "enable_upscaling",
    "extra_params",
    "flow_shift",
    "frame_interpolation_exp",
    "frame_interpolation_model_path",
    "frame_interpolation_scale",
    "generate_sound",
    "generator_device",
    "guidance",
    "guidance_scale",
    "guidance_scale_2",
    "image_reference",
    "input_reference",
    "lora",
    "max_sequence_length",
    "negative_prompt",
    "num_inference_steps",
    "output_compression",
    "output_path",
    "output_quality",
    "perf_dump_path",
    "profile",
    "quality",
    "reference_url",
    "remix_video_id",
    "sound_duration",
    "true_cfg_scale",
    "upscaling_model_path",
    "upscaling_scale",
    "video_params",
    "video_path",
    "video_reference",
    "video_url",
];

/// Wrong letters up to which a name is taken for a misspelt one. Chosen.
const WRONG_LETTERS_MAX: usize = 2;
/// Longest name that is compared with the known ones. Chosen.
const COMPARED_BYTES_MAX: usize = 32;

/// Whether other servers know a field of this name.
pub(crate) fn is_foreign(name: &str) -> bool {
    FOREIGN.contains(&name) || SAID_OTHERWISE.iter().any(|(known, _)| *known == name)
}

/// Refuses a field that is not one of ours.
pub(crate) fn refuse(name: &str) -> Refusal {
    if let Some((_, instead)) = SAID_OTHERWISE.iter().find(|(known, _)| *known == name) {
        return invalid(name, format!("`{name}` is not supported; {instead}"));
    }
    if is_foreign(name) {
        return invalid(name, format!("`{name}` is not supported; leave it out"));
    }
    let advice = match meant(name) {
        // Form encoders write a list as several parts.
        Some(known) if name.starts_with(known) => format!("give `{known}` once, as JSON text"),
        Some(known) => format!("did you mean `{known}`?"),
        None => format!("leave it out; the fields are {}", NAMES.join(", ")),
    };
    let shown = repeated(name);
    let param: String = name.chars().take(COMPARED_BYTES_MAX).collect();
    invalid(&param, format!("there is no field {shown}; {advice}"))
}

fn meant(name: &str) -> Option<&'static str> {
    let is_part = |known: &&str| name.strip_prefix(known).is_some_and(|rest| rest.starts_with('['));
    if let Some(known) = NAMES.into_iter().find(|known| is_part(known)) {
        return Some(known);
    }
    if COMPARED_BYTES_MAX < name.len() {
        return None;
    }
    let wrong_letters = |known: &str| distance(&name.to_lowercase(), known);
    let (wrong, known) = NAMES.into_iter().map(|known| (wrong_letters(known), known)).min()?;
    // Two of three letters must be right, or every short name is like every other.
    (wrong <= WRONG_LETTERS_MAX && 3 * wrong <= known.len()).then_some(known)
}

/// Letters to change, add or leave out to make one text of the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut costs: Vec<usize> = (0..=to.len()).collect();
    for (row, letter) in from.chars().enumerate() {
        let mut diagonal = costs[0];
        costs[0] = row + 1;
        for (column, other) in to.iter().enumerate() {
            let change = diagonal + usize::from(letter != *other);
            diagonal = costs[column + 1];
            costs[column + 1] = change.min(diagonal + 1).min(costs[column] + 1);
        }
    }
    costs[to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distance_counts_changed_added_and_missing_letters() {
        for (from, to, letters) in
            [("seed", "seed", 0), ("sed", "seed", 1), ("", "fps", 3), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(from, to), letters, "{from} {to}");
            assert_eq!(distance(to, from), letters, "{to} {from}");
        }
    }

    #[test]
    fn a_misspelt_name_is_recognised_and_a_strange_one_is_not() {
        for (name, known) in [
            ("Prompt", Some("prompt")),
            ("promt", Some("prompt")),
            ("second", Some("seconds")),
            ("prompt_schedule[][prompt]", Some("prompt_schedule")),
            ("sed", Some("seed")),
            ("secs", None),
            ("colour", None),
            ("f", None),
            ("x", None),
        ] {
            assert_eq!(meant(name), known, "{name}");
        }
    }

    #[test]
    fn no_field_of_ours_is_refused_as_foreign() {
        assert!(NAMES.into_iter().all(|name| !is_foreign(name)));
    }
}
