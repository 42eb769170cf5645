//! What workers say, all the way to what the cluster decides of it.
//!
//! Three workers speak; the number of a message's life says which one. The cluster's
//! own commands are carried out as a coordinator does, so that jobs get on.

use std::{num::NonZeroU32, time::Duration};

use plan::{
    cluster::{Boot, Cluster, Command, JobSpec, Policy},
    placement::{Footprint, Link, Runs, Work},
};
use proto::{
    Malformed,
    control::{self, FROM_WORKER_BYTES_MAX, wire, wire::from_worker::Kind as Said},
};
use types::{Fence, Incarnation, NodeId};

use crate::{
    Target,
    control::{fence, hello, said},
    frames::{framed, messages},
    mutate::Shape,
};

/// Workers' messages, one after the other.
pub(crate) const MEMBERS: Target = Target {
    name: "members",
    shape: Shape::Frames,
    decode: members,
    seeds: || vec![framed(running()), framed([session(1), session(2), session(3)].concat())],
    input_bytes_max: 32 << 10,
    held_bytes: 256 << 10,
    held_per_byte: 96,
    cases: 6_000,
};

/// Messages of a case, at most: each may have the cluster plan.
const MESSAGES_MAX: usize = 64;

fn members(bytes: &[u8]) -> Result<(), String> {
    let mut world = World::new();
    let mut refused = Ok(());
    for message in messages::<wire::FromWorker>(bytes, FROM_WORKER_BYTES_MAX).take(MESSAGES_MAX) {
        refused = refused.and(message.and_then(|message| world.take(message)));
    }
    refused
}

struct World {
    cluster: Cluster,
    now: Duration,
}

impl World {
    /// A job waits for workers.
    fn new() -> Self {
        let mut cluster = Cluster::new(policy());
        let spec = JobSpec { work: work(), chunks: 3, times: 1.0, priority: 0, user: 7 };
        cluster.handle_created(Duration::ZERO, fence().job, spec).expect("nothing waits");
        Self { cluster, now: Duration::ZERO }
    }

    fn take(&mut self, message: wire::FromWorker) -> Result<(), String> {
        let node = NodeId(u128::from(message.incarnation % 3));
        let message = control::from_worker(message).map_err(|error| error.to_string())?;
        let heard = message.kind.map_or(Ok(()), |kind| self.hear(node, kind));
        self.now += Duration::from_secs(1);
        self.cluster.handle_timeout(self.now);
        self.obey();
        heard.map_err(|error| error.to_string())
    }

    fn hear(&mut self, node: NodeId, said: Said) -> Result<(), Malformed> {
        let Self { cluster, now } = self;
        let now = *now;
        match said {
            Said::Hello(hello) => {
                let boot = Boot(control::boot(&hello.boot)?);
                // Another life of a node that is here is refused.
                let _ = cluster.handle_session(now, node, boot, control::offer(&hello)?);
                let held = hello.held.into_iter().map(|held| control::fence(Some(held)));
                cluster.handle_held(now, node, &held.collect::<Result<Vec<_>, _>>()?);
            }
            Said::Profiled(profiled) => {
                cluster.handle_probed(node, control::probe(&profiled)?);
                cluster.handle_profiled(now, node, control::speed(&profiled));
            }
            Said::StageReady(ready) => cluster.handle_ready(now, node, ready.assignment),
            Said::StageFailed(failed) => {
                cluster.handle_not_ready(now, node, failed.assignment, failed.problem);
            }
            Said::Opened(opened) => {
                cluster.handle_opened(now, node, control::fence(opened.fence)?);
            }
            Said::Closed(closed) => {
                cluster.handle_closed(now, node, control::fence(closed.fence)?);
            }
            Said::JobFailed(failed) => {
                cluster.handle_failed(now, control::fence(failed.fence)?, failed.problem);
            }
            Said::LinkMeasured(measured) => {
                let wire::LinkMeasured { peer, bytes_per_second, latency_seconds, .. } = measured;
                let link = Link { bytes_per_second, latency_seconds };
                cluster.handle_link(now, node, control::node(&peer)?, link);
            }
            Said::Leaving(_) => cluster.handle_left(now, node, Incarnation(1)),
            Said::LinkFailed(failed) => drop(control::node(&failed.peer)?),
            Said::Heartbeat(_) => cluster.handle_lost(now, node, Incarnation(1)),
        }
        Ok(())
    }

    /// Does what is asked for: the log and the store take all, prompts are encoded at
    /// once.
    fn obey(&mut self) {
        while let Some(command) = self.cluster.poll_command() {
            match command {
                Command::Place { fence } => self.cluster.handle_placed(self.now, fence),
                Command::Encode { fence, .. } => self.cluster.handle_encoded(self.now, fence),
                Command::Decode { fence: Fence { job, .. }, chunk, .. } => {
                    self.cluster.handle_published(self.now, job, chunk);
                }
                Command::Profile { .. }
                | Command::Assign { .. }
                | Command::Release { .. }
                | Command::Open { .. }
                | Command::Close { .. }
                | Command::Changed { .. } => {}
            }
        }
    }
}

/// What one worker says until a job runs on it.
fn running() -> Vec<wire::FromWorker> {
    let fence = Some(fence().into());
    let speed = wire::Profiled {
        layer_seconds: 0.5,
        decode_seconds: Some(0.3),
        text_seconds: Some(0.2),
        ..wire::Profiled::default()
    };
    let kinds = [
        Said::Hello(wire::Hello { limits: None, held: Vec::new(), ..hello() }),
        Said::Profiled(speed),
        Said::LinkFailed(wire::LinkFailed { peer: vec![2; 16], problem: String::new() }),
        Said::StageReady(wire::StageReady { assignment: 1, load_seconds: 2.0 }),
        Said::Opened(wire::Opened { fence, problem: None }),
    ];
    kinds.map(|kind| wire::FromWorker { incarnation: 1, kind: Some(kind) }).into()
}

/// All that a worker says in a session, what ends it last.
fn session(life: u64) -> Vec<wire::FromWorker> {
    let mut said = said();
    for message in &mut said {
        message.incarnation = life;
    }
    said
}

fn policy() -> Policy {
    Policy {
        work: work(),
        jobs_max: NonZeroU32::MIN,
        queue_max: 4,
        settle: Duration::from_millis(500),
        grace: Duration::from_secs(3),
        patience: Duration::from_secs(120),
        attempts_max: 3,
        decoding_max: 2,
        assignments_before: 0,
        assumed_link: Link { bytes_per_second: 1e8, latency_seconds: 1e-3 },
    }
}

/// Four layers of a gigabyte.
fn work() -> Work {
    let runs = Runs { passes: 4, runs: 4 };
    Work {
        layers: 4,
        first_chunk: runs,
        later_chunks: runs,
        hidden_bytes: 1 << 20,
        velocity_bytes: 1 << 16,
        x0_bytes: 1 << 16,
        footprint: Footprint {
            layer_bytes: 1 << 30,
            layer_job_bytes: 1 << 20,
            first_stage_bytes: 1 << 20,
            last_stage_bytes: 1 << 20,
            stage_bytes: 1 << 20,
            text_bytes: 1 << 20,
            decoder_bytes: 1 << 20,
            decoder_job_bytes: 1 << 20,
        },
    }
}

#[cfg(test)]
mod tests {
    use plan::cluster::Stages;

    use super::*;

    #[test]
    fn job_runs_by_what_the_corpus_says() {
        let mut world = World::new();

        running().into_iter().for_each(|message| world.take(message).unwrap());

        assert_eq!(world.cluster.job(fence().job).unwrap().stages, Stages::Running);
    }
}
