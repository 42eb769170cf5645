//! The format, chosen by the file name.

use std::{ffi::OsStr, fmt, path::Path};

use crate::Error;

/// The names a user may give, for messages.
pub(crate) const KNOWN_NAMES: &str = ".mp4, .webp, .gif, or / for a folder of PNG pictures";

/// Kind of file or folder a video is written to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// H.264 in MP4.
    Mp4,
    /// Animated WebP, lossy.
    WebP,
    /// Animated GIF.
    Gif,
    /// One PNG file a picture in a folder.
    PngFolder,
}

impl Format {
    /// Chooses the format by the name: its extension, in any case; a trailing `/` or an
    /// existing folder means PNG.
    ///
    /// # Errors
    ///
    /// [`Error::UnknownFormat`], which lists the known names.
    pub fn from_path(path: &Path) -> Result<Self, Error> {
        if ends_in_separator(path) || path.is_dir() {
            return Ok(Self::PngFolder);
        }
        let extension = path.extension().and_then(OsStr::to_str).map(str::to_ascii_lowercase);
        match extension.as_deref() {
            Some("mp4") => Ok(Self::Mp4),
            Some("webp") => Ok(Self::WebP),
            Some("gif") => Ok(Self::Gif),
            _ => Err(Error::UnknownFormat { path: path.into() }),
        }
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mp4 => "H.264 (.mp4)",
            Self::WebP => "WebP (.webp)",
            Self::Gif => "GIF (.gif)",
            Self::PngFolder => "PNG (folder)",
        })
    }
}

/// Whether the path's last letter says that it is a folder.
pub(crate) fn ends_in_separator(path: &Path) -> bool {
    path.as_os_str().to_string_lossy().chars().last().is_some_and(std::path::is_separator)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn extension_chooses_the_format_in_any_case() {
        let format = |name: &str| Format::from_path(Path::new(name)).unwrap();

        assert_eq!(format("a/ball.mp4"), Format::Mp4);
        assert_eq!(format("BALL.MP4"), Format::Mp4);
        assert_eq!(format("ball.webp"), Format::WebP);
        assert_eq!(format("ball.v2.gif"), Format::Gif);
    }

    #[test]
    fn trailing_slash_or_existing_folder_means_png() {
        let folder = tempfile::tempdir().unwrap();
        let named_like_a_file = folder.path().join("x.mp4");
        std::fs::create_dir(&named_like_a_file).unwrap();

        assert_eq!(Format::from_path(Path::new("pictures/")).unwrap(), Format::PngFolder);
        assert_eq!(Format::from_path(folder.path()).unwrap(), Format::PngFolder);
        assert_eq!(Format::from_path(&named_like_a_file).unwrap(), Format::PngFolder);
    }

    #[test]
    fn unknown_extension_is_one_line_that_lists_the_known_ones() {
        for name in ["ball.avi", "ball", "", ".mp4"] {
            let message = Format::from_path(Path::new(name)).unwrap_err().to_string();

            assert!(message.contains(".mp4, .webp, .gif"), "{message}");
            assert_eq!(message.lines().count(), 1);
        }
    }
}
