//! What is told of a video that a server makes: JSON events, a bar, plain lines, or next
//! to nothing.

use std::{
    cell::Cell,
    path::Path,
    time::{Duration, Instant},
};

use plan::units::Bytes;
use serde_json::{Value, json};

use crate::{
    args::GenerateArgs,
    failure::{Failure, one_line},
    terminal::{self, Bar},
};

/// Between two lines of progress.
const EVERY: Duration = Duration::from_secs(2);

/// Tells what happens.
pub(super) struct Told<'a> {
    output: &'a Path,
    way: Way,
}

enum Way {
    Json {
        /// Why the first event was lost that was.
        lost: Cell<Option<Failure>>,
    },
    Quiet,
    Watched(Bar),
    Lines {
        /// When the latest line was written.
        latest: Cell<Option<Instant>>,
    },
}

/// How far a video is.
struct Progress {
    percent: u64,
    is_either_end: bool,
    words: String,
}

impl<'a> Told<'a> {
    /// Tells in the way that the user asked for.
    pub(super) fn new(args: &'a GenerateArgs) -> Self {
        let way = match (args.json, args.quiet, terminal::is_watched()) {
            (true, _, _) => Way::Json { lost: Cell::new(None) },
            (false, true, _) => Way::Quiet,
            (false, false, true) => Way::Watched(Bar::new(100)),
            (false, false, false) => Way::Lines { latest: Cell::new(None) },
        };
        Self { output: &args.output, way }
    }

    /// The server takes the video.
    pub(super) fn taken(&self, url: &str, seed: u64, seed_is_drawn: bool) {
        match &self.way {
            Way::Quiet if seed_is_drawn => terminal::say(&format!("seed {seed}")),
            Way::Watched(_) | Way::Lines { .. } => {
                let output = self.output.display().to_string();
                terminal::say(&one_line(&format!("{output}: made at {url}, seed {seed}")));
            }
            Way::Quiet | Way::Json { .. } => {}
        }
    }

    /// The server, or we, say something of the video.
    pub(super) fn event(&self, event: &Value) {
        if let Way::Json { .. } = self.way {
            return self.json(&named(event));
        }
        if event["type"] == "warning" {
            let message = one_line(event["message"].as_str().unwrap_or("?"));
            return self.warn(&format!("warning: {message}"));
        }
        let Some(progress) = Progress::of(event) else { return };
        match &self.way {
            Way::Watched(bar) => bar.show(progress.percent, "making".to_owned(), progress.words),
            Way::Lines { latest } => {
                let now = Instant::now();
                let is_due = latest.get().is_none_or(|latest| EVERY <= now - latest);
                if is_due || progress.is_either_end {
                    latest.set(Some(now));
                    terminal::say(&progress.words);
                }
            }
            Way::Json { .. } | Way::Quiet => {}
        }
    }

    /// Nothing follows but the account.
    pub(super) fn end(&self) {
        if let Way::Watched(bar) = &self.way {
            bar.clear();
        }
    }

    /// The account of a video that ended without a failure.
    pub(super) fn done(&self, done: &Done<'_>, summary: impl FnOnce() -> Result<Value, Failure>) {
        let output = self.output.display();
        match self.way {
            Way::Json { .. } => self.json(&json!({
                "event": "done",
                "video_id": done.id,
                "output": output.to_string(),
                "interrupted": done.is_interrupted,
                "pictures": done.pictures,
                "seed": done.seed,
            })),
            Way::Watched(_) | Way::Lines { .. } if !done.is_interrupted => {
                match summary() {
                    Ok(video) => say_summary(&output.to_string(), done.pictures, &video),
                    Err(failure) => terminal::say(&format!(
                        "{}: {} pictures; how they were made is not known: {}",
                        one_line(&output.to_string()),
                        done.pictures,
                        failure.line()
                    )),
                }
                terminal::say(&format!("seed {}", done.seed));
            }
            Way::Watched(_) | Way::Lines { .. } | Way::Quiet => {}
        }
    }

    /// Whether everything could be told.
    ///
    /// # Errors
    ///
    /// Why an event was lost that a program may wait for.
    pub(super) fn told(self) -> Result<(), Failure> {
        match self.way {
            Way::Json { lost } => lost.into_inner().map_or(Ok(()), Err),
            Way::Quiet | Way::Watched(_) | Way::Lines { .. } => Ok(()),
        }
    }

