//! Where a video of a server is kept on this machine.
//!
//! Opened before the server is asked for anything, so that what cannot be written is
//! said before anything is made. A file appears at its name when it is whole; of a
//! folder every picture does.

use std::{
    io::{self, Read},
    path::Path,
    time::{Duration, Instant},
};

use video::{Format, PartFile, PngFolder};

use super::making::{Making, Patience};
use crate::failure::Failure;

/// Bytes of a picture in an archive, at most.
const PICTURE_BYTES_MAX: u64 = 256 << 20;
/// How long the next bytes may take to come: a pool may decode a chunk for them.
const SILENCE_MAX: Duration = Duration::from_secs(600);

/// A file or a folder that waits for its video.
pub(super) enum Output {
    Movie(PartFile),
    Pictures(PngFolder),
}

impl Output {
    /// Opens what `path` names, and claims it.
    ///
    /// # Errors
    ///
    /// [`Failure::Input`] if it cannot be written, is in use, or is of a format that no
    /// server gives.
    pub(super) fn create(path: &Path) -> Result<Self, Failure> {
        match Format::from_path(path)? {
            Format::Mp4 => Ok(Self::Movie(PartFile::create(path)?)),
            Format::PngFolder => Ok(Self::Pictures(PngFolder::create(path)?)),
            Format::Gif | Format::WebP => Err(Failure::Input(
                "a server gives .mp4, or pictures into a folder whose name ends in /".to_owned(),
            )),
        }
    }

    /// What of a video on the server belongs here.
    pub(super) fn content(&self) -> &'static str {
        match self {
            Self::Movie(_) => "/content",
            Self::Pictures(_) => "/content?variant=pictures",
        }
    }

    /// Pictures that are here already.
    pub(super) fn pictures(&self) -> u64 {
        match self {
            Self::Movie(_) => 0,
            Self::Pictures(folder) => folder.pictures(),
        }
    }

    /// Brings a finished video of this many pictures here.
    ///
    /// # Errors
    ///
    /// [`Failure`] if the server or the disk fails, or the user asked to stop.
    pub(super) fn keep(&mut self, making: &Making<'_>, pictures: u64) -> Result<(), Failure> {
        let mut patience = Patience::new(Instant::now());
        let content = making.open(self.content(), SILENCE_MAX, &mut patience)?;
        let kept = match self {
            Self::Movie(file) => keep_movie(content, file),
            Self::Pictures(folder) => keep_pictures(content, folder, pictures),
        };
        kept.map_err(|failure| match (making.interrupt.asked(), self.pictures()) {
            (false, _) => failure.with(&making.advice()),
            (true, 0) => Failure::Interrupted("nothing was written".to_owned()),
            (true, kept) => {
                let message = format!("the first {kept} of {pictures} pictures were written");
                Failure::Interrupted(message)
            }
        })
    }
}

fn keep_movie(mut content: impl Read, file: &mut PartFile) -> Result<(), Failure> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        let count = content.read(&mut buffer).map_err(broken_off)?;
        if count == 0 {
            break;
        }
        file.append(&buffer[..count]).map_err(|error| unwritten(file.path(), &error))?;
    }
    let finished = file.sync().and_then(|()| file.publish());
    finished.map_err(|error| unwritten(file.path(), &error))
}

/// Keeps the pictures of an archive. Its names are the folder's own, in their order, and
/// its files are plain ones.
fn keep_pictures(archive: impl Read, folder: &mut PngFolder, pictures: u64) -> Result<(), Failure> {
    let strange = |problem: String| Failure::Machine(format!("the server's archive {problem}"));
    // Extended headers, which would be read at any length, are refused like other entries.
    let mut archive = tar::Archive::new(archive);
    for entry in archive.entries().map_err(broken_off)?.raw(true) {
        let entry = entry.map_err(broken_off)?;
        let (name, path) = (folder.next_name(), entry.path_bytes().into_owned());
        if path != name.as_bytes() || !entry.header().entry_type().is_file() {
            let path = String::from_utf8_lossy(&path);
            return Err(strange(format!("has {path} in the place of {name}")));
        }
        let bytes = entry.size();
        if PICTURE_BYTES_MAX < bytes {
            let most = PICTURE_BYTES_MAX;
            return Err(strange(format!("has a {name} of {bytes} bytes; at most {most} are kept")));
        }
        let mut png = Vec::new();
        entry.take(bytes).read_to_end(&mut png).map_err(broken_off)?;
        if (png.len() as u64) < bytes {
            return Err(strange(format!("ends within {name}")));
        }
        folder.push(&png).map_err(|error| unwritten(Path::new(&name), &error))?;
    }
    match folder.pictures() {
        count if count == pictures => Ok(()),
        count => Err(strange(format!("has {count} of {pictures} pictures"))),
    }
}

