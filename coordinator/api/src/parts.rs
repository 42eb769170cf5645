//! Files as streams of small parts.
//!
//! A part is read when the client has taken the one before it, so an answer
//! holds one part in memory however long the file and however slow the client.

use std::{io, ops::Range, path::Path};

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use tokio::{fs::File, io::AsyncReadExt};

use crate::refusal::Refusal;

/// Largest part. Chosen: some pictures of video, and far below a socket's buffers.
pub(crate) const PART_BYTES_MAX: usize = 64 * 1024;

/// Opens a file of the service's, and tells its length.
pub(crate) async fn open(path: &Path) -> Result<(File, u64), Refusal> {
    let failed = |error: io::Error| Refusal::Internal {
        detail: format!("open {}: {error}", path.display()),
    };
    let mut file = File::open(path).await.map_err(failed)?;
    file.set_max_buf_size(PART_BYTES_MAX);
    let bytes = file.metadata().await.map_err(failed)?.len();
    Ok((file, bytes))
}

/// The parts of a file from where it stands, `range.start`, to `range.end`.
pub(crate) fn parts(file: File, range: Range<u64>) -> impl Stream<Item = io::Result<Bytes>> {
    stream::try_unfold((file, range), |(mut file, mut range)| async move {
        if range.is_empty() {
            return Ok(None);
        }
        let part = part(&mut file, range.end - range.start).await?;
        range.start += part.len() as u64;
        Ok(Some((part, (file, range))))
    })
}

/// The next bytes of a file that has `bytes_left` more: at least one, at most
/// a part's. A file that is shorter than that is an error, never a silent end.
pub(crate) async fn part(file: &mut File, bytes_left: u64) -> io::Result<Bytes> {
    let bytes = usize::try_from(bytes_left).unwrap_or(usize::MAX).min(PART_BYTES_MAX);
    let mut part = BytesMut::with_capacity(bytes);
    if file.take(bytes as u64).read_buf(&mut part).await? == 0 {
        let problem = format!("a file ended {bytes_left} bytes before it should");
        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, problem));
    }
    Ok(part.freeze())
}

#[cfg(test)]
mod tests {
    use futures_util::TryStreamExt;
    use tokio::io::AsyncSeekExt;

    use super::*;

    #[tokio::test]
    async fn parts_are_bounded_and_make_up_the_range() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("film");
        let film: Vec<u8> = (0..200_000_u32).map(|index| index.to_le_bytes()[0]).collect();
        std::fs::write(&path, &film).unwrap();

        for range in [0..200_000, 7..8, 100..65_636, 199_999..200_000, 5..5] {
            let (mut file, bytes) = open(&path).await.unwrap();
            assert_eq!(bytes, 200_000);
            file.seek(io::SeekFrom::Start(range.start)).await.unwrap();
            let read: Vec<Bytes> = parts(file, range.clone()).try_collect().await.unwrap();
            assert!(read.iter().all(|part| part.len() <= PART_BYTES_MAX));
            let (start, end) =
                (usize::try_from(range.start).unwrap(), usize::try_from(range.end).unwrap());
            assert_eq!(read.concat(), film[start..end]);
        }
    }

    #[tokio::test]
    async fn a_file_that_is_too_short_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("film");
        std::fs::write(&path, b"cut").unwrap();
        let (file, _) = open(&path).await.unwrap();

        let read: io::Result<Vec<Bytes>> = parts(file, 0..4).try_collect().await;

        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[tokio::test]
    async fn a_missing_file_is_a_fault_of_ours() {
        let missing = open(Path::new("/nowhere/film")).await;
        assert!(matches!(missing, Err(Refusal::Internal { .. })));
    }
}