    fn json(&self, event: &Value) {
        let Way::Json { lost } = &self.way else { return };
        let first = lost.take();
        lost.set(first.or_else(|| terminal::json_line(event).err()));
    }

    fn warn(&self, line: &str) {
        match &self.way {
            Way::Watched(bar) => bar.say(line),
            Way::Quiet | Way::Lines { .. } | Way::Json { .. } => terminal::say(line),
        }
    }
}

/// How a video ended that did not fail.
pub(super) struct Done<'a> {
    pub(super) id: &'a str,
    pub(super) seed: u64,
    /// Pictures that were kept.
    pub(super) pictures: u64,
    pub(super) is_interrupted: bool,
}

impl Progress {
    fn of(event: &Value) -> Option<Self> {
        let count = |name: &str| event[name].as_u64().unwrap_or(0);
        match event["type"].as_str() {
            Some("queued") => {
                let words = format!("{} videos ahead", count("position"));
                Some(Self { percent: 0, is_either_end: false, words })
            }
            Some("chunk_committed") => {
                let (index, chunks) = (count("chunk"), count("chunks").max(1));
                let number = index.saturating_add(1).min(chunks);
                let words = format!("chunk {number}/{chunks}: {} pictures", count("pictures"));
                let is_either_end = index == 0 || number == chunks;
                Some(Self { percent: number.saturating_mul(100) / chunks, is_either_end, words })
            }
            Some(_) | None => None,
        }
    }
}

/// A server's event as one of `--json`: its type is the `event`.
fn named(event: &Value) -> Value {
    let mut event = event.clone();
    if let Some(fields) = event.as_object_mut() {
        let name = fields.remove("type").unwrap_or_else(|| "unknown".into());
        fields.insert("event".to_owned(), name);
    }
    event
}

fn say_summary(output: &str, pictures: u64, video: &Value) {
    let count = |name: &str| video[name].as_u64().unwrap_or(0);
    let took = count("completed_at").saturating_sub(count("started_at"));
    terminal::say(&one_line(&format!("{output}: {pictures} pictures, made in {took} s")));
    let timings = video["stage_timings"].as_array().map_or(&[][..], Vec::as_slice);
    timings.iter().for_each(|timing| terminal::say(&stage_line(timing)));
}

/// Where the time of one worker went.
fn stage_line(timing: &Value) -> String {
    let seconds = |name: &str| timing[name].as_f64().unwrap_or(0.0);
    let bytes = |name: &str| Bytes(timing[name].as_u64().unwrap_or(0));
    format!(
        "  {:<28} compute {:>8.1} s, transfer {:>8.1} s, wait {:>8.1} s, {} sent, {} received",
        one_line(timing["stage"].as_str().unwrap_or("?")),
        seconds("compute_seconds"),
        seconds("transfer_seconds"),
        seconds("wait_seconds"),
        bytes("sent_bytes"),
        bytes("received_bytes"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_of_a_server_is_named_as_all_events_are() {
        let event = json!({ "type": "started", "video_id": "v" });

        assert_eq!(named(&event), json!({ "event": "started", "video_id": "v" }));
        assert_eq!(named(&json!({})), json!({ "event": "unknown" }));
    }

    #[test]
    fn stage_says_where_its_time_went_and_what_it_carried() {
        let timing = json!({
            "stage": "layers 0..4", "compute_seconds": 12.34, "transfer_seconds": 0.5,
            "wait_seconds": 3.0, "sent_bytes": 14_400_000, "received_bytes": 0,
        });

        let line = stage_line(&timing);

        let words: Vec<_> = line.split_whitespace().collect();
        assert_eq!(
            words.join(" "),
            "layers 0..4 compute 12.3 s, transfer 0.5 s, wait 3.0 s, 14.4 MB sent, 0 B received"
        );
    }

    #[test]
    fn first_and_last_chunk_are_always_told_and_others_when_due() {
        let ends = [0, 1, 2].map(|chunk| {
            let event =
                json!({ "type": "chunk_committed", "chunk": chunk, "chunks": 3, "pictures": 9 });
            let progress = Progress::of(&event).unwrap();
            (progress.is_either_end, progress.percent, progress.words)
        });

        let expected = [(true, 33), (false, 66), (true, 100)];
        assert_eq!(ends.clone().map(|(is_end, percent, _)| (is_end, percent)), expected);
        assert_eq!(ends[2].2, "chunk 3/3: 9 pictures");
    }
}
