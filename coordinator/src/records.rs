//! What the state store holds, as JSON that a person can read.
//!
//! | key | record |
//! | --- | --- |
//! | `coordinator` | [`Own`] |
//! | `alive` | who works on these records, under a lease |
//! | `nodes/<hex>` | [`Node`] |
//! | `jobs/<hex>` | [`Job`] |
//! | `tokens/<hex>` | `identity::TokenRecord` |

use std::fmt;

use serde::{Deserialize, Serialize};
use types::{JobId, NodeId};

/// The coordinator itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Own {
    /// The number of its life.
    pub(crate) incarnation: u64,
}

/// A node that has joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Node {
    /// Its name, for people.
    pub(crate) name: String,
    /// The number of its last life; 0 if it had none.
    pub(crate) incarnation: u64,
    /// The process that lived it, in hexadecimal digits.
    pub(crate) boot: String,
}

/// A job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Job {
    /// What makes it. Records of versions before this field have none.
    #[serde(default)]
    pub(crate) model: Option<Model>,
    pub(crate) prompt: String,
    /// Prompts with the first chunk of each.
    pub(crate) prompts: Vec<(u32, String)>,
    pub(crate) width: usize,
    pub(crate) height: usize,
    pub(crate) seconds: f64,
    pub(crate) seed: u64,
    pub(crate) priority: i8,
    pub(crate) user: Option<String>,
    pub(crate) status: Status,
    /// Why it failed.
    pub(crate) error: Option<String>,
    /// The number of its last placement.
    pub(crate) epoch: u64,
    pub(crate) created_at: u64,
    pub(crate) started_at: Option<u64>,
    pub(crate) completed_at: Option<u64>,
}

/// The model of a job: what must be known of it to show a video when another one is
/// served.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Model {
    pub(crate) name: String,
    /// In hexadecimal digits.
    pub(crate) digest: String,
    /// Pictures a second.
    pub(crate) fps: u32,
    /// Pictures of every frame after the first.
    pub(crate) pictures_per_frame: usize,
    /// Frames of a chunk; a video is one chunk if there is none.
    pub(crate) chunk_frames: Option<usize>,
}

/// How far a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    Queued,
    InProgress,
    Completed,
    Failed,
}

/// Digits of a digest that are shown to people. Chosen: enough to tell models apart.
const DIGITS_SHOWN: usize = 12;

impl fmt::Display for Model {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = self.digest.get(..DIGITS_SHOWN).unwrap_or(&self.digest);
        write!(f, "`{}` (digest {digits})", self.name)
    }
}

/// The file of a data folder that has them, unless they are elsewhere.
pub(crate) const FILE: &str = "state.redb";

pub(crate) const OWN: &str = "coordinator";
pub(crate) const ALIVE: &str = "alive";
pub(crate) const NODES: &str = "nodes/";
pub(crate) const JOBS: &str = "jobs/";
pub(crate) const TOKENS: &str = "tokens/";

pub(crate) fn job_key(job: JobId) -> String {
    format!("{JOBS}{job}")
}

pub(crate) fn node_key(node: NodeId) -> String {
    format!("{NODES}{node}")
}

/// The number that a key's hexadecimal end names.
pub(crate) fn number(key: &str, prefix: &str) -> Option<u128> {
    u128::from_str_radix(key.strip_prefix(prefix)?, 16).ok()
}
