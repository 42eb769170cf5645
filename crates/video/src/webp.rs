//! Animated WebP, lossy, playing for ever.
//!
//! ```text
//! RIFF size WEBP | VP8X flags, canvas | ANIM colour, loops | ANMF ( VP8 ) | ANMF ( VP8 ) | ...
//! ```
//!
//! libwebp encodes single pictures; the container around them is written here, because
//! libwebp's own animation encoder keeps the whole video in memory.
//!
//! Lossy, because generated pictures are soft and never two the same: on 57 pictures of
//! the embedded model a lossless one took 15,900 bytes (`image-webp` 0.2.4), one with the
//! settings below 1,900 at 39.6 dB. Who needs exact pictures takes the PNG folder.
//!
//! Source: Google, "WebP Container Specification", sections "Extended File Format" and
//! "Animation".

use webp::WebPConfig;

use crate::{
    Error, Format, Options, Picture,
    animation_file::{Animation, Seal},
};

/// Quality on libwebp's scale of 0 to 100. Chosen: 95 takes two fifths more for 1 dB.
const QUALITY: f32 = 90.0;

/// Effort on libwebp's scale of 0 to 6. Chosen: 4, its default, saves 4 % for a third
/// more time.
const METHOD: i32 = 2;

/// Longest side of a VP8 picture in pixels (RFC 6386, section 9.1).
const SIDE_MAX: u32 = 16_383;

/// Highest rate that browsers keep to.
const RATE_MAX: u32 = 60;

/// Makes the bytes of an animated WebP.
pub(crate) struct WebP {
    options: Options,
    config: WebPConfig,
}

impl WebP {
    /// Checks the options and starts a WebP.
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        let fits = [options.width, options.height].iter().all(|side| (1..=SIDE_MAX).contains(side));
        options.check_size(Format::WebP, fits, "1 to 16383 pixels a side")?;
        options.check_rate(Format::WebP, RATE_MAX)?;
        let mut config = WebPConfig::new().map_err(|()| failed("no default settings"))?;
        config.quality = QUALITY;
        // Keeps saturated edges crisp under chroma subsampling: 1 dB more, 0.7 ms a
        // picture of 128x128.
        config.use_sharp_yuv = 1;
        config.method = METHOD;
        config.thread_level = 0;
        Ok(Self { options: *options, config })
    }
}

impl Animation for WebP {
    fn options(&self) -> &Options {
        &self.options
    }

    fn header(&self) -> Vec<u8> {
        const ANIMATED: u32 = 0x02;
        let mut header = b"RIFF\0\0\0\0WEBPVP8X".to_vec();
        header.extend(10_u32.to_le_bytes());
        header.extend(ANIMATED.to_le_bytes());
        header.extend(u24(self.options.width - 1));
        header.extend(u24(self.options.height - 1));
        header.extend(b"ANIM");
        header.extend(6_u32.to_le_bytes());
        header.extend([0, 0, 0, 255]); // background: opaque black, never seen
        header.extend([0, 0]); // for ever
        header
    }

    fn picture(&mut self, picture: &Picture<'_>, index: u64) -> Result<Vec<u8>, Error> {
        const DO_NOT_BLEND: u8 = 0x02;
        let (width, height) = (picture.width(), picture.height());
        let still = webp::Encoder::from_rgb(picture.rgb(), width, height)
            .encode_advanced(&self.config)
            .map_err(|error| failed(&format!("{error:?}")))?;
        let coded = coded_picture(&still).ok_or_else(|| failed("no picture was made"))?;
        let milliseconds =
            u32::try_from(self.options.shown_ticks(index, 1000)).expect("at most 1 s");
        let payload_bytes = u32::try_from(16 + coded.len()).map_err(|_| failed("over 4 GiB"))?;

        let mut bytes = b"ANMF".to_vec();
        bytes.extend(payload_bytes.to_le_bytes());
        bytes.extend([0; 6]); // at the top left corner
        bytes.extend(u24(width - 1));
        bytes.extend(u24(height - 1));
        bytes.extend(u24(milliseconds));
        bytes.push(DO_NOT_BLEND);
        bytes.extend(coded);
        Ok(bytes)
    }

    fn bytes_max(&self) -> u64 {
        // The RIFF size counts all but the first eight bytes, and must be even.
        u64::from(u32::MAX - 1) + 8
    }

    fn seal(&self, bytes: u64) -> Seal {
        let riff_bytes = u32::try_from(bytes - 8).expect("bounded by bytes_max");
        Seal { tail: Vec::new(), patch: (4, riff_bytes.to_le_bytes().into()) }
    }
}

/// The `VP8 ` part of a still WebP, with its header and padding.
fn coded_picture(still: &[u8]) -> Option<&[u8]> {
    let coded = still.get(12..)?;
    let bytes = u32::from_le_bytes(coded.get(4..8)?.try_into().ok()?) as usize;
    let padded_bytes = bytes.next_multiple_of(2);
    if coded.starts_with(b"VP8 ") { coded.get(..8 + padded_bytes) } else { None }
}

/// The lower 24 bits, lowest byte first.
fn u24(value: u32) -> [u8; 3] {
    let [low, middle, high, _] = value.to_le_bytes();
    [low, middle, high]
}

fn failed(message: &str) -> Error {
    Error::Encoder { format: Format::WebP, message: message.into() }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::BufReader};

    use image_webp::{LoopCount, WebPDecoder};

    use super::*;
    use crate::{
        create,
        test_support::{OPTIONS, animation, psnr_db, push_chunks},
    };

    #[test]
    fn decoded_webp_has_every_picture_and_the_exact_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.webp");
        let pictures = animation(33);
        let mut sink = create(&path, &OPTIONS).unwrap();
        push_chunks(&mut *sink, &pictures, 12);
        let summary = sink.finish().unwrap();

        let mut decoder = WebPDecoder::new(BufReader::new(File::open(&path).unwrap())).unwrap();
        assert!(decoder.is_animated() && !decoder.has_alpha());
        assert_eq!((decoder.dimensions(), decoder.num_frames()), ((64, 48), 33));
        assert_eq!(decoder.loop_count(), LoopCount::Forever);
        let mut found = vec![0; decoder.output_buffer_size().unwrap()];
        let mut milliseconds = 0;
        for rgb in &pictures {
            milliseconds += decoder.read_frame(&mut found).unwrap();
            assert!(26.0 < psnr_db(rgb, &found), "{} dB", psnr_db(rgb, &found));
        }
        assert_eq!(milliseconds, 33 * 1000 / 16 + 1, "2062.5 ms, rounded once");
        assert_eq!((summary.pictures, summary.bytes), (33, path.metadata().unwrap().len()));
    }

    #[test]
    fn largest_file_has_the_largest_even_size_in_its_header() {
        let webp = WebP::new(&OPTIONS).unwrap();

        let Seal { patch, .. } = webp.seal(webp.bytes_max());

        assert_eq!(patch, (4, vec![0xfe, 0xff, 0xff, 0xff]));
    }

    #[test]
    fn coded_picture_keeps_its_padding() {
        let still = b"RIFF\x12\0\0\0WEBPVP8 \x05\0\0\0coded\0rest";

        assert_eq!(coded_picture(still).unwrap(), b"VP8 \x05\0\0\0coded\0");
        assert_eq!(coded_picture(&still[..20]), None);
        assert_eq!(coded_picture(b"RIFF\x12\0\0\0WEBPVP8L\x05\0\0\0coded\0"), None);
    }
}
