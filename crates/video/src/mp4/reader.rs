//! A test's reader of both kinds of MP4, on top of `mp4-atom` and the H.264 decoder.
//!
//! It takes what a player would take from a cut file: every access unit that lies
//! wholly before the cut and is described by a whole `moof` or `moov`.

use mp4_atom::{Any, Avc1, Codec, Decode, DecodeMaybe, Header, Moof, Moov};
use openh264::decoder::Decoder;

/// What was found in a stream or file.
pub(super) struct Film {
    pub(super) moov: Moov,
    /// Fragments whose `moof` is whole, and the offset at which each begins.
    pub(super) moofs: Vec<(usize, Moof)>,
    /// Kinds of the top-level boxes.
    pub(super) kinds: Vec<String>,
    /// Whole access units in playing order.
    pub(super) units: Vec<Vec<u8>>,
}

/// Reads as much as is there.
pub(super) fn read(bytes: &[u8]) -> Option<Film> {
    let (mut moov, mut moofs, mut kinds) = (None, Vec::new(), Vec::new());
    let mut rest = bytes;
    while !rest.is_empty() {
        let start = bytes.len() - rest.len();
        let mut body = rest;
        let Ok(Some(header)) = Header::decode_maybe(&mut body) else { break };
        kinds.push(header.kind.to_string());
        let Ok(Some(any)) = Any::decode_maybe(&mut rest) else { break };
        if let Any::Moov(found) = any {
            moov = Some(found);
        } else if let Any::Moof(found) = any {
            moofs.push((start, found));
        }
    }
    let moov = moov?;
    let ranges = if moov.mvex.is_some() { fragment_ranges(&moofs) } else { table_ranges(&moov) };
    let units = ranges.into_iter().map_while(|range| bytes.get(range)).map(<[u8]>::to_vec);
    let units = units.collect();
    Some(Film { moov, moofs, kinds, units })
}

impl Film {
    pub(super) fn avc1(&self) -> &Avc1 {
        match &self.moov.trak[0].mdia.minf.stbl.stsd.codecs[..] {
            [Codec::Avc1(avc1)] => avc1,
            other => panic!("one avc1 entry expected, found {other:?}"),
        }
    }

    /// Decodes every unit; panics unless each gives a picture.
    pub(super) fn decoded_pictures(&self) -> usize {
        let avcc = &self.avc1().avcc;
        let sets = [&avcc.sequence_parameter_sets[0], &avcc.picture_parameter_sets[0]];
        let mut decoder = Decoder::new().unwrap();
        for set in sets {
            decoder.decode(&[&[0, 0, 0, 1], &set[..]].concat()).unwrap();
        }
        let decoded = self.units.iter().map(|unit| {
            assert_eq!(u32::decode(&mut &unit[..4]).unwrap() as usize + 4, unit.len());
            decoder.decode(&[&[0, 0, 0, 1], &unit[4..]].concat()).unwrap().expect("a picture");
        });
        decoded.count()
    }
}

fn fragment_ranges(moofs: &[(usize, Moof)]) -> Vec<std::ops::Range<usize>> {
    let mut ranges = Vec::new();
    for (start, moof) in moofs {
        let run = &moof.traf[0].trun[0];
        let mut at = start + usize::try_from(run.data_offset.unwrap()).unwrap();
        for sample in run.samples.iter() {
            let end = at + sample.size.unwrap() as usize;
            ranges.push(at..end);
            at = end;
        }
    }
    ranges
}

fn table_ranges(moov: &Moov) -> Vec<std::ops::Range<usize>> {
    let tables = &moov.trak[0].mdia.minf.stbl;
    let mp4_atom::StszSamples::Different { sizes } = &tables.stsz.samples else { return vec![] };
    let mut sizes = sizes.iter();
    let mut ranges = Vec::new();
    for (part, &offset) in (1..).zip(&tables.co64.as_ref().unwrap().entries) {
        let entry = tables.stsc.entries.iter().rfind(|entry| entry.first_chunk <= part).unwrap();
        let mut at = usize::try_from(offset).unwrap();
        for &size in sizes.by_ref().take(entry.samples_per_chunk as usize) {
            ranges.push(at..at + size as usize);
            at += size as usize;
        }
    }
    ranges
}
