//! The `ftyp` and `moov` boxes: what the video is, and where its pictures lie.
//!
//! One video track. A fragmented movie has empty tables and an `mvex` box; its pictures
//! are described by each fragment. A finished movie has [`Tables`]. There is no edit
//! list and no composition offset: pictures are stored in playing order and start at 0.
//!
//! All times count in `TICKS_PER_PICTURE` to the picture, so every duration is exact.
//! Dates are zero: the file says nothing of when it was made.
//!
//! Sources: ISO/IEC 14496-12, section 8; ISO/IEC 14496-15, section 5.3 (`avcC`);
//! ISO/IEC 23091-2 (colour codes).

use super::boxes::Boxes;
use crate::{Options, h264::ParameterSets};

/// Duration of one picture on the track's clock. Chosen: a clock of 16 ticks a second
/// is legal, but players are tested with thousands.
pub(super) const TICKS_PER_PICTURE: u32 = 1000;

/// Identifier of the only track.
pub(super) const TRACK: u32 = 1;

/// The transformation that changes nothing (16.16 and 2.30 fixed point).
const UNITY_MATRIX: [u32; 9] = [1 << 16, 0, 0, 0, 1 << 16, 0, 0, 0, 1 << 30];

/// What the boxes describe.
pub(super) struct Movie<'a> {
    pub(super) options: &'a Options,
    pub(super) sets: &'a ParameterSets,
}

/// Where the pictures of a finished movie lie.
pub(super) struct Tables<'a> {
    /// Size of each picture's access unit in bytes.
    pub(super) sizes: &'a [u32],
    /// Pictures in each part; the first of each can be decoded alone.
    pub(super) part_pictures: &'a [u32],
    /// Offset of each part in the file.
    pub(super) part_offsets: &'a [u64],
}

impl Movie<'_> {
    /// `ftyp` and `moov` of a stream whose pictures follow in fragments.
    pub(super) fn fragmented_header(&self) -> Vec<u8> {
        let mut boxes = Boxes::default();
        // iso6: offsets count from the moof, and every fragment states its time.
        file_type(&mut boxes, b"iso6", &[b"iso6", b"avc1", b"mp41"]);
        boxes.boxed(b"moov", |boxes| {
            let tables = Tables { sizes: &[], part_pictures: &[], part_offsets: &[] };
            self.movie(boxes, &tables);
            boxes.boxed(b"mvex", |boxes| {
                boxes.full(b"trex", 0, 0, |boxes| {
                    boxes.u32s(&[TRACK, 1, TICKS_PER_PICTURE, 0, 0]);
                });
            });
        });
        boxes.into_bytes()
    }

    /// `ftyp` and `moov` of a finished movie.
    pub(super) fn finished_header(&self, tables: &Tables<'_>) -> Vec<u8> {
        let mut boxes = Boxes::default();
        file_type(&mut boxes, b"isom", &[b"isom", b"iso2", b"avc1", b"mp41"]);
        boxes.boxed(b"moov", |boxes| self.movie(boxes, tables));
        boxes.into_bytes()
    }

    fn movie(&self, boxes: &mut Boxes, tables: &Tables<'_>) {
        let duration = tables.sizes.len() as u64 * u64::from(TICKS_PER_PICTURE);
        boxes.full(b"mvhd", 1, 0, |boxes| {
            boxes.zeros(16); // creation and modification time
            boxes.u32(self.timescale());
            boxes.u64(duration);
            boxes.u32(1 << 16); // normal speed
            boxes.u16(1 << 8); // full volume
            boxes.zeros(10);
            boxes.u32s(&UNITY_MATRIX);
            boxes.zeros(24);
            boxes.u32(TRACK + 1); // next free track
        });
        boxes.boxed(b"trak", |boxes| {
            self.track_header(boxes, duration);
            boxes.boxed(b"mdia", |boxes| self.media(boxes, duration, tables));
        });
    }

    fn track_header(&self, boxes: &mut Boxes, duration: u64) {
        const ENABLED_IN_MOVIE: u32 = 3;
        boxes.full(b"tkhd", 1, ENABLED_IN_MOVIE, |boxes| {
            boxes.zeros(16); // creation and modification time
            boxes.u32(TRACK);
            boxes.zeros(4);
            boxes.u64(duration);
            boxes.zeros(16); // layer, group, volume
            boxes.u32s(&UNITY_MATRIX);
            boxes.u32(self.options.width << 16);
            boxes.u32(self.options.height << 16);
        });
    }

    fn media(&self, boxes: &mut Boxes, duration: u64, tables: &Tables<'_>) {
        boxes.full(b"mdhd", 1, 0, |boxes| {
            boxes.zeros(16); // creation and modification time
            boxes.u32(self.timescale());
            boxes.u64(duration);
            boxes.u16(0x55c4); // language "und"
            boxes.zeros(2);
        });
        boxes.full(b"hdlr", 0, 0, |boxes| {
            boxes.zeros(4);
            boxes.raw(b"vide");
            boxes.zeros(12);
            boxes.raw(b"video\0");
        });
        boxes.boxed(b"minf", |boxes| {
            boxes.full(b"vmhd", 0, 1, |boxes| boxes.zeros(8));
            boxes.boxed(b"dinf", |boxes| {
                boxes.full(b"dref", 0, 0, |boxes| {
                    const SAME_FILE: u32 = 1;
                    boxes.u32(1);
                    boxes.full(b"url ", 0, SAME_FILE, |_| {});
                });
            });
            boxes.boxed(b"stbl", |boxes| {
                boxes.full(b"stsd", 0, 0, |boxes| {
                    boxes.u32(1);
                    boxes.boxed(b"avc1", |boxes| self.sample_entry(boxes));
                });
                sample_tables(boxes, tables);
            });
        });
    }

    fn sample_entry(&self, boxes: &mut Boxes) {
        let side = |pixels| u16::try_from(pixels).expect("the encoder takes at most 3840 pixels");
        boxes.zeros(6);
        boxes.u16(1); // first data reference
        boxes.zeros(16);
        boxes.u16(side(self.options.width));
        boxes.u16(side(self.options.height));
        boxes.u32(72 << 16); // dots per inch, across
        boxes.u32(72 << 16); // dots per inch, down
        boxes.zeros(4);
        boxes.u16(1); // one picture a sample
        boxes.zeros(32); // no compressor name
        boxes.u16(24); // colour without alpha
        boxes.u16(u16::MAX);
        boxes.boxed(b"avcC", |boxes| self.decoder_configuration(boxes));
        boxes.boxed(b"colr", |boxes| {
            const BT709: u16 = 1;
            boxes.raw(b"nclx");
            for _primaries_transfer_matrix in 0..3 {
                boxes.u16(BT709);
            }
            boxes.u8(0); // limited range
        });
        boxes.boxed(b"pasp", |boxes| boxes.u32s(&[1, 1])); // square pixels
    }

    fn decoder_configuration(&self, boxes: &mut Boxes) {
        const LENGTH_OF_FOUR_BYTES: u8 = 0xff;
        const ONE_SEQUENCE_SET: u8 = 0xe1;
        let ParameterSets { sequence, picture } = self.sets;
        boxes.u8(1);
        boxes.raw(&sequence[1..4]); // profile, constraints, level
        boxes.u8(LENGTH_OF_FOUR_BYTES);
        for (count, set) in [(ONE_SEQUENCE_SET, sequence), (1, picture)] {
            boxes.u8(count);
            boxes.u16(u16::try_from(set.len()).expect("parameter sets have some tens of bytes"));
            boxes.raw(set);
        }
    }

    fn timescale(&self) -> u32 {
        self.options.pictures_per_second * TICKS_PER_PICTURE
    }
}

