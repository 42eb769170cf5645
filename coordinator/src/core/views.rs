//! The tables as the HTTP door shows them.

use std::{collections::BTreeMap, time::Duration};

use api::{Cluster, Link, Size, StageTiming, Status, Video, VideoError, VideoId, Worker};
use plan::{
    cluster::{Duty, Presence},
    placement::{Bottleneck, Verdict},
};
use proto::control::{
    self,
    wire::{Counters, Heartbeat, Progress},
};
use serde_json::{Map, Value, json};
use types::{JobId, NodeId};

use super::{Core, Session, nodes::presence, spent, unix_now};
use crate::records;

/// What a worker has done since its process began.
#[derive(Clone, Debug)]
pub(crate) struct Counted {
    pub(crate) node: NodeId,
    /// What it holds; empty if nothing.
    pub(crate) stage: String,
    pub(crate) counters: Counters,
}

/// Videos that are shown of a worker, at most.
const MAKING_MAX: usize = 64;

impl Core {
    /// A video as it is now.
    pub(crate) fn video(&mut self, id: JobId) -> Option<Video> {
        let standing = self.standing(id);
        let film = self.films.get(&id).filter(|film| !film.wish.is_probe)?;
        let job = self.cluster.job(id);
        let order = &film.wish.order;
        let side = |pixels: usize| u32::try_from(pixels).unwrap_or(u32::MAX);
        let chunks = u64::from(order.length.chunks.max(1));
        let done = match film.status {
            records::Status::Completed => chunks,
            records::Status::Queued | records::Status::InProgress | records::Status::Failed => {
                u64::from(job.map_or(0, |job| job.published))
            }
        };
        let wait = standing.and_then(|standing| self.cluster.estimated_wait_seconds(standing));
        let rest = job
            .zip(self.cluster.pipeline().plan())
            .map(|(job, plan)| f64::from(job.chunks_left()) * plan.prediction.seconds_per_chunk);
        let now = unix_now();
        let at = |seconds: f64| {
            now + Duration::try_from_secs_f64(seconds).map_or(0, |wait| wait.as_secs())
        };
        let is_over = film.completed_at.is_some();
        Some(Video {
            id: VideoId(id.0),
            model: film.model.name.clone(),
            prompt: order.prompts.first().map(|(_, prompt)| prompt.clone()).unwrap_or_default(),
            status: match film.status {
                records::Status::Queued => Status::Queued,
                records::Status::InProgress => Status::InProgress,
                records::Status::Completed => Status::Completed,
                records::Status::Failed => Status::Failed,
            },
            progress: u8::try_from(done * 100 / chunks).unwrap_or(100),
            created_at: film.wish.created_at,
            started_at: film.started_at,
            completed_at: film.completed_at,
            expires_at: None,
            size: Size { width: side(order.size.width), height: side(order.size.height) },
            seconds: order.seconds,
            seed: film.wish.seed,
            fps: film.model.fps,
            error: film
                .error
                .clone()
                .map(|message| VideoError { code: "failed".to_owned(), message }),
            queue_position: standing.map(|standing| side(standing.position)),
            estimated_start_at: wait.map(at),
            estimated_completion_at: rest
                .filter(|_| !is_over)
                .map(|rest| at(wait.unwrap_or(0.0) + rest)),
            pictures: film.pictures,
            stage_timings: film.timings.clone(),
        })
    }

    /// Videos in the order in which they were asked for.
    pub(crate) fn videos(&self) -> Vec<JobId> {
        let shown = self.films.values().filter(|film| !film.wish.is_probe);
        let mut videos: Vec<_> = shown.map(|film| (film.wish.created_at, film.wish.job)).collect();
        videos.sort_unstable();
        videos.into_iter().map(|(_, job)| job).collect()
    }

    /// Who is here, what runs where and what bounds it.
    pub(crate) fn cluster_view(&self) -> Cluster {
        let pipeline = self.cluster.pipeline();
        let duties: BTreeMap<NodeId, &Duty> = pipeline.duties().collect();
        let members =
            self.cluster.members().filter(|(_, member)| member.presence != Presence::Gone);
        let workers = members.map(|(node, member)| {
            let session = self.session(node);
            let used = session.map_or(0, |session| session.heartbeat.memory_used_bytes);
            let mut more = Map::new();
            more.insert("name".to_owned(), json!(member.offer.name));
            more.insert("incarnation".to_owned(), json!(member.incarnation.0));
            if let Some(speed) = member.speed {
                more.insert("layer_seconds".to_owned(), json!(speed.layer_seconds));
            }
            let untimed = session.and_then(|session| session.problem.as_ref());
            if let Some(problem) = member.excluded.as_ref().or(untimed) {
                more.insert("problem".to_owned(), json!(problem));
            }
            let making = session.map_or(Vec::new(), |session| self.making(&session.heartbeat));
            if !making.is_empty() {
                more.insert("making".to_owned(), json!(making));
            }
            if let Some(spent) = self.spent.view(node) {
                more.insert("spent".to_owned(), spent);
            }
            Worker {
                id: node.to_string(),
                device: session.map(|session| session.device.clone()).unwrap_or_default(),
                class: member.offer.class.name().to_owned(),
                state: presence(member).to_owned(),
                stages: duties.get(&node).map(|duty| parts(duty)).unwrap_or_default(),
                memory_bytes: member.offer.memory_bytes,
                memory_used_bytes: used,
                more,
            }
        });
        let running = self.films.values().filter(|film| film.status == records::Status::InProgress);
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Cluster {
            workers: workers.collect(),
            links: self.links_view(),
            running: count(running.count()),
            queued: count(self.cluster.waiting()),
            chunk_seconds: pipeline.plan().map(|plan| plan.prediction.chunk_seconds),
            bottleneck: self.bottleneck(),
            more: self.plan_view(),
        }
    }

