//! What players make of the files: ffprobe and ffmpeg, and a browser.
//!
//! The unit tests read every format back; here the readers are the programs people use.
//! Needs Debian's `ffmpeg` and `chromium`. Where one is missing the test says so and
//! passes, or fails if `FILMLOOM_REQUIRE_PLAYERS=1`.
#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

#[path = "../support/animation.rs"]
mod animation;
mod browser;
mod ffmpeg;
mod server;

use std::{
    env,
    io::{self, Write},
    path::Path,
    process::Command,
};

use video::{Fragment, Fragmenter, Options, Picture, create};

/// The embedded model's size and rate.
const OPTIONS: Options = Options { width: 128, height: 128, pictures_per_second: 16 };

/// Whether `program` can be run; if it must be there and is not, the test fails.
fn has_program(program: &str, package: &str) -> bool {
    let found = Command::new(program).arg("-version").output().is_ok();
    let required = env::var_os("FILMLOOM_REQUIRE_PLAYERS").is_some_and(|value| value == "1");
    let message = format!("{program} not found; install it with: apt-get install {package}");
    assert!(found || !required, "{message}");
    if !found {
        // Not `eprintln!`, which the test harness swallows.
        io::stderr().write_all(format!("NOT TESTED: {message}\n").as_bytes()).unwrap();
    }
    found
}

/// Writes the first `pictures` pictures to `path` in chunks of 12.
fn write_file(path: &Path, options: &Options, pictures: u64) {
    let mut sink = create(path, options).unwrap();
    for index in 0..pictures {
        let rgb = animation::draw(options.width, options.height, index);
        sink.push(&Picture::new(options.width, options.height, &rgb).unwrap()).unwrap();
        if index % 12 == 11 {
            sink.end_chunk().unwrap();
        }
    }
    assert_eq!(sink.finish().unwrap().pictures, pictures);
}

/// The header and the fragments of a live stream in chunks of 12 pictures.
fn stream(fragments: u64) -> (Fragmenter, Vec<Fragment>) {
    let mut fragmenter = Fragmenter::new(&OPTIONS).unwrap();
    let fragments = (0..fragments)
        .map(|fragment| {
            for index in 12 * fragment..12 * (fragment + 1) {
                let rgb = animation::draw(OPTIONS.width, OPTIONS.height, index);
                let picture = Picture::new(OPTIONS.width, OPTIONS.height, &rgb).unwrap();
                fragmenter.push(&picture).unwrap();
            }
            fragmenter.end_chunk().unwrap()
        })
        .collect();
    (fragmenter, fragments)
}

/// The first `bytes` bytes of a stream.
fn cut(fragmenter: &Fragmenter, fragments: &[Fragment], bytes: usize) -> Vec<u8> {
    let mut stream = fragmenter.header().to_vec();
    fragments.iter().for_each(|fragment| stream.extend(&fragment.bytes));
    assert!(bytes <= stream.len());
    stream.truncate(bytes);
    stream
}
