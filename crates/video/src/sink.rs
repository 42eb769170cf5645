//! The seam between whoever makes pictures and whatever keeps them.
//!
//! A caller pushes pictures in playing order, says where each chunk ends, and finishes,
//! also when it was interrupted:
//!
//! ```text
//! create -> push push push end_chunk -> push push push end_chunk -> ... -> finish
//! ```
//!
//! The end of a chunk is a promise to the viewer: what was pushed before it can be
//! played from that moment, whatever happens to the process. Dropping a sink without
//! `finish` keeps what that promise covers and removes everything else.

use std::path::{Path, PathBuf};

use crate::{
    Error, Format, Picture, animation_file::AnimationFile, folder::Folder, gif::Gif,
    guarded::Guarded, mp4::Mp4File, webp::WebP,
};

/// Takes the pictures of one video and writes them as they come.
pub trait Sink: Send {
    /// Adds the next picture.
    ///
    /// # Errors
    ///
    /// [`Error::PictureSize`] if it is not of the video's size; [`Error::Encoder`] or
    /// [`Error::Write`] if it could not be encoded or kept; [`Error::Closed`] after either.
    fn push(&mut self, picture: &Picture<'_>) -> Result<(), Error>;

    /// Ends a chunk: the next picture can be decoded without the ones before it.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] if the bytes could not be kept; [`Error::Closed`] after a failure.
    fn end_chunk(&mut self) -> Result<(), Error>;

    /// Completes the video. Without any picture, nothing is left behind.
    ///
    /// May be called after a failure: it then says what is safe.
    ///
    /// # Errors
    ///
    /// [`Error::Write`] if the video could not be completed.
    fn finish(self: Box<Self>) -> Result<Summary, Error>;
}

/// What every picture of a video has in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Picture width in pixels.
    pub width: u32,
    /// Picture height in pixels.
    pub height: u32,
    /// Pictures played in one second.
    pub pictures_per_second: u32,
}

/// What a finished sink has kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    /// Pictures that can be played.
    pub pictures: u64,
    /// Size of the file, the stream or all files of the folder, in bytes.
    pub bytes: u64,
    /// File or folder written; none for a stream.
    pub path: Option<PathBuf>,
    /// Why an MP4 file was left fragmented (complete, but slower to open over a network)
    /// instead of being rewritten for fast start.
    pub kept_fragmented: Option<String>,
}

/// Opens the sink that `path` names; see [`Format::from_path`].
///
/// # Errors
///
/// [`Error::UnknownFormat`], [`Error::Size`], [`Error::Rate`], [`Error::Open`],
/// [`Error::Busy`], [`Error::FolderInUse`], or [`Error::Encoder`] if an encoder does not
/// start; nothing has been changed then.
pub fn create(path: &Path, options: &Options) -> Result<Box<dyn Sink>, Error> {
    Ok(match Format::from_path(path)? {
        Format::Mp4 => Box::new(Guarded::new(Mp4File::create(path, options)?)),
        Format::WebP => Box::new(Guarded::new(AnimationFile::create(path, WebP::new(options)?)?)),
        Format::Gif => Box::new(Guarded::new(AnimationFile::create(path, Gif::new(options)?)?)),
        Format::PngFolder => Box::new(Guarded::new(Folder::create(path, options)?)),
    })
}

impl Options {
    /// Refuses a rate outside `1..=rate_max`.
    pub(crate) fn check_rate(&self, format: Format, rate_max: u32) -> Result<(), Error> {
        let pictures_per_second = self.pictures_per_second;
        if (1..=rate_max).contains(&pictures_per_second) {
            Ok(())
        } else {
            Err(Error::Rate { format, pictures_per_second, rate_max })
        }
    }

    /// Refuses the size with the sentence `needs` unless it `fits`.
    pub(crate) fn check_size(
        &self,
        format: Format,
        fits: bool,
        needs: &'static str,
    ) -> Result<(), Error> {
        let &Self { width, height, .. } = self;
        if fits { Ok(()) } else { Err(Error::Size { format, width, height, needs }) }
    }

    /// Refuses a picture of another size.
    pub(crate) fn check_picture(&self, picture: &Picture<'_>) -> Result<(), Error> {
        let expected = (self.width, self.height);
        let found = (picture.width(), picture.height());
        if expected == found { Ok(()) } else { Err(Error::PictureSize { expected, found }) }
    }

