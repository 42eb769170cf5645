//! A finished video's pictures, decoded again from the log, as PNG files.

use api::Picture;
use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream};
use plan::memory::Size;
use tokio::sync::mpsc;

/// Pictures of a video on their way, chunk by chunk.
#[derive(Debug)]
pub(crate) struct Viewing {
    pub(crate) size: Size,
    /// Pictures of the whole video.
    pub(crate) pictures: u64,
    /// RGB8 of a chunk's pictures, one after the other.
    pub(crate) chunks: mpsc::Receiver<Result<Bytes, String>>,
}

/// The pictures as `000001.png`, `000002.png` and so on.
pub(crate) fn named(
    chunks: mpsc::Receiver<Result<Bytes, String>>,
    size: Size,
    pictures: u64,
) -> impl Stream<Item = std::io::Result<Picture>> + Send {
    let chunks = stream::unfold(chunks, |mut chunks| async move {
        let chunk = chunks.recv().await?;
        Some((chunk, chunks))
    });
    let wanted = usize::try_from(pictures).unwrap_or(usize::MAX);
    let of_chunk = move |chunk: Result<Bytes, String>| {
        let bytes = (size.width * size.height * 3).max(1);
        let pictures: Vec<std::io::Result<Bytes>> = match chunk {
            Ok(rgb) => (0..rgb.len() / bytes)
                .map(|index| Ok(rgb.slice(index * bytes..(index + 1) * bytes)))
                .collect(),
            Err(problem) => vec![Err(std::io::Error::other(problem))],
        };
        stream::iter(pictures)
    };
    chunks.flat_map(of_chunk).take(wanted).enumerate().map(move |(index, rgb)| {
        let png = png(&rgb?, size)?;
        Ok(Picture { name: format!("{:06}.png", index + 1), png })
    })
}

fn png(rgb: &[u8], Size { width, height }: Size) -> std::io::Result<Bytes> {
    let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
    let picture = video::Picture::new(side(width), side(height), rgb);
    let png = picture.and_then(|picture| video::png(&picture));
    png.map(Bytes::from).map_err(std::io::Error::other)
}
