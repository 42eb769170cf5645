//! How fast a given placement is, what bounds it, and what it holds.

use super::{
    Placement, Request, Stage,
    cost::{self, Chain, Decoding, LookAhead, Way},
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
    /// The worker or link that is busy longest.
    pub bottleneck: Bottleneck,
    /// The share of the time that it is busy, in 0..=1.
    pub busy_share: f64,
    /// What every worker of the placement holds, in the order of the request.
    pub memory: Vec<WorkerMemory>,
}

/// A worker or a direction between two.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bottleneck {
    /// A worker.
    Worker {
        /// Its index.
        worker: usize,
    },
    /// A link.
    Link {
        /// Index of the worker that sends.
        from: usize,
        /// Index of the worker that receives.
        to: usize,
    },
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
    let seconds_per_chunk = chain.seconds_per_chunk(work, objective.jobs().get());
    let (bottleneck, busy_seconds) = bottleneck(request, placement);
    Ok(Prediction {
        chunk_seconds: chain.job_chunk(work.later_chunks, LookAhead::On),
        chunk_seconds_plain: chain.job_chunk(work.later_chunks, LookAhead::Off),
        first_chunk_seconds: text_seconds + chain.first_chunk(work),
        seconds_per_chunk,
        bottleneck,
        busy_share: if seconds_per_chunk <= 0.0 { 0.0 } else { busy_seconds / seconds_per_chunk },
        memory: memory(request, placement),
    })
}

impl Prediction {
    /// Chunks of all jobs together, per second.
    pub fn chunks_per_second(&self) -> f64 {
        1.0 / self.seconds_per_chunk
    }

    /// Whether every worker may hold what it is to hold.
    pub fn fits(&self) -> bool {
        self.memory.iter().all(|held| held.need_bytes <= held.usable_bytes)
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
    fn hops(&self) -> impl Iterator<Item = (usize, usize)> {
        self.stages.windows(2).map(|pair| (pair[0].worker, pair[1].worker))
    }

    /// The workers of the first and of the last stage.
    fn ends(&self) -> (usize, usize) {
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
        let hop = way(request, from, to, work.hidden_bytes)?;
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
fn stage_times(request: &Request, Placement { stages, .. }: &Placement) -> Vec<f64> {
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

/// What a chunk keeps busy longest, and for how many seconds; the first of equals.
fn bottleneck(request: &Request, placement: &Placement) -> (Bottleneck, f64) {
    let runs = request.work.later_chunks;
    let mut workers = vec![0.0; request.workers.len()];
    for (stage, time) in placement.stages.iter().zip(stage_times(request, placement)) {
        workers[stage.worker] += cost::stage_busy(runs, time);
    }
    let decoder = placement.decoder;
    workers[decoder] += request.workers[decoder].speed.decode_seconds.unwrap_or(0.0);
    let workers = workers
        .into_iter()
        .enumerate()
        .map(|(worker, seconds)| (Bottleneck::Worker { worker }, seconds));

    let transfer = |from, to, bytes| {
        request.links.between(from, to).map_or(0.0, |link| link.transfer_seconds(bytes))
    };
    let work = &request.work;
    let link = |from, to, seconds| (Bottleneck::Link { from, to }, seconds);
    let (first, last) = placement.ends();
    let links = placement
        .hops()
        .map(|(from, to)| {
            link(from, to, cost::stage_busy(runs, transfer(from, to, work.hidden_bytes)))
        })
        .chain([
            link(last, first, cost::back_busy(runs, transfer(last, first, work.velocity_bytes))),
            link(first, decoder, transfer(first, decoder, work.x0_bytes)),
        ]);
    let longer = |a: (Bottleneck, f64), b: (Bottleneck, f64)| if a.1 < b.1 { b } else { a };
    workers.chain(links).fold((Bottleneck::Worker { worker: first }, 0.0), longer)
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
