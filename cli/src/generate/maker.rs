//! The thread that owns the model.
//!
//! It loads, reads the prompts, makes the chunks and sends what comes out. The
//! channel is bounded, so a slow disk slows the passes down instead of filling
//! the memory: at most [`MESSAGES_MAX`] messages wait, of which a chunk with its
//! pictures is one in three or more (the beginnings of at least two passes come
//! before it), and [`FINISHED_CHUNKS_MAX`] chunks exist at once.
//!
//! Nobody waits for this thread: if the receiver is gone, it ends at its next
//! message.

use std::{
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use backend::Backend;
use checkpoint::Checkpoint;
use model::{Chunk, Engine, Event, Film, History, Prompt};
use plan::memory::Size;
use types::Sampler;

use crate::{failure::Failure, generate::schedule::Change};

/// Messages that may wait for the recorder: a chunk of six passes and more.
const MESSAGES_MAX: usize = 8;
/// Messages of a chunk at the least: that a pass and the commit begin, and the
/// chunk itself.
const CHUNK_MESSAGES_MIN: usize = 3;
/// Chunks with their pictures that exist at once: those in the channel, the one
/// before it and the one behind it.
pub(crate) const FINISHED_CHUNKS_MAX: usize = MESSAGES_MAX.div_ceil(CHUNK_MESSAGES_MIN) + 2;

/// What is to be made.
#[derive(Debug)]
pub(super) struct Shoot {
    pub(super) checkpoint: Checkpoint,
    pub(super) prompt: String,
    pub(super) changes: Vec<Change>,
    pub(super) history: History,
    pub(super) seed: u64,
    pub(super) sampler: Sampler,
    pub(super) size: Size,
    /// Frames of the whole video.
    pub(super) frames: usize,
    pub(super) chunks: u32,
}

/// What happened.
#[derive(Debug)]
pub(super) enum Message {
    /// Nothing; the receiver is to look whether it was interrupted.
    Wake,
    /// The weights are there.
    Loaded { took: Duration, warnings: Vec<String> },
    /// A prompt was read; what the model cannot make use of.
    Read { prompt: String, unknown_words: Vec<String>, dropped_tokens: usize },
    /// The text is encoded, the film begins.
    Begun { text: Duration },
    /// A pass begins.
    Pass { chunk: u32, step: u32, steps: u32, commit: bool },
    /// The prompt was changed before this chunk.
    Changed { change: Change, took: Duration },
    /// A chunk is there.
    Made { chunk: Chunk, times: Times },
    /// The model gave up.
    Failed(Failure),
    /// Nothing follows.
    Ended,
}

/// Where a chunk's time went.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Times {
    pub(super) passes: Duration,
    pub(super) commit: Duration,
    pub(super) decode: Duration,
}

/// The channel between maker and recorder.
pub(super) fn channel() -> (SyncSender<Message>, Receiver<Message>) {
    sync_channel(MESSAGES_MAX)
}

/// Starts the thread.
pub(super) fn start<B: Backend>(backend: Arc<B>, shoot: Shoot, sender: SyncSender<Message>) {
    spawn(sender, move |sender| {
        let maker = Maker { shoot: &shoot, sender };
        if let Err(Stop::Failed(failure)) = maker.run(backend) {
            // A receiver that is gone has said why already.
            let _ = sender.send(Message::Failed(failure));
        }
    });
}

/// Runs `work` on a thread whose last message is [`Message::Ended`], also if it
/// panics. The channel itself does not tell: whoever listens for Ctrl-C keeps a
/// sender too.
fn spawn(sender: SyncSender<Message>, work: impl FnOnce(&SyncSender<Message>) + Send + 'static) {
    thread::spawn(move || {
        let farewell = Farewell(sender);
        work(&farewell.0);
    });
}

struct Farewell(SyncSender<Message>);

impl Drop for Farewell {
    fn drop(&mut self) {
        // A receiver that is gone needs no farewell.
        let _ = self.0.send(Message::Ended);
    }
}

/// The failure of a maker that ended without a word, which is a bug of ours.
pub(super) fn lost() -> Failure {
    Failure::Machine(
        "the computation broke off, which is a bug in filmloom: please report it".into(),
    )
}

struct Maker<'a> {
    shoot: &'a Shoot,
    sender: &'a SyncSender<Message>,
}

/// Why the maker stops early.
enum Stop {
    /// Nobody listens any more.
    Unheard,
    /// Something failed.
    Failed(Failure),
}

impl<E: Into<Failure>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl Maker<'_> {
    fn run<B: Backend>(&self, backend: Arc<B>) -> Result<(), Stop> {
        let begun = Instant::now();
        let engine = Engine::load(backend, &self.shoot.checkpoint)?;
        let warnings = engine.warnings().to_vec();
        self.send(Message::Loaded { took: begun.elapsed(), warnings })?;

        let begun = Instant::now();
        let prompt = self.read(&engine, &self.shoot.prompt)?;
        let later = self.shoot.changes.iter().map(|change| self.read(&engine, &change.prompt));
        let later: Vec<Prompt> = later.collect::<Result<_, Stop>>()?;
        let mut film = engine.start(&self.shoot.request(prompt))?;
        self.send(Message::Begun { text: begun.elapsed() })?;

        let mut changes = self.shoot.changes.iter().zip(&later).peekable();
        while film.chunk() < self.shoot.chunks {
            if let Some((change, prompt)) = changes.next_if(|(c, _)| c.chunk == film.chunk()) {
                let begun = Instant::now();
                film.switch_prompt(prompt, self.shoot.history)?;
                let (change, took) = (change.clone(), begun.elapsed());
                self.send(Message::Changed { change, took })?;
            }
            self.chunk(&mut film)?;
        }
        Ok(())
    }

    fn read<B: Backend>(&self, engine: &Engine<B>, text: &str) -> Result<Prompt, Stop> {
        let prompt = engine.prompt(text)?;
        self.send(Message::Read {
            prompt: text.to_owned(),
            unknown_words: prompt.unknown_words.clone(),
            dropped_tokens: prompt.dropped_tokens,
        })?;
        Ok(prompt)
    }

    fn chunk<B: Backend>(&self, film: &mut Film<'_, B>) -> Result<(), Stop> {
        let (mut times, mut begun, mut heard) = (Times::default(), Instant::now(), Ok(()));
        let chunk = film.next_chunk(&mut |event| match event {
            Event::PassStarted { chunk, step, steps, commit } => {
                begun = Instant::now();
                heard = self.send(Message::Pass { chunk, step, steps, commit });
            }
            Event::PassDone { commit: false, .. } => times.passes += begun.elapsed(),
            Event::PassDone { commit: true, .. } => times.commit += begun.elapsed(),
            Event::DecodeStarted { .. } => begun = Instant::now(),
            Event::DecodeDone { .. } => times.decode += begun.elapsed(),
        })?;
        heard?;
        self.send(Message::Made { chunk, times })
    }

    fn send(&self, message: Message) -> Result<(), Stop> {
        self.sender.send(message).map_err(|_| Stop::Unheard)
    }
}

#[cfg(test)]
mod tests {
    use std::panic;

    use super::*;

    #[test]
    fn thread_that_breaks_off_says_so_while_others_keep_the_channel_open() {
        let (sender, messages) = channel();
        let _listener = sender.clone();

        spawn(sender, |_| panic::resume_unwind(Box::new("a bug")));

        let message = messages.recv_timeout(Duration::from_secs(10)).unwrap();
        assert!(matches!(message, Message::Ended), "{message:?}");
    }
}
