//! A request as the searches see it: one set of workers that may stand together,
//! the layers cut into segments by pins, and every way's time looked up once.
//!
//! ```text
//!  layers    0 ....... 9 | 10 .. 19 | 20 ....... 39
//!  segments      free    |  pinned  |     free
//! ```
//!
//! A free segment takes one or more unpinned workers, a pinned one its worker alone.

use std::ops::Range;

use super::{
    Placement, Request, Stage, Worker,
    cost::{Chain, Decoding, Way},
};

/// A request, for workers that may stand together.
pub(super) struct Problem<'a> {
    pub(super) request: &'a Request,
    /// Unpinned workers that can hold a layer.
    pub(super) holders: Vec<usize>,
    /// Workers that decode, the fastest first.
    pub(super) decoders: Vec<usize>,
    /// Workers that encode text, the fastest first.
    pub(super) texts: Vec<usize>,
    /// All layers in order; none is empty.
    pub(super) segments: Vec<Segment>,
    hidden: Ways,
    velocity: Ways,
    x0: Ways,
}

/// Neighbouring layers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) layers: Range<usize>,
    /// The worker that must hold them.
    pub(super) pin: Option<usize>,
}

/// A stage whose number of layers is open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Seat {
    pub(super) worker: usize,
    /// Index of its segment.
    pub(super) segment: usize,
}

/// A placement whose split is open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Team {
    /// The stages in order, at least one.
    pub(super) seats: Vec<Seat>,
    pub(super) decoder: usize,
    pub(super) text: usize,
}

/// What a worker does beside holding layers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Roles {
    pub(super) first: bool,
    pub(super) last: bool,
    pub(super) decodes: bool,
    pub(super) encodes: bool,
}

/// Ways of messages of one size, between all workers.
struct Ways {
    workers: usize,
    pairs: Vec<Way>,
}

/// No way: no sum or maximum with it can be the best.
const UNREACHABLE: Way = Way { delay: f64::INFINITY, transfer: f64::INFINITY };

impl<'a> Problem<'a> {
    /// The request for these of its workers, which hold all its pins.
    pub(super) fn new(request: &'a Request, workers: &[usize]) -> Self {
        let able = |seconds: fn(&Worker) -> Option<f64>| {
            let timed = |&worker: &usize| Some((seconds(&request.workers[worker])?, worker));
            let mut able: Vec<_> = workers.iter().filter_map(timed).collect();
            able.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
            able.into_iter().map(|(_, worker)| worker).collect()
        };
        let (work, unpinned) =
            (&request.work, |&worker: &usize| request.workers[worker].limits.layers.is_none());
        let mut problem = Self {
            request,
            holders: workers.iter().copied().filter(unpinned).collect(),
            decoders: able(|worker| worker.speed.decode_seconds),
            texts: able(|worker| worker.speed.text_seconds),
            segments: segments(request),
            hidden: Ways::new(request, |from| request.hidden_bytes(from)),
            velocity: Ways::new(request, |_| work.velocity_bytes),
            x0: Ways::new(request, |_| work.x0_bytes),
        };
        let holds = |&worker: &usize| 0 < problem.layers_max(worker, Roles::default());
        problem.holders = problem.holders.iter().copied().filter(holds).collect();
        problem
    }

    /// Workers that may be stages.
    pub(super) fn stage_workers(&self) -> usize {
        self.holders.len() + self.segments.iter().filter(|segment| segment.pin.is_some()).count()
    }

    /// The most layers that a worker can hold as a stage beside these roles.
    pub(super) fn layers_max(&self, worker: usize, roles: Roles) -> usize {
        self.room(worker, roles).unwrap_or(0)
    }

    /// The same, or the layers' worth of bytes by which the roles alone are too large.
    pub(super) fn room(&self, worker: usize, roles: Roles) -> Result<usize, usize> {
        let Request { work, workers, objective, .. } = self.request;
        let (footprint, worker) = (&work.footprint, &workers[worker]);
        let first = if roles.first { footprint.first_stage_bytes } else { 0 };
        let last = if roles.last { footprint.last_stage_bytes } else { 0 };
        let beside = [self.beside_bytes(roles), footprint.stage_bytes, first, last];
        let taken = beside.into_iter().fold(0, u64::saturating_add);
        let (usable, layer_bytes) = (worker.usable_bytes(), footprint.layer(objective.jobs()));
        let layers = |bytes: u64| {
            let layers = bytes / layer_bytes.max(1);
            usize::try_from(layers).unwrap_or(usize::MAX).min(work.layers)
        };
        match usable.checked_sub(taken) {
            None => Err(1 + layers(taken - usable)),
            Some(_) if layer_bytes == 0 => Ok(share_layers(worker, work.layers)),
            Some(free) => Ok(layers(free).min(share_layers(worker, work.layers))),
        }
    }

    /// Whether a worker that is no stage can hold what these roles need.
    pub(super) fn fits_beside(&self, worker: usize, roles: Roles) -> bool {
        self.lacking_beside(worker, roles) == 0
    }

    /// Bytes that it lacks for them.
    pub(super) fn lacking_beside(&self, worker: usize, roles: Roles) -> u64 {
        self.beside_bytes(roles).saturating_sub(self.request.workers[worker].usable_bytes())
    }

