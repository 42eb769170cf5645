//! Pictures as a tar archive, written while it is sent.
//!
//! ```text
//! header 512 | PNG bytes | zeros up to 512 | header ... | 1024 zeros
//! ```
//!
//! The format is POSIX ustar: plain files of mode 0644 without owner or time, so
//! the same pictures give the same archive. Nothing is held but the picture in
//! hand; the length of the archive is not known before its end.
//!
//! Source: POSIX.1-2017, pax, "ustar Interchange Format".

use std::{io, iter};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};

use crate::service::{Picture, Pictures};

const BLOCK_BYTES: usize = 512;
/// Longest name of a file.
const NAME_BYTES_MAX: usize = 100;
/// Largest file: eleven octal digits.
const FILE_BYTES_MAX: u64 = 0o777_7777_7777;
static ZEROS: [u8; 2 * BLOCK_BYTES] = [0; 2 * BLOCK_BYTES];

/// A file that does not fit the format. Give it a shorter name, or fewer bytes.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("the name {0:?} is not 1 to {NAME_BYTES_MAX} bytes of printable ASCII")]
    Name(String),
    #[error("a file of {0} bytes is larger than {FILE_BYTES_MAX}")]
    Size(u64),
}

/// The archive of these pictures, in their order.
pub(crate) fn archive(pictures: Pictures) -> impl Stream<Item = io::Result<Bytes>> {
    let entries = pictures.flat_map(|picture| {
        let parts = picture.and_then(|picture| entry(picture).map_err(io::Error::other));
        let (parts, error) = match parts {
            Ok(parts) => (Some(parts), None),
            Err(error) => (None, Some(Err(error))),
        };
        stream::iter(parts.into_iter().flatten().map(Ok).chain(error))
    });
    entries.chain(stream::iter(iter::once(Ok(Bytes::from_static(&ZEROS)))))
}

/// Header, bytes and padding of a file; no part is empty.
fn entry(Picture { name, png }: Picture) -> Result<impl Iterator<Item = Bytes>, Error> {
    let header = Bytes::copy_from_slice(&header(&name, png.len() as u64)?);
    let padding = Bytes::from_static(&ZEROS[..png.len().wrapping_neg() % BLOCK_BYTES]);
    Ok([header, png, padding].into_iter().filter(|part| !part.is_empty()))
}

/// The header of a plain file.
fn header(name: &str, bytes: u64) -> Result<[u8; BLOCK_BYTES], Error> {
    let is_plain = name.bytes().all(|byte| byte.is_ascii_graphic());
    if name.is_empty() || NAME_BYTES_MAX < name.len() || !is_plain {
        return Err(Error::Name(name.to_owned()));
    }
    if FILE_BYTES_MAX < bytes {
        return Err(Error::Size(bytes));
    }
    let mut header = [0; BLOCK_BYTES];
    let mut put = |at: usize, text: &str| {
        header[at..at + text.len()].copy_from_slice(text.as_bytes());
    };
    put(0, name);
    put(100, "0000644\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{bytes:011o}\0"));
    put(136, "00000000000\0");
    // The sum is taken with blanks in its own place.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(header)
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;
    use proptest::{collection::vec, prelude::*};

    use super::*;

    #[test]
    fn names_and_sizes_that_do_not_fit_are_refused() {
        let longest = "n".repeat(NAME_BYTES_MAX);
        assert!(header(&longest, FILE_BYTES_MAX).is_ok());

        for name in ["", "two words", "über.png", &format!("{longest}n")] {
            assert_eq!(header(name, 0), Err(Error::Name(name.to_owned())));
        }
        assert_eq!(header("n", FILE_BYTES_MAX + 1), Err(Error::Size(FILE_BYTES_MAX + 1)));
    }

    #[tokio::test]
    async fn an_error_stands_where_its_picture_would() {
        let lost = || Err(io::Error::other("lost"));
        let pictures = stream::iter([Ok(picture("1", b"png")), lost()]).boxed();

        let parts: Vec<_> = archive(pictures).take(4).collect().await;

        let is_ok: Vec<bool> = parts.iter().map(Result::is_ok).collect();
        assert_eq!(is_ok, [true, true, true, false]);
    }

    #[tokio::test]
    async fn files_of_whole_blocks_have_no_padding() {
        let files: Vec<(String, Vec<u8>)> = [0, 1, 511, 512, 513, 1024, 3]
            .map(|bytes| (format!("{bytes}.png"), vec![7; bytes]))
            .into();

        assert_eq!(read(&written(&files).await), files);
    }

    proptest! {
        #[test]
        fn a_reader_finds_the_same_files(
            files in vec(("[!-~]{1,100}", vec(any::<u8>(), 0..1500)), 0..5),
        ) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            prop_assert_eq!(read(&runtime.block_on(written(&files))), files);
        }
    }

    /// The archive of these files, none of whose parts is empty.
    async fn written(files: &[(String, Vec<u8>)]) -> Vec<u8> {
        let pictures: Vec<_> = files.iter().map(|(name, png)| Ok(picture(name, png))).collect();
        let archive = archive(stream::iter(pictures).boxed());
        let parts: Vec<Bytes> = archive.try_collect().await.unwrap();
        assert!(parts.iter().all(|part| !part.is_empty()));
        parts.concat()
    }

    fn picture(name: &str, png: &[u8]) -> Picture {
        Picture { name: name.to_owned(), png: Bytes::copy_from_slice(png) }
    }

    /// Reads an archive as the standard describes it.
    fn read(mut archive: &[u8]) -> Vec<(String, Vec<u8>)> {
        let mut files = Vec::new();
        loop {
            let (header, rest) = archive.split_at(BLOCK_BYTES);
            if header.iter().all(|byte| *byte == 0) {
                assert_eq!(rest, [0; BLOCK_BYTES], "two blocks of zeros end it");
                return files;
            }
            let text = |at: usize, len: usize| {
                let field = header[at..at + len].split(|byte| *byte == 0).next().unwrap();
                std::str::from_utf8(field).unwrap().to_owned()
            };
            let octal = |at, len| usize::from_str_radix(&text(at, len), 8).unwrap();
            assert_eq!((text(257, 6).as_str(), &header[263..265]), ("ustar", &b"00"[..]));
            assert_eq!((octal(100, 8), header[156]), (0o644, b'0'));
            let sum: usize = header.iter().map(|byte| usize::from(*byte)).sum();
            let own: usize = header[148..156].iter().map(|byte| usize::from(*byte)).sum();
            assert_eq!(octal(148, 8), sum - own + 8 * usize::from(b' '));
            let bytes = octal(124, 12);
            files.push((text(0, 100), rest[..bytes].to_vec()));
            let padded = bytes.next_multiple_of(BLOCK_BYTES);
            assert!(rest[bytes..padded].iter().all(|byte| *byte == 0));
            archive = &rest[padded..];
        }
    }
}
