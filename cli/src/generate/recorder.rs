//! Pictures into the file, and the account of it.
//!
//! Invariant: whatever ends a video (its last picture, Ctrl-C, a full disk, a
//! model that gives up), the file is finished with the pictures that are there,
//! and the message says how many.

use std::time::{Duration, Instant};

use model::Chunk;
use video::{Format, Picture, Sink};

use crate::{
    failure::Failure,
    generate::{
        estimate::Estimate,
        job::Job,
        maker::{self, Message, Times},
        report::{ChunkCommitted, Done, Notice, PassBegun, PromptSwitched, Reporter},
        summary::Stages,
    },
    system, time,
};

/// Takes the maker's messages.
pub(super) struct Recorder<'a> {
    job: &'a Job,
    sink: Box<dyn Sink>,
    reporter: &'a mut dyn Reporter,
    estimate: Estimate,
    stages: Stages,
    /// When the command began.
    begun: Instant,
    /// When the first pass began.
    first_pass: Option<Instant>,
    pictures: u64,
}

/// How a video ends.
pub(super) enum Ending {
    /// With its last picture.
    Complete,
    /// With what is there, because the user asked.
    Interrupted,
    /// With what is there, because something failed.
    Failed(Failure),
}

impl<'a> Recorder<'a> {
    /// Nothing has been made yet.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] if the sampler has no list of passes.
    pub(super) fn new(
        job: &'a Job,
        sink: Box<dyn Sink>,
        reporter: &'a mut dyn Reporter,
        begun: Instant,
    ) -> Result<Self, Failure> {
        let estimate = Estimate::new(&job.sampler, &job.length)?;
        let (stages, first_pass) = (Stages::default(), None);
        Ok(Self { job, sink, reporter, estimate, stages, begun, first_pass, pictures: 0 })
    }

    /// Whether all pictures are there.
    pub(super) fn is_complete(&self) -> bool {
        self.pictures == self.job.length.pictures
    }

    /// Follows a message.
    ///
    /// # Errors
    ///
    /// The maker's failure, or the file's.
    pub(super) fn take(&mut self, message: Message) -> Result<(), Failure> {
        match message {
            Message::Wake => {}
            Message::Loaded { took, warnings } => {
                self.stages.load = took;
                for warning in &warnings {
                    self.reporter.tell(&Notice::Warning { message: warning });
                }
                self.reporter.tell(&Notice::Loaded { seconds: time::seconds(took) });
            }
            Message::Read { prompt, unknown_words, dropped_tokens } => {
                self.warn_of_words(&prompt, &unknown_words, dropped_tokens);
            }
            Message::Begun { text } => self.stages.text += text,
            Message::Pass { chunk, step, steps, commit } => {
                let elapsed = self.first_pass.get_or_insert_with(Instant::now).elapsed();
                self.estimate.pass(step);
                let (estimate, pictures) = (&self.estimate, self.pictures);
                let pass = PassBegun { chunk, step, steps, commit, pictures, elapsed, estimate };
                self.reporter.tell(&Notice::Pass(&pass));
            }
            Message::Changed { change, took } => {
                self.stages.switches += took;
                let switched = PromptSwitched {
                    chunk: change.chunk,
                    seconds: change.seconds,
                    asked_seconds: change.asked_seconds,
                    prompt: &change.prompt,
                    took_seconds: time::seconds(took),
                };
                self.reporter.tell(&Notice::PromptSwitched(&switched));
            }
            Message::Made { chunk, times } => self.keep(&chunk, times)?,
            Message::Failed(failure) => return Err(failure),
            Message::Ended => return Err(maker::lost()),
        }
        Ok(())
    }

