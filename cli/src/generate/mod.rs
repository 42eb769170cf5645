//! `filmloom generate`: a prompt becomes a video.
//!
//! ```text
//!  job      everything that can be known before anything is loaded
//!  maker    a thread that owns the model: load, text, chunks ──┐ messages, a bounded number
//!  recorder this thread: pictures into the file, times, totals ◀┘
//!  report   what happens, told as a bar, as lines or as JSON
//! ```
//!
//! Two threads, so that encoding runs beside the next chunk's passes, and so
//! that Ctrl-C need not wait for a pass: the recorder closes the file with what
//! is there, and the process ends with the maker in the middle of whatever it
//! does.
//!
//! Invariant: what is wrong with arguments, files or memory is said before any
//! weights are read, and a failure leaves either nothing or a file that plays.

mod estimate;
mod job;
mod maker;
mod recorder;
mod report;
mod schedule;
mod summary;

use std::{sync::Arc, time::Instant};

use backend::Backend;

use crate::{
    args::GenerateArgs,
    failure::Failure,
    generate::{
        job::Job,
        maker::Message,
        recorder::{Ending, Recorder},
        report::{Notice, Reporter, Started},
    },
    held,
    interrupt::Interrupt,
    system,
};

pub(crate) use maker::FINISHED_CHUNKS_MAX;

/// Makes the video that `args` ask for.
///
/// # Errors
///
/// Any [`Failure`]; what was made until then is in the file and plays.
pub(crate) fn run(args: &GenerateArgs) -> Result<(), Failure> {
    let mut reporter = report::reporter(args.json, args.quiet);
    let outcome = make(args, &mut *reporter);
    if let Err(failure @ (Failure::Input(_) | Failure::Machine(_))) = &outcome {
        reporter.tell(&Notice::error(failure));
    }
    outcome.and_then(|()| reporter.told())
}

/// Says as an event that the command line was refused.
pub(crate) fn refuse(failure: &Failure) {
    report::reporter(true, false).tell(&Notice::error(failure));
}

fn make(args: &GenerateArgs, reporter: &mut dyn Reporter) -> Result<(), Failure> {
    let begun = Instant::now();
    let job = Job::new(args)?;
    let threads = args.threads.count();
    let backend = Arc::new(args.precision.cpu(threads)?);
    let class = backend.class();
    let memory = job.memory(held::engine(class.activation()))?;
    let (sender, messages) = maker::channel();
    let wake = sender.clone();
    // A full channel has the recorder awake already.
    let interrupt = Interrupt::listen(move || drop(wake.try_send(Message::Wake)))?;
    let sink = video::create(&job.output, &job.options())?;
    let available_bytes = system::available_memory_bytes();
    held::fits(&[memory], 0, available_bytes, threads)?;

    let started = Started::new(&job, class.name(), threads, memory, available_bytes);
    reporter.tell(&Notice::Started(&started));
    let mut recorder = Recorder::new(&job, sink, reporter, begun)?;
    maker::start(backend, job.shoot(), sender);
    let ending = loop {
        if interrupt.asked() {
            break Ending::Interrupted;
        }
        let Ok(message) = messages.recv() else { break Ending::Failed(maker::lost()) };
        match recorder.take(message) {
            Ok(()) if recorder.is_complete() => break Ending::Complete,
            Ok(()) => {}
            Err(failure) => break Ending::Failed(failure),
        }
    };
    recorder.finish(ending)
}
