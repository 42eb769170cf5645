//! A folder of PNG pictures: `000001.png`, `000002.png`, ...
//!
//! Lossless, and each file is written under a part name and then renamed, so every
//! `.png` there is whole at any moment. A folder that already holds numbered pictures is
//! refused: with a shorter video, the rest of the old one would stay behind as its tail.
//! A lock file stands in the folder while a video is written, so that two processes
//! cannot mix their pictures; a number that somebody else wrote all the same ends the
//! video.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
};

use png::{BitDepth, ColorType, Compression, Encoder, SrgbRenderingIntent};

use crate::{
    Error, Format, Options, Picture, Summary,
    guarded::{Failure, Output},
    lock_file::LockFile,
    part_file::PartFile,
};

/// Longest side of a PNG picture in pixels (PNG specification, 11.2.1).
const SIDE_MAX: u32 = 0x7fff_ffff;

/// Name of the lock file.
const LOCK_NAME: &str = ".filmloom-lock";

/// A folder that takes the pictures of one video as PNG files, each whole at once.
///
/// For pictures that are encoded already, such as those that a server sends; what
/// [`create`](crate::create) gives for a folder writes through it too.
///
/// ```
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let outer = tempfile::tempdir()?;
/// # let path = outer.path().join("pictures");
/// let picture = video::Picture::new(2, 1, &[0; 6])?;
/// let mut folder = video::PngFolder::create(&path)?;
/// folder.push(&video::png(&picture)?)?;
/// # assert!(path.join("000001.png").is_file());
/// # Ok(())
/// # }
/// ```
///
/// Dropped without a picture, it leaves nothing behind.
pub struct PngFolder {
    path: PathBuf,
    pictures: u64,
    bytes: u64,
    // Fields are dropped in this order: a folder with a lock file is not empty.
    _lock: LockFile,
    _made: MadeFolders,
}

/// Encodes every picture into a file of its own.
pub(crate) struct Folder {
    folder: PngFolder,
    options: Options,
}

/// Folders made for a video, innermost first; removed again if nothing is put there.
struct MadeFolders(Vec<PathBuf>);

impl PngFolder {
    /// Opens a folder for a video, making it if need be.
    ///
    /// # Errors
    ///
    /// [`Error::Open`] if it cannot be made or written, [`Error::Busy`] if another
    /// process writes a video there, [`Error::FolderInUse`] if it holds numbered pictures.
    pub fn create(path: &Path) -> Result<Self, Error> {
        let open_error = |reason| Error::open(path, reason);
        let made = MadeFolders::missing(path);
        fs::create_dir_all(path).map_err(open_error)?;
        let lock = LockFile::open(path.join(LOCK_NAME)).map_err(open_error)?;
        check_empty(path)?;
        Ok(Self { path: path.into(), pictures: 0, bytes: 0, _lock: lock, _made: made })
    }

    /// Adds the picture that follows, the bytes of a PNG file.
    ///
    /// # Errors
    ///
    /// What the operating system says; [`io::ErrorKind::AlreadyExists`] if somebody else
    /// took the name. The pictures before it are whole.
    pub fn push(&mut self, png: &[u8]) -> io::Result<()> {
        let name = self.next_name();
        let path = self.path.join(&name);
        if path.symlink_metadata().is_ok() {
            let message = format!("something else has put a {name} there");
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        let mut file = PartFile::open(&path)?;
        file.append(png)?;
        file.publish()?;
        self.pictures += 1;
        self.bytes += png.len() as u64;
        Ok(())
    }

    /// Name of the picture that follows: `000001.png` at first.
    pub fn next_name(&self) -> String {
        format!("{:06}.png", self.pictures + 1)
    }

    /// Pictures that are there.
    pub fn pictures(&self) -> u64 {
        self.pictures
    }
}

impl Folder {
    /// Opens a folder for a video of this size, making it if need be.
    pub(crate) fn create(path: &Path, options: &Options) -> Result<Self, Error> {
        let &Options { width, height, .. } = options;
        let fits = [width, height].iter().all(|side| (1..=SIDE_MAX).contains(side));
        options.check_size(Format::PngFolder, fits, "1 to 2147483647 pixels a side")?;
        Ok(Self { folder: PngFolder::create(path)?, options: *options })
    }
}

impl Output for Folder {
    fn options(&self) -> &Options {
        &self.options
    }

