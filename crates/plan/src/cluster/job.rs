//! One job from the queue to its end.
//!
//! Its stages and its decoding are two things: a chunk is decoded from the log
//! once it is there, whatever the stages do meanwhile.
//!
//! ```text
//!  stages     placing ─▶ encoding ─▶ opening ─▶ running ─▶ closing ─▶ idle
//!  decoding                                     0 1 2 3 ... all ─▶ closing ─▶ idle
//! ```
//!
//! When all chunks are made the stages are closed, all but the one beside the
//! decoder: closing a job at a member closes all that the member holds of it. That
//! one is closed with the decoder, when the video is complete. A job *holds* its
//! place in the pipeline until then, since its decoder's cache takes room.
//!
//! A job that loses its stages again and again may be what breaks them. One that gets
//! further each time is not: the placement that brought a new chunk does not count,
//! nor do those before it.
//!
//! Invariants: `published <= committed <= chunks`; what waits to be closed is only
//! shortened by confirmations and by members that are gone.

use std::collections::BTreeSet;

use types::{Epoch, Fence, JobId, NodeId};

use crate::placement::Work;

/// What a job is.
#[derive(Clone, Debug, PartialEq)]
pub struct JobSpec {
    /// What it asks of workers, at its size of pictures.
    pub work: Work,
    /// Chunks of the whole job, at least one.
    pub chunks: u32,
    /// How many times as long a run of it takes as one of the policy's work.
    pub times: f64,
    /// The larger, the earlier.
    pub priority: i32,
    /// Whose it is: users take turns.
    pub user: u64,
}

/// What a job had come to when a coordinator stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    /// Its epoch then.
    pub epoch: Epoch,
    /// Chunks in the log.
    pub committed: u32,
    /// Chunks in the video.
    pub published: u32,
}

/// A job.
#[derive(Clone, Debug, PartialEq)]
pub struct Job {
    /// What it is.
    pub spec: JobSpec,
    /// The number of its placement; 0 before the first.
    pub epoch: Epoch,
    /// Placements since it last got a chunk that it had never had, the one of now
    /// among them.
    pub attempts: u32,
    /// Where its stages are.
    pub stages: Stages,
    /// Chunks in the log.
    pub committed: u32,
    /// Chunks in the video.
    pub published: u32,
    /// How it ends, once that is decided.
    pub(super) ending: Option<Outcome>,
    /// Whether it goes back into the queue once it is closed.
    pub(super) is_again: bool,
    /// Whether nobody asks for it once it is closed.
    pub(super) is_forgotten: bool,
    /// Chunks that were made in this epoch.
    made: u32,
    decoding: Decoding,
}

/// Where a job's stages are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Stages {
    /// Nowhere, or only beside its decoder.
    Idle,
    /// Its epoch is being written down.
    Placing,
    /// Its prompts are being encoded.
    Encoding,
    /// Being opened: the lead when nothing else is waited for.
    Opening {
        /// Stages but the lead that have not confirmed.
        waiting: BTreeSet<NodeId>,
    },
    /// At work.
    Running,
    /// Being closed.
    Closing {
        /// Who has not confirmed.
        waiting: BTreeSet<NodeId>,
    },
}

/// How a job ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// All of it is in the video.
    Completed,
    /// It cannot be made; a sentence for the user.
    Failed(String),
    /// It was not wanted any more.
    Cancelled,
}

/// Where decoding is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Decoding {
    decoder: Option<NodeId>,
    /// Chunks sent to it.
    sent: u32,
    /// Of those, whose pictures came.
    arrived: u32,
    /// Of those, whose pictures are back.
    back: u32,
}

/// How far a job is: two that differ have something between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark {
    epoch: Epoch,
    stages: std::mem::Discriminant<Stages>,
    /// Members that are waited for.
    waiting: usize,
    made: u32,
    decoding: Decoding,
    /// What the devices have done that are at it.
    done: u64,
}

impl Stages {
    /// Whether a stage may hold something of the job, or is about to.
    pub fn is_open(&self) -> bool {
        *self != Self::Idle
    }

    /// Whether stages hold it.
    fn is_held(&self) -> bool {
        matches!(self, Self::Opening { .. } | Self::Running)
    }
}

