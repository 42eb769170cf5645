//! What holds for the pictures of every video, whatever keeps them.
//!
//! ```text
//! open --push, end_chunk--> open
//!   |                         |
//!   |  finish                 |  a picture could not be encoded or kept
//!   v                         v
//! completed               completed; pictures are refused with Error::Closed
//! ```
//!
//! An [`Output`] knows its format and nothing of this: it is given pictures of its size
//! only, no picture after one that failed (it would stand in the other's place), and is
//! completed once.

use std::io;

use crate::{Error, Options, Picture, Sink, Summary};

/// Where the pictures of one video go.
pub(crate) trait Output: Send {
    /// Size and rate of the video.
    fn options(&self) -> &Options;

    /// Adds a picture of the video's size.
    fn push(&mut self, picture: &Picture<'_>) -> Result<(), Failure>;

    /// Ends a chunk: what was pushed can be played from here on, where the format can.
    fn end_chunk(&mut self) -> Result<(), Failure> {
        Ok(())
    }

    /// Makes a finished video of what has been written.
    fn complete(&mut self) -> io::Result<()> {
        Ok(())
    }

    /// What can be played at this moment.
    fn summary(&self) -> Summary;
}

/// Why an [`Output`] did not take a picture.
pub(crate) enum Failure {
    /// It could not be encoded.
    Encode(Error),
    /// It, or one before it, could not be kept.
    Write(io::Error),
}

/// Makes a [`Sink`] of an output.
pub(crate) struct Guarded<O> {
    output: O,
    closed: bool,
}

impl<O: Output> Guarded<O> {
    /// Guards an output that has no picture yet.
    pub(crate) fn new(output: O) -> Self {
        Self { output, closed: false }
    }

    /// Gives the output back as it is.
    pub(crate) fn into_output(self) -> O {
        self.output
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.closed { Err(Error::Closed) } else { Ok(()) }
    }

    /// Closes and completes the video at a failure.
    fn close_on_failure(&mut self, taken: Result<(), Failure>) -> Result<(), Error> {
        let Err(failure) = taken else { return Ok(()) };
        self.closed = true;
        // Below, the first failure is the one to tell; what cannot be completed either is
        // missing from the pictures that are safe.
        if let Failure::Encode(_) = failure {
            let _ = self.output.end_chunk();
        }
        let _ = self.output.complete();
        Err(match failure {
            Failure::Encode(error) => error,
            Failure::Write(reason) => write_error(&self.output.summary(), reason),
        })
    }
}

impl<O: Output> Sink for Guarded<O> {
    fn push(&mut self, picture: &Picture<'_>) -> Result<(), Error> {
        self.check_open()?;
        self.output.options().check_picture(picture)?;
        let taken = self.output.push(picture);
        self.close_on_failure(taken)
    }

    fn end_chunk(&mut self) -> Result<(), Error> {
        self.check_open()?;
        let taken = self.output.end_chunk();
        self.close_on_failure(taken)
    }

    fn finish(mut self: Box<Self>) -> Result<Summary, Error> {
        if !self.closed {
            self.end_chunk()?;
            let completed = self.output.complete();
            completed.map_err(|reason| write_error(&self.output.summary(), reason))?;
        }
        Ok(self.output.summary())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Encode(error)
    }
}

impl From<io::Error> for Failure {
    fn from(reason: io::Error) -> Self {
        Self::Write(reason)
    }
}

/// Says what failed and how much of the video there is.
pub(crate) fn write_error(summary: &Summary, reason: io::Error) -> Error {
    let path = summary.path.as_ref();
    let target = path.map_or("the stream".into(), |path| path.display().to_string());
    Error::Write { target, pictures_safe: summary.pictures, reason }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Format,
        test_support::{OPTIONS, animation, picture},
    };

    /// Takes as many pictures as it has room for; the picture numbered `odd` fails to encode.
    struct Room {
        pictures: u64,
        room: u64,
        odd: Option<u64>,
        chunks: u64,
        completed: u64,
    }

    const ROOM: Room = Room { pictures: 0, room: 2, odd: None, chunks: 0, completed: 0 };

    #[test]
    fn failed_write_completes_the_video_and_refuses_all_that_follows() {
        let rgb = &animation(1)[0];
        let mut sink = Guarded::new(ROOM);
        sink.push(&picture(rgb)).unwrap();
        sink.push(&picture(rgb)).unwrap();

        let error = sink.push(&picture(rgb)).unwrap_err();

        assert!(matches!(error, Error::Write { pictures_safe: 2, .. }), "{error}");
        sink.output.room = 9;
        assert!(matches!(sink.push(&picture(rgb)), Err(Error::Closed)));
        assert!(matches!(sink.end_chunk(), Err(Error::Closed)));
        assert_eq!((sink.output.pictures, sink.output.completed), (2, 1));
        assert_eq!(Box::new(sink).finish().unwrap().bytes, 1, "completed once");
    }

    #[test]
    fn picture_that_cannot_be_encoded_leaves_no_gap() {
        let rgb = &animation(1)[0];
        let mut sink = Guarded::new(Room { odd: Some(1), ..ROOM });
        sink.push(&picture(rgb)).unwrap();

        assert!(matches!(sink.push(&picture(rgb)), Err(Error::Encoder { .. })));

        sink.output.odd = None;
        assert!(matches!(sink.push(&picture(rgb)), Err(Error::Closed)));
        assert_eq!((sink.output.pictures, sink.output.chunks, sink.output.completed), (1, 1, 1));
        assert_eq!(Box::new(sink).finish().unwrap().pictures, 1);
    }

    #[test]
    fn picture_of_another_size_closes_nothing() {
        let mut sink = Guarded::new(ROOM);
        let small = Picture::new(1, 1, &[0; 3]).unwrap();
        assert!(matches!(sink.push(&small), Err(Error::PictureSize { .. })));

        sink.push(&picture(&animation(1)[0])).unwrap();

        let Summary { pictures, bytes, .. } = Box::new(sink).finish().unwrap();
        assert_eq!((pictures, bytes), (1, 1));
    }

    impl Output for Room {
        fn options(&self) -> &Options {
            &OPTIONS
        }

        fn push(&mut self, _picture: &Picture<'_>) -> Result<(), Failure> {
            if self.odd == Some(self.pictures) {
                let message = "odd".into();
                return Err(Error::Encoder { format: Format::Gif, message }.into());
            }
            if self.room <= self.pictures {
                return Err(io::Error::from(io::ErrorKind::StorageFull).into());
            }
            self.pictures += 1;
            Ok(())
        }

        fn end_chunk(&mut self) -> Result<(), Failure> {
            self.chunks += 1;
            Ok(())
        }

        fn complete(&mut self) -> io::Result<()> {
            self.completed += 1;
            Ok(())
        }

        fn summary(&self) -> Summary {
            let (pictures, bytes) = (self.pictures, self.completed);
            Summary { pictures, bytes, path: None, kept_fragmented: None }
        }
    }
}
