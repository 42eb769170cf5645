//! What the cluster decides, done.

use api::{Happening, PlannedStage, VideoError};
use plan::cluster::{Command, Duty, Outcome};
use proto::{
    control::{
        self,
        wire::{self, to_worker::Kind as Asked},
    },
    data::{Kind, Message},
};
use types::{Branch, Class, Fence, JobId, NodeId};

use super::{Core, Event, film::Shapes, unix_now};
use crate::records::{self, Status};

/// Chunks that may be made before they are in the log; each costs every stage a slot.
pub const UNCOMMITTED_CHUNKS_MAX: u32 = 1;

impl Core {
    pub(super) fn command(&mut self, command: Command) {
        match command {
            Command::Profile { node } => self.profile(node),
            Command::Assign { node, assignment, duty } => self.assign(node, assignment, &duty),
            Command::Release { node } => {
                self.tell_to_drain(node);
                let assignment = self.cluster.pipeline().assignment();
                self.tell(node, Asked::Release(wire::Release { assignment }));
            }
            Command::Place { fence } => self.place(fence),
            Command::Encode { node, fence } => self.encode(node, fence),
            Command::Open { node, fence, assignment } => self.open(node, fence, assignment),
            Command::Close { node, fence } => {
                self.tell(node, Asked::Close(wire::Close { fence: Some(fence.into()) }));
            }
            Command::Decode { node, fence, chunk } => {
                let handle = self.handle.clone();
                let asked = self.log.read(fence.job, chunk, move |result| {
                    handle.tell_blocking(Event::Read(node, fence, chunk, result));
                });
                self.log_asked(fence, asked);
            }
            Command::Changed { job } => self.changed(job),
        }
    }

    pub(super) fn profile(&mut self, node: NodeId) {
        let Ok(grid) = self.served.grid(self.served.own_size()) else { return };
        let now = self.now();
        if let Some(session) = self.sessions.get_mut(&node) {
            session.ask_for_times(now);
        }
        let model =
            wire::Model { name: self.served.name.clone(), digest: self.served.digest.0.to_vec() };
        let (model, grid) = (Some(model), Some(grid.into()));
        self.tell(node, Asked::Profile(wire::Profile { model, grid }));
    }

    fn assign(&mut self, node: NodeId, assignment: u64, duty: &Duty) {
        let Ok(grid) = self.served.grid(self.served.own_size()) else { return };
        let model =
            wire::Model { name: self.served.name.clone(), digest: self.served.digest.0.to_vec() };
        let bytes = |node: Option<NodeId>| node.map(control::node_bytes).unwrap_or_default();
        let assign = wire::Assign {
            assignment,
            model: Some(model),
            numeric_class: self.class(node).map_or("", Class::name).to_owned(),
            layers: duty.layers.as_ref().map(wire::LayerRange::from),
            text: duty.text,
            decoder: duty.decoder,
            grid: Some(grid.into()),
            peers: self.peers(node),
            next: bytes(duty.next),
            lead: bytes(duty.lead),
        };
        self.tell(node, Asked::Assign(assign));
    }

    /// What a member computes in.
    fn class(&self, node: NodeId) -> Option<Class> {
        self.cluster.member(node).map(|member| member.offer.class)
    }

    /// Whether two stages exchange messages.
    pub(super) fn are_neighbours(&self, one: NodeId, other: NodeId) -> bool {
        self.neighbours(one).iter().any(|&(_, node)| node == other)
    }

    /// Whom a worker keeps a hop with: its neighbours, and one that it is being measured
    /// with.
    fn peers(&self, node: NodeId) -> Vec<wire::Peer> {
        let mut others = self.neighbours(node);
        let partner = self.survey.partner(node);
        let partner = partner.filter(|partner| others.iter().all(|(_, other)| other != partner));
        others.extend(partner.map(|partner| (self.survey.is_measuring(node), partner)));
        others.into_iter().map(|(is_first, other)| self.peer(node, other, is_first)).collect()
    }

    /// Those that a stage exchanges messages with: its neighbours, and the ends of
    /// the pipeline with each other; and whether it stands before each.
    fn neighbours(&self, node: NodeId) -> Vec<(bool, NodeId)> {
        let stages = self.cluster.pipeline().stages();
        let Some(place) = stages.iter().position(|&stage| stage == node) else { return Vec::new() };
        let last = stages.len() - 1;
        let mut places = Vec::new();
        places.extend(place.checked_sub(1));
        places.extend((place < last).then_some(place + 1));
        places.extend((place == 0).then_some(last));
        places.extend((place == last).then_some(0));
        places.sort_unstable();
        places.dedup();
        let others = places.into_iter().filter(|&other| other != place);
        others.map(|other| (place < other, stages[other])).collect()
    }

