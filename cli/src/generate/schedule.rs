//! Which prompt a chunk is made under.
//!
//! A change asked for at a time takes effect with the first chunk that begins
//! then or later, since a chunk is made under one prompt. What would never take
//! effect is refused before anything is computed.

use plan::length::{Length, Rate};

use crate::{failure::Failure, time};

/// A change of the prompt.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Change {
    /// Seconds asked for.
    pub(super) asked_seconds: f64,
    /// First chunk under the new prompt.
    pub(super) chunk: u32,
    /// Seconds at which that chunk begins.
    pub(super) seconds: f64,
    /// The new prompt.
    pub(super) prompt: String,
}

/// Reads pairs of time and prompt; sorted by chunk.
///
/// # Errors
///
/// [`Failure::Input`] if a time cannot be read, lies outside the video, or
/// leads to the same chunk as another one.
pub(super) fn schedule(
    pairs: &[String],
    rate: &Rate,
    length: &Length,
) -> Result<Vec<Change>, Failure> {
    let mut changes = Vec::new();
    for pair in pairs.chunks_exact(2) {
        changes.push(change(&pair[0], &pair[1], rate, length)?);
    }
    changes.sort_by_key(|change| change.chunk);
    if let Some(twins) = changes.windows(2).find(|pair| pair[0].chunk == pair[1].chunk) {
        return Err(Failure::Input(format!(
            "--prompt-at {} s and {} s both begin with chunk {} at {:.1} s: leave one out",
            twins[0].asked_seconds,
            twins[1].asked_seconds,
            twins[0].chunk + 1,
            twins[0].seconds
        )));
    }
    Ok(changes)
}

fn change(at: &str, prompt: &str, rate: &Rate, length: &Length) -> Result<Change, Failure> {
    let refused = |problem: String| Failure::Input(format!("--prompt-at {at}: {problem}"));
    let asked_seconds = time::parse_seconds(at).map_err(refused)?;
    if !(asked_seconds.is_finite() && 0.0 < asked_seconds) {
        return Err(refused("give a time after the beginning of the video".to_owned()));
    }
    match rate.chunk_from(asked_seconds, length) {
        Some((chunk, seconds)) => {
            Ok(Change { asked_seconds, chunk, seconds, prompt: prompt.to_owned() })
        }
        None => Err(refused(format!(
            "no chunk begins between then and the end of the video at {:.2} s: give an earlier \
             time, or a longer video",
            length.pictures as f64 / f64::from(rate.fps)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAN: Rate = Rate { fps: 16, pictures_per_frame: 4, chunk_frames: Some(3) };

    #[test]
    fn change_waits_for_the_next_chunk() {
        // Chunk 1 begins with picture 9, chunk 2 with picture 21, chunk 27 with picture 321.
        let changes = read(&["20s", "c", "0.1", "a", "1.3125", "b"], 60.0).unwrap();

        let found: Vec<_> =
            changes.iter().map(|change| (change.chunk, change.seconds, &*change.prompt)).collect();
        assert_eq!(found, [(1, 0.5625, "a"), (2, 1.3125, "b"), (27, 20.0625, "c")]);
    }

    #[test]
    fn change_that_would_never_show_is_refused() {
        for (pairs, expected) in [
            (["4.9", "a"], "no chunk begins between then and the end of the video at 5.00 s"),
            (["0", "a"], "after the beginning"),
            (["NaN", "a"], "after the beginning"),
            (["soon", "a"], "--prompt-at soon: give seconds"),
        ] {
            let failure = read(&pairs, 5.0).unwrap_err();
            assert!(failure.line().contains(expected), "{failure}");
        }
    }

    #[test]
    fn two_changes_of_one_chunk_are_refused() {
        let failure = read(&["1.0", "a", "1.2", "b"], 5.0).unwrap_err();

        assert!(failure.line().contains("both begin with chunk 3"), "{failure}");
    }

    #[test]
    fn whole_clip_model_has_no_chunk_to_change_at() {
        let rate = Rate { chunk_frames: None, ..WAN };
        let pairs = ["1".to_owned(), "a".to_owned()];

        assert!(schedule(&pairs, &rate, &rate.length(5.0).unwrap()).is_err());
    }

    fn read(pairs: &[&str], seconds: f64) -> Result<Vec<Change>, Failure> {
        let pairs: Vec<String> = pairs.iter().map(|&word| word.to_owned()).collect();
        schedule(&pairs, &WAN, &WAN.length(seconds).unwrap())
    }
}
