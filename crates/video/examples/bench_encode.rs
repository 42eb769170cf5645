//! What writing a video costs: time, bytes and loss, per format and picture size.
//!
//! ```text
//! cargo run --release -p filmloom-video --example bench_encode
//! ```
//!
//! The pictures are drawn before the clock starts; every format writes the same ones to
//! a temporary folder, in chunks of 12. `luma dB` is the signal-to-noise ratio of H.264's
//! luma, decoded again, against the picture's; the other formats' loss is tested to
//! bounds in their unit tests.
#![expect(clippy::print_stdout, reason = "the table is the program's purpose")]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

#[path = "../tests/support/animation.rs"]
mod animation;

use std::{error::Error, path::Path, time::Instant};

use openh264::{decoder::Decoder, formats::YUVSource};
use video::{Fragmenter, Options, Picture, create};

const CHUNK_PICTURES: usize = 12;
const PICTURES_PER_SECOND: u32 = 16;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    println!("     size  format  ms/picture  (fastest chunk)       bytes/s  luma dB");
    for (width, height, pictures) in [(128, 128, 480), (832, 480, 96)] {
        let options = Options { width, height, pictures_per_second: PICTURES_PER_SECOND };
        let drawn: Vec<Vec<u8>> =
            (0..pictures).map(|index| animation::draw(width, height, index)).collect();
        for format in ["mp4", "webp", "gif", "png"] {
            let name =
                if format == "png" { format!("{width}/") } else { format!("{width}.{format}") };
            let Cost { ms, fastest_ms, bytes } =
                write(&folder.path().join(name), &options, &drawn)?;
            let size = format!("{width}x{height}");
            print!("{size:>9}  {format:>6}  {ms:>10.3}  {fastest_ms:>15.3}  {bytes:>12.0}");
            match format {
                "mp4" => println!("  {:>7.1}", luma_db(&options, &drawn)?),
                _ => println!("        -"),
            }
        }
    }
    Ok(())
}

/// What a video took.
struct Cost {
    /// Milliseconds a picture, opening and finishing included.
    ms: f64,
    /// Milliseconds a picture in the fastest chunk: what an idle machine would take.
    fastest_ms: f64,
    /// Bytes a second of video.
    bytes: f64,
}

fn write(path: &Path, options: &Options, drawn: &[Vec<u8>]) -> Result<Cost, video::Error> {
    let start = Instant::now();
    let mut sink = create(path, options)?;
    let mut fastest_ms = f64::INFINITY;
    for chunk in drawn.chunks(CHUNK_PICTURES) {
        let chunk_start = Instant::now();
        for rgb in chunk {
            sink.push(&Picture::new(options.width, options.height, rgb)?)?;
        }
        sink.end_chunk()?;
        fastest_ms = fastest_ms.min(ms_since(chunk_start) / chunk.len() as f64);
    }
    let bytes = sink.finish()?.bytes as f64;
    let pictures = drawn.len() as f64;
    let ms = ms_since(start) / pictures;
    Ok(Cost { ms, fastest_ms, bytes: bytes / pictures * f64::from(options.pictures_per_second) })
}

fn ms_since(start: Instant) -> f64 {
    start.elapsed().as_secs_f64() * 1e3
}

/// Loss of the decoded luma over all pictures, in dB.
fn luma_db(options: &Options, drawn: &[Vec<u8>]) -> Result<f64, Box<dyn Error>> {
    let mut fragmenter = Fragmenter::new(options)?;
    let mut decoder = Decoder::new()?;
    for set in parameter_sets(fragmenter.header()) {
        decoder.decode(&annex_b(set))?;
    }
    let (mut squares, mut samples) = (0.0, 0.0);
    for chunk in drawn.chunks(CHUNK_PICTURES) {
        for rgb in chunk {
            fragmenter.push(&Picture::new(options.width, options.height, rgb)?)?;
        }
        let fragment = fragmenter.end_chunk().ok_or("a chunk has pictures")?;
        let units_bytes: u32 = fragment.unit_bytes.iter().sum();
        let mut units = &fragment.bytes[fragment.bytes.len() - units_bytes as usize..];
        for (rgb, &bytes) in chunk.iter().zip(&fragment.unit_bytes) {
            let (unit, rest) = units.split_at(bytes as usize);
            units = rest;
            let decoded = decoder.decode(&annex_b(&unit[4..]))?.ok_or("a picture a unit")?;
            let rows = decoded.y().chunks(decoded.strides().0);
            let expected_rows = rgb.chunks(3 * options.width as usize);
            for (row, expected) in rows.zip(expected_rows) {
                let pairs = row.iter().zip(expected.chunks(3));
                squares += pairs.map(|(&y, rgb)| (f64::from(y) - luma(rgb)).powi(2)).sum::<f64>();
                samples += f64::from(options.width);
            }
        }
    }
    Ok(10.0 * (255.0 * 255.0 * samples / squares).log10())
}

/// The two sets in the header's `avcC` box.
fn parameter_sets(header: &[u8]) -> [&[u8]; 2] {
    let start = header.windows(4).position(|kind| kind == b"avcC").unwrap_or_default() + 4 + 6;
    let bytes = |at: usize| usize::from(u16::from_be_bytes([header[at], header[at + 1]]));
    let picture_start = start + 2 + bytes(start) + 1;
    [&header[start + 2..][..bytes(start)], &header[picture_start + 2..][..bytes(picture_start)]]
}

fn annex_b(nal: &[u8]) -> Vec<u8> {
    [&[0, 0, 0, 1], nal].concat()
}

/// BT.709 luma in limited range, rounded as the encoder's input is.
fn luma(rgb: &[u8]) -> f64 {
    let [r, g, b] = [rgb[0], rgb[1], rgb[2]].map(f64::from);
    (16.0 + (0.2126 * r + 0.7152 * g + 0.0722 * b) * 219.0 / 255.0).round()
}