    /// Finishes the file.
    ///
    /// # Errors
    ///
    /// Why the video is not complete, and what there is of it.
    pub(super) fn finish(self, ending: Ending) -> Result<(), Failure> {
        let Self { job, sink, reporter, mut stages, begun, first_pass, .. } = self;
        reporter.tell(&Notice::Finishing);
        let finishing = Instant::now();
        let (summary, ending) = match (sink.finish(), ending) {
            (Ok(summary), ending) => (summary, ending),
            // The first failure is the one to tell.
            (Err(_), Ending::Failed(failure)) => return Err(failure),
            (Err(error), Ending::Complete | Ending::Interrupted) => return Err(error.into()),
        };
        stages.encode += finishing.elapsed();
        let kept = Kept { job, pictures: summary.pictures };
        if let (Some(reason), Ending::Complete | Ending::Interrupted) =
            (&summary.kept_fragmented, &ending)
        {
            let message = format!("the file plays, but was not rewritten for fast start: {reason}");
            reporter.tell(&Notice::Warning { message: &message });
        }
        if let Ending::Failed(failure) = ending {
            // Wrong files are found before the first picture.
            let is_known = matches!(failure, Failure::Input(_)) && kept.pictures == 0;
            return Err(if is_known {
                failure
            } else {
                failure.with(&format!("; {}", kept.text()))
            });
        }
        let making = first_pass.map_or(Duration::ZERO, |first| first.elapsed());
        let total = begun.elapsed();
        let interrupted = matches!(ending, Ending::Interrupted);
        let pace = summary.pictures as f64 / making.as_secs_f64().max(1e-9);
        reporter.tell(&Notice::Done(&Done {
            output: job.output.display().to_string(),
            interrupted,
            pictures: summary.pictures,
            pictures_asked: job.length.pictures,
            seconds: kept.seconds(),
            bytes: summary.bytes,
            seed: job.seed,
            stages: &stages,
            making_seconds: time::seconds(making),
            total_seconds: time::seconds(total),
            pictures_per_second: (pace * 100.0).round() / 100.0,
            times_real_time: (pace / f64::from(job.model.video.fps) * 1000.0).round() / 1000.0,
            memory_peak_bytes: system::peak_memory_bytes(),
        }));
        if interrupted { Err(Failure::Interrupted(kept.text())) } else { Ok(()) }
    }

    /// Writes a chunk's pictures, less the surplus.
    fn keep(&mut self, chunk: &Chunk, times: Times) -> Result<(), Failure> {
        let encoding = Instant::now();
        let missing = self.job.length.pictures - self.pictures;
        let wanted = usize::try_from(missing).unwrap_or(usize::MAX);
        let options = self.job.options();
        for rgb in chunk.pictures.iter().take(wanted) {
            let picture = Picture::new(options.width, options.height, rgb)?;
            self.sink.push(&picture).map_err(write_failure)?;
            self.pictures += 1;
        }
        self.sink.end_chunk().map_err(write_failure)?;
        let encode = encoding.elapsed();
        self.stages.add(times, encode);

        let elapsed = self.first_pass.map_or(Duration::ZERO, |first| first.elapsed());
        self.estimate.chunk(self.pictures, elapsed);
        let pictures = chunk.pictures.len().min(wanted) as u64;
        let committed = ChunkCommitted {
            chunk: chunk.index,
            pictures,
            pictures_done: self.pictures,
            passes_seconds: time::seconds(times.passes),
            commit_seconds: time::seconds(times.commit),
            decode_seconds: time::seconds(times.decode),
            encode_seconds: time::seconds(encode),
            elapsed_seconds: time::seconds(elapsed),
            estimate: &self.estimate,
            elapsed,
        };
        self.reporter.tell(&Notice::ChunkCommitted(&committed));
        Ok(())
    }

    fn warn_of_words(&mut self, prompt: &str, unknown_words: &[String], dropped_tokens: usize) {
        if !unknown_words.is_empty() {
            let words = unknown_words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>();
            let message = format!("the model does not know {}", words.join(", "));
            self.reporter.tell(&Notice::Warning { message: &message });
        }
        if 0 < dropped_tokens {
            let begin: String = prompt.chars().take(40).collect();
            let message = format!(
                "the prompt `{begin}...` is too long for the model: its last {dropped_tokens} \
                 tokens are left out"
            );
            self.reporter.tell(&Notice::Warning { message: &message });
        }
    }
}

/// A failed write, without its count: the finished file's is told instead.
fn write_failure(error: video::Error) -> Failure {
    if let video::Error::Write { target, reason, .. } = error {
        Failure::Machine(format!("cannot write {target}: {reason}"))
    } else {
        error.into()
    }
}

/// What there is of a video.
struct Kept<'a> {
    job: &'a Job,
    pictures: u64,
}

impl Kept<'_> {
    fn seconds(&self) -> f64 {
        self.pictures as f64 / f64::from(self.job.model.video.fps)
    }

    fn text(&self) -> String {
        if self.pictures == 0 {
            return "nothing was written".to_owned();
        }
        let (output, asked) = (self.job.output.display(), self.job.length.pictures);
        let (pictures, seconds) = (self.pictures, self.seconds());
        let plays = if self.job.format == Format::PngFolder { "" } else { " and plays" };
        format!("{output} has the first {pictures} of {asked} pictures ({seconds:.1} s){plays}")
    }
}
