//! Pictures to the bytes of a fragmented MP4 stream, without doing any I/O.
//!
//! ```text
//! header()      ftyp moov      known from the start, the same for every viewer
//! end_chunk()   moof mdat      one IDR, then pictures that refer back to it
//! ```
//!
//! A viewer needs the header and then any run of whole fragments. Each fragment's bytes
//! follow from its pictures, the options and its [`Position`] alone; whoever knows the
//! position can [resume](Fragmenter::resume) a stream with the bytes it would have had.
//!
//! Source: ISO/IEC 14496-12, section 8.8.

use super::{
    boxes::Boxes,
    movie::{Movie, TICKS_PER_PICTURE, TRACK},
};
use crate::{
    Error, Options, Picture,
    h264::{self, Encoder, ParameterSets, Parity},
};

/// Largest fragment, in pictures: bounds the memory of a caller that ends no chunk.
/// Chosen: eight seconds at 16 pictures a second, ten chunks of the models at hand.
const FRAGMENT_PICTURES_MAX: usize = 128;

/// Largest fragment, in bytes of pictures, for the same reason at large sizes. Chosen: far
/// from the 0.2 MB that 128 pictures of the embedded model have.
const FRAGMENT_BYTES_MAX: usize = 64 << 20;

/// Turns pictures into the header and the fragments of a stream.
pub struct Fragmenter {
    options: Options,
    sets: ParameterSets,
    header: Vec<u8>,
    position: Position,
    /// The current chunk's encoder, once it has a picture.
    encoder: Option<Encoder>,
    /// The current chunk's access units.
    units: Vec<Vec<u8>>,
}

/// A place between two fragments of a stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    /// Fragments before it.
    pub fragments: u32,
    /// Pictures before it.
    pub pictures: u64,
}

/// One fragment: a `moof` and an `mdat` box.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fragment {
    /// The two boxes.
    pub bytes: Vec<u8>,
    /// Where it begins.
    pub position: Position,
    /// Size of each picture's access unit in bytes; together the end of `bytes`.
    pub unit_bytes: Vec<u32>,
}

impl Fragmenter {
    /// Starts a stream.
    ///
    /// # Errors
    ///
    /// [`Error::Size`] or [`Error::Rate`] if H.264 cannot hold the pictures;
    /// [`Error::Encoder`] if the encoder does not start.
    pub fn new(options: &Options) -> Result<Self, Error> {
        Self::resume(options, Position::default())
    }

    /// Goes on with a stream of the same options after `position`.
    ///
    /// # Errors
    ///
    /// As [`Fragmenter::new`].
    pub fn resume(options: &Options, position: Position) -> Result<Self, Error> {
        h264::check(options)?;
        let sets = h264::parameter_sets(options)?;
        let header = Movie { options, sets: &sets }.fragmented_header();
        Ok(Self { options: *options, sets, header, position, encoder: None, units: Vec::new() })
    }

    /// Encodes the next picture.
    ///
    /// # Errors
    ///
    /// [`Error::PictureSize`], or [`Error::Encoder`] if the encoder fails; the picture is
    /// not part of the stream then.
    pub fn push(&mut self, picture: &Picture<'_>) -> Result<(), Error> {
        self.options.check_picture(picture)?;
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            None => {
                let odd = !self.position.fragments.is_multiple_of(2);
                let parity = if odd { Parity::Odd } else { Parity::Even };
                self.encoder.insert(Encoder::new(&self.options, parity)?)
            }
        };
        self.units.push(encoder.encode(picture, &self.sets)?);
        Ok(())
    }

    /// Ends the current chunk and gives its fragment, if it has any picture.
    pub fn end_chunk(&mut self) -> Option<Fragment> {
        self.encoder = None;
        let units = std::mem::take(&mut self.units);
        if units.is_empty() {
            return None;
        }
        let fragment = fragment(self.position, &units);
        self.position.fragments += 1;
        self.position.pictures += units.len() as u64;
        Some(fragment)
    }

    /// Whether the chunk should end even if the caller's did not: a caller that asks after
    /// every picture keeps a bound on the memory.
    pub fn is_full(&self) -> bool {
        let bytes: usize = self.units.iter().map(Vec::len).sum();
        FRAGMENT_PICTURES_MAX <= self.units.len() || FRAGMENT_BYTES_MAX <= bytes
    }

    /// The `ftyp` and `moov` boxes that come before the first fragment.
    pub fn header(&self) -> &[u8] {
        &self.header
    }

    /// The stream's MIME type with its codec, as a page's `MediaSource` wants it.
    ///
    /// Source: RFC 6381, section 3.3.
    pub fn mime_type(&self) -> String {
        let profile_and_level = &self.sets.sequence[1..4];
        let codec: String = profile_and_level.iter().map(|byte| format!("{byte:02x}")).collect();
        format!("video/mp4; codecs=\"avc1.{codec}\"")
    }

    /// Where the next fragment will begin.
    pub fn position(&self) -> Position {
        self.position
    }

    /// Size and rate of the video.
    pub(super) fn options(&self) -> &Options {
        &self.options
    }

    /// The parameter sets of every fragment.
    pub(super) fn parameter_sets(&self) -> &ParameterSets {
        &self.sets
    }
}

