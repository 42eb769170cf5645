//! One chunk of pictures to H.264 access units.
//!
//! An [`Encoder`] lives for one chunk: its first picture is an IDR, the others refer
//! back to it only. Starting anew per chunk costs little (0.6 ms at 128x128, measured)
//! and makes a chunk's bytes a function of its own pictures.
//!
//! Two consecutive IDR pictures must differ in `idr_pic_id` (ITU-T H.264, 7.4.3), which
//! a new encoder always starts at the same value. [`Parity`] alternates: an odd chunk's
//! encoder first codes a grey picture that is thrown away.
//!
//! The quantiser is constant and fine ([`QUANTISER`]): our pictures are small, so bits
//! are cheap and visible loss is not. Rate control, picture skipping, scene detection
//! and threads are off: they would make the bytes depend on more than the pictures.
//! (The library's "buffer-based" mode with equal bounds is its constant quantiser; the
//! other modes print warnings on stderr when they may not skip pictures.)

use openh264::{
    OpenH264API,
    encoder::{
        BitRate, Complexity, Encoder as Codec, EncoderConfig, FrameRate, QpRange, RateControlMode,
        UsageType, VuiConfig,
    },
    formats::YUVSlices,
};

use crate::{Error, Format, Options, Picture, yuv::Planes};

/// Quantisation parameter of every picture. Measured on 57 pictures of the embedded
/// model: 50.1 dB luma, 49.7 dB chroma, 23 kB a second; 20 gives 46.9 dB and 13 kB, 26
/// gives 43.2 dB and 8 kB. Chosen: fine enough that smooth skies do not band.
const QUANTISER: u8 = 14;

/// Highest rate the library accounts for.
const RATE_MAX: u32 = 60;

/// Whether a chunk's place in the video is even or odd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Parity {
    Even,
    Odd,
}

/// Sequence and picture parameter sets, without start codes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ParameterSets {
    pub(crate) sequence: Vec<u8>,
    pub(crate) picture: Vec<u8>,
}

/// Encodes the pictures of one chunk.
pub(crate) struct Encoder {
    codec: Codec,
    planes: Planes,
}

/// NAL units of one access unit, parameter sets apart.
struct AccessUnit {
    sets: Option<ParameterSets>,
    /// Slices, each after its length in four bytes (ISO/IEC 14496-15, 5.3.4.2).
    slices: Vec<u8>,
}

/// Refuses sizes and rates that the encoder cannot take.
///
/// Sources of the bounds: openh264's `ParamValidation` (16 pixels) and README
/// (3840x2160); 4:2:0 cropping counts in steps of two pixels (ITU-T H.264, 7.4.2.1.1).
pub(crate) fn check(options: &Options) -> Result<(), Error> {
    let &Options { width, height, .. } = options;
    let even = width.is_multiple_of(2) && height.is_multiple_of(2);
    let small = width.max(height) <= 3840 && width.min(height) <= 2160;
    let fits = even && small && 16 <= width.min(height);
    options.check_size(
        Format::Mp4,
        fits,
        "an even width and height from 16x16 to 3840x2160; .webp, .gif and PNG folders take odd sizes",
    )?;
    options.check_rate(Format::Mp4, RATE_MAX)
}

/// The parameter sets that every chunk encoded with `options` has.
pub(crate) fn parameter_sets(options: &Options) -> Result<ParameterSets, Error> {
    let mut encoder = Encoder::new(options, Parity::Even)?;
    encoder.encode_planes()?.sets.ok_or_else(|| failed("no parameter sets were made"))
}

impl Encoder {
    /// Starts a chunk.
    pub(crate) fn new(options: &Options, parity: Parity) -> Result<Self, Error> {
        let codec = Codec::with_api_config(OpenH264API::from_source(), config(options))
            .map_err(|error| failed(&error.to_string()))?;
        let mut encoder = Self { codec, planes: Planes::grey(options.width, options.height) };
        if parity == Parity::Odd {
            encoder.encode_planes()?;
            encoder.codec.force_intra_frame();
        }
        Ok(encoder)
    }

