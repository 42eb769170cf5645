//! How long a video is: seconds to pictures, frames and chunks.
//!
//! The first frame decodes to one picture, every further one to
//! `pictures_per_frame` (4 for Wan's VAE). A video of S seconds has exactly
//! `round(fps S)` pictures; whole chunks usually give a few more, the surplus,
//! which are dropped.
//!
//! ```text
//! 60 s at 16 pictures/s, chunks of 3 frames:
//! 960 pictures ◀ 1 + ⌈959 / 4⌉ = 241 frames ◀ 81 chunks = 243 frames = 969 pictures
//! ```

use serde::Serialize;

/// The longest video that can be asked for, in seconds: one day. Chosen so
/// that a slip of the keyboard is refused and no real use is.
pub const SECONDS_MAX: f64 = 86_400.0;

/// How pictures, frames and chunks relate in a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Pictures per second.
    pub fps: u32,
    /// Pictures that a frame decodes to, after the first frame's one.
    pub pictures_per_frame: usize,
    /// Frames generated together; `None` makes the whole video one chunk.
    pub chunk_frames: Option<usize>,
}

/// The length of one video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Length {
    /// Pictures the viewer gets.
    pub pictures: u64,
    /// Frames that those pictures need.
    pub needed_frames: u64,
    /// Chunks that those frames need.
    pub chunks: u32,
    /// Frames of all those chunks.
    pub frames: u64,
    /// Pictures that are decoded, then dropped.
    pub surplus_pictures: u64,
}

/// Why a length makes no video. Ask for another length.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Error {
    /// The length is no positive number of seconds.
    #[error("a video of {seconds} seconds cannot be made: give a number above 0")]
    NotPositive {
        /// The seconds asked for.
        seconds: f64,
    },
    /// The length rounds to no picture.
    #[error(
        "{seconds} seconds are less than half a picture at {fps} pictures per second: \
         ask for a longer video"
    )]
    NoPicture {
        /// The seconds asked for.
        seconds: f64,
        /// Pictures per second.
        fps: u32,
    },
    /// The length is out of bounds.
    #[error("a video of {seconds:e} seconds is too long: at most {SECONDS_MAX} are allowed")]
    TooLong {
        /// The seconds asked for.
        seconds: f64,
    },
    /// The model's rate has a zero in it. Correct the model's configuration.
    #[error(
        "the model makes no video: {fps} pictures per second, {pictures_per_frame} pictures \
         per frame, chunks of {chunk_frames:?} frames (none may be 0)"
    )]
    ZeroRate {
        /// Pictures per second.
        fps: u32,
        /// Pictures per frame.
        pictures_per_frame: usize,
        /// Frames of a chunk.
        chunk_frames: Option<usize>,
    },
}

impl Rate {
    /// The first chunk of a video that begins at `seconds` or later, and when it
    /// does; `None` if none does before the video ends. What is asked for at a time
    /// takes effect with it.
    pub fn chunk_from(&self, seconds: f64, length: &Length) -> Option<(u32, f64)> {
        let begins = |chunk| self.first_picture(chunk) as f64 / f64::from(self.fps);
        // A time that names a chunk's first picture exactly must not miss it by a
        // rounding error.
        let chunk = (1..length.chunks).find(|&chunk| seconds <= begins(chunk) + 1e-6)?;
        let is_shown = self.first_picture(chunk) < length.pictures;
        is_shown.then(|| (chunk, begins(chunk)))
    }

    /// Pictures of a chunk after the first; of a video that is one chunk, all.
    pub fn chunk_pictures(&self, length: &Length) -> u64 {
        let frames = self.chunk_frames.map(|frames| frames as u64);
        let pictures = |frames: u64| frames.saturating_mul(self.pictures_per_frame as u64);
        frames.map_or(length.pictures, pictures)
    }

    /// Index of a chunk's first picture.
    fn first_picture(&self, chunk: u32) -> u64 {
        let frames = u64::from(chunk) * self.chunk_frames.unwrap_or(0) as u64;
        match frames.checked_sub(1) {
            Some(after_the_first) => 1 + after_the_first * self.pictures_per_frame as u64,
            None => 0,
        }
    }