    fn beside_bytes(&self, roles: Roles) -> u64 {
        let footprint = &self.request.work.footprint;
        let decoder =
            if roles.decodes { footprint.decoder(self.request.objective.jobs()) } else { 0 };
        let text = if roles.encodes { footprint.text_bytes } else { 0 };
        decoder.saturating_add(text)
    }

    /// A hidden state's way.
    pub(super) fn hop(&self, from: usize, to: usize) -> Way {
        self.hidden.between(from, to)
    }

    /// A velocity's way.
    pub(super) fn back(&self, from: usize, to: usize) -> Way {
        self.velocity.between(from, to)
    }

    /// What decoding takes away from the stages' workers, `beside` left open.
    pub(super) fn decoding(&self, lead: usize, decoder: usize) -> Decoding {
        let seconds = self.request.workers[decoder].speed.decode_seconds;
        Decoding {
            seconds: seconds.unwrap_or(f64::INFINITY),
            way: self.x0.between(lead, decoder),
            beside: None,
        }
    }

    /// The chain of a team whose stages take no time.
    pub(super) fn ways(&self, team: &Team) -> Chain {
        let (mut hops, mut transfer_max) = (0.0, 0.0_f64);
        for pair in team.seats.windows(2) {
            let hop = self.hop(pair[0].worker, pair[1].worker);
            hops += hop.delay;
            transfer_max = transfer_max.max(hop.transfer);
        }
        let (first, last) = team.ends();
        Chain {
            compute: 0.0,
            stage_max: 0.0,
            hops,
            transfer_max,
            back: self.back(last, first),
            decoding: self.decoding(first, team.decoder),
        }
    }

    /// The text sides to try for a team: one that stands apart takes nothing from any
    /// stage, so only without one do those beside stages matter.
    pub(super) fn texts_of(&self, team: &Team) -> Vec<usize> {
        let mut beside = Vec::new();
        for &text in &self.texts {
            let team = Team { text, ..team.clone() };
            match (self.homeless(&team), team.holds(text)) {
                (0, false) => return vec![text],
                (0, true) => beside.push(text),
                _ => {}
            }
        }
        beside
    }

    /// How many of decoder and text side lack room where they stand outside the stages.
    pub(super) fn homeless(&self, team: &Team) -> usize {
        let fits = |worker| team.holds(worker) || self.fits_beside(worker, team.roles(worker));
        [team.decoder, team.text].into_iter().filter(|&worker| !fits(worker)).count()
    }
}

impl Team {
    /// The workers of the first and of the last stage.
    pub(super) fn ends(&self) -> (usize, usize) {
        (self.seats[0].worker, self.seats[self.seats.len() - 1].worker)
    }

    /// Whether a worker is a stage.
    pub(super) fn holds(&self, worker: usize) -> bool {
        self.seats.iter().any(|seat| seat.worker == worker)
    }

    /// What a worker does beside holding layers.
    pub(super) fn roles(&self, worker: usize) -> Roles {
        let (first, last) = self.ends();
        Roles {
            first: first == worker,
            last: last == worker,
            decodes: self.decoder == worker,
            encodes: self.text == worker,
        }
    }

    /// The placement with so many layers in every seat.
    pub(super) fn placement(&self, layers: &[usize]) -> Placement {
        let mut held = 0;
        let stage = |(seat, layers): (&Seat, &usize)| {
            let first = held;
            held += layers;
            Stage { worker: seat.worker, layers: first..held }
        };
        Placement {
            stages: self.seats.iter().zip(layers).map(stage).collect(),
            decoder: self.decoder,
            text: self.text,
        }
    }
}

impl Ways {
    fn new(request: &Request, bytes: impl Fn(usize) -> u64) -> Self {
        let workers = request.workers.len();
        let way = |pair: usize| {
            let (from, to) = (pair / workers, pair % workers);
            if from == to {
                return Way::default();
            }
            request.links.between(from, to).map_or(UNREACHABLE, |link| {
                let transfer = link.transfer_seconds(bytes(from));
                Way { delay: link.latency_seconds + transfer, transfer }
            })
        };
        Self { workers, pairs: (0..workers * workers).map(way).collect() }
    }

    fn between(&self, from: usize, to: usize) -> Way {
        self.pairs[from * self.workers + to]
    }
}

/// The layers that a worker's share allows.
fn share_layers(worker: &Worker, layers: usize) -> usize {
    let Some(share) = worker.limits.layers_share_max else { return layers };
    let allowed = |&held: &usize| held as f64 <= share * layers as f64;
    (0..=layers).rev().find(allowed).unwrap_or(0)
}

/// Cuts the layers at the pins, which are known not to overlap.
fn segments(request: &Request) -> Vec<Segment> {
    let pin = |(worker, profile): (usize, &Worker)| Some((profile.limits.layers.clone()?, worker));
    let mut pins: Vec<_> = request.workers.iter().enumerate().filter_map(pin).collect();
    pins.sort_by_key(|(layers, _)| layers.start);
    let (mut segments, mut held) = (Vec::new(), 0);
    for (layers, worker) in pins {
        segments.push(Segment { layers: held..layers.start, pin: None });
        held = layers.end;
        segments.push(Segment { layers, pin: Some(worker) });
    }
    segments.push(Segment { layers: held..request.work.layers, pin: None });
    segments.retain(|segment| !segment.layers.is_empty());
    segments
}