fn file_type(boxes: &mut Boxes, major: &[u8; 4], compatible: &[&[u8; 4]]) {
    boxes.boxed(b"ftyp", |boxes| {
        boxes.raw(major);
        boxes.u32(512);
        compatible.iter().for_each(|brand| boxes.raw(*brand));
    });
}

fn sample_tables(boxes: &mut Boxes, tables: &Tables<'_>) {
    let count = |entries: usize| u32::try_from(entries).expect("a video has under 2^32 pictures");
    boxes.full(b"stts", 0, 0, |boxes| match tables.sizes {
        [] => boxes.u32(0),
        sizes => boxes.u32s(&[1, count(sizes.len()), TICKS_PER_PICTURE]),
    });
    // Without this box every picture counts as one that decodes alone, so the empty
    // tables of a fragmented movie must not have it.
    if !tables.sizes.is_empty() {
        boxes.full(b"stss", 0, 0, |boxes| {
            boxes.u32(count(tables.part_pictures.len()));
            let mut first = 1;
            for pictures in tables.part_pictures {
                boxes.u32(first);
                first += pictures;
            }
        });
    }
    boxes.full(b"stsc", 0, 0, |boxes| {
        let runs: Vec<_> = runs(tables.part_pictures).collect();
        boxes.u32(count(runs.len()));
        for (first_part, pictures) in runs {
            boxes.u32s(&[count(first_part) + 1, pictures, 1]);
        }
    });
    boxes.full(b"stsz", 0, 0, |boxes| {
        boxes.u32(0);
        boxes.u32(count(tables.sizes.len()));
        boxes.u32s(tables.sizes);
    });
    boxes.full(b"co64", 0, 0, |boxes| {
        boxes.u32(count(tables.part_offsets.len()));
        tables.part_offsets.iter().for_each(|&offset| boxes.u64(offset));
    });
}

/// Index and value of every entry that differs from the one before it.
fn runs(values: &[u32]) -> impl Iterator<Item = (usize, u32)> {
    let before = std::iter::once(None).chain(values.iter().map(Some));
    values
        .iter()
        .zip(before)
        .enumerate()
        .filter(|(_, (value, before))| Some(*value) != *before)
        .map(|(index, (&value, _))| (index, value))
}
