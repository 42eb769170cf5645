//! How fast a given placement is, what bounds it, and what it holds.

use super::{
    HopLoad, Placement, Request, Stage, WorkerLoad,
    cost::{Chain, Decoding, LookAhead, Way},
    load::{self, Bottleneck},
};

/// What a placement will do. Times are seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct Prediction {
    /// A chunk of one job alone, with look-ahead.
    pub chunk_seconds: f64,
    /// The same without look-ahead.
    pub chunk_seconds_plain: f64,
    /// From the prompt to the first chunk's pictures, of one job alone.
    pub first_chunk_seconds: f64,
    /// Between two chunks of all jobs together: what a plan minimises.
    pub seconds_per_chunk: f64,
    /// Between the first chunks of jobs that begin together.
    pub seconds_per_first_chunk: f64,
    /// The worker or link that is busy longest.
    pub bottleneck: Bottleneck,
    /// The share of the time that it is busy, in 0..=1.
    pub busy_share: f64,
    /// How busy every worker of the placement is, in the order of the request.
    pub workers: Vec<WorkerLoad>,
    /// What goes from worker to worker: hops in the order of the layers, the velocity's
    /// way back, the clean frames' way to the decoder.
    pub hops: Vec<HopLoad>,
    /// What every worker of the placement holds, in the order of the request.
    pub memory: Vec<WorkerMemory>,
}

/// Bytes that a worker holds, of those it may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WorkerMemory {
    /// Its index.
    pub worker: usize,
    /// Bytes held.
    pub need_bytes: u64,
    /// Bytes it may use.
    pub usable_bytes: u64,
}

/// A prediction beside what was measured. Times are seconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Accuracy {
    /// Jobs that were open.
    pub jobs: u32,
    /// Between two chunks of theirs, as predicted.
    pub predicted_seconds: f64,
    /// The same as measured.
    pub measured_seconds: f64,
}

/// Why a placement cannot run at all. Correct the placement.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misplaced {
    /// A worker that the request does not list.
    #[error("there is no worker {worker}: the cluster has {workers}")]
    UnknownWorker {
        /// The index used.
        worker: usize,
        /// Workers of the request.
        workers: usize,
    },
    /// Stages leave layers out, hold them twice, or hold none.
    #[error("stage {stage} holds layers {first}..{end}: it must begin at {expected} and hold some")]
    Layers {
        /// The stage.
        stage: usize,
        /// Its first layer.
        first: usize,
        /// One past its last layer.
        end: usize,
        /// Where it must begin.
        expected: usize,
    },
    /// The stages end before the last layer or after it.
    #[error("the stages hold {held} layers of {layers}: hold all of them")]
    Coverage {
        /// Layers held.
        held: usize,
        /// Layers of the model.
        layers: usize,
    },
    /// A worker holds two stages.
    #[error("{name} holds two stages: join them, or name another worker")]
    TwoStages {
        /// The worker's name.
        name: String,
    },
    /// A hop, the way back or the way to the decoder has no link.
    #[error("there is no link from {from} to {to}, over which this placement sends")]
    NoLink {
        /// Name of the worker that sends.
        from: String,
        /// Name of the worker that receives.
        to: String,
    },
    /// The worker was not measured as a decoder.
    #[error("{name} cannot decode: name another worker")]
    CannotDecode {
        /// The worker's name.
        name: String,
    },
    /// The worker was not measured as a text encoder.
    #[error("{name} cannot encode text: name another worker")]
    CannotEncode {
        /// The worker's name.
        name: String,
    },
}

