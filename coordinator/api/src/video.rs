//! What a video is to a client: its name, what was asked for, how far it is.
//!
//! A name is `video_` and 32 hexadecimal digits, so it says nothing about who
//! else asked for what. Times are seconds since 1970, as in the rest of the
//! OpenAI interface; lengths of video are seconds, fractions allowed.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize, Serializer};

/// Longest side of a picture that can be asked for. Chosen: beyond any display.
const SIDE_MAX: u32 = 16_384;

/// Names a video.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VideoId(pub u128);

/// A text that names no video. Use an id as it was given at creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id is `video_` and 32 digits from 0 to 9 and a to f")]
pub struct NotAnId;

/// Width and height of a picture; as text `832x480`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// In pixels.
    pub width: u32,
    /// In pixels.
    pub height: u32,
}

/// A text that is no size. Use one such as `832x480`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a size is WIDTHxHEIGHT in pixels, each from 1 to {SIDE_MAX}, such as 832x480")]
pub struct NotASize;

/// What a client asks for. What it did not send is [`None`], so that no default
/// of this interface can pass for a wish.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NewVideo {
    /// What is to be seen, at most [`NewVideo::PROMPT_CHARS_MAX`] characters.
    pub prompt: String,
    /// Which model makes it.
    pub model: Option<String>,
    /// Length, above 0 and at most [`NewVideo::SECONDS_MAX`].
    pub seconds: Option<f64>,
    /// Size of the pictures.
    pub size: Option<Size>,
    /// Seed of the noise.
    pub seed: Option<u64>,
    /// Pictures a second.
    pub fps: Option<u32>,
    /// Prompts that take over later, ascending in time.
    pub prompt_schedule: Option<Vec<ScheduledPrompt>>,
    /// From [`NewVideo::PRIORITY_MIN`] to [`NewVideo::PRIORITY_MAX`]; higher goes first.
    pub priority: Option<i8>,
    /// The client's own name for whoever asked; kept, not interpreted.
    pub user: Option<String>,
}

/// A prompt that takes over in the course of a video.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ScheduledPrompt {
    /// From when on, above 0.
    pub at_seconds: f64,
    /// What is to be seen then.
    pub prompt: String,
}

/// How far a video is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    /// No worker has begun.
    Queued,
    /// The first pass has begun.
    InProgress,
    /// The whole file is there.
    Completed,
    /// It will not be finished; the error says why.
    Failed,
}

/// A video as a client sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Video {
    /// Its name.
    pub id: VideoId,
    /// The model that makes it.
    pub model: String,
    /// What is to be seen.
    pub prompt: String,
    /// How far it is.
    pub status: Status,
    /// Committed chunks of all chunks, in percent, 0 to 100.
    pub progress: u8,
    /// When it was asked for.
    pub created_at: u64,
    /// When its first pass began.
    pub started_at: Option<u64>,
    /// When the file was whole.
    pub completed_at: Option<u64>,
    /// When the file will be deleted.
    pub expires_at: Option<u64>,
    /// Size of the pictures.
    pub size: Size,
    /// Length; a text on the wire, as in the rest of the OpenAI interface.
    #[serde(serialize_with = "as_text")]
    pub seconds: f64,
    /// Seed of the noise.
    pub seed: u64,
    /// Pictures a second.
    pub fps: u32,
    /// Why it failed.
    pub error: Option<VideoError>,
    /// Videos that begin before this one; [`None`] once it has begun.
    pub queue_position: Option<u32>,
    /// When it will begin, as planned.
    pub estimated_start_at: Option<u64>,
    /// When it will be finished, as planned.
    pub estimated_completion_at: Option<u64>,
    /// Pictures that can be watched.
    pub pictures: u64,
    /// Where the time went, per stage.
    pub stage_timings: Vec<StageTiming>,
}

/// Why a video failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VideoError {
    /// One word for programs.
    pub code: String,
    /// What happened and what can be done, for people.
    pub message: String,
}

/// Where the time of one worker went while a video was made; what it did for other
/// videos in between counts too.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageTiming {
    /// What the stage does: `layers 0..15`, `decode`.
    pub stage: String,
    /// Who holds it.
    pub worker: String,
    /// Time in passes.
    pub compute_seconds: f64,
    /// Time in which a message was on its way to the worker or from it. It overlaps
    /// the two others.
    pub transfer_seconds: f64,
    /// Time without anything to do, which is waiting for other stages.
    pub wait_seconds: f64,
    /// Bytes sent to other nodes.
    pub sent_bytes: u64,
    /// Bytes received from other nodes.
    pub received_bytes: u64,
}

