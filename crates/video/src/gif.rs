//! Animated GIF: a palette of its own for every picture, playing for ever.
//!
//! GIF counts time in 1/100 s, so pictures at 16 a second are shown 6 or 7 hundredths,
//! adding up to the exact length. Players slow down delays under 2, hence [`RATE_MAX`].

use gif::{DisposalMethod, EncodingError, Frame, Repeat};

use crate::{
    Error, Format, Options, Picture,
    animation_file::{Animation, Seal},
    palette::{Quantised, quantise},
};

/// Highest rate that browsers keep to: two hundredths of a second a picture.
const RATE_MAX: u32 = 50;

/// Makes the bytes of a GIF.
pub(crate) struct Gif {
    options: Options,
    /// Width and height as GIF stores them.
    side: (u16, u16),
    encoder: gif::Encoder<Vec<u8>>,
    header: Vec<u8>,
}

impl Gif {
    /// Checks the options and starts a GIF.
    pub(crate) fn new(options: &Options) -> Result<Self, Error> {
        const NEEDS: &str = "1 to 65535 pixels a side";
        let &Options { width, height, .. } = options;
        options.check_size(Format::Gif, 0 < width.min(height), NEEDS)?;
        options.check_rate(Format::Gif, RATE_MAX)?;
        let too_large = |_| Error::Size { format: Format::Gif, width, height, needs: NEEDS };
        let side =
            (u16::try_from(width).map_err(too_large)?, u16::try_from(height).map_err(too_large)?);
        let mut encoder = gif::Encoder::new(Vec::new(), side.0, side.1, &[]).map_err(failed)?;
        encoder.set_repeat(Repeat::Infinite).map_err(failed)?;
        let header = std::mem::take(encoder.get_mut());
        Ok(Self { options: *options, side, encoder, header })
    }
}

impl Animation for Gif {
    fn options(&self) -> &Options {
        &self.options
    }

    fn header(&self) -> Vec<u8> {
        self.header.clone()
    }

    fn picture(&mut self, picture: &Picture<'_>, index: u64) -> Result<Vec<u8>, Error> {
        let Quantised { palette, indices } = quantise(picture.rgb());
        let (width, height) = self.side;
        let delay = u16::try_from(self.options.shown_ticks(index, 100)).expect("at most 1 s");
        let frame = Frame {
            delay,
            dispose: DisposalMethod::Keep,
            palette: Some(palette),
            buffer: indices.into(),
            width,
            height,
            ..Frame::default()
        };
        self.encoder.write_frame(&frame).map_err(failed)?;
        Ok(std::mem::take(self.encoder.get_mut()))
    }

    fn bytes_max(&self) -> u64 {
        u64::MAX
    }

    fn seal(&self, _bytes: u64) -> Seal {
        const TRAILER: u8 = 0x3b;
        Seal { tail: vec![TRAILER], patch: (0, b"GIF89a".to_vec()) }
    }
}

#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
fn failed(error: EncodingError) -> Error {
    Error::Encoder { format: Format::Gif, message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use crate::{
        create,
        test_support::{OPTIONS, animation, psnr_db, push_chunks},
    };

    #[test]
    fn decoded_gif_has_every_picture_and_the_exact_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gif");
        let pictures = animation(32);
        let mut sink = create(&path, &OPTIONS).unwrap();
        push_chunks(&mut *sink, &pictures, 12);
        let summary = sink.finish().unwrap();

        let mut options = gif::DecodeOptions::new();
        options.set_color_output(gif::ColorOutput::RGBA);
        let mut decoder = options.read_info(File::open(&path).unwrap()).unwrap();
        let mut hundredths = 0;
        for rgb in &pictures {
            let frame = decoder.read_next_frame().unwrap().expect("as many as were pushed");
            let opaque: Vec<u8> = frame.buffer.chunks(4).flat_map(|p| p[..3].to_vec()).collect();
            assert!(38.0 < psnr_db(rgb, &opaque));
            hundredths += u32::from(frame.delay);
        }
        assert!(decoder.read_next_frame().unwrap().is_none());
        assert_eq!(decoder.repeat(), gif::Repeat::Infinite);
        assert_eq!(hundredths, 200);
        assert_eq!((summary.pictures, summary.bytes), (32, path.metadata().unwrap().len()));
    }
}