    /// Encodes the next picture to length-prefixed slices. The first one is an IDR.
    pub(crate) fn encode(
        &mut self,
        picture: &Picture<'_>,
        expected: &ParameterSets,
    ) -> Result<Vec<u8>, Error> {
        self.planes.fill(picture);
        let unit = self.encode_planes()?;
        if unit.sets.is_some_and(|found| found != *expected) {
            return Err(failed("the parameter sets changed inside the video"));
        }
        Ok(unit.slices)
    }

    fn encode_planes(&mut self) -> Result<AccessUnit, Error> {
        let (width, height) = self.planes.dimensions();
        let strides = (width, width / 2, width / 2);
        let planes = (&self.planes.y[..], &self.planes.u[..], &self.planes.v[..]);
        let source = YUVSlices::new(planes, (width, height), strides);
        let stream = self.codec.encode(&source).map_err(|error| failed(&error.to_string()))?;
        let layers = (0..stream.num_layers()).filter_map(|layer| stream.layer(layer));
        let mut unit = AccessUnit { sets: None, slices: Vec::new() };
        for layer in layers {
            for nal in (0..layer.nal_count()).filter_map(|index| layer.nal_unit(index)) {
                unit.add(strip_start_code(nal))?;
            }
        }
        if unit.slices.is_empty() { Err(failed("a picture was skipped")) } else { Ok(unit) }
    }
}

impl AccessUnit {
    /// Sorts one NAL unit by its type (ITU-T H.264, table 7-1).
    fn add(&mut self, nal: &[u8]) -> Result<(), Error> {
        match nal.first().map(|header| header & 0x1f) {
            Some(7) => {
                self.sets = Some(ParameterSets { sequence: nal.into(), picture: Vec::new() });
            }
            Some(8) => {
                let sets = self.sets.as_mut().ok_or_else(|| failed("PPS without SPS"))?;
                sets.picture = nal.into();
            }
            Some(_) => {
                let bytes = u32::try_from(nal.len()).map_err(|_| failed("slice over 4 GiB"))?;
                self.slices.extend(bytes.to_be_bytes());
                self.slices.extend(nal);
            }
            None => {}
        }
        Ok(())
    }
}

fn config(options: &Options) -> EncoderConfig {
    let &Options { width, height, pictures_per_second } = options;
    // Only the level in the stream follows from it: one bit a pixel, which the constant
    // quantiser stays below, up to what level 5.2 allows (ITU-T H.264, table A-1).
    let bits_per_second = width * height * pictures_per_second;
    EncoderConfig::new()
        .rate_control_mode(RateControlMode::Bufferbased)
        .qp(QpRange::new(QUANTISER, QUANTISER))
        .bitrate(BitRate::from_bps(bits_per_second.clamp(100_000, 200_000_000)))
        .max_frame_rate(FrameRate::from_hz(pictures_per_second as f32))
        .usage_type(UsageType::CameraVideoRealTime)
        .complexity(Complexity::Low)
        .num_threads(1)
        .skip_frames(false)
        .scene_change_detect(false)
        .adaptive_quantization(false)
        .background_detection(false)
        .vui(VuiConfig::bt709())
}

/// Drops the Annex B start code, of three or four bytes.
fn strip_start_code(nal: &[u8]) -> &[u8] {
    let zeros = nal.iter().take_while(|&&byte| byte == 0).count();
    nal.get(zeros + 1..).unwrap_or_default()
}

fn failed(message: &str) -> Error {
    Error::Encoder { format: Format::Mp4, message: message.into() }
}

#[cfg(test)]
mod tests {
    use openh264::{decoder::Decoder, formats::YUVSource};

    use super::*;
    use crate::test_support::{OPTIONS, animation, picture, psnr_db};