/// A page of a list of videos.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The last video of the page before this one.
    pub after: Option<VideoId>,
    /// Videos at most, 1 to [`Page::LIMIT_MAX`].
    pub limit: usize,
    /// In which order of creation.
    pub order: Order,
}

/// An order of creation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Oldest first.
    Ascending,
    /// Newest first.
    Descending,
}

/// The videos of a page.
#[derive(Clone, Debug, PartialEq)]
pub struct List {
    /// At most as many as were asked for.
    pub videos: Vec<Video>,
    /// Whether others follow.
    pub has_more: bool,
}

impl NewVideo {
    /// Longest prompt, in characters. Chosen: far more than a text encoder reads.
    pub const PROMPT_CHARS_MAX: usize = 8_000;
    /// Longest video. Chosen: a day.
    pub const SECONDS_MAX: f64 = 86_400.0;
    /// Most pictures a second. Chosen: beyond any display.
    pub const FPS_MAX: u32 = 240;
    /// Most prompts of a schedule. Chosen.
    pub const SCHEDULE_MAX: usize = 64;
    /// The priority that goes last.
    pub const PRIORITY_MIN: i8 = -10;
    /// The priority that goes first.
    pub const PRIORITY_MAX: i8 = 10;
    /// Longest name of a model or a user, in characters. Chosen.
    pub const NAME_CHARS_MAX: usize = 200;
}

impl Page {
    /// Most videos of a page.
    pub const LIMIT_MAX: usize = 100;
    /// Videos of a page if nothing else is asked for.
    pub const LIMIT_DEFAULT: usize = 20;
}

impl fmt::Display for VideoId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "video_{:032x}", self.0)
    }
}

impl FromStr for VideoId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let digits = text.strip_prefix("video_").ok_or(NotAnId)?;
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if digits.len() != 32 || !digits.bytes().all(is_digit) {
            return Err(NotAnId);
        }
        u128::from_str_radix(digits, 16).map(Self).map_err(|_| NotAnId)
    }
}

impl Serialize for VideoId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}x{}", self.width, self.height)
    }
}

impl FromStr for Size {
    type Err = NotASize;

    fn from_str(text: &str) -> Result<Self, NotASize> {
        let (width, height) = text.split_once('x').ok_or(NotASize)?;
        let side = |text: &str| {
            let is_plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            let side = text.parse().ok().filter(|side| is_plain && (1..=SIDE_MAX).contains(side));
            side.ok_or(NotASize)
        };
        Ok(Self { width: side(width)?, height: side(height)? })
    }
}

impl Serialize for Size {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn as_text<S: Serializer>(seconds: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(seconds)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_the_exact_text_of_an_id_names_a_video() {
        let digits = "0123456789abcdef0123456789abcdef";
        let id = VideoId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(format!("video_{digits}").parse(), Ok(id));

        for wrong in [
            digits.to_owned(),
            format!("video_{}", &digits[1..]),
            format!("video_0{digits}"),
            format!("video_{}", digits.to_uppercase()),
            format!("video_+{}", &digits[1..]),
            format!("Video_{digits}"),
        ] {
            assert_eq!(wrong.parse::<VideoId>(), Err(NotAnId), "{wrong}");
        }
    }

    #[test]
    fn a_size_has_two_plain_sides_within_bounds() {
        assert_eq!("832x480".parse(), Ok(Size { width: 832, height: 480 }));
        assert_eq!("16384x1".parse(), Ok(Size { width: 16_384, height: 1 }));
        for wrong in ["", "832", "x", "0x480", "832x", "+8x8", "8x8x8", "16385x1", "8 x8", "8X8"] {
            assert_eq!(wrong.parse::<Size>(), Err(NotASize), "{wrong}");
        }
    }

    proptest! {
        #[test]
        fn ids_and_sizes_survive_their_text(
            id: u128,
            width in 1..=SIDE_MAX,
            height in 1..=SIDE_MAX,
        ) {
            let (id, size) = (VideoId(id), Size { width, height });
            prop_assert_eq!(id.to_string().parse(), Ok(id));
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }
    }
}
