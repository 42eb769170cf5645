//! What a viewer of the fragmented stream can rely on.

use std::io::{self, Write};

use mp4_atom::Colr;

use super::{Fragment, Fragmented, Fragmenter, Position, reader};
use crate::{
    Error, Options, Sink,
    test_support::{OPTIONS, animation, picture, push_chunks},
};

#[test]
fn header_describes_the_video_before_any_picture() {
    let film = reader::read(Fragmenter::new(&OPTIONS).unwrap().header()).unwrap();

    assert_eq!(film.kinds, ["ftyp", "moov"]);
    assert_eq!((film.moov.mvhd.timescale, film.moov.mvhd.duration), (16_000, 0));
    assert_eq!(film.moov.mvex.as_ref().unwrap().trex[0].default_sample_duration, 1000);
    let tables = &film.moov.trak[0].mdia.minf.stbl;
    assert!(tables.stss.is_none(), "an empty table would call every picture dependent");
    let avc1 = film.avc1();
    assert_eq!((avc1.visual.width, avc1.visual.height), (64, 48));
    assert_eq!(avc1.colr, Some(Colr::new(1, 1, 1, false).unwrap()));
    assert_eq!(avc1.avcc.length_size, 4);
    assert_eq!(avc1.avcc.avc_profile_indication, avc1.avcc.sequence_parameter_sets[0][1]);
}

#[test]
fn each_chunk_is_a_fragment_that_states_its_time_and_starts_anew() {
    let (bytes, fragments) = stream(&[9, 12, 12, 1, 1, 3]);
    let film = reader::read(&bytes).unwrap();

    let kinds: Vec<_> = film.kinds[2..].chunks(2).collect();
    assert!(kinds.iter().all(|kind| *kind == ["moof", "mdat"]) && kinds.len() == 6, "{kinds:?}");
    let times = film.moofs.iter().map(|(_, moof)| moof.traf[0].tfdt.as_ref().unwrap());
    let times: Vec<_> = times.map(|tfdt| tfdt.base_media_decode_time / 1000).collect();
    assert_eq!(times, [0, 9, 21, 33, 34, 35]);
    for ((_, moof), fragment) in film.moofs.iter().zip(&fragments) {
        assert_eq!(moof.mfhd.sequence_number, fragment.position.fragments + 1);
        assert!(moof.traf[0].tfhd.default_base_is_moof);
        assert_eq!(moof.traf[0].tfhd.default_sample_flags, Some(0x0101_0000));
        let run = &moof.traf[0].trun[0];
        assert_eq!(run.samples.get(0).unwrap().flags, Some(0x0200_0000));
    }
    assert_eq!(film.units.len(), 38);
    assert_eq!(film.decoded_pictures(), 38);
    for (index, unit) in film.units.iter().enumerate() {
        let starts_chunk = times.contains(&(index as u64));
        assert_eq!(unit[4] & 0x1f == 5, starts_chunk, "picture {index}: IDR where a chunk starts");
    }
}

#[test]
fn neighbouring_idr_pictures_differ_even_in_chunks_of_one_equal_picture() {
    let rgb = &animation(1)[0];
    let mut fragmenter = Fragmenter::new(&OPTIONS).unwrap();
    let mut fragments = (0..3).map(|_| {
        fragmenter.push(&picture(rgb)).unwrap();
        fragmenter.end_chunk().unwrap().bytes.split_off(100)
    });

    let [first, second, third] = std::array::from_fn(|_| fragments.next().unwrap());
    assert_ne!(first, second);
    assert_eq!(first, third);
}

#[test]
fn stream_cut_at_any_byte_plays_every_whole_picture_before_the_cut() {
    let (bytes, fragments) = stream(&[3, 4, 2]);
    let header_bytes = bytes.len() - fragments.iter().map(|f| f.bytes.len()).sum::<usize>();
    let mut unit_ends = Vec::new();
    let mut fragment_end = header_bytes;
    for fragment in &fragments {
        fragment_end += fragment.bytes.len();
        let data_bytes: u32 = fragment.unit_bytes.iter().sum();
        let mut end = fragment_end - data_bytes as usize;
        unit_ends.extend(fragment.unit_bytes.iter().map(|&unit| {
            end += unit as usize;
            end
        }));
    }

    assert!(reader::read(&bytes[..header_bytes - 1]).is_none());
    for cut in header_bytes..=bytes.len() {
        let film = reader::read(&bytes[..cut]).unwrap();
        let expected = unit_ends.iter().filter(|&&end| end <= cut).count();
        assert_eq!(film.units.len(), expected, "cut at {cut} of {}", bytes.len());
        // Decoding is slow: at every picture's end and some bytes in between.
        if unit_ends.contains(&cut) || cut % 97 == 0 {
            assert_eq!(film.decoded_pictures(), expected, "cut at {cut} of {}", bytes.len());
        }
    }
}

