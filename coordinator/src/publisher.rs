//! A job's pictures into its video, on a thread of its own.
//!
//! The file grows by a fragment with every chunk and can be played while it does;
//! once it is whole it is rewritten for a fast start. A second name of the growing
//! file stays for those who watch, as the first one is then another file.

use std::{fs, io, path::PathBuf, thread};

use bytes::Bytes;
use tokio::sync::{mpsc, watch};
use video::{Options, Picture};

/// Chunks that may wait to be encoded: as many as may be at the decoder.
const CHUNKS_MAX: usize = 8;

/// A chunk's pictures.
#[derive(Clone, Debug)]
pub(crate) struct Pictures {
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
pub(crate) struct Publisher(mpsc::Sender<Pictures>);

/// What came of a chunk.
pub(crate) type Published = Result<(u32, u64), String>;

impl Publisher {
    /// Starts a video. `published` is called after every chunk with its number and
    /// the pictures so far.
    pub(crate) fn start(
        film: Film,
        written: watch::Sender<api::Written>,
        published: impl Fn(Published) + Send + 'static,
    ) -> io::Result<Self> {
        let (sender, chunks) = mpsc::channel(CHUNKS_MAX);
        let run = move || {
            if let Err(problem) = run(&film, chunks, &written, &published) {
                published(Err(problem));
            }
        };
        thread::Builder::new().name("publisher".to_owned()).spawn(run)?;
        Ok(Self(sender))
    }

    /// Adds a chunk's pictures.
    ///
    /// # Errors
    ///
    /// A sentence if too many wait, or the thread has ended.
    pub(crate) fn push(&self, pictures: Pictures) -> Result<(), String> {
        self.0.try_send(pictures).map_err(|error| format!("the video cannot be written: {error}"))
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
        if count < film.pictures {
            published(Ok((pictures.chunk, count)));
        } else {
            sink.finish().map_err(shown)?;
            written.send_replace(api::Written { bytes, finished: true });
            published(Ok((pictures.chunk, count)));
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