/// Predicts what a placement does, under the assumptions of the module.
///
/// Memory, limits and numeric classes are not enforced: [`Prediction::memory`] says
/// what would be held, also where it is too much.
///
/// # Errors
///
/// [`Misplaced`] if the placement cannot run: layers left out, links missing.
pub fn predict(request: &Request, placement: &Placement) -> Result<Prediction, Misplaced> {
    check_stages(request, &placement.stages)?;
    let chain = chain(request, placement)?;
    let Request { work, workers, objective, .. } = request;
    let text_seconds = workers[placement.text]
        .speed
        .text_seconds
        .ok_or_else(|| Misplaced::CannotEncode { name: workers[placement.text].name.clone() })?;
    let jobs = objective.jobs().get();
    let seconds_per_chunk = chain.seconds_per_chunk(work, jobs);
    let workers = load::workers(request, placement, seconds_per_chunk);
    let hops = load::hops(request, placement, seconds_per_chunk);
    let (bottleneck, busy_share) = load::longest(&workers, &hops);
    Ok(Prediction {
        chunk_seconds: chain.job_chunk(work.later_chunks, LookAhead::On),
        chunk_seconds_plain: chain.job_chunk(work.later_chunks, LookAhead::Off),
        first_chunk_seconds: text_seconds + chain.first_chunk(work),
        seconds_per_chunk,
        seconds_per_first_chunk: chain.seconds_per_first_chunk(work, jobs),
        bottleneck,
        busy_share,
        workers,
        hops,
        memory: memory(request, placement),
    })
}

impl Prediction {
    /// Chunks of all jobs together, per second.
    pub fn chunks_per_second(&self) -> f64 {
        1.0 / self.seconds_per_chunk
    }

    /// Seconds between two chunks of so many jobs, which may be others than planned for.
    pub fn seconds_per_chunk_of(&self, jobs: u32) -> f64 {
        let busy_seconds = self.busy_share * self.seconds_per_chunk;
        busy_seconds.max(self.chunk_seconds / f64::from(jobs.max(1)))
    }

    /// Seconds from the prompts of so many jobs, which begin together, to the last
    /// picture of all of them; each is so many chunks long. Prompts are encoded while
    /// the first job's chunk is made.
    pub fn videos_seconds(&self, jobs: u32, chunks: u32) -> f64 {
        let first_ones = f64::from(jobs.saturating_sub(1)) * self.seconds_per_first_chunk;
        let later_ones = f64::from(jobs) * f64::from(chunks.saturating_sub(1));
        self.first_chunk_seconds + first_ones + later_ones * self.seconds_per_chunk_of(jobs)
    }

    /// This prediction beside the measured time between two chunks of so many jobs.
    pub fn beside(&self, jobs: u32, measured_seconds: f64) -> Accuracy {
        let predicted_seconds = self.seconds_per_chunk_of(jobs);
        Accuracy { jobs, predicted_seconds, measured_seconds }
    }

    /// Whether every worker may hold what it is to hold.
    pub fn fits(&self) -> bool {
        self.memory.iter().all(|held| held.need_bytes <= held.usable_bytes)
    }
}

impl Accuracy {
    /// By how many percent the prediction is too high; below 0, too low.
    pub fn error_percent(&self) -> f64 {
        100.0 * (self.predicted_seconds / self.measured_seconds - 1.0)
    }
}

impl Placement {
    /// Workers that do anything, in the order of the request.
    pub fn workers(&self) -> Vec<usize> {
        let stages = self.stages.iter().map(|stage| stage.worker);
        let mut workers: Vec<_> = stages.chain([self.decoder, self.text]).collect();
        workers.sort_unstable();
        workers.dedup();
        workers
    }

    /// Pairs of neighbouring stages' workers.
    pub(super) fn hops(&self) -> impl Iterator<Item = (usize, usize)> {
        self.stages.windows(2).map(|pair| (pair[0].worker, pair[1].worker))
    }

    /// The workers of the first and of the last stage.
    pub(super) fn ends(&self) -> (usize, usize) {
        (self.stages[0].worker, self.stages[self.stages.len() - 1].worker)
    }
}