    fn push(&mut self, picture: &Picture<'_>) -> Result<(), Failure> {
        Ok(self.folder.push(&png(picture)?)?)
    }

    fn summary(&self) -> Summary {
        let PngFolder { path, pictures, bytes, .. } = &self.folder;
        let path = Some(path.clone());
        Summary { pictures: *pictures, bytes: *bytes, path, kept_fragmented: None }
    }
}

impl MadeFolders {
    /// The folders that making `path` will make.
    fn missing(path: &Path) -> Self {
        let missing = path.ancestors().take_while(|folder| !folder.exists());
        Self(missing.filter(|folder| *folder != Path::new("")).map(Into::into).collect())
    }
}

impl Drop for MadeFolders {
    fn drop(&mut self) {
        // Only empty folders can be removed this way, so nobody's files are at risk.
        self.0.iter().for_each(|folder| drop(fs::remove_dir(folder)));
    }
}

/// Refuses a folder with numbered pictures.
fn check_empty(path: &Path) -> Result<(), Error> {
    let open_error = |reason| Error::open(path, reason);
    for entry in fs::read_dir(path).map_err(open_error)? {
        let name = entry.map_err(open_error)?.file_name();
        if is_numbered(&name) {
            let picture = name.to_string_lossy().into_owned();
            return Err(Error::FolderInUse { path: path.into(), picture });
        }
    }
    Ok(())
}

/// `000001.png` and the like.
fn is_numbered(name: &OsString) -> bool {
    let name = name.to_string_lossy();
    let digits = name.strip_suffix(".png").unwrap_or_default();
    6 <= digits.len() && digits.bytes().all(|byte| byte.is_ascii_digit())
}

/// A picture as a PNG file, the same bytes that a folder of pictures has.
///
/// # Errors
///
/// [`Error::Encoder`] if it cannot be encoded.
pub fn png(picture: &Picture<'_>) -> Result<Vec<u8>, Error> {
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
        test_support::{OPTIONS, animation, picture, push_chunks},
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

    #[test]
    fn folder_of_one_video_is_refused_to_another_and_is_gone_if_nothing_came() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("new/pictures");
        let folder = PngFolder::create(&path).unwrap();

        let second = PngFolder::create(&path).err().unwrap();

        assert!(matches!(second, Error::Busy { .. }), "{second}");
        assert_eq!((folder.next_name().as_str(), folder.pictures()), ("000001.png", 0));
        drop(folder);
        assert_eq!(outer.path().read_dir().unwrap().count(), 0);
    }

    #[test]
    fn number_that_somebody_else_wrote_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pictures/");
        let pictures = animation(3);
        let mut sink = create(&path, &OPTIONS).unwrap();
        sink.push(&picture(&pictures[0])).unwrap();
        fs::write(path.join("000002.png"), "somebody else's").unwrap();

        let error = sink.push(&picture(&pictures[1])).unwrap_err();

        assert!(matches!(error, Error::Write { pictures_safe: 1, .. }), "{error}");
        assert!(error.to_string().contains("000002.png"), "{error}");
        assert!(matches!(sink.push(&picture(&pictures[2])), Err(Error::Closed)));
        assert_eq!(sink.finish().unwrap().pictures, 1);
        assert_eq!(fs::read(path.join("000002.png")).unwrap(), b"somebody else's");
        assert_eq!(path.read_dir().unwrap().count(), 2);
    }

    #[test]
    fn refused_folder_leaves_no_outer_folder_behind() {
        let folder = tempfile::tempdir().unwrap();
        let too_long = "n".repeat(300);

        let error = create(&folder.path().join("outer").join(too_long).join(""), &OPTIONS);

        assert!(matches!(error, Err(Error::Open { .. })));
        assert_eq!(folder.path().read_dir().unwrap().count(), 0);
    }
}
