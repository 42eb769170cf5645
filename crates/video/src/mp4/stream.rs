//! A fragmented MP4 stream to any writer, for live viewers.
//!
//! The header is written at once, each fragment when its chunk ends, each with a flush.
//! A stream cut anywhere plays up to the last whole picture before the cut.

use std::io::{self, Write};

use super::{
    Fragment, Fragmenter,
    fragments::{Fragments, Target},
};
use crate::{
    Error, Options, Picture, Sink, Summary,
    guarded::{Guarded, write_error},
};

/// Writes a fragmented MP4 stream to `W`.
pub struct Fragmented<W> {
    sink: Guarded<Fragments<Stream<W>>>,
}

/// What has been written to `W`.
struct Stream<W> {
    writer: W,
    /// Pictures of the fragments that were written whole.
    pictures: u64,
    bytes: u64,
}

impl<W: Write + Send> Fragmented<W> {
    /// Starts a stream and writes its header.
    ///
    /// # Errors
    ///
    /// Those of [`Fragmenter::new`], or [`Error::Write`] if the header cannot be written.
    pub fn new(writer: W, options: &Options) -> Result<Self, Error> {
        let fragmenter = Fragmenter::new(options)?;
        let mut stream = Stream { writer, pictures: 0, bytes: 0 };
        let written = stream.append(fragmenter.header());
        written.map_err(|reason| write_error(&stream.summary(), reason))?;
        Ok(Self { sink: Guarded::new(Fragments::new(fragmenter, stream)) })
    }

    /// Gives the writer back; pictures after the last chunk's end are dropped.
    pub fn into_writer(self) -> W {
        self.sink.into_output().into_target().writer
    }
}

impl<W: Write + Send> Sink for Fragmented<W> {
    fn push(&mut self, picture: &Picture<'_>) -> Result<(), Error> {
        self.sink.push(picture)
    }

    fn end_chunk(&mut self) -> Result<(), Error> {
        self.sink.end_chunk()
    }

    fn finish(self: Box<Self>) -> Result<Summary, Error> {
        Box::new(self.sink).finish()
    }
}

impl<W: Write> Stream<W> {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.writer.write_all(bytes)?;
        self.writer.flush()?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }
}

impl<W: Write + Send> Target for Stream<W> {
    fn write(&mut self, fragment: &Fragment) -> io::Result<()> {
        self.append(&fragment.bytes)?;
        self.pictures += fragment.unit_bytes.len() as u64;
        Ok(())
    }

    fn complete(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn summary(&self) -> Summary {
        let (pictures, bytes) = (self.pictures, self.bytes);
        Summary { pictures, bytes, path: None, kept_fragmented: None }
    }
}
