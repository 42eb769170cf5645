//! What happens, told to whoever listens: a bar on a terminal, plain lines in a
//! pipe, JSON events for programs.
//!
//! There is one stream of notices; how they look is decided here and nowhere
//! else. JSON events go to standard output, everything else to standard error.

use std::{
    mem,
    time::{Duration, Instant},
};

use plan::{
    memory::Memory,
    units::{Bytes, counted, grouped},
};
use serde::Serialize;

use crate::{
    failure::{Failure, one_line},
    generate::{
        estimate::Estimate,
        job::Job,
        summary::{self, Stages},
    },
    terminal::{self, Bar},
    time,
};

/// Listens to the making of a video.
pub(super) trait Reporter {
    /// Something happened.
    fn tell(&mut self, notice: &Notice<'_>);

    /// Whether everything could be told.
    ///
    /// # Errors
    ///
    /// Why something was lost that a program may wait for.
    fn told(&mut self) -> Result<(), Failure> {
        Ok(())
    }
}

/// The listener that the user asked for.
pub(super) fn reporter(json: bool, quiet: bool) -> Box<dyn Reporter> {
    match (json, quiet, terminal::is_watched()) {
        (true, _, _) => Box::new(Json { told: Ok(()) }),
        (false, true, _) => Box::new(Quiet),
        (false, false, true) => Box::new(Watched { bar: None, pictures: 0, chunks: 0 }),
        (false, false, false) => Box::new(Lines::default()),
    }
}

/// What happened. As JSON: an object whose `event` is the variant's name.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum Notice<'a> {
    /// Everything is checked; the model is about to be loaded.
    Started(&'a Started<'a>),
    /// The weights are there.
    Loaded { seconds: f64 },
    /// Something is odd, and no reason to stop.
    Warning { message: &'a str },
    /// A pass begins. Not a JSON event: there are too many.
    #[serde(skip)]
    Pass(&'a PassBegun<'a>),
    /// The prompt is another one from this chunk on.
    PromptSwitched(&'a PromptSwitched<'a>),
    /// A chunk is in the file.
    ChunkCommitted(&'a ChunkCommitted<'a>),
    /// No chunk follows; the file is about to be finished. Not a JSON event.
    #[serde(skip)]
    Finishing,
    /// The file is finished.
    Done(&'a Done<'a>),
    /// The video failed.
    Error { message: String, exit_code: u8 },
}

impl Notice<'_> {
    /// The event of a failure.
    pub(super) fn error(failure: &Failure) -> Self {
        Self::Error { message: failure.line(), exit_code: failure.exit_code() }
    }
}

/// The resolved configuration.
#[derive(Serialize)]
pub(super) struct Started<'a> {
    version: &'static str,
    prompt: &'a str,
    prompt_changes: Vec<ChangeAhead<'a>>,
    prompt_switch: &'static str,
    output: String,
    format: String,
    model: &'a str,
    width: usize,
    height: usize,
    fps: u32,
    seconds: f64,
    pictures: u64,
    chunks: u32,
    seed: u64,
    #[serde(skip)]
    seed_is_drawn: bool,
    numeric_class: &'static str,
    threads: usize,
    first_chunk_runs: u64,
    chunk_runs: u64,
    memory: Memory,
    memory_available_bytes: Option<u64>,
}

#[derive(Serialize)]
struct ChangeAhead<'a> {
    asked_seconds: f64,
    chunk: u32,
    seconds: f64,
    prompt: &'a str,
}

/// A pass that begins.
pub(super) struct PassBegun<'a> {
    pub(super) chunk: u32,
    pub(super) step: u32,
    pub(super) steps: u32,
    pub(super) commit: bool,
    pub(super) pictures: u64,
    pub(super) elapsed: Duration,
    pub(super) estimate: &'a Estimate,
}

/// A change of the prompt that took effect.
#[derive(Serialize)]
pub(super) struct PromptSwitched<'a> {
    pub(super) chunk: u32,
    pub(super) seconds: f64,
    pub(super) asked_seconds: f64,
    pub(super) prompt: &'a str,
    pub(super) took_seconds: f64,
}