    #[test]
    fn decoded_luma_is_close_to_the_picture() {
        let pictures = animation(12);
        let (sets, units) = encode(&OPTIONS, Parity::Even, &pictures);
        let mut decoder = Decoder::new().unwrap();

        for (rgb, unit) in pictures.iter().zip(annex_b(&sets, &units)) {
            let decoded = decoder.decode(&unit).unwrap().expect("one picture in, one out");
            let mut planes = Planes::grey(OPTIONS.width, OPTIONS.height);
            planes.fill(&picture(rgb));

            assert_eq!(decoded.dimensions(), (64, 48));
            let rows = decoded.y().chunks(decoded.strides().0).take(48);
            let luma: Vec<u8> = rows.flat_map(|row| &row[..64]).copied().collect();
            let db = psnr_db(&planes.y, &luma);
            assert!(42.0 < db, "{db} dB");
        }
    }

    #[test]
    fn sizes_that_are_no_multiple_of_16_are_cropped_by_the_stream() {
        for (width, height) in [(16, 16), (18, 34), (130, 66), (854, 478)] {
            let options = Options { width, height, pictures_per_second: 16 };
            let rgb = vec![90; (width * height * 3) as usize];
            let sets = parameter_sets(&options).unwrap();
            let slices = Encoder::new(&options, Parity::Even)
                .unwrap()
                .encode(&Picture::new(width, height, &rgb).unwrap(), &sets)
                .unwrap();

            let unit = annex_b(&sets, &[slices]).remove(0);
            let mut decoder = Decoder::new().unwrap();
            let decoded = decoder.decode(&unit).unwrap().expect("an IDR decodes alone");
            assert_eq!(decoded.dimensions(), (width as usize, height as usize));
        }
    }

    #[test]
    fn sizes_and_rates_out_of_bounds_are_refused() {
        for (width, height) in [(127, 64), (64, 127), (14, 64), (3842, 64), (2162, 2162), (0, 0)] {
            let options = Options { width, height, pictures_per_second: 16 };
            let message = check(&options).unwrap_err().to_string();
            assert!(message.contains(&format!("{width}x{height}")), "{message}");
        }
        for pictures_per_second in [0, 61] {
            let options = Options { pictures_per_second, ..OPTIONS };
            assert!(matches!(check(&options), Err(Error::Rate { .. })));
        }
    }

    #[test]
    fn neighbouring_chunks_differ_in_the_idr_identifier_only() {
        let pictures = animation(4);

        let (even_sets, even) = encode(&OPTIONS, Parity::Even, &pictures);
        let (odd_sets, odd) = encode(&OPTIONS, Parity::Odd, &pictures);

        assert_eq!(even_sets, odd_sets);
        assert_ne!(even[0], odd[0]);
        assert_eq!(even[0].len(), odd[0].len());
        assert_eq!(even[1..], odd[1..]);
    }

    fn encode(
        options: &Options,
        parity: Parity,
        pictures: &[Vec<u8>],
    ) -> (ParameterSets, Vec<Vec<u8>>) {
        let sets = parameter_sets(options).unwrap();
        let mut encoder = Encoder::new(options, parity).unwrap();
        let units = pictures.iter().map(|rgb| encoder.encode(&picture(rgb), &sets).unwrap());
        let units = units.collect();
        (sets, units)
    }

    /// Back to start codes, the first unit with its parameter sets.
    fn annex_b(sets: &ParameterSets, units: &[Vec<u8>]) -> Vec<Vec<u8>> {
        let start = [0, 0, 0, 1];
        let mut streams: Vec<Vec<u8>> = units
            .iter()
            .map(|unit| {
                let bytes = u32::from_be_bytes(unit[..4].try_into().unwrap());
                assert_eq!(bytes as usize + 4, unit.len(), "one slice a picture");
                [&start, &unit[4..]].concat()
            })
            .collect();
        let head = [&start, &sets.sequence[..], &start, &sets.picture[..]].concat();
        streams[0].splice(0..0, head);
        streams
    }
}