fn broken_off(error: io::Error) -> Failure {
    Failure::Machine(format!("the server broke off: {error}"))
}

fn unwritten(path: &Path, error: &io::Error) -> Failure {
    Failure::Machine(format!("cannot write {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use fuzz::mutate::{Mutator, Shape};

    use super::*;

    fn header(name: &str, bytes: u64) -> tar::Header {
        let mut header = tar::Header::new_ustar();
        header.set_path(name).unwrap();
        header.set_size(bytes);
        header.set_cksum();
        header
    }

    fn archive(files: &[(&str, &str)]) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (name, text) in files {
            archive.append(&header(name, text.len() as u64), text.as_bytes()).unwrap();
        }
        archive.into_inner().unwrap()
    }

    /// Keeps an archive in a new folder; gives how it ended and what is there.
    fn kept(archive: &[u8], pictures: u64) -> (Result<(), Failure>, Vec<String>) {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("pictures");
        let mut folder = PngFolder::create(&path).unwrap();
        let ended = keep_pictures(archive, &mut folder, pictures);
        drop(folder);
        let files = fs::read_dir(path).into_iter().flatten();
        let mut names: Vec<_> =
            files.map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        (ended, names)
    }

    #[test]
    fn pictures_are_kept_in_their_order() {
        let archive = archive(&[("000001.png", "a"), ("000002.png", "b")]);

        let (ended, names) = kept(&archive, 2);

        assert!(ended.is_ok() && names == ["000001.png", "000002.png"], "{ended:?} {names:?}");
    }

    #[test]
    fn entry_that_is_not_the_next_picture_is_refused_and_what_came_before_it_stays() {
        for (name, expected) in [("000003.png", "000003.png"), ("notes.txt", "notes.txt")] {
            let (ended, names) = kept(&archive(&[("000001.png", "a"), (name, "b")]), 2);

            let line = ended.unwrap_err().line();
            assert!(line.contains(expected) && line.contains("in the place of 000002.png"));
            assert_eq!(names, ["000001.png"]);
        }
    }

    #[test]
    fn no_damaged_archive_writes_another_file_than_the_next_picture() {
        let seeds = [archive(&[("000001.png", "a"), ("000002.png", "b")])];
        let (mut mutator, mut whole) = (Mutator::new(1), 0);
        for _ in 0..300 {
            let archive = mutator.case(Shape::Bytes, &seeds, 1 << 16);

            let (ended, names) = kept(&archive, 2);

            whole += u32::from(ended.is_ok());
            for (number, name) in (1..).zip(&names) {
                assert_eq!(*name, format!("{number:06}.png"));
            }
        }
        assert!(whole < 300, "no damage is noticed");
    }

    #[test]
    fn archive_that_ends_early_or_is_too_large_is_a_failure() {
        let whole = archive(&[("000001.png", "a"), ("000002.png", "b")]);
        let large = header("000001.png", PICTURE_BYTES_MAX + 1);
        for (archive, expected) in [
            (&whole[..512], "ends within 000001.png"),
            (&whole[..1024], "has 1 of 2 pictures"),
            (&large.as_bytes()[..], "bytes; at most"),
        ] {
            let line = kept(archive, 2).0.unwrap_err().line();

            assert!(line.contains(expected), "{line}");
        }
    }

    #[test]
    fn file_or_folder_that_cannot_be_written_is_refused_at_once() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("000001.png"), "old").unwrap();
        for (name, expected) in [
            ("", "already holds 000001.png"),
            ("none/a.mp4", "none/a.mp4"),
            ("a.gif", "a server gives .mp4"),
        ] {
            let failure = Output::create(&folder.path().join(name)).err().unwrap();

            assert!(failure.line().contains(expected), "{name}: {failure}");
            assert_eq!(failure.exit_code(), 2);
        }
    }
}
