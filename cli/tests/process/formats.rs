//! Exactly round(16 S) pictures in every format, read back by other decoders.

use std::{
    fs,
    io::{BufReader, Cursor},
    path::Path,
};

use mp4_atom::{Any, DecodeMaybe, StszSamples};

use crate::support::{generate, run};

#[test]
fn every_format_has_exactly_the_pictures_asked_for() {
    // 1.3 s are 20.8 pictures; the two chunks made are 21, three would be 33.
    for (seconds, pictures) in [("1.3", 21), ("1.2", 19), ("0.04", 1)] {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a.mp4", "a.webp", "a.gif", "a/"] {
            let output = folder.path().join(name);

            run(&mut generate("a red ball", &output, &["-s", seconds])).succeeded();

            assert_eq!(count(&output), pictures, "{name} of {seconds} s");
        }
        assert_eq!(folder.path().read_dir().unwrap().count(), 4, "nothing else is left");
    }
}

/// Pictures in a finished video of any format.
pub(crate) fn count(path: &Path) -> usize {
    if path.is_dir() {
        return pngs(path).len();
    }
    let bytes = fs::read(path).unwrap();
    match path.extension().unwrap().to_str().unwrap() {
        "mp4" => mp4_pictures(&bytes),
        "gif" => gif_pictures(&bytes),
        "webp" => {
            let reader = BufReader::new(Cursor::new(bytes));
            image_webp::WebPDecoder::new(reader).unwrap().num_frames().try_into().unwrap()
        }
        other => panic!("{other}"),
    }
}

/// Decoded pixels of the pictures in a folder, in order.
pub(crate) fn pngs(folder: &Path) -> Vec<Vec<u8>> {
    let mut paths: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let pixels = paths.iter().map(|path| {
        let file = BufReader::new(fs::File::open(path).unwrap());
        let mut reader = png::Decoder::new(file).read_info().unwrap();
        let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
        reader.next_frame(&mut pixels).unwrap();
        pixels
    });
    pixels.collect()
}

/// Pictures that a finished file's table or a fragmented file's fragments list.
fn mp4_pictures(bytes: &[u8]) -> usize {
    let (mut rest, mut pictures) = (bytes, 0);
    while let Ok(Some(any)) = Any::decode_maybe(&mut rest) {
        if let Any::Moov(moov) = &any {
            pictures += match &moov.trak[0].mdia.minf.stbl.stsz.samples {
                StszSamples::Different { sizes } => sizes.len(),
                StszSamples::Identical { count, .. } => *count as usize,
            };
        } else if let Any::Moof(moof) = &any {
            pictures += moof.traf[0].trun[0].samples.iter().count();
        }
    }
    assert!(rest.is_empty(), "{} bytes after the last whole box", rest.len());
    pictures
}

fn gif_pictures(bytes: &[u8]) -> usize {
    let mut decoder = gif::DecodeOptions::new().read_info(bytes).unwrap();
    let mut pictures = 0;
    while decoder.read_next_frame().unwrap().is_some() {
        pictures += 1;
    }
    pictures
}