/// A chunk that is in the file.
#[derive(Serialize)]
pub(super) struct ChunkCommitted<'a> {
    pub(super) chunk: u32,
    pub(super) pictures: u64,
    pub(super) pictures_done: u64,
    pub(super) passes_seconds: f64,
    pub(super) commit_seconds: f64,
    pub(super) decode_seconds: f64,
    pub(super) encode_seconds: f64,
    pub(super) elapsed_seconds: f64,
    #[serde(skip)]
    pub(super) estimate: &'a Estimate,
    #[serde(skip)]
    pub(super) elapsed: Duration,
}

/// A finished file.
#[derive(Serialize)]
pub(super) struct Done<'a> {
    pub(super) output: String,
    pub(super) interrupted: bool,
    pub(super) pictures: u64,
    pub(super) pictures_asked: u64,
    pub(super) seconds: f64,
    pub(super) bytes: u64,
    pub(super) seed: u64,
    pub(super) stages: &'a Stages,
    /// From the first pass to the finished file.
    pub(super) making_seconds: f64,
    /// From the beginning of the command.
    pub(super) total_seconds: f64,
    pub(super) pictures_per_second: f64,
    pub(super) times_real_time: f64,
    pub(super) memory_peak_bytes: Option<u64>,
}

impl<'a> Started<'a> {
    /// The configuration of `job`.
    pub(super) fn new(
        job: &'a Job,
        numeric_class: &'static str,
        threads: usize,
        memory: Memory,
        memory_available_bytes: Option<u64>,
    ) -> Self {
        let changes = job.changes.iter().map(|change| ChangeAhead {
            asked_seconds: change.asked_seconds,
            chunk: change.chunk,
            seconds: change.seconds,
            prompt: &change.prompt,
        });
        let [first_chunk_runs, chunk_runs] = job.runs;
        Self {
            version: env!("CARGO_PKG_VERSION"),
            prompt: &job.prompt,
            prompt_changes: changes.collect(),
            prompt_switch: match job.history {
                model::History::Keep => "keep",
                model::History::Recache => "recache",
            },
            output: job.output.display().to_string(),
            format: job.format.to_string(),
            model: &job.model_name,
            width: job.size.width,
            height: job.size.height,
            fps: job.model.video.fps,
            seconds: job.seconds,
            pictures: job.length.pictures,
            chunks: job.length.chunks,
            seed: job.seed,
            seed_is_drawn: job.seed_is_drawn,
            numeric_class,
            threads,
            first_chunk_runs,
            chunk_runs,
            memory,
            memory_available_bytes,
        }
    }

    /// The configuration for a reader, on two lines.
    fn text(&self) -> String {
        let Self { output, seconds, width, height, fps, chunks, seed, model, .. } = self;
        let pictures = grouped(self.pictures);
        let need = Bytes(self.memory.total_bytes);
        let available = self.memory_available_bytes;
        let available = available.map_or(String::new(), |b| format!(" of {}", Bytes(b)));
        let (output, model) = (one_line(output), one_line(model));
        let (chunks, threads) =
            (counted((*chunks).into(), "chunk"), counted(self.threads as u64, "thread"));
        format!(
            "{output}: {seconds} s, {pictures} pictures of {width}x{height} at {fps} a second, \
             {chunks}, seed {seed}\n\
             model {model}, {} on {threads}, {need}{available}",
            self.numeric_class
        )
    }
}

/// One JSON object per line.
struct Json {
    /// The first event that was lost, if any.
    told: Result<(), Failure>,
}

impl Reporter for Json {
    fn tell(&mut self, notice: &Notice<'_>) {
        if !matches!(notice, Notice::Pass(_) | Notice::Finishing) && self.told.is_ok() {
            self.told = terminal::json_line(notice);
        }
    }

    fn told(&mut self) -> Result<(), Failure> {
        mem::replace(&mut self.told, Ok(()))
    }
}

/// Warnings, and the seed if nobody knows it yet.
struct Quiet;

impl Reporter for Quiet {
    fn tell(&mut self, notice: &Notice<'_>) {
        if let Notice::Warning { message } = notice {
            terminal::say(&warning(message));
        } else if let Notice::Started(started) = notice
            && started.seed_is_drawn
        {
            terminal::say(&format!("seed {}", started.seed));
        }
    }
}

/// A bar, for a person.
struct Watched {
    bar: Option<Bar>,
    pictures: u64,
    chunks: u32,
}

impl Watched {
    fn say(&self, line: &str) {
        match &self.bar {
            Some(bar) => bar.say(line),
            None => terminal::say(line),
        }
    }
}