    /// Ticks that picture `index` is shown, for formats whose clock does not divide the
    /// rate: the rounding error never adds up over the video.
    pub(crate) fn shown_ticks(&self, index: u64, ticks_per_second: u64) -> u64 {
        let rate = u64::from(self.pictures_per_second);
        let start = |i: u64| (i * ticks_per_second + rate / 2) / rate;
        start(index + 1) - start(index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::{OPTIONS, animation, push_chunks};

    #[test]
    fn rounded_ticks_add_up_to_the_exact_length() {
        let ticks: u64 = (0..960).map(|i| OPTIONS.shown_ticks(i, 100)).sum();

        assert_eq!(ticks, 60 * 100);
        assert!((0..960).all(|i| (6..=7).contains(&OPTIONS.shown_ticks(i, 100))));
    }

    #[test]
    fn every_format_refuses_a_picture_of_another_size() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.mp4", "a.webp", "a.gif", "a/"] {
            let mut sink = create(&folder.path().join(name), &OPTIONS).unwrap();
            let picture = Picture::new(16, 16, &[0; 768]).unwrap();

            let error = sink.push(&picture).unwrap_err();

            assert!(matches!(error, Error::PictureSize { .. }), "{name}: {error}");
        }
    }

    #[test]
    fn every_format_refuses_impossible_sizes_and_rates_before_it_changes_anything() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.mp4", "a.webp", "a.gif", "a/"] {
            let path = folder.path().join(name);
            for (width, height) in [(0, 48), (64, 0), (1 << 31, 2), (2, u32::MAX)] {
                let error = create(&path, &Options { width, height, ..OPTIONS }).err().unwrap();
                assert!(matches!(error, Error::Size { .. }), "{name}: {error}");
            }
            for pictures_per_second in [0, 61] {
                let options = Options { pictures_per_second, ..OPTIONS };
                let refused = matches!(create(&path, &options), Err(Error::Rate { .. }));
                assert_eq!(refused, name != "a/", "{name}: PNG pictures have no rate");
            }
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn every_format_leaves_nothing_behind_without_a_picture() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.mp4", "a.webp", "a.gif", "a/"] {
            let finished = create(&folder.path().join(name), &OPTIONS).unwrap();
            assert_eq!(finished.finish().unwrap().pictures, 0, "{name}");
            drop(create(&folder.path().join(name), &OPTIONS).unwrap());

            assert_eq!(folder.path().read_dir().unwrap().count(), 0, "{name}");
        }
    }

    #[test]
    fn unwritable_places_are_found_before_the_first_picture() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("file"), "in the way").unwrap();
        for name in ["a.mp4", "a.webp", "a.gif"] {
            let missing = folder.path().join("no/such/folder").join(name);
            let through_a_file = folder.path().join("file").join(name);
            for path in [missing, through_a_file] {
                let error = create(&path, &OPTIONS).err().unwrap();
                assert!(matches!(error, Error::Open { .. }), "{name}: {error}");
                assert!(error.to_string().contains(name), "{error}");
            }
        }
        let error = create(&folder.path().join("file/pictures/"), &OPTIONS).err().unwrap();
        assert!(matches!(error, Error::Open { .. }), "{error}");
    }

    #[test]
    fn a_second_writer_of_the_same_name_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.mp4", "a.webp", "a.gif", "a/"] {
            let path = folder.path().join(name);
            let mut first = create(&path, &OPTIONS).unwrap();

            let before_data = create(&path, &OPTIONS).err().unwrap();
            push_chunks(&mut *first, &animation(3), 3);
            let after_data = create(&path, &OPTIONS).err().unwrap();

            assert!(matches!(before_data, Error::Busy { .. }), "{name}: {before_data}");
            assert!(matches!(after_data, Error::Busy { .. }), "{name}: {after_data}");
        }
    }

    #[test]
    fn equal_pictures_give_equal_bytes() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["mp4", "webp", "gif"] {
            let bytes = ["one", "two"].map(|stem| {
                let path = folder.path().join(stem).with_extension(name);
                let mut sink = create(&path, &OPTIONS).unwrap();
                push_chunks(&mut *sink, &animation(7), 3);
                sink.finish().unwrap();
                std::fs::read(path).unwrap()
            });

            assert!(bytes[0] == bytes[1], "{name}");
        }
    }
}
