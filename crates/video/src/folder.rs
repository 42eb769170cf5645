//! A folder of PNG pictures: `000001.png`, `000002.png`, ...
//!
//! Lossless, and each file is written under a part name and then renamed, so every
//! `.png` there is whole at any moment. A folder that already holds numbered pictures is
//! refused: with a shorter video, the rest of the old one would stay behind as its tail.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use png::{BitDepth, ColorType, Compression, Encoder, SrgbRenderingIntent};

use crate::{Error, Format, Options, Picture, Sink, Summary};

/// Writes every picture to a file of its own.
pub(crate) struct Folder {
    path: PathBuf,
    options: Options,
    pictures: u64,
    bytes: u64,
    closed: bool,
    /// Folders made for this video, outermost first; removed again if no picture comes.
    made: Vec<PathBuf>,
}

impl Folder {
    /// Opens a folder for a video, making it if need be.
    pub(crate) fn create(path: &Path, options: &Options) -> Result<Self, Error> {
        let &Options { width, height, .. } = options;
        options.check_size(Format::PngFolder, 0 < width.min(height), "at least one pixel")?;
        let open_error = |reason| Error::Open { path: path.into(), reason };
        let missing = path.ancestors().take_while(|folder| !folder.exists());
        let made: Vec<PathBuf> = missing.filter(|f| *f != Path::new("")).map(Into::into).collect();
        fs::create_dir_all(path).map_err(open_error)?;
        let made = made.into_iter().rev().collect();
        let (path, options) = (path.into(), *options);
        let folder = Self { path, options, pictures: 0, bytes: 0, closed: false, made };
        folder.check_empty()?;
        let part = folder.part();
        fs::write(&part, []).and_then(|()| fs::remove_file(&part)).map_err(open_error)?;
        Ok(folder)
    }

    /// Refuses a folder with numbered pictures.
    fn check_empty(&self) -> Result<(), Error> {
        let open_error = |reason| Error::Open { path: self.path.clone(), reason };
        for entry in fs::read_dir(&self.path).map_err(open_error)? {
            let name = entry.map_err(open_error)?.file_name();
            if is_numbered(&name) {
                let picture = name.to_string_lossy().into_owned();
                return Err(Error::FolderInUse { path: self.path.clone(), picture });
            }
        }
        Ok(())
    }

    fn write(&mut self, png: &[u8]) -> io::Result<()> {
        let part = self.part();
        let written = fs::write(&part, png).and_then(|()| {
            fs::rename(&part, self.path.join(format!("{:06}.png", self.pictures + 1)))
        });
        if written.is_err() {
            // The write's own error is the one to tell.
            let _ = fs::remove_file(&part);
        }
        written
    }

    fn part(&self) -> PathBuf {
        self.path.join("picture.png.part")
    }
}

impl Sink for Folder {
    fn push(&mut self, picture: &Picture<'_>) -> Result<(), Error> {
        if self.closed {
            return Err(Error::Closed);
        }
        self.options.check_picture(picture)?;
        let png = encode(picture)?;
        self.write(&png).map_err(|reason| {
            self.closed = true;
            let target = self.path.display().to_string();
            Error::Write { target, pictures_safe: self.pictures, reason }
        })?;
        self.pictures += 1;
        self.bytes += png.len() as u64;
        Ok(())
    }

    fn end_chunk(&mut self) -> Result<(), Error> {
        if self.closed { Err(Error::Closed) } else { Ok(()) }
    }

    fn finish(self: Box<Self>) -> Result<Summary, Error> {
        let (pictures, bytes) = (self.pictures, self.bytes);
        Ok(Summary { pictures, bytes, path: Some(self.path.clone()), kept_fragmented: None })
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.pictures == 0 {
            // Only empty folders can be removed this way, so nobody's files are at risk.
            self.made.iter().rev().for_each(|folder| drop(fs::remove_dir(folder)));
        }
    }
}

/// `000001.png` and the like.
fn is_numbered(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    let digits = name.strip_suffix(".png").unwrap_or_default();
    6 <= digits.len() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

fn encode(picture: &Picture<'_>) -> Result<Vec<u8>, Error> {
    let failed = |error: png::EncodingError| Error::Encoder {
        format: Format::PngFolder,
        message: error.to_string(),
    };
    let mut bytes = Vec::new();
    let mut encoder = Encoder::new(&mut bytes, picture.width(), picture.height());
    encoder.set_color(ColorType::Rgb);
    encoder.set_depth(BitDepth::Eight);
    encoder.set_source_srgb(SrgbRenderingIntent::Perceptual);
    encoder.set_compression(Compression::Fast);
    let mut writer = encoder.write_header().map_err(failed)?;
    writer.write_image_data(picture.rgb()).map_err(failed)?;
    writer.finish().map_err(failed)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        create,
        test_support::{OPTIONS, animation, push_chunks},
    };

    #[test]
    fn every_picture_comes_back_exactly() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/pictures/");
        let pictures = animation(5);
        let mut sink = create(&path, &OPTIONS).unwrap();
        push_chunks(&mut *sink, &pictures, 2);
        let summary = sink.finish().unwrap();

        assert_eq!((summary.pictures, path.read_dir().unwrap().count()), (5, 5));
        for (index, rgb) in pictures.iter().enumerate() {
            let file = fs::File::open(path.join(format!("{:06}.png", index + 1))).unwrap();
            let mut reader = png::Decoder::new(io::BufReader::new(file)).read_info().unwrap();
            let mut found = vec![0; reader.output_buffer_size().unwrap()];
            reader.next_frame(&mut found).unwrap();
            assert!(found == *rgb, "picture {}", index + 1);
        }
    }

    #[test]
    fn folder_with_pictures_is_refused_and_kept() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("notes.txt"), "fine").unwrap();
        assert!(create(folder.path(), &OPTIONS).is_ok());
        fs::write(folder.path().join("000017.png"), "old").unwrap();

        let error = create(folder.path(), &OPTIONS).err().unwrap();

        assert!(error.to_string().contains("000017.png"), "{error}");
        assert_eq!(folder.path().read_dir().unwrap().count(), 2);
    }
}