fn fragment(position: Position, units: &[Vec<u8>]) -> Fragment {
    let bytes = |unit: &Vec<u8>| u32::try_from(unit.len()).expect("a picture has under 4 GiB");
    let unit_bytes: Vec<u32> = units.iter().map(bytes).collect();
    let mut boxes = Boxes::default();
    let mut data_offset_at = 0;
    boxes.boxed(b"moof", |boxes| {
        boxes.full(b"mfhd", 0, 0, |boxes| boxes.u32(position.fragments + 1));
        boxes.boxed(b"traf", |boxes| {
            track_header(boxes, position);
            data_offset_at = track_run(boxes, &unit_bytes);
        });
    });
    let mdat_header_bytes = 8;
    let data_offset = u32::try_from(boxes.len() + mdat_header_bytes).expect("a moof is small");
    boxes.patch_u32(data_offset_at, data_offset);
    boxes.boxed(b"mdat", |boxes| units.iter().for_each(|unit| boxes.raw(unit)));
    Fragment { bytes: boxes.into_bytes(), position, unit_bytes }
}

/// Time of the first picture, and what holds for all pictures but it.
fn track_header(boxes: &mut Boxes, position: Position) {
    const DEFAULT_DURATION: u32 = 0x08;
    const DEFAULT_FLAGS: u32 = 0x20;
    const OFFSETS_FROM_MOOF: u32 = 0x02_0000;
    const DEPENDS_ON_OTHERS: u32 = 0x0101_0000;
    boxes.full(b"tfhd", 0, DEFAULT_DURATION | DEFAULT_FLAGS | OFFSETS_FROM_MOOF, |boxes| {
        boxes.u32s(&[TRACK, TICKS_PER_PICTURE, DEPENDS_ON_OTHERS]);
    });
    boxes.full(b"tfdt", 1, 0, |boxes| {
        boxes.u64(position.pictures * u64::from(TICKS_PER_PICTURE));
    });
}

/// Sizes of the pictures. Gives the place of the data offset, known only later.
fn track_run(boxes: &mut Boxes, unit_bytes: &[u32]) -> usize {
    const DATA_OFFSET: u32 = 0x001;
    const FIRST_FLAGS: u32 = 0x004;
    const SIZES: u32 = 0x200;
    const DEPENDS_ON_NONE: u32 = 0x0200_0000;
    let pictures = u32::try_from(unit_bytes.len()).expect("a fragment is bounded");
    let mut data_offset_at = 0;
    boxes.full(b"trun", 0, DATA_OFFSET | FIRST_FLAGS | SIZES, |boxes| {
        boxes.u32(pictures);
        data_offset_at = boxes.len();
        boxes.u32(0);
        boxes.u32(DEPENDS_ON_NONE);
        boxes.u32s(unit_bytes);
    });
    data_offset_at
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_support::OPTIONS;

    #[test]
    fn chunk_is_full_at_its_pictures_or_its_bytes() {
        let mut fragmenter = Fragmenter::new(&OPTIONS).unwrap();
        let mut is_full = |units: usize, unit_bytes: usize| {
            fragmenter.units = vec![vec![0; unit_bytes]; units];
            fragmenter.is_full()
        };

        assert!(!is_full(0, 0) && !is_full(127, 9) && is_full(128, 9));
        assert!(!is_full(2, FRAGMENT_BYTES_MAX / 2 - 1) && is_full(2, FRAGMENT_BYTES_MAX / 2));
    }
}