    /// Writes a placement down: in the log, which refuses what is lower from then
    /// on, and in the store.
    fn place(&mut self, fence: Fence) {
        self.pace.begin();
        let lead = self.cluster.pipeline().stages().first().copied();
        let Some(class) = lead.and_then(|lead| self.class(lead)) else { return };
        let Some(film) = self.films.get_mut(&fence.job) else { return };
        let Some(Shapes { x0, .. }) = film.shapes else { return };
        film.epoch = fence.epoch.0;
        film.contexts.clear();
        self.spans.place(fence, film.wish.order.length.chunks);
        let header = chunk_log::Header {
            job: fence.job,
            model: self.served.digest.0,
            class: class.name().to_owned(),
            x0_shape: x0,
            x0_dtype: types::Dtype::F32,
        };
        let written = (!film.wish.is_probe)
            .then(|| self.saver.insist(records::job_key(fence.job), &film.record()));
        let (log, handle) = (self.log.clone(), self.handle.clone());
        tokio::spawn(async move {
            let mut placed = log.prepare(header, fence).await;
            if let (Ok(()), Some(written)) = (&placed, written) {
                placed = written.await;
            }
            handle.tell(Event::Placed(fence, placed)).await;
        });
    }

    fn encode(&mut self, node: NodeId, fence: Fence) {
        let unconditional = self.served.is_guided();
        let Some(film) = self.films.get(&fence.job) else { return };
        let prompts = film.wish.order.prompts.iter().map(|(_, prompt)| prompt.clone()).collect();
        let fence = Some(fence.into());
        self.tell(node, Asked::Encode(wire::Encode { fence, prompts, unconditional }));
    }

    /// Opens a job on a stage: its contexts go ahead on the data plane.
    fn open(&mut self, node: NodeId, fence: Fence, assignment: u64) {
        let Some(film) = self.films.get(&fence.job) else { return };
        let Some(Shapes { grid, .. }) = film.shapes else { return };
        let (mut uses, mut messages) = (Vec::new(), Vec::new());
        for (&(prompt, branch), context) in &film.contexts {
            let payload = context.payload.clone();
            messages.push(Message { fence, kind: Kind::Context { prompt, branch }, payload });
            let from_chunk =
                film.wish.order.prompts.get(prompt as usize).map_or(0, |found| found.0);
            uses.push(wire::ContextUse {
                from_chunk,
                prompt_index: prompt,
                unconditional: branch == Branch::Unconditional,
                digest: context.digest.to_vec(),
            });
        }
        let open = wire::Open {
            fence: Some(fence.into()),
            assignment,
            grid: Some(grid.into()),
            uncommitted_chunks_max: UNCOMMITTED_CHUNKS_MAX,
            seed: film.wish.seed,
            sampler: Some((&self.served.model.sampler).into()),
            chunks: film.wish.order.length.chunks,
            contexts: uses,
        };
        messages.into_iter().for_each(|message| self.send(node, message));
        self.tell(node, Asked::Open(open));
    }

    /// A job is not what it was: those who watch are told, its record is written.
    fn changed(&mut self, id: JobId) {
        self.places.handle_changed();
        if !self.cluster.is_placed(id) {
            self.spans.end(id);
        }
        if self.films.get(&id).is_some_and(|film| film.wish.is_probe) {
            return self.probe_changed(id);
        }
        self.drop_unwanted(id);
        self.tell_events(id);
        let Some(job) = self.cluster.job(id) else { return };
        let Some(film) = self.films.get_mut(&id) else { return };
        let status = match job.outcome() {
            Some(Outcome::Completed) => Status::Completed,
            Some(Outcome::Failed(_)) => Status::Failed,
            Some(Outcome::Cancelled) => return self.cancelled(id),
            None if job.has_begun() => Status::InProgress,
            None => Status::Queued,
        };
        if status == film.status {
            return;
        }
        film.status = status;
        match job.outcome() {
            Some(Outcome::Completed) => {
                film.completed_at = Some(unix_now());
                film.happen(Happening::Done { pictures: film.pictures });
                film.end();
                film.forget_live();
                self.saver.save(records::job_key(id), &film.record());
                return self.make_room(id);
            }
            Some(Outcome::Failed(problem)) => {
                film.completed_at = Some(unix_now());
                film.error = Some(problem.clone());
                let (code, message) = ("failed".to_owned(), problem.clone());
                film.happen(Happening::Failed { error: VideoError { code, message } });
                film.end();
                self.saver.save(records::job_key(id), &film.record());
                return self.make_room(id);
            }
            Some(Outcome::Cancelled) => {}
            None => {
                if film.started_at.is_none() && status == Status::InProgress {
                    film.started_at = Some(unix_now());
                    film.happen(Happening::Started);
                }
            }
        }
        self.saver.save(records::job_key(id), &film.record());
    }