    /// The length of a video of `seconds` seconds.
    ///
    /// # Errors
    ///
    /// [`Error`] if the seconds are no number, not positive, too few for one
    /// picture or more than [`SECONDS_MAX`], or if the rate has a zero in it.
    pub fn length(&self, seconds: f64) -> Result<Length, Error> {
        let Self { fps, pictures_per_frame, chunk_frames } = *self;
        if fps == 0 || pictures_per_frame == 0 || chunk_frames == Some(0) {
            return Err(Error::ZeroRate { fps, pictures_per_frame, chunk_frames });
        }
        if seconds.is_nan() || seconds <= 0.0 {
            return Err(Error::NotPositive { seconds });
        }
        if SECONDS_MAX < seconds {
            return Err(Error::TooLong { seconds });
        }
        let pictures = whole((seconds * f64::from(fps)).round());
        let Some(after_the_first) = pictures.checked_sub(1) else {
            return Err(Error::NoPicture { seconds, fps });
        };
        let needed_frames = 1 + after_the_first.div_ceil(pictures_per_frame as u64);
        let chunk_frames = chunk_frames.map_or(needed_frames, |frames| frames as u64);
        let chunks = needed_frames.div_ceil(chunk_frames);
        let frames = chunks.saturating_mul(chunk_frames);
        let decoded = (frames - 1).saturating_mul(pictures_per_frame as u64).saturating_add(1);
        let surplus_pictures = decoded - pictures;
        match u32::try_from(chunks) {
            Ok(chunks) => Ok(Length { pictures, needed_frames, chunks, frames, surplus_pictures }),
            Err(_) => Err(Error::TooLong { seconds }),
        }
    }
}

#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rounded product of a u32 and at most SECONDS_MAX, not negative"
)]
fn whole(value: f64) -> u64 {
    value as u64
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const WAN: Rate = Rate { fps: 16, pictures_per_frame: 4, chunk_frames: Some(3) };

    #[test]
    fn one_minute_is_960_pictures_of_81_chunks() {
        let length = WAN.length(60.0).unwrap();
        let (needed_frames, frames) = (241, 243);
        let expected =
            Length { pictures: 960, needed_frames, chunks: 81, frames, surplus_pictures: 9 };
        assert_eq!(length, expected);
    }

    #[test]
    fn first_chunk_gives_9_pictures_and_every_later_one_12() {
        let chunks = |pictures: u32| WAN.length(f64::from(pictures) / 16.0).unwrap().chunks;
        assert_eq!([1, 9, 10, 21, 22].map(chunks), [1, 1, 2, 2, 3]);
        // 80 chunks are 957 pictures, the embedded model's minute.
        assert_eq!((chunks(957), chunks(958)), (80, 81));
    }

    #[test]
    fn clip_without_chunks_is_one_chunk() {
        let rate = Rate { chunk_frames: None, ..WAN };
        let length = rate.length(81.0 / 16.0).unwrap();
        assert_eq!((length.frames, length.chunks, length.surplus_pictures), (21, 1, 0));
    }

    #[test]
    fn absurd_lengths_are_refused() {
        assert_eq!(WAN.length(0.0), Err(Error::NotPositive { seconds: 0.0 }));
        assert_eq!(WAN.length(-2.0), Err(Error::NotPositive { seconds: -2.0 }));
        assert!(matches!(WAN.length(f64::NAN), Err(Error::NotPositive { .. })));
        assert_eq!(WAN.length(0.01), Err(Error::NoPicture { seconds: 0.01, fps: 16 }));
        assert_eq!(WAN.length(86_401.0), Err(Error::TooLong { seconds: 86_401.0 }));
        assert_eq!(WAN.length(f64::INFINITY), Err(Error::TooLong { seconds: f64::INFINITY }));
        let rate = Rate { chunk_frames: Some(0), ..WAN };
        assert!(matches!(rate.length(1.0), Err(Error::ZeroRate { .. })));
    }

    proptest! {
        #[test]
        fn chunks_are_just_enough(
            seconds in 0.1_f64..SECONDS_MAX, fps in 10_u32..120, scale in 0_u32..4,
            chunk in 1_usize..20,
        ) {
            let pictures_per_frame = 1_usize << scale;
            let rate = Rate { fps, pictures_per_frame, chunk_frames: Some(chunk) };
            let length = rate.length(seconds).unwrap();
            let decoded = |frames: u64| 1 + (frames - 1) * pictures_per_frame as u64;

            prop_assert_eq!(length.pictures as f64, (seconds * f64::from(fps)).round());
            prop_assert_eq!(length.frames, u64::from(length.chunks) * chunk as u64);
            prop_assert_eq!(length.pictures + length.surplus_pictures, decoded(length.frames));
            prop_assert!(length.pictures <= decoded(length.needed_frames));
            let fewer = length.frames - chunk as u64;
            prop_assert!(fewer == 0 || decoded(fewer) < length.pictures);
        }
    }
}