#[test]
fn stream_resumed_after_any_fragment_goes_on_with_the_same_bytes() {
    let pictures = animation(12);
    let (_, fragments) = stream(&[3, 3, 3, 3]);

    for expected in &fragments[1..] {
        let Position { pictures: first, .. } = expected.position;
        let mut fragmenter = Fragmenter::resume(&OPTIONS, expected.position).unwrap();
        for rgb in &pictures[usize::try_from(first).unwrap()..][..3] {
            fragmenter.push(&picture(rgb)).unwrap();
        }
        assert!(fragmenter.end_chunk().as_ref() == Some(expected), "{:?}", expected.position);
    }
}

#[test]
fn chunk_without_an_end_is_ended_before_it_fills_the_memory() {
    let rgb = &animation(1)[0];
    let mut bytes = Vec::new();
    let mut sink = Fragmented::new(&mut bytes, &OPTIONS).unwrap();
    for _ in 0..200 {
        sink.push(&picture(rgb)).unwrap();
    }
    drop(sink);

    assert_eq!(reader::read(&bytes).unwrap().units.len(), 128);
}

#[test]
fn empty_chunk_is_no_fragment() {
    let mut fragmenter = Fragmenter::new(&OPTIONS).unwrap();

    assert_eq!(fragmenter.end_chunk(), None);
    assert_eq!(fragmenter.position(), Position::default());
}

#[test]
fn failed_write_names_the_pictures_that_can_be_played() {
    let (bytes, _) = stream(&[3, 3, 3, 3]);
    let pictures = animation(12);
    let header_bytes = Fragmenter::new(&OPTIONS).unwrap().header().len();

    for room_bytes in (header_bytes..bytes.len()).step_by(61) {
        let mut writer = Room { bytes: Vec::new(), room_bytes };
        let mut sink = Box::new(Fragmented::new(&mut writer, &OPTIONS).unwrap());
        let mut failure = None;
        for (index, rgb) in pictures.iter().enumerate() {
            let pushed = sink.push(&picture(rgb));
            let ended = if index % 3 == 2 { sink.end_chunk() } else { Ok(()) };
            if let Err(error) = pushed.and(ended) {
                failure = failure.or(Some(error));
            }
        }
        let summary = sink.finish().unwrap();

        let Some(Error::Write { pictures_safe, reason, .. }) = failure else {
            panic!("a writer with {room_bytes} bytes of room must fail")
        };
        assert_eq!(reason.kind(), io::ErrorKind::StorageFull);
        assert_eq!(summary.pictures, pictures_safe);
        let film = reader::read(&writer.bytes).unwrap();
        assert!(pictures_safe <= film.units.len() as u64);
        assert!((film.units.len() as u64) < pictures_safe + 3);
        assert_eq!(film.decoded_pictures(), film.units.len());
    }
}

#[test]
fn pictures_after_a_failed_write_are_refused() {
    let rgb = &animation(1)[0];
    let header_bytes = Fragmenter::new(&OPTIONS).unwrap().header().len();
    let writer = Room { bytes: Vec::new(), room_bytes: header_bytes };
    let mut sink = Fragmented::new(writer, &OPTIONS).unwrap();
    sink.push(&picture(rgb)).unwrap();

    assert!(matches!(sink.end_chunk(), Err(Error::Write { pictures_safe: 0, .. })));
    assert!(matches!(sink.push(&picture(rgb)), Err(Error::Closed)));
    assert!(matches!(sink.end_chunk(), Err(Error::Closed)));
    assert_eq!(Box::new(sink).finish().unwrap().pictures, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn full_device_is_found_at_the_start() {
    let device = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();

    let error = Fragmented::new(device, &OPTIONS).err().unwrap();

    assert!(matches!(error, Error::Write { pictures_safe: 0, .. }), "{error}");
}

#[test]
fn rate_sets_the_clock() {
    let options = Options { pictures_per_second: 24, ..OPTIONS };
    let film = reader::read(Fragmenter::new(&options).unwrap().header()).unwrap();

    assert_eq!(film.moov.trak[0].mdia.mdhd.timescale, 24_000);
}

/// A stream of the animation in chunks of these lengths, and its fragments.
fn stream(chunk_pictures: &[usize]) -> (Vec<u8>, Vec<Fragment>) {
    let pictures = animation(chunk_pictures.iter().sum::<usize>() as u64);
    let mut pictures = pictures.iter();
    let mut sink = Fragmented::new(Vec::new(), &OPTIONS).unwrap();
    let mut fragmenter = Fragmenter::new(&OPTIONS).unwrap();
    let mut fragments = Vec::new();
    for &count in chunk_pictures {
        let chunk: Vec<Vec<u8>> = pictures.by_ref().take(count).cloned().collect();
        push_chunks(&mut sink, &chunk, count);
        chunk.iter().for_each(|rgb| fragmenter.push(&picture(rgb)).unwrap());
        fragments.push(fragmenter.end_chunk().unwrap());
    }
    (sink.into_writer(), fragments)
}

/// A writer on a full disk: takes some bytes, then no more.
struct Room {
    bytes: Vec<u8>,
    room_bytes: usize,
}

impl Write for Room {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(self.room_bytes - self.bytes.len());
        if taken == 0 && !bytes.is_empty() {
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend(&bytes[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
