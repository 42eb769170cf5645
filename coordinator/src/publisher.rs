//! A job's pictures into its video, on a thread of its own.
//!
//! The file grows by a fragment with every chunk and can be played while it does;
//! once it is whole it is rewritten for a fast start. A second name of the growing
//! file stays for those who watch, as the first one is then another file.

use std::{
    fs, io,
    path::PathBuf,
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use types::Fence;
use video::{Options, Picture};

use crate::spans;

/// Chunks that may wait to be encoded: as many as may be at the decoder.
const CHUNKS_MAX: usize = 8;

/// A chunk's pictures.
#[derive(Clone, Debug)]
pub(crate) struct Pictures {
    /// Of which job, and which placement of it.
    pub(crate) fence: Fence,
    /// The chunk.
    pub(crate) chunk: u32,
    pub(crate) width: u32,
    pub(crate) height: u32,
    /// RGB8, one after the other.
    pub(crate) rgb: Bytes,
}

/// What is written.
#[derive(Clone, Debug)]
pub(crate) struct Film {
    /// Where the video is, at last.
    pub(crate) path: PathBuf,
    /// Where it is while it grows.
    pub(crate) live: PathBuf,
    /// Where its first picture is.
    pub(crate) thumbnail: PathBuf,
    pub(crate) options: Options,
    /// Pictures of the whole video; what is decoded beyond is dropped.
    pub(crate) pictures: u64,
}

/// The thread's handle: it ends with it, and what is not whole is removed.
#[derive(Debug)]
pub(crate) struct Publisher {
    sender: mpsc::Sender<Pictures>,
    thread: JoinHandle<()>,
}

/// What came of a chunk.
pub(crate) type Published = Result<Progress, String>;

/// How far a video is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// The last chunk in it.
    pub(crate) chunk: u32,
    /// Its pictures.
    pub(crate) pictures: u64,
    /// Bytes of its file.
    pub(crate) bytes: u64,
}

impl Publisher {
    /// Starts a video. `published` is called after every chunk. `before` is one of the same video that this one follows:
    /// it has ended before a file is touched.
    pub(crate) fn start(
        film: Film,
        written: watch::Sender<api::Written>,
        published: impl Fn(Published) + Send + 'static,
        before: Option<Self>,
    ) -> io::Result<Self> {
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let run = move || {
            if let Some(before) = before {
                before.end();
            }
            if let Err(problem) = run(&film, chunks, &written, &published) {
                published(Err(problem));
            }
        };
        let thread = thread::Builder::new().name("publisher".to_owned()).spawn(run)?;
        Ok(Self { sender, thread })
    }

    /// Waits until the thread has ended, with what it was given before.
    pub(crate) fn end(self) {
        drop(self.sender);
        // If it has panicked, there is no more of its video either.
        drop(self.thread.join());
    }

    /// Adds a chunk's pictures.
    ///
    /// # Errors
    ///
    /// A sentence if too many wait, or the thread has ended.
    pub(crate) fn push(&self, pictures: Pictures) -> Result<(), String> {
        self.sender
            .try_send(pictures)
            .map_err(|error| format!("the video cannot be written: {error}"))
    }
}

