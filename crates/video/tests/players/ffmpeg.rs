//! ffprobe reads the boxes and counts the pictures; ffmpeg decodes them to RGB.

use std::{fs, path::Path, process::Command};

use video::Options;

use crate::{OPTIONS, animation, cut, has_program, stream, write_file};

#[test]
fn finished_mp4_is_what_it_should_be() {
    if !has_program("ffprobe", "ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ball.mp4");
    write_file(&path, &OPTIONS, 100);

    let fields = "codec_name,profile,width,height,pix_fmt,r_frame_rate,avg_frame_rate,duration,\
                  nb_frames,nb_read_frames,color_range,color_space,color_primaries,color_transfer";
    let found = probe(&path, &["-count_frames", "-show_entries", &format!("stream={fields}")]);

    for line in [
        "codec_name=h264",
        "profile=Constrained Baseline",
        "width=128",
        "height=128",
        "pix_fmt=yuv420p",
        "r_frame_rate=16/1",
        "avg_frame_rate=16/1",
        "duration=6.250000",
        "nb_frames=100",
        "nb_read_frames=100",
        "color_range=tv",
        "color_space=bt709",
        "color_primaries=bt709",
        "color_transfer=bt709",
    ] {
        assert!(found.lines().any(|found| found == line), "{line} expected in:\n{found}");
    }
}

#[test]
fn decoded_mp4_looks_like_the_pictures() {
    if !has_program("ffmpeg", "ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (width, height) in [(128, 128), (130, 66), (832, 480)] {
        let options = Options { width, height, ..OPTIONS };
        let path = folder.path().join(format!("{width}.mp4"));
        write_file(&path, &options, 13);

        let decoded = decode(&path);
        let picture_bytes = (width * height * 3) as usize;
        assert_eq!(decoded.len(), 13 * picture_bytes);
        for (index, found) in (0..).zip(decoded.chunks(picture_bytes)) {
            // Chroma at half the resolution is what limits RGB here; luma is tested to 42 dB.
            let db = psnr_db(&animation::draw(width, height, index), found);
            assert!(26.0 < db, "picture {index} of {width}x{height}: {db} dB");
        }
    }
}

#[test]
fn stream_cut_anywhere_plays_up_to_there() {
    if !has_program("ffprobe", "ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("cut.mp4");
    let (fragmenter, fragments) = stream(4);

    let mut end = fragmenter.header().len();
    for (whole, fragment) in fragments.iter().enumerate() {
        for part_bytes in [0, 50, 300, fragment.bytes.len() / 2, fragment.bytes.len() - 1] {
            if end + part_bytes == fragmenter.header().len() {
                continue;
            }
            fs::write(&path, cut(&fragmenter, &fragments, end + part_bytes)).unwrap();
            let pictures = count_pictures(&path);
            let range = 12 * whole..=12 * (whole + 1);
            assert!(
                range.contains(&pictures),
                "{pictures} pictures at {whole} + {part_bytes} bytes"
            );
        }
        end += fragment.bytes.len();
    }
    fs::write(&path, cut(&fragmenter, &fragments, end)).unwrap();
    assert_eq!(count_pictures(&path), 48);
}

#[test]
fn gif_and_png_folder_are_read() {
    if !has_program("ffprobe", "ffmpeg") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    write_file(&folder.path().join("ball.gif"), &OPTIONS, 20);
    write_file(&folder.path().join("ball/"), &OPTIONS, 20);

    assert_eq!(count_pictures(&folder.path().join("ball.gif")), 20);
    let decoded = decode(&folder.path().join("ball/%06d.png"));
    let expected = (0..20).flat_map(|index| animation::draw(128, 128, index));
    assert!(decoded.into_iter().eq(expected));
}

fn count_pictures(path: &Path) -> usize {
    let arguments = ["-count_frames", "-show_entries", "stream=nb_read_frames"];
    let found = probe(path, &arguments);
    let count = found.lines().find_map(|line| line.strip_prefix("nb_read_frames="));
    // ffprobe says N/A for a stream that has a header only.
    count.and_then(|count| count.parse().ok()).unwrap_or(0)
}

fn probe(path: &Path, arguments: &[&str]) -> String {
    let output = Command::new("ffprobe")
        .args(["-v", "error", "-select_streams", "v:0", "-of", "default=noprint_wrappers=1"])
        .args(arguments)
        .arg(path)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// All pictures as RGB8, one after the other.
fn decode(path: &Path) -> Vec<u8> {
    let output = Command::new("ffmpeg")
        .args(["-v", "error", "-i"])
        .arg(path)
        .args(["-f", "rawvideo", "-pix_fmt", "rgb24", "-"])
        .output()
        .unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn psnr_db(expected: &[u8], found: &[u8]) -> f64 {
    assert_eq!(expected.len(), found.len());
    let pairs = expected.iter().zip(found);
    let squares: f64 = pairs.map(|(&a, &b)| (f64::from(a) - f64::from(b)).powi(2)).sum();
    10.0 * (255.0 * 255.0 * expected.len() as f64 / squares).log10()
}