fn check_stages(request: &Request, stages: &[Stage]) -> Result<(), Misplaced> {
    let (mut held, mut used) = (0, vec![false; request.workers.len()]);
    for (stage, Stage { worker, layers }) in stages.iter().enumerate() {
        let Some(used) = used.get_mut(*worker) else {
            return Err(Misplaced::UnknownWorker {
                worker: *worker,
                workers: request.workers.len(),
            });
        };
        if std::mem::replace(used, true) {
            return Err(Misplaced::TwoStages { name: request.workers[*worker].name.clone() });
        }
        if layers.start != held || layers.is_empty() {
            let (first, end) = (layers.start, layers.end);
            return Err(Misplaced::Layers { stage, first, end, expected: held });
        }
        held = layers.end;
    }
    if stages.is_empty() || held != request.work.layers {
        return Err(Misplaced::Coverage { held, layers: request.work.layers });
    }
    Ok(())
}

/// What a run of this placement meets.
fn chain(request: &Request, placement: &Placement) -> Result<Chain, Misplaced> {
    let Placement { stages, decoder, text } = placement;
    let workers = &request.workers;
    if let Some(&worker) = [decoder, text].into_iter().find(|&&worker| workers.len() <= worker) {
        return Err(Misplaced::UnknownWorker { worker, workers: workers.len() });
    }
    let work = &request.work;
    let times = stage_times(request, placement);
    let (mut hops, mut transfer_max) = (0.0, 0.0_f64);
    for (from, to) in placement.hops() {
        let hop = way(request, from, to, request.hidden_bytes(from))?;
        hops += hop.delay;
        transfer_max = transfer_max.max(hop.transfer);
    }
    let (first, last) = placement.ends();
    let seconds = workers[*decoder]
        .speed
        .decode_seconds
        .ok_or_else(|| Misplaced::CannotDecode { name: workers[*decoder].name.clone() })?;
    let beside = stages.iter().position(|stage| stage.worker == *decoder);
    Ok(Chain {
        compute: times.iter().sum(),
        stage_max: times.iter().copied().fold(0.0, f64::max),
        hops,
        transfer_max,
        back: way(request, last, first, work.velocity_bytes)?,
        decoding: Decoding {
            seconds,
            way: way(request, first, *decoder, work.x0_bytes)?,
            beside: beside.map(|stage| times[stage]),
        },
    })
}

/// Seconds of every stage per run.
pub(super) fn stage_times(request: &Request, Placement { stages, .. }: &Placement) -> Vec<f64> {
    let time = |(place, stage): (usize, &Stage)| {
        let speed = &request.workers[stage.worker].speed;
        let embedding = if place == 0 { speed.embedding_seconds } else { 0.0 };
        let head = if place + 1 == stages.len() { speed.head_seconds } else { 0.0 };
        embedding + head + stage.layers.len() as f64 * speed.layer_seconds
    };
    stages.iter().enumerate().map(time).collect()
}

fn way(request: &Request, from: usize, to: usize, bytes: u64) -> Result<Way, Misplaced> {
    if from == to {
        return Ok(Way::default());
    }
    let name = |worker: usize| request.workers[worker].name.clone();
    let link = request
        .links
        .between(from, to)
        .ok_or_else(|| Misplaced::NoLink { from: name(from), to: name(to) })?;
    let transfer = link.transfer_seconds(bytes);
    Ok(Way { delay: link.latency_seconds + transfer, transfer })
}

/// Bytes of every worker of the placement.
fn memory(request: &Request, placement: &Placement) -> Vec<WorkerMemory> {
    let (footprint, jobs) = (&request.work.footprint, request.objective.jobs());
    let mut need = vec![0_u64; request.workers.len()];
    let mut add = |worker: usize, bytes: u64| need[worker] = need[worker].saturating_add(bytes);
    for stage in &placement.stages {
        let layers = footprint.layer(jobs).saturating_mul(stage.layers.len() as u64);
        add(stage.worker, layers.saturating_add(footprint.stage_bytes));
    }
    let (first, last) = placement.ends();
    add(first, footprint.first_stage_bytes);
    add(last, footprint.last_stage_bytes);
    add(placement.decoder, footprint.decoder(jobs));
    add(placement.text, footprint.text_bytes);
    let held = |worker: usize| WorkerMemory {
        worker,
        need_bytes: need[worker],
        usable_bytes: request.workers[worker].usable_bytes(),
    };
    placement.workers().into_iter().map(held).collect()
}
