//! What would run where, at what speed, and why: an answer that changes nothing.
//!
//! Times are seconds of a chunk that is not the first, unless a field says otherwise.

use std::num::NonZeroU32;

use axum::{Json, extract::State, http::Uri};
use serde::Serialize;

use crate::{
    fields::repeated,
    refusal::{Problem, Refusal, invalid},
    routes::App,
    video::{NewVideo, NotASize, Size},
    videos::{no_such_parameter, parameters},
};

/// What a plan is asked for; what is not given is the server's to choose.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct PlanWish {
    /// The model.
    pub model: Option<String>,
    /// Size of the pictures.
    pub size: Option<Size>,
    /// Length of a video.
    pub seconds: Option<f64>,
    /// Videos at once.
    pub jobs: Option<NonZeroU32>,
}

/// What would run where, at what speed, and why.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Plan {
    /// The model.
    pub model: String,
    /// Size of the pictures.
    pub size: Size,
    /// The size that workers were timed at; other sizes' times are estimated from it.
    pub measured_size: Size,
    /// Pictures a second.
    pub fps: u32,
    /// Length of a video.
    pub seconds: f64,
    /// Its pictures.
    pub pictures: u64,
    /// Its chunks.
    pub chunks: u32,
    /// Videos that are asked for.
    pub jobs: u32,
    /// Those that there is memory for at once.
    pub jobs_at_once: u32,
    /// Those that this server makes at once.
    pub jobs_max: u32,
    /// Whether that is what stands now; it is changed for a clear gain only.
    pub stands: bool,
    /// Who does something, in the order of the layers.
    pub workers: Vec<PlanWorker>,
    /// What goes from worker to worker.
    pub hops: Vec<PlanHop>,
    /// Everyone else.
    pub left_out: Vec<PlanLeftOut>,
    /// A chunk of one video alone.
    pub chunk_seconds: f64,
    /// Between two chunks of all videos that are made at once.
    pub seconds_per_chunk: f64,
    /// Pictures a second, of all of these together.
    pub pictures_per_second: f64,
    /// From the prompt to the first chunk's pictures, of one video alone.
    pub first_chunk_seconds: f64,
    /// A whole video, alone.
    pub video_seconds: f64,
    /// All videos that are asked for.
    pub videos_seconds: f64,
    /// What bounds the speed, in words.
    pub bottleneck: String,
    /// Whether pooling is worth it, in words.
    pub verdict: String,
    /// Whether one worker alone is as good.
    pub use_one_node: bool,
    /// The fastest worker that could do everything alone, if one can.
    pub one_node: Option<PlanNode>,
    /// How many times as fast as that one this is, if it is known.
    pub gain: Option<f64>,
    /// What chunks of the present pipeline really took, once some were made.
    pub measured: Option<PlanPace>,
}

/// What a worker would do.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PlanWorker {
    /// Who it is.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// What it would hold: `layers 0..15`, `text`, `decode`.
    pub stages: Vec<String>,
    /// Memory for that.
    pub need_bytes: u64,
    /// Memory that it may use.
    pub usable_bytes: u64,
    /// What it computes for a chunk.
    pub compute_seconds: f64,
    /// The share of the time that it computes.
    pub busy_share: f64,
    /// What its owner allows, by the options that say so.
    pub limits: Vec<String>,
}

/// What would go from a worker to another one, for every chunk.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PlanHop {
    /// Who sends.
    pub from: String,
    /// Who receives.
    pub to: String,
    /// `hidden`, `velocity` or `clean` (frames).
    pub carries: String,
    /// How often.
    pub messages: u32,
    /// Bytes of all of them.
    pub bytes: u64,
    /// Seconds on the way, one after the other.
    pub seconds: f64,
    /// The share of the time that the link is busy.
    pub busy_share: f64,
    /// Whether the link was measured; else it is assumed.
    pub is_measured: bool,
}

/// A worker that would do nothing.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PlanLeftOut {
    /// Who it is.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// Why, in words.
    pub why: String,
}

/// A worker that could do everything alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PlanNode {
    /// Who it is.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// Between two chunks of all videos there.
    pub seconds_per_chunk: f64,
}

/// A prediction beside what was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PlanPace {
    /// Videos that were open.
    pub jobs: u32,
    /// Between two chunks of theirs, as predicted.
    pub predicted_seconds: f64,
    /// The same as measured.
    pub measured_seconds: f64,
    /// By how many percent the prediction is too high.
    pub error_percent: f64,
}

impl PlanWish {
    /// Most videos that can be asked for at once.
    pub const JOBS_MAX: u32 = 1000;
}

pub(crate) async fn plan(State(app): State<App>, uri: Uri) -> Result<Json<Plan>, Problem> {
    Ok(Json(app.service.plan(wish(&uri)?).await?))
}

fn wish(uri: &Uri) -> Result<PlanWish, Refusal> {
    let mut wish = PlanWish::default();
    for (name, value) in parameters(uri)? {
        let wrong =
            |advice: String| invalid(&name, format!("`{name}` is {}; {advice}", repeated(&value)));
        match name.as_str() {
            "model" => {
                let most = NewVideo::NAME_CHARS_MAX;
                if most < value.chars().count() {
                    return Err(wrong(format!("give at most {most} characters")));
                }
                wish.model = Some(value);
            }
            "size" => {
                let size = value.parse();
                wish.size = Some(size.map_err(|error: NotASize| wrong(error.to_string()))?);
            }
            "seconds" => {
                let most = NewVideo::SECONDS_MAX;
                let advice = format!("give a number above 0 and at most {most}, such as 60");
                let seconds = value.parse().ok();
                let seconds = seconds.filter(|&seconds| 0.0 < seconds && seconds <= most);
                wish.seconds = Some(seconds.ok_or_else(|| wrong(advice))?);
            }
            "jobs" => {
                let most = PlanWish::JOBS_MAX;
                let advice = format!("give a whole number from 1 to {most}");
                let jobs = value.parse().ok().filter(|jobs: &NonZeroU32| jobs.get() <= most);
                wish.jobs = Some(jobs.ok_or_else(|| wrong(advice))?);
            }
            _ => return Err(no_such_parameter(&name, "model, size, seconds or jobs")),
        }
    }
    Ok(wish)
}
