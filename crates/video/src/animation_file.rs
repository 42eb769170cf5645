//! A file of pictures that is playable once it is sealed: WebP, GIF.
//!
//! It grows under a part name and gets its own when it is sealed: by `finish`, or by the
//! first failed write, which gives up the picture that did not fit and keeps the others.

use std::{io, path::Path};

use crate::{
    Error, Options, Picture, Summary,
    guarded::{Failure, Output},
    part_file::PartFile,
};

/// Bytes of a format whose pictures follow one another between a start and an end.
pub(crate) trait Animation: Send {
    /// Size and rate of the video.
    fn options(&self) -> &Options;
    /// Bytes before the first picture.
    fn header(&self) -> Vec<u8>;
    /// Bytes of picture `index`.
    fn picture(&mut self, picture: &Picture<'_>, index: u64) -> Result<Vec<u8>, Error>;
    /// Largest file that the format can describe, in bytes, without its tail.
    fn bytes_max(&self) -> u64;
    /// What makes `bytes` bytes of header and pictures a complete file.
    fn seal(&self, bytes: u64) -> Seal;
}

/// The last change to an animation.
pub(crate) struct Seal {
    /// Bytes to append.
    pub(crate) tail: Vec<u8>,
    /// Offset and bytes to replace.
    pub(crate) patch: (u64, Vec<u8>),
}

/// Writes a video to a file of format `A`.
pub(crate) struct AnimationFile<A> {
    animation: A,
    file: PartFile,
    pictures: u64,
}

impl<A: Animation> AnimationFile<A> {
    /// Opens `path` for a video; an existing file stays until the video is complete.
    pub(crate) fn create(path: &Path, animation: A) -> Result<Self, Error> {
        Ok(Self { animation, file: PartFile::create(path)?, pictures: 0 })
    }

    /// Appends a picture, the first one with the header before it.
    fn append(&mut self, mut bytes: Vec<u8>) -> io::Result<()> {
        if self.pictures == 0 {
            bytes.splice(0..0, self.animation.header());
        }
        let bytes_max = self.animation.bytes_max();
        if bytes_max < self.file.bytes() + bytes.len() as u64 {
            let message = format!("the format ends at {bytes_max} bytes; use .mp4 or a PNG folder");
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
        }
        self.file.append(&bytes)?;
        self.pictures += 1;
        Ok(())
    }
}

impl<A: Animation> Output for AnimationFile<A> {
    fn options(&self) -> &Options {
        self.animation.options()
    }

    fn push(&mut self, picture: &Picture<'_>) -> Result<(), Failure> {
        let bytes = self.animation.picture(picture, self.pictures)?;
        Ok(self.append(bytes)?)
    }

    /// Seals the file and gives it its name, if it has any picture.
    fn complete(&mut self) -> io::Result<()> {
        if self.pictures == 0 {
            return Ok(());
        }
        let Seal { tail, patch: (offset, bytes) } = self.animation.seal(self.file.bytes());
        self.file.overwrite(offset, &bytes)?;
        self.file.append(&tail)?;
        self.file.sync()?;
        self.file.publish()
    }

    fn summary(&self) -> Summary {
        let playable = self.file.is_published();
        let (pictures, bytes) = if playable { (self.pictures, self.file.bytes()) } else { (0, 0) };
        let path = Some(self.file.path().into());
        Summary { pictures, bytes, path, kept_fragmented: None }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::{
        Sink,
        guarded::Guarded,
        test_support::{OPTIONS, animation, picture},
    };

    /// A format of one byte, four bytes a picture, and one byte at the end.
    struct Short {
        bytes_max: u64,
    }

    #[test]
    fn picture_that_ends_at_the_largest_size_is_kept_and_the_next_refused() {
        for (bytes_max, kept) in [(9, 2), (12, 2), (13, 3)] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("a");
            let rgb = &animation(1)[0];
            let file = AnimationFile::create(&path, Short { bytes_max }).unwrap();
            let mut sink = Box::new(Guarded::new(file));
            (0..kept).for_each(|_| sink.push(&picture(rgb)).unwrap());

            let error = sink.push(&picture(rgb)).unwrap_err();

            let Error::Write { pictures_safe, reason, .. } = error else { panic!("{error}") };
            assert_eq!((pictures_safe, reason.kind()), (kept, io::ErrorKind::FileTooLarge));
            assert!(reason.to_string().contains(&format!("{bytes_max} bytes")), "{reason}");
            let expected = ["S0000", "1111", "2222"][..usize::try_from(kept).unwrap()].concat();
            assert_eq!(fs::read_to_string(&path).unwrap(), expected + ".");
            let summary = sink.finish().unwrap();
            assert_eq!((summary.pictures, summary.bytes), (kept, 4 * kept + 2));
        }
    }

    impl Animation for Short {
        fn options(&self) -> &Options {
            &OPTIONS
        }

        fn header(&self) -> Vec<u8> {
            b"H".to_vec()
        }

        fn picture(&mut self, _picture: &Picture<'_>, index: u64) -> Result<Vec<u8>, Error> {
            Ok(index.to_string().repeat(4).into())
        }

        fn bytes_max(&self) -> u64 {
            self.bytes_max
        }

        fn seal(&self, _bytes: u64) -> Seal {
            Seal { tail: b".".to_vec(), patch: (0, b"S".to_vec()) }
        }
    }
}