impl Job {
    pub(super) fn new(spec: JobSpec) -> Self {
        let progress = Progress { epoch: Epoch(0), committed: 0, published: 0 };
        Self::restored(spec, progress)
    }

    pub(super) fn restored(spec: JobSpec, progress: Progress) -> Self {
        let committed = progress.committed.min(spec.chunks);
        let mut job = Self {
            epoch: progress.epoch,
            attempts: 0,
            stages: Stages::Idle,
            committed,
            published: progress.published.min(committed),
            ending: None,
            is_again: false,
            is_forgotten: false,
            made: if committed == spec.chunks { committed } else { 0 },
            decoding: Decoding::default(),
            spec,
        };
        job.ending = job.is_complete().then_some(Outcome::Completed);
        job
    }

    /// How it ended. A job that was cancelled has not before every stage stopped.
    pub fn outcome(&self) -> Option<&Outcome> {
        let ending = self.ending.as_ref()?;
        let waits = *ending == Outcome::Cancelled && self.stages.is_open();
        (!waits).then_some(ending)
    }

    /// Whether it has left the queue.
    pub fn has_begun(&self) -> bool {
        self.stages.is_open() || 0 < self.committed
    }

    /// Chunks that are still to be made.
    pub fn chunks_left(&self) -> u32 {
        self.spec.chunks - self.made
    }

    /// Whether all its chunks were made, and only pictures are missing.
    pub fn is_through(&self) -> bool {
        self.made == self.spec.chunks
    }

    /// What a message about its placement carries.
    pub(super) fn fence(&self, id: JobId) -> Fence {
        Fence { job: id, epoch: self.epoch }
    }

    /// How far it is, with what the devices have done that are at it.
    pub(super) fn mark(&self, done: u64) -> Mark {
        let waiting = match &self.stages {
            Stages::Opening { waiting } | Stages::Closing { waiting } => waiting.len(),
            Stages::Idle | Stages::Placing | Stages::Encoding | Stages::Running => 0,
        };
        Mark {
            epoch: self.epoch,
            stages: std::mem::discriminant(&self.stages),
            waiting,
            made: self.made,
            decoding: self.decoding,
            done,
        }
    }

    /// Pictures of a chunk came from the decoder.
    pub(super) fn arrive(&mut self, chunk: u32) {
        let arrived = chunk.saturating_add(1).min(self.decoding.sent);
        self.decoding.arrived = self.decoding.arrived.max(arrived);
    }

    /// The decoder, if pictures are to come from it.
    pub(super) fn awaited_decoder(&self) -> Option<NodeId> {
        self.decoding.decoder.filter(|_| self.decoding.arrived < self.decoding.sent)
    }

    pub(super) fn is_complete(&self) -> bool {
        self.published == self.spec.chunks
    }

    /// Whether a member may hold something of it, or is about to.
    pub(super) fn is_on_pipeline(&self) -> bool {
        self.stages.is_open() || self.decoding.decoder.is_some()
    }

    /// Whether it keeps a place that another job could have.
    pub(super) fn holds_place(&self) -> bool {
        self.is_on_pipeline() || self.decodes_on()
    }

    /// Whether it cannot be made without the stages it is placed on.
    pub(super) fn needs_stages(&self) -> bool {
        let is_closing = matches!(self.stages, Stages::Closing { .. });
        self.ending.is_none() && self.stages.is_open() && !is_closing
    }

    /// Whether it cannot be made without the text side it is placed on.
    pub(super) fn needs_text(&self) -> bool {
        self.ending.is_none() && matches!(self.stages, Stages::Placing | Stages::Encoding)
    }

    /// Whether a member holds something of it, or is about to, or has not said that it
    /// does not.
    pub(super) fn may_be_held(&self, node: NodeId, stages: &[NodeId]) -> bool {
        let is_on_stage = match &self.stages {
            Stages::Opening { .. } | Stages::Running => stages.contains(&node),
            Stages::Closing { waiting } => waiting.contains(&node),
            Stages::Idle | Stages::Placing | Stages::Encoding => false,
        };
        is_on_stage || self.decoding.decoder == Some(node)
    }