fn run(
    film: &Film,
    mut chunks: mpsc::Receiver<Pictures>,
    written: &watch::Sender<api::Written>,
    published: &impl Fn(Published),
) -> Result<(), String> {
    let shown = |error: video::Error| error.to_string();
    // What an earlier attempt has left.
    remove(film)?;
    let mut sink = video::create(&film.path, &film.options).map_err(shown)?;
    let mut count = 0;
    while count < film.pictures {
        let Some(pictures) = chunks.blocking_recv() else { return remove(film) };
        let span = spans::encode(pictures.fence, pictures.chunk);
        let bytes = pictures.width as usize * pictures.height as usize * 3;
        for rgb in pictures.rgb.chunks_exact(bytes) {
            if count == film.pictures {
                break;
            }
            let picture = Picture::new(pictures.width, pictures.height, rgb).map_err(shown)?;
            if count == 0 {
                keep_first(film, &picture)?;
            }
            sink.push(&picture).map_err(shown)?;
            count += 1;
        }
        sink.end_chunk().map_err(shown)?;
        let bytes = grown(film).map_err(|error| error.to_string())?;
        written.send_replace(api::Written { bytes, finished: false });
        let progress = Progress { chunk: pictures.chunk, pictures: count, bytes };
        if count < film.pictures {
            // Who hears of it may end the job, which is over after all of its parts.
            drop(span);
            published(Ok(progress));
        } else {
            let finished = sink.finish().map_err(shown)?;
            drop(span);
            written.send_replace(api::Written { bytes, finished: true });
            published(Ok(Progress { bytes: finished.bytes, ..progress }));
            return Ok(());
        }
    }
    Ok(())
}

fn keep_first(film: &Film, picture: &Picture<'_>) -> Result<(), String> {
    let png = video::png(picture).map_err(|error| error.to_string())?;
    let path = &film.thumbnail;
    fs::write(path, png).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Bytes of the growing file.
fn grown(film: &Film) -> io::Result<u64> {
    if !fs::exists(&film.live)? {
        fs::hard_link(&film.path, &film.live)?;
    }
    Ok(fs::metadata(&film.live)?.len())
}

/// Removes what there is of a video.
///
/// # Errors
///
/// A sentence, of the first file that stays.
pub(crate) fn remove(film: &Film) -> Result<(), String> {
    for path in [&film.live, &film.path, &film.thumbnail] {
        match fs::remove_file(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("cannot remove {}: {error}", path.display())),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc as channel, time::Duration};

    use types::{Epoch, JobId};

    use super::*;

    #[test]
    fn one_that_follows_touches_no_file_before_the_one_before_it_has_ended() {
        let folder = tempfile::tempdir().unwrap();
        let film = film(&folder);
        let (begun, begins) = channel::channel();
        let (go, goes) = channel::channel::<()>();
        let held = move |_| {
            begun.send(()).unwrap();
            goes.recv().unwrap();
        };
        let before = Publisher::start(film.clone(), watch::Sender::default(), held, None).unwrap();
        before.push(pictures(0)).unwrap();
        begins.recv().unwrap();
        let (told, tells) = channel::channel();
        let tell = move |published| told.send(published).unwrap();

        let (written, before) = (watch::Sender::default(), Some(before));
        let after = Publisher::start(film.clone(), written.clone(), tell, before).unwrap();
        after.push(pictures(0)).unwrap();
        after.push(pictures(1)).unwrap();

        assert!(tells.recv_timeout(Duration::from_millis(100)).is_err());
        go.send(()).unwrap();
        let told = tells.iter().map(|published| published.map(|p| (p.chunk, p.pictures)));
        assert_eq!(told.collect::<Vec<_>>(), [Ok((0, 1)), Ok((1, 2))]);
        assert!(begins.recv().is_err(), "the one before has ended");
        let bytes = fs::metadata(&film.live).unwrap().len();
        assert_eq!(*written.borrow(), api::Written { bytes, finished: true });
        assert!(film.path.exists() && film.thumbnail.exists());
    }

    fn film(folder: &tempfile::TempDir) -> Film {
        let path = |name: &str| folder.path().join(name);
        Film {
            path: path("film.mp4"),
            live: path("film.live.mp4"),
            thumbnail: path("film.png"),
            options: Options { width: 32, height: 32, pictures_per_second: 16 },
            pictures: 2,
        }
    }

    fn pictures(chunk: u32) -> Pictures {
        let fence = Fence { job: JobId(1), epoch: Epoch(1) };
        Pictures { fence, chunk, width: 32, height: 32, rgb: vec![7; 32 * 32 * 3].into() }
    }
}
