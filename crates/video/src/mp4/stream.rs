//! A fragmented MP4 stream to any writer, for live viewers.
//!
//! The header is written at once, each fragment when its chunk ends, each with a flush.
//! A stream cut anywhere plays up to the last whole picture before the cut.

use std::io::Write;

use super::{Fragmenter, Position};
use crate::{Error, Options, Picture, Sink, Summary};

/// Writes a fragmented MP4 stream to `W`.
pub struct Fragmented<W> {
    writer: W,
    fragmenter: Fragmenter,
    /// End of the last fragment that was written whole.
    written: Position,
    bytes: u64,
    closed: bool,
}

impl<W: Write> Fragmented<W> {
    /// Starts a stream and writes its header.
    ///
    /// # Errors
    ///
    /// Those of [`Fragmenter::new`], or [`Error::Write`] if the header cannot be written.
    pub fn new(writer: W, options: &Options) -> Result<Self, Error> {
        let fragmenter = Fragmenter::new(options)?;
        let header = fragmenter.header().to_vec();
        let written = fragmenter.position();
        let mut stream = Self { writer, fragmenter, written, bytes: 0, closed: false };
        stream.write(&header)?;
        Ok(stream)
    }

    /// Gives the writer back; pictures after the last chunk's end are dropped.
    pub fn into_writer(self) -> W {
        self.writer
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let written = self.writer.write_all(bytes).and_then(|()| self.writer.flush());
        match written {
            Ok(()) => {
                self.bytes += bytes.len() as u64;
                Ok(())
            }
            Err(reason) => {
                self.closed = true;
                let pictures_safe = self.written.pictures;
                Err(Error::Write { target: "the stream".into(), pictures_safe, reason })
            }
        }
    }
}

impl<W: Write + Send> Sink for Fragmented<W> {
    fn push(&mut self, picture: &Picture<'_>) -> Result<(), Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        self.fragmenter.push(picture)?;
        if self.fragmenter.is_full() { self.end_chunk() } else { Ok(()) }
    }

    fn end_chunk(&mut self) -> Result<(), Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        if let Some(fragment) = self.fragmenter.end_chunk() {
            self.write(&fragment.bytes)?;
            self.written = self.fragmenter.position();
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>) -> Result<Summary, Error> {
        if !self.closed {
            self.end_chunk()?;
        }
        let (pictures, bytes) = (self.written.pictures, self.bytes);
        Ok(Summary { pictures, bytes, path: None, kept_fragmented: None })
    }
}