    fn tell_events(&mut self, id: JobId) {
        let now = self.now();
        let (Some(job), Some(film)) = (self.cluster.job(id), self.films.get(&id)) else { return };
        let planned = (film.told_epoch < job.epoch.0).then(|| self.planned(job.epoch.0));
        if planned.is_none() && job.published <= film.told_chunks {
            return;
        }
        let counters = self.counters();
        let stage_timings = self.timings(&film.told_counters);
        let timings = self.timings(&film.placed_counters);
        let Some(film) = self.films.get_mut(&id) else { return };
        film.told_counters.clone_from(&counters);
        film.timings = timings;
        if let Some(planned) = planned {
            film.told_at = now;
            film.placed_counters = counters;
            film.told_epoch = job.epoch.0;
            film.happen(planned);
        }
        while film.told_chunks < job.published {
            let chunk = film.told_chunks;
            film.told_chunks += 1;
            let seconds = now.saturating_sub(film.told_at).as_secs_f64();
            film.told_at = now;
            film.happen(Happening::ChunkCommitted {
                chunk,
                chunks: job.spec.chunks,
                pictures: film.pictures,
                seconds,
                stage_timings: stage_timings.clone(),
            });
        }
    }

    fn planned(&self, epoch: u64) -> Happening {
        let pipeline = self.cluster.pipeline();
        let name = |node: NodeId| {
            let record = self.nodes.get(&node);
            record.map_or_else(|| node.to_string(), |record| record.name.clone())
        };
        let mut stages = Vec::new();
        for (node, duty) in pipeline.duties() {
            stages.extend(
                super::views::parts(duty)
                    .into_iter()
                    .map(|stage| PlannedStage { stage, worker: name(node) }),
            );
        }
        let plan = pipeline.plan();
        Happening::Planned {
            epoch,
            stages,
            chunk_seconds: plan.map_or(0.0, |plan| plan.prediction.chunk_seconds),
            bottleneck: self.bottleneck().unwrap_or_default(),
        }
    }

    /// A job was cancelled and every stage has stopped: nothing of it stays.
    fn cancelled(&mut self, id: JobId) {
        let Some(mut film) = self.films.remove(&id) else { return };
        film.happen(Happening::Cancelled);
        // Whoever waits for more of it is told.
        film.written = tokio::sync::watch::Sender::default();
        self.cluster.forget(id);
        self.erase(id, film);
    }

    /// Removes what is kept of a job that has ended.
    pub(crate) fn erase(&self, id: JobId, film: super::Film) {
        self.saver.delete(records::job_key(id));
        let log = self.log.clone();
        tokio::spawn(async move {
            let removed = tokio::task::spawn_blocking(move || film.remove()).await;
            if let Ok(Err(problem)) = removed {
                tracing::warn!(job = %id, %problem, "a video was not removed");
            }
            match log.remove(id).await {
                Ok(()) | Err(chunk_log::Error::UnknownJob { .. }) => {}
                Err(error) => tracing::warn!(job = %id, %error, "a job's log was not removed"),
            }
        });
    }

    fn probe_changed(&mut self, id: JobId) {
        let Some(outcome) = self.cluster.job(id).and_then(|job| job.outcome()).cloned() else {
            return;
        };
        let outcome = match outcome {
            Outcome::Completed => Ok(()),
            Outcome::Failed(problem) => Err(problem),
            Outcome::Cancelled => Err("it was cancelled".to_owned()),
        };
        if let Err(problem) = &outcome {
            tracing::error!(%problem, "the first chunk of this pipeline failed");
        }
        let now = self.now();
        if let Some(probe) = &mut self.probe {
            (probe.outcome, probe.ended) = (Some(outcome), now);
        }
        self.cluster.forget(id);
        if let Some(film) = self.films.remove(&id) {
            self.erase(id, film);
        }
    }
}