impl Reporter for Watched {
    fn tell(&mut self, notice: &Notice<'_>) {
        match notice {
            Notice::Started(started) => {
                (self.pictures, self.chunks) = (started.pictures, started.chunks);
                terminal::say(&started.text());
            }
            Notice::Pass(pass) => {
                let (position, length) = pass.estimate.position();
                let bar = self.bar.get_or_insert_with(|| Bar::new(length));
                let after = progress(pass.pictures, self.pictures, pass.estimate, pass.elapsed);
                bar.show(position, pass.text(self.chunks), after);
            }
            Notice::Warning { message } => self.say(&warning(message)),
            Notice::PromptSwitched(switched) => self.say(&switched.text()),
            Notice::Finishing => self.bar.take().iter().for_each(Bar::clear),
            Notice::Done(done) => say_summary(done),
            Notice::Loaded { .. } | Notice::ChunkCommitted(_) | Notice::Error { .. } => {}
        }
    }
}

/// Plain lines, at most one in [`Lines::EVERY`] for progress.
#[derive(Default)]
struct Lines {
    pictures: u64,
    chunks: u32,
    /// When the latest line was written that told how far the video is.
    latest: Option<Instant>,
}

impl Lines {
    const EVERY: Duration = Duration::from_secs(2);

    /// Says how far the video is, if that is due.
    fn say(&mut self, is_due: bool, text: impl FnOnce(&Self) -> String) {
        let now = Instant::now();
        let latest = *self.latest.get_or_insert(now);
        if is_due || Self::EVERY <= now - latest {
            self.latest = Some(now);
            terminal::say(&text(self));
        }
    }
}

impl Reporter for Lines {
    fn tell(&mut self, notice: &Notice<'_>) {
        match notice {
            Notice::Started(started) => {
                (self.pictures, self.chunks) = (started.pictures, started.chunks);
                terminal::say(&started.text());
            }
            Notice::Loaded { seconds } => terminal::say(&format!("loaded in {seconds:.2} s")),
            Notice::Warning { message } => terminal::say(&warning(message)),
            Notice::PromptSwitched(switched) => terminal::say(&switched.text()),
            Notice::Pass(pass) => self.say(false, |lines| {
                let (chunks, pictures) = (lines.chunks, lines.pictures);
                let progress = progress(pass.pictures, pictures, pass.estimate, pass.elapsed);
                format!("{}: {progress}", pass.text(chunks))
            }),
            Notice::ChunkCommitted(chunk) => {
                let is_either_end = chunk.chunk == 0 || chunk.pictures_done == self.pictures;
                self.say(is_either_end, |lines| {
                    let (number, chunks) = (chunk.chunk + 1, lines.chunks);
                    let (done, estimate) = (chunk.pictures_done, chunk.estimate);
                    let progress = progress(done, lines.pictures, estimate, chunk.elapsed);
                    format!("chunk {number}/{chunks}: {progress}")
                });
            }
            Notice::Done(done) => say_summary(done),
            Notice::Finishing | Notice::Error { .. } => {}
        }
    }
}

impl PassBegun<'_> {
    fn text(&self, chunks: u32) -> String {
        let name = if self.commit { "commit" } else { "pass" };
        format!("chunk {}/{chunks} {name} {}/{}", self.chunk + 1, self.step + 1, self.steps)
    }
}

impl PromptSwitched<'_> {
    fn text(&self) -> String {
        let Self { chunk, seconds, prompt, .. } = self;
        format!("chunk {} at {seconds:.2} s begins: {}", chunk + 1, one_line(prompt))
    }
}

/// The account of a video, if there is one.
fn say_summary(done: &Done<'_>) {
    if 0 < done.pictures {
        terminal::say(&summary::text(done));
    }
}

fn warning(message: &str) -> String {
    format!("warning: {}", one_line(message))
}

fn progress(done: u64, all: u64, estimate: &Estimate, elapsed: Duration) -> String {
    let mut text = format!("{done}/{all} pictures");
    if let Some(pace) = estimate.pace() {
        text.push_str(&format!(", {pace:.1}/s"));
    }
    if let Some(seconds) = estimate.seconds_left(elapsed) {
        text.push_str(&format!(", {} left", time::rough(seconds)));
    }
    text
}
