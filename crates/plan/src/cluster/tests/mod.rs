//! Scenarios, one claim each, and a simulated world that is checked at every event.

mod forecasts;
mod jobs;
mod members;
mod pipelines;
mod restarts;
mod simulated;
mod stalls;
mod world;

use std::num::NonZeroU32;

use types::{Class, Epoch, Fence};

use super::{
    members::{GONE_LISTED, GONE_MAX},
    *,
};
use crate::placement::{Footprint, Limits, Runs, Speed};

const A: NodeId = NodeId(0xa);
const B: NodeId = NodeId(0xb);
const C: NodeId = NodeId(0xc);
const JOB: JobId = JobId(1);
const OTHER: JobId = JobId(2);

/// A cluster at a time, driven by hand.
struct Hand {
    cluster: Cluster,
    now: Duration,
}

impl Hand {
    fn new(policy: Policy) -> Self {
        Self { cluster: Cluster::new(policy), now: Duration::ZERO }
    }

    /// A cluster whose pipeline of these members is ready.
    fn ready(policy: Policy, members: &[(NodeId, Offer)]) -> Self {
        let mut hand = Self::new(policy);
        for (node, offer) in members {
            hand.enter(*node, offer.clone());
        }
        hand.settle();
        hand
    }

    /// A member comes and is measured.
    fn enter(&mut self, node: NodeId, offer: Offer) -> Incarnation {
        let incarnation = self.session(node, Boot(1), offer);
        self.cluster.handle_profiled(self.now, node, speed());
        incarnation
    }

    fn session(&mut self, node: NodeId, boot: Boot, offer: Offer) -> Incarnation {
        self.cluster.handle_session(self.now, node, boot, offer).unwrap()
    }

    /// Time passes until the members count as settled; all load what they are assigned.
    fn settle(&mut self) {
        self.wait(SETTLE);
        for command in self.commands() {
            if let Command::Assign { node, assignment, .. } = command {
                self.cluster.handle_ready(self.now, node, assignment);
            }
        }
    }

    fn wait(&mut self, time: Duration) {
        self.now += time;
        self.cluster.handle_timeout(self.now);
    }

    fn create(&mut self, job: JobId, chunks: u32) {
        self.cluster.handle_created(self.now, job, spec(chunks)).unwrap();
    }

    /// Answers everything about a job until its stages run; gives its fence.
    fn run(&mut self, job: JobId) -> Fence {
        while self.job(job).stages != Stages::Running {
            let commands = self.commands();
            assert!(!commands.is_empty(), "{job:?} does not begin: {:?}", self.job(job));
            for command in commands {
                if let Command::Place { fence } = command {
                    self.cluster.handle_placed(self.now, fence);
                } else if let Command::Encode { fence, .. } = command {
                    self.cluster.handle_encoded(self.now, fence);
                } else if let Command::Open { node, fence, .. } = command {
                    self.cluster.handle_opened(self.now, node, fence);
                }
            }
        }
        self.commands();
        self.job(job).fence(job)
    }

    fn commit(&mut self, fence: Fence, chunk: u32) {
        self.cluster.handle_committed(self.now, fence, chunk);
    }

    fn publish(&mut self, job: JobId, chunk: u32) {
        self.cluster.handle_published(self.now, job, chunk);
    }

    fn closed(&mut self, node: NodeId, fence: Fence) {
        self.cluster.handle_closed(self.now, node, fence);
    }

    fn position(&self, job: JobId) -> Option<usize> {
        Some(self.cluster.line().standing(job)?.position)
    }

    fn job(&self, job: JobId) -> &Job {
        self.cluster.job(job).unwrap()
    }

    /// All commands that wait.
    fn commands(&mut self) -> Vec<Command> {
        std::iter::from_fn(|| self.cluster.poll_command()).collect()
    }

    /// Those that are for members.
    fn told(&mut self) -> Vec<Command> {
        let commands = self.commands();
        commands.into_iter().filter(|command| command.node().is_some()).collect()
    }
}

const SETTLE: Duration = Duration::from_secs(1);
const GRACE: Duration = Duration::from_secs(5);
/// More than ten times what the plan of any scenario says.
const PATIENCE: Duration = Duration::from_secs(1_000);

fn policy() -> Policy {
    Policy {
        work: work(),
        jobs_max: NonZeroU32::new(2).unwrap(),
        queue_max: 4,
        settle: SETTLE,
        grace: GRACE,
        patience: PATIENCE,
        attempts_max: 3,
        assignments_before: 0,
        decoding_max: 2,
        assumed_link: Link { bytes_per_second: 1e9, latency_seconds: 0.0 },
    }
}

/// Four layers of 10 bytes; every job adds one to a layer and three to the decoder.
fn work() -> Work {
    let runs = Runs { passes: 4, runs: 4 };
    Work {
        layers: 4,
        first_chunk: runs,
        later_chunks: runs,
        hidden_bytes: 0,
        velocity_bytes: 0,
        x0_bytes: 0,
        footprint: Footprint {
            layer_bytes: 10,
            layer_job_bytes: 1,
            first_stage_bytes: 0,
            last_stage_bytes: 0,
            stage_bytes: 0,
            text_bytes: 0,
            decoder_bytes: 0,
            decoder_job_bytes: 3,
        },
    }
}

fn spec(chunks: u32) -> JobSpec {
    JobSpec { work: work(), chunks, times: 1.0, priority: 0, user: 7 }
}

fn speed() -> Speed {
    Speed {
        layer_seconds: 1.0,
        embedding_seconds: 0.0,
        head_seconds: 0.0,
        decode_seconds: Some(0.0),
        text_seconds: Some(0.0),
    }
}

/// A member with room for everything.
fn offer() -> Offer {
    Offer {
        name: "a".to_owned(),
        class: Class::CpuF32,
        memory_bytes: 1_000,
        limits: Limits::default(),
        layers: true,
        text: true,
        decoder: true,
    }
}

/// A member that holds these layers and nothing else.
fn holder(layers: std::ops::Range<usize>) -> Offer {
    let limits = Limits { layers: Some(layers), ..Limits::default() };
    Offer { limits, text: false, decoder: false, ..offer() }
}

/// A member that encodes text and decodes.
fn side() -> Offer {
    Offer { layers: false, ..offer() }
}

/// The lead on A, the other stage on B, text and decoder on C.
fn three() -> Hand {
    Hand::ready(policy(), &[(A, holder(0..2)), (B, holder(2..4)), (C, side())])
}

/// All on A.
fn one() -> Hand {
    Hand::ready(policy(), &[(A, offer())])
}

fn fence(job: JobId, epoch: u64) -> Fence {
    Fence { job, epoch: Epoch(epoch) }
}

fn close(node: NodeId, fence: Fence) -> Command {
    Command::Close { node, fence }
}

fn decode(node: NodeId, fence: Fence, chunk: u32) -> Command {
    Command::Decode { node, fence, chunk }
}

fn open(node: NodeId, fence: Fence, assignment: u64) -> Command {
    Command::Open { node, fence, assignment }
}