    /// Whether a member has said that its stage is open.
    pub(super) fn must_be_held(&self, node: NodeId, stages: &[NodeId]) -> bool {
        let has_opened = match &self.stages {
            Stages::Opening { waiting } => {
                stages.first() != Some(&node) && !waiting.contains(&node)
            }
            Stages::Running => true,
            Stages::Idle | Stages::Placing | Stages::Encoding | Stages::Closing { .. } => false,
        };
        has_opened && stages.contains(&node)
    }

    pub(super) fn decoder(&self) -> Option<NodeId> {
        self.decoding.decoder
    }

    /// Begins another placement.
    pub(super) fn place(&mut self, id: JobId) -> Fence {
        self.epoch.0 = self.epoch.0.saturating_add(1);
        self.attempts += 1;
        self.made = 0;
        self.stages = Stages::Placing;
        self.fence(id)
    }

    /// Gives whether that was the last chunk that its stages were to make.
    pub(super) fn commit(&mut self, chunk: u32) -> bool {
        let committed = chunk.saturating_add(1).min(self.spec.chunks);
        if self.committed < committed {
            (self.committed, self.attempts) = (committed, 0);
        }
        if !self.stages.is_held() {
            return false;
        }
        self.made = self.made.max(committed);
        self.is_through()
    }

    pub(super) fn publish(&mut self, chunk: u32) {
        let published = chunk.saturating_add(1).min(self.committed);
        self.published = self.published.max(published);
        self.decoding.back = self.decoding.back.max(published.min(self.decoding.sent));
    }

    /// The next chunk for the decoder, if it is to have one now. A decoder begins
    /// with the first chunk: it has seen none of those before.
    pub(super) fn poll_decode(&mut self, decoder: NodeId, decoding_max: u32) -> Option<u32> {
        let is_fed = self.stages == Stages::Running || self.decodes_on();
        if !is_fed || self.ending.is_some() {
            return None;
        }
        let fresh = Decoding { decoder: Some(decoder), sent: 0, arrived: 0, back: 0 };
        let is_at_it = self.decoding.decoder == fresh.decoder;
        let Decoding { sent, arrived, back, .. } = if is_at_it { self.decoding } else { fresh };
        // A chunk of an epoch before this one may be in the log and not made again yet.
        let is_due = sent < self.committed && sent - back < decoding_max;
        is_due.then(|| {
            self.decoding = Decoding { sent: sent + 1, arrived, back, ..fresh };
            sent
        })
    }

    /// What the decoder had under way may be lost: it begins anew.
    pub(super) fn decode_again(&mut self) {
        self.decoding = Decoding { decoder: self.decoding.decoder, ..Decoding::default() };
    }

    /// Who is to close it: those of its stages that live, and the decoder if nothing
    /// is to be decoded any more under this epoch. Else the decoder, of the pipeline
    /// if it has none yet, keeps what it holds.
    pub(super) fn begin_to_close(
        &mut self,
        stages: &[NodeId],
        decoder: Option<NodeId>,
    ) -> Vec<NodeId> {
        let mut nodes = BTreeSet::new();
        if self.stages.is_held() {
            nodes.extend(stages);
        }
        if self.decodes_on() {
            self.decoding.decoder = self.decoding.decoder.or(decoder);
            nodes.retain(|&node| Some(node) != self.decoding.decoder);
        } else {
            nodes.extend(self.decoding.decoder);
            self.decoding = Decoding::default();
        }
        let told = nodes.iter().copied().collect();
        if let Stages::Closing { waiting } = &self.stages {
            nodes.extend(waiting);
        }
        self.stages = match nodes.is_empty() {
            true => Stages::Idle,
            false => Stages::Closing { waiting: nodes },
        };
        told
    }

    /// A member has closed it.
    pub(super) fn closed(&mut self, node: NodeId) {
        let Stages::Closing { waiting } = &mut self.stages else { return };
        waiting.remove(&node);
        if waiting.is_empty() {
            self.stages = Stages::Idle;
        }
    }

    /// A member is gone with all it held.
    pub(super) fn lose(&mut self, node: NodeId) {
        self.closed(node);
        if self.decoding.decoder == Some(node) {
            self.decoding = Decoding::default();
        }
    }

    /// Whether only pictures are missing, and wanted.
    fn decodes_on(&self) -> bool {
        self.ending.is_none() && !self.is_again && self.is_through()
    }
}