    /// Videos that a worker says it is at, with the chunk that it makes of each.
    fn making(&self, heartbeat: &Heartbeat) -> Vec<Value> {
        let shown = |progress: &Progress| {
            let job = control::fence(progress.fence.clone()).ok()?.job;
            self.films.get(&job).filter(|film| !film.wish.is_probe)?;
            Some(json!({ "video_id": VideoId(job.0).to_string(), "chunk": progress.chunk }))
        };
        heartbeat.progress.iter().take(MAKING_MAX).filter_map(shown).collect()
    }

    fn links_view(&self) -> Vec<Link> {
        let shown = |(&(from, to), link): (&(NodeId, NodeId), &plan::placement::Link)| Link {
            from: from.to_string(),
            to: to.to_string(),
            bytes_per_second: link.bytes_per_second,
            round_trip_seconds: 2.0 * link.latency_seconds,
        };
        self.links.iter().map(shown).collect()
    }

    fn plan_view(&self) -> Map<String, Value> {
        let mut more = Map::new();
        if let Some(problem) = self.problem() {
            more.insert("problem".to_owned(), json!(problem));
        }
        if let Some(plan) = self.cluster.pipeline().plan() {
            let one_node = plan.explanation.verdict == Verdict::UseOneNode;
            more.insert("assignment".to_owned(), json!(self.cluster.pipeline().assignment()));
            more.insert("jobs_at_once".to_owned(), json!(self.cluster.pipeline().jobs()));
            more.insert("use_one_node".to_owned(), json!(one_node));
            more.insert("seconds_per_chunk".to_owned(), json!(plan.prediction.seconds_per_chunk));
            if let Some(accuracy) = self.accuracy() {
                let (measured, error) = (accuracy.measured_seconds, accuracy.error_percent());
                more.insert("seconds_per_chunk_measured".to_owned(), json!(measured));
                more.insert("prediction_error_percent".to_owned(), json!(error.round()));
            }
        }
        more
    }

    /// What bounds the speed, in words.
    pub(super) fn bottleneck(&self) -> Option<String> {
        let pipeline = self.cluster.pipeline();
        let plan = pipeline.plan()?;
        let name = |index| {
            let member = self.cluster.member(pipeline.node(index)?)?;
            Some(member.offer.name.clone())
        };
        let busy = (plan.prediction.busy_share * 100.0).round();
        Some(match plan.prediction.bottleneck {
            Bottleneck::Worker { worker } => {
                format!("worker {} is busy {busy} % of the time", name(worker)?)
            }
            Bottleneck::Link { from, to } => {
                let (from, to) = (name(from)?, name(to)?);
                format!("the link from {from} to {to} is busy {busy} % of the time")
            }
        })
    }

    /// What every worker that is here has done.
    pub(crate) fn counted(&self) -> Vec<Counted> {
        let duties: BTreeMap<NodeId, &Duty> = self.cluster.pipeline().duties().collect();
        let counted = |(&node, session): (&NodeId, &Session)| {
            let counters = session.heartbeat.counters?;
            let stage = duties.get(&node).map(|duty| parts(duty).join(", ")).unwrap_or_default();
            Some(Counted { node, stage, counters })
        };
        self.sessions.iter().filter_map(counted).collect()
    }

    /// What every worker of the pipeline has done since its process began.
    pub(super) fn counters(&self) -> BTreeMap<NodeId, Counters> {
        let counters = |(node, _)| Some((node, self.session(node)?.heartbeat.counters?));
        self.cluster.pipeline().duties().filter_map(counters).collect()
    }

    /// The same since they had counted so much.
    pub(super) fn timings(&self, begun: &BTreeMap<NodeId, Counters>) -> Vec<StageTiming> {
        let counted = self.counters();
        let timing = |(node, duty): (NodeId, &Duty)| {
            let (now, begun) = (counted.get(&node)?, begun.get(&node).copied().unwrap_or_default());
            let since = spent::since(now, &begun);
            Some(StageTiming {
                stage: parts(duty).join(", "),
                worker: node.to_string(),
                compute_seconds: since.compute_seconds,
                transfer_seconds: since.transfer_seconds,
                wait_seconds: since.wait_seconds,
                sent_bytes: since.sent_bytes,
                received_bytes: since.received_bytes,
            })
        };
        self.cluster.pipeline().duties().filter_map(timing).collect()
    }
}

/// What a worker holds, part by part.
pub(crate) fn parts(duty: &Duty) -> Vec<String> {
    let layers = duty.layers.as_ref();
    let layers = layers.map(|layers| format!("layers {}..{}", layers.start, layers.end));
    let text = duty.text.then(|| "text".to_owned());
    let decode = duty.decoder.then(|| "decode".to_owned());
    [layers, text, decode].into_iter().flatten().collect()
}
