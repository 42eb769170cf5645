//! Pictures in, video files and streams out.
//!
//! A [`Sink`] takes the pictures of one video, chunk after chunk, and writes them as
//! they come; its memory does not grow with the length of the video beyond a few
//! bytes a picture. [`create`] chooses the sink by the file name:
//!
//! ```text
//! name            format                        if it ends early
//! ball.mp4        H.264, fast start             playable at any moment, even after kill -9
//! ball.webp       animated WebP, lossy          playable once `finish` ran
//! ball.gif        animated GIF                  playable once `finish` ran
//! ball/           PNG folder, 000001.png ...    every picture there is whole
//! (any writer)    fragmented MP4 stream         playable up to the cut
//! ```
//!
//! The last line is [`Fragmented`], for live viewers; [`Fragmenter`] below it makes the
//! same bytes without any writer. [`PartFile`] is how a file is made whole or not at all,
//! for whoever writes anything else; [`PngFolder`] is the folder of pictures for whoever
//! has them as PNG files already.
//!
//! # Invariants
//!
//! - Whatever can be known before the first picture is said by [`create`]: an unknown
//!   extension, a size the format cannot hold, a folder that cannot be written.
//! - An existing file stays untouched until there is a picture to replace it with.
//! - One name has one writer: [`create`] refuses what another process is writing.
//! - No sink leaves a file at the final name that cannot be played.
//! - The bytes depend on the pictures and the [`Options`] only: no clock, no thread
//!   count, no random identifier. A fragment depends on its own pictures and its place
//!   alone, so a stream can be taken up again after any of its fragments.
//! - Every picture is encoded; none is ever skipped to save bits.

mod error;
mod format;
mod picture;
mod sink;

mod animation_file;
mod folder;
mod gif;
mod guarded;
mod h264;
mod lock_file;
mod mp4;
mod palette;
mod part_file;
mod webp;
mod yuv;

#[cfg(test)]
mod test_support;

pub use error::Error;
pub use folder::{PngFolder, png};
pub use format::Format;
pub use mp4::{Fragment, Fragmented, Fragmenter, Position};
pub use part_file::PartFile;
pub use picture::Picture;
pub use sink::{Options, Sink, Summary, create};
