//! A disk that fills up in the middle of a video, as the kernel reports it.
//!
//! A real full disk needs a mount. A limit on the file size gives the same: `write` takes
//! part of the bytes, then fails. Each test starts itself again as a child under
//! `ulimit -f`, with SIGXFSZ ignored so that the write fails instead of the process.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

#[path = "support/animation.rs"]
mod animation;

use std::{
    env, fs,
    io::BufReader,
    path::{Path, PathBuf},
    process::Command,
};

use mp4_atom::Decode;
use video::{Error, Options, Picture, create};

const OPTIONS: Options = Options { width: 64, height: 48, pictures_per_second: 16 };

/// Set in the child: the file to write.
const CHILD_PATH: &str = "FILMLOOM_FULL_DISK_PATH";

#[test]
fn mp4_keeps_the_whole_fragments() {
    let folder = tempfile::tempdir().unwrap();
    let Some(bytes) =
        written_on_a_full_disk(folder.path(), "mp4_keeps_the_whole_fragments", "a.mp4")
    else {
        return;
    };

    let mut rest = &bytes[..];
    mp4_atom::Ftyp::decode(&mut rest).unwrap();
    let moov = mp4_atom::Moov::decode(&mut rest).unwrap();
    let units = &moov.trak[0].mdia.minf.stbl.stsz.samples;
    let mp4_atom::StszSamples::Different { sizes } = units else { panic!("{units:?}") };
    assert_eq!(sizes.len() as u64, safe_pictures(folder.path()));
    let mdat_header_bytes = 16;
    assert_eq!(sizes.iter().sum::<u32>() as usize, rest.len() - mdat_header_bytes);
}

#[test]
fn gif_keeps_the_whole_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let Some(bytes) =
        written_on_a_full_disk(folder.path(), "gif_keeps_the_whole_pictures", "a.gif")
    else {
        return;
    };

    let mut decoder = gif::DecodeOptions::new().read_info(&bytes[..]).unwrap();
    let mut pictures = 0;
    while decoder.read_next_frame().unwrap().is_some() {
        pictures += 1;
    }
    assert_eq!(pictures, safe_pictures(folder.path()));
    assert_eq!(bytes.last(), Some(&0x3b));
}

#[test]
fn webp_keeps_the_whole_pictures() {
    let folder = tempfile::tempdir().unwrap();
    let Some(bytes) =
        written_on_a_full_disk(folder.path(), "webp_keeps_the_whole_pictures", "a.webp")
    else {
        return;
    };

    let reader = BufReader::new(std::io::Cursor::new(bytes));
    let decoder = image_webp::WebPDecoder::new(reader).unwrap();
    assert_eq!(u64::from(decoder.num_frames()), safe_pictures(folder.path()));
}

/// In the parent: the bytes that the child left at `folder/name`. In the child: none.
fn written_on_a_full_disk(folder: &Path, test: &str, name: &str) -> Option<Vec<u8>> {
    if let Some(path) = env::var_os(CHILD_PATH) {
        push_until_full(&PathBuf::from(path));
        return None;
    }
    let path = folder.join(name);
    // Blocks of 512 or 1024 bytes, as the shell likes.
    let child = Command::new("sh")
        .args(["-c", "trap '' XFSZ; ulimit -f 40; exec \"$0\" \"$@\""])
        .arg(env::current_exe().unwrap())
        .args(["--exact", test])
        .env(CHILD_PATH, &path)
        .output()
        .unwrap();
    assert!(child.status.success(), "the child failed: {child:?}");
    assert_eq!(folder.read_dir().unwrap().count(), 2, "the video and the child's note");
    Some(fs::read(path).unwrap())
}

/// Pushes pictures until a write fails, finishes, and notes the number of safe pictures.
fn push_until_full(path: &Path) {
    let mut sink = create(path, &OPTIONS).unwrap();
    let mut push = |index| {
        let rgb = animation::draw(OPTIONS.width, OPTIONS.height, index);
        sink.push(&Picture::new(OPTIONS.width, OPTIONS.height, &rgb)?)?;
        if index % 3 == 2 { sink.end_chunk() } else { Ok(()) }
    };
    let failure = (0..1000).find_map(|index| push(index).err());

    let Some(Error::Write { target, pictures_safe, reason }) = failure else {
        panic!("the limit must be hit, found {failure:?}")
    };
    assert_eq!(reason.kind(), std::io::ErrorKind::FileTooLarge);
    assert_eq!(Path::new(&target), fs::canonicalize(path).unwrap());
    assert!(0 < pictures_safe);
    let rgb = animation::draw(OPTIONS.width, OPTIONS.height, 0);
    let picture = Picture::new(OPTIONS.width, OPTIONS.height, &rgb).unwrap();
    assert!(matches!(sink.push(&picture), Err(Error::Closed)), "no gap in the video");
    assert!(matches!(sink.end_chunk(), Err(Error::Closed)));
    let summary = sink.finish().unwrap();
    assert_eq!(summary.pictures, pictures_safe);
    assert_eq!(summary.bytes, path.metadata().unwrap().len());
    fs::write(path.with_extension("note"), pictures_safe.to_string()).unwrap();
}

fn safe_pictures(folder: &Path) -> u64 {
    fs::read_to_string(folder.join("a.note")).unwrap().parse().unwrap()
}
