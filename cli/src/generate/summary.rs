//! Where the time of a video went.

use std::time::Duration;

use plan::units::{Bytes, grouped};
use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::{
    failure::one_line,
    generate::{maker::Times, report::Done},
    time,
};

/// Time by stage. Encoding runs beside the others, which follow one another.
#[derive(Debug, Default)]
pub(super) struct Stages {
    pub(super) load: Duration,
    pub(super) text: Duration,
    pub(super) passes: Duration,
    pub(super) commit: Duration,
    /// Changes of the prompt, with whatever had to be run again.
    pub(super) switches: Duration,
    pub(super) decode: Duration,
    pub(super) encode: Duration,
}

impl Stages {
    /// Adds a chunk.
    pub(super) fn add(&mut self, times: Times, encode: Duration) {
        self.passes += times.passes;
        self.commit += times.commit;
        self.decode += times.decode;
        self.encode += encode;
    }

    fn rows(&self) -> [(&'static str, Duration); 7] {
        [
            ("load", self.load),
            ("text", self.text),
            ("passes", self.passes),
            ("commit", self.commit),
            ("switches", self.switches),
            ("decode", self.decode),
            ("encode", self.encode),
        ]
    }
}

/// As seconds, `{"load_seconds": 0.3, ...}`.
impl Serialize for Stages {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut stages = serializer.serialize_struct("Stages", 7)?;
        stages.serialize_field("load_seconds", &time::seconds(self.load))?;
        stages.serialize_field("text_seconds", &time::seconds(self.text))?;
        stages.serialize_field("passes_seconds", &time::seconds(self.passes))?;
        stages.serialize_field("commit_seconds", &time::seconds(self.commit))?;
        stages.serialize_field("switches_seconds", &time::seconds(self.switches))?;
        stages.serialize_field("decode_seconds", &time::seconds(self.decode))?;
        stages.serialize_field("encode_seconds", &time::seconds(self.encode))?;
        stages.end()
    }
}

/// The account of a finished video, on several lines.
pub(super) fn text(done: &Done<'_>) -> String {
    let Done { output, pictures, seconds, bytes, total_seconds, seed, .. } = done;
    let mut lines = vec![
        format!(
            "{}: {} pictures, {seconds:.2} s, {}, seed {seed}",
            one_line(output),
            grouped(*pictures),
            Bytes(*bytes)
        ),
        format!("{:<12}{:>10}{:>9}", "stage", "seconds", "share"),
    ];
    for (stage, took) in done.stages.rows().into_iter().filter(|(_, took)| !took.is_zero()) {
        let seconds = took.as_secs_f64();
        let share = 100.0 * seconds / total_seconds.max(1e-9);
        let remark = if stage == "encode" { "  (beside the others)" } else { "" };
        lines.push(format!("{stage:<12}{seconds:>10.2}{share:>7.1} %{remark}"));
    }
    lines.push(format!("{:<12}{total_seconds:>10.2}", "all"));
    let peak = done.memory_peak_bytes.map(|bytes| format!(", peak memory {}", Bytes(bytes)));
    lines.push(format!(
        "{:.1} pictures a second, {:.2} times real time{}",
        done.pictures_per_second,
        done.times_real_time,
        peak.unwrap_or_default()
    ));
    lines.join("\n")
}
