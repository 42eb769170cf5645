//! What somebody who finds the MP4 file can rely on, finished or not.

use std::fs;

use super::{Fragmented, reader};
use crate::{
    Sink, create,
    test_support::{OPTIONS, animation, picture, push_chunks},
};

#[test]
fn finished_file_has_its_tables_first_and_the_same_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    let pictures = animation(26);
    let mut sink = create(&path, &OPTIONS).unwrap();
    push_chunks(&mut *sink, &pictures, 9);
    let fragmented = reader::read(&fs::read(&path).unwrap()).unwrap();
    let summary = sink.finish().unwrap();

    let bytes = fs::read(&path).unwrap();
    let film = reader::read(&bytes).unwrap();
    assert_eq!(film.kinds, ["ftyp", "moov", "mdat"]);
    assert!(film.units == fragmented.units);
    assert_eq!(film.decoded_pictures(), 26);
    assert_eq!(film.moov.mvhd.duration, 26_000);
    let media = &film.moov.trak[0].mdia;
    assert_eq!((media.mdhd.duration, film.moov.trak[0].tkhd.duration), (26_000, 26_000));
    assert_eq!(media.minf.stbl.stts.entries[0].sample_count, 26);
    assert_eq!(media.minf.stbl.stss.as_ref().unwrap().entries, [1, 10, 19]);
    assert_eq!(media.minf.stbl.stsc.entries.len(), 2, "two chunks of 9 pictures, one of 8");
    assert_eq!((summary.pictures, summary.bytes), (26, bytes.len() as u64));
    assert_eq!((summary.kept_fragmented, folder.path().read_dir().unwrap().count()), (None, 1));
}

#[test]
fn file_is_playable_after_every_chunk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    fs::write(&path, "an older video").unwrap();
    let pictures = animation(9);
    let mut sink = create(&path, &OPTIONS).unwrap();
    let mut stream = Fragmented::new(Vec::new(), &OPTIONS).unwrap();

    for (index, rgb) in pictures.iter().enumerate() {
        sink.push(&picture(rgb)).unwrap();
        stream.push(&picture(rgb)).unwrap();
        let whole = index / 3 * 3;
        let found = fs::read(&path).unwrap();
        if whole == 0 {
            assert_eq!(found, b"an older video", "kept until the first chunk is there");
        } else {
            assert_eq!(reader::read(&found).unwrap().units.len(), whole);
        }
        if index % 3 == 2 {
            sink.end_chunk().unwrap();
            stream.end_chunk().unwrap();
        }
    }

    assert!(fs::read(&path).unwrap() == stream.into_writer(), "the file is the stream");
}

#[test]
fn dropped_sink_leaves_the_chunks_that_ended() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    let pictures = animation(8);
    let mut sink = create(&path, &OPTIONS).unwrap();
    push_chunks(&mut *sink, &pictures[..6], 3);
    sink.push(&picture(&pictures[6])).unwrap();
    drop(sink);

    assert_eq!(reader::read(&fs::read(&path).unwrap()).unwrap().decoded_pictures(), 6);
    assert_eq!(folder.path().read_dir().unwrap().count(), 1);
}

#[test]
fn file_stays_fragmented_where_the_second_copy_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.mp4");
    let mut sink = create(&path, &OPTIONS).unwrap();
    push_chunks(&mut *sink, &animation(7), 3);
    fs::create_dir(folder.path().join(".a.mp4.filmloom-part")).unwrap();
    let summary = sink.finish().unwrap();

    let film = reader::read(&fs::read(&path).unwrap()).unwrap();
    assert_eq!((summary.pictures, film.decoded_pictures()), (7, 7));
    assert_eq!(film.moofs.len(), 3);
    let reason = summary.kept_fragmented.unwrap();
    assert!(reason.contains("a.mp4.filmloom-part is in the way"), "{reason}");
}
