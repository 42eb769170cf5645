//! The best split of the layers over a team: how many layers each stage holds.
//!
//! Once no stage may take longer than a limit, the least compute is found greedily:
//! one layer to every stage, all others to the fastest stages up to the limit, the
//! memory and the share. The best split has *some* longest stage, so trying the
//! limits that a stage can reach at all ([`best`]) finds it. A decoder beside a stage
//! also makes that one stage's time count; its layers are then tried one by one.
//!
//! [`quick`] tries a few limits only.

use std::iter;

use super::{
    cost::Chain,
    problem::{Problem, Roles, Seat, Team},
};

/// A split and what it gives.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Split {
    /// Seconds per chunk of all jobs.
    pub(super) seconds: f64,
    /// Layers of every seat, in the team's order.
    pub(super) layers: Vec<usize>,
}

/// The stages of a team, the fastest layers first.
pub(super) struct Parts {
    parts: Vec<Part>,
    /// Layers of every segment.
    segments: Vec<usize>,
}

/// A stage: where it sits and what it can hold.
#[derive(Clone, Copy, Debug)]
struct Part {
    seat: usize,
    segment: usize,
    layer_seconds: f64,
    /// Embedding and head.
    fixed_seconds: f64,
    layers_min: usize,
    layers_max: usize,
    /// Whether the decoder stands beside it.
    decodes: bool,
}

/// Limits that [`quick`] tries, as multiples of the least that divides the layers.
const QUICK_LIMITS: [f64; 13] =
    [1.0, 1.01, 1.03, 1.06, 1.1, 1.15, 1.25, 1.4, 1.6, 2.0, 2.6, 4.0, f64::INFINITY];

/// Seconds per chunk below every split of a team whose workers have these roles;
/// infinite if it has none.
pub(super) fn seconds_min(problem: &Problem, team: &Team, roles: impl Fn(usize) -> Roles) -> f64 {
    let parts = Parts::new(problem, &team.seats, roles);
    let Some((compute, stage_max)) = parts.least() else { return f64::INFINITY };
    let mut least = Chain { compute, stage_max, ..problem.ways(team) };
    let decoder = parts.parts.iter().find(|part| part.decodes);
    least.decoding.beside = decoder.map(|part| part.seconds(parts.fewest(part)));
    least.seconds_per_chunk(&problem.request.work, problem.request.objective.jobs().get())
}

/// The best split of a team if it takes less than `bound` seconds per chunk.
pub(super) fn best(problem: &Problem, team: &Team, bound: f64) -> Option<Split> {
    if bound <= seconds_min(problem, team, |worker| team.roles(worker)) {
        return None;
    }
    let ways = problem.ways(team);
    let mut parts = Parts::new(problem, &team.seats, |worker| team.roles(worker));
    let Some(decoder) = parts.parts.iter().position(|part| part.decodes) else {
        return parts.best(problem, ways, bound);
    };
    let layers_min = parts.fewest(&parts.parts[decoder]);
    let mut found: Option<Split> = None;
    let layers_max = parts.parts[decoder].layers_max;
    for layers in layers_min..=layers_max {
        let part = &mut parts.parts[decoder];
        (part.layers_min, part.layers_max) = (layers, layers);
        let mut ways = ways;
        ways.decoding.beside = Some(part.seconds(layers));
        let bound = found.as_ref().map_or(bound, |found| found.seconds);
        found = parts.best(problem, ways, bound).or(found);
    }
    found
}

/// A good split, found quickly; without one, the layers that have no place.
pub(super) fn quick(problem: &Problem, team: &Team) -> Result<f64, usize> {
    let mut ways = problem.ways(team);
    let (missing, parts) = Parts::of_team(problem, team);
    if 0 < missing {
        return Err(missing);
    }
    let work = &problem.request.work;
    let jobs = problem.request.objective.jobs().get();
    // Of several jobs, decoding should count as part of a stage's time.
    let decoder_seconds = if jobs == 1 {
        0.0
    } else {
        ways.decoding.seconds / (f64::from(work.later_chunks.runs) + 1.0)
    };
    let (least, mut seconds_min) = (parts.stage_min(), f64::INFINITY);
    let mut layers = Vec::with_capacity(parts.parts.len());
    let mut left = Vec::new();
    for limit in QUICK_LIMITS {
        for taken in [decoder_seconds, 0.0] {
            if parts.fill(limit * least, taken, &mut layers, &mut left) {
                parts.count(&layers, &mut ways);
                seconds_min = seconds_min.min(ways.seconds_per_chunk(work, jobs));
                break;
            }
        }
    }
    Ok(seconds_min)
}

impl Parts {
    /// The stages of a team, and how many layers find no place in them.
    fn of_team(problem: &Problem, team: &Team) -> (usize, Self) {
        let parts = Self::new(problem, &team.seats, |worker| team.roles(worker));
        let mut room = vec![0_usize; parts.segments.len()];
        let mut missing = 0;
        for part in &parts.parts {
            room[part.segment] = room[part.segment].saturating_add(part.layers_max);
            missing += part.layers_min.saturating_sub(part.layers_max);
            let worker = team.seats[part.seat].worker;
            missing += problem.room(worker, team.roles(worker)).err().unwrap_or(0);
        }
        for (room, layers) in iter::zip(room, &parts.segments) {
            missing += layers.saturating_sub(room);
        }
        for segment in 0..parts.segments.len() {
            let stages = parts.parts.iter().filter(|part| part.segment == segment).count();
            missing += stages.saturating_sub(parts.segments[segment]);
        }
        (missing, parts)
    }

    /// The stages of seats in any order.
    pub(super) fn new(problem: &Problem, seats: &[Seat], roles: impl Fn(usize) -> Roles) -> Self {
        let part = |(place, seat): (usize, &Seat)| {
            let speed = &problem.request.workers[seat.worker].speed;
            let roles = roles(seat.worker);
            let embedding = if roles.first { speed.embedding_seconds } else { 0.0 };
            let head = if roles.last { speed.head_seconds } else { 0.0 };
            let segment = &problem.segments[seat.segment];
            let layers_min = if segment.pin.is_some() { segment.layers.len() } else { 1 };
            Part {
                seat: place,
                segment: seat.segment,
                layer_seconds: speed.layer_seconds,
                fixed_seconds: embedding + head,
                layers_min,
                layers_max: problem.layers_max(seat.worker, roles).min(segment.layers.len()),
                decodes: roles.decodes,
            }
        };
        let mut parts: Vec<_> = seats.iter().enumerate().map(part).collect();
        parts.sort_by(|a, b| a.layer_seconds.total_cmp(&b.layer_seconds).then(a.seat.cmp(&b.seat)));
        let segments = problem.segments.iter().map(|segment| segment.layers.len()).collect();
        Self { parts, segments }
    }

    /// The least compute of any split, and a bound below its longest stage, in
    /// seconds; `None` if no split exists.
    pub(super) fn least(&self) -> Option<(f64, f64)> {
        let (mut layers, mut left) = (Vec::new(), Vec::new());
        let filled = self.fill(f64::INFINITY, 0.0, &mut layers, &mut left);
        filled.then(|| (self.compute(&layers), self.stage_min()))
    }

    /// The fewest layers of a part: what the others of its segment cannot hold.
    fn fewest(&self, part: &Part) -> usize {
        let others = self.parts.iter().filter(|other| other.seat != part.seat);
        let room = others
            .filter(|other| other.segment == part.segment)
            .fold(0, |room: usize, other| room.saturating_add(other.layers_max));
        part.layers_min.max(self.segments[part.segment].saturating_sub(room))
    }

    /// The best split under ways whose `decoding.beside` is final.
    fn best(&self, problem: &Problem, ways: Chain, bound: f64) -> Option<Split> {
        let work = &problem.request.work;
        let jobs = problem.request.objective.jobs().get();
        let (mut layers, mut left) = (Vec::new(), Vec::new());
        if !self.fill(f64::INFINITY, 0.0, &mut layers, &mut left) {
            return None;
        }
        let compute = self.compute(&layers);
        let at_least = |stage_max| Chain { compute, stage_max, ..ways };
        if bound <= at_least(self.stage_min()).seconds_per_chunk(work, jobs) {
            return None;
        }
        let limits = self.limits();
        let possible =
            limits.partition_point(|&limit| !self.fill(limit, 0.0, &mut layers, &mut left));
        let (mut bound, mut found) = (bound, None);
        for &limit in &limits[possible..] {
            if bound <= at_least(limit).seconds_per_chunk(work, jobs) {
                break;
            }
            let filled = self.fill(limit, 0.0, &mut layers, &mut left);
            assert!(filled, "a longer limit takes no split away");
            let mut chain = ways;
            self.count(&layers, &mut chain);
            chain.decoding.beside = ways.decoding.beside;
            let seconds = chain.seconds_per_chunk(work, jobs);
            if seconds < bound {
                bound = seconds;
                found = Some(Split { seconds, layers: self.by_seat(&layers) });
            }
        }
        found
    }

    /// Every time that a stage can take, from short to long.
    fn limits(&self) -> Vec<f64> {
        let mut limits: Vec<_> = self
            .parts
            .iter()
            .flat_map(|part| (part.layers_min..=part.layers_max).map(|layers| part.seconds(layers)))
            .collect();
        limits.sort_by(f64::total_cmp);
        limits.dedup();
        limits
    }

    /// The split of least compute whose stages take at most `limit` seconds a run
    /// (the decoder's `decoder_seconds` less), by part; false if there is none.
    fn fill(
        &self,
        limit: f64,
        decoder_seconds: f64,
        layers: &mut Vec<usize>,
        left: &mut Vec<usize>,
    ) -> bool {
        layers.clear();
        left.clone_from(&self.segments);
        for part in &self.parts {
            let Some(rest) = left[part.segment].checked_sub(part.layers_min) else { return false };
            left[part.segment] = rest;
        }
        for part in &self.parts {
            let limit = if part.decodes { limit - decoder_seconds } else { limit };
            let most = part.most(limit);
            let Some(more) = most.checked_sub(part.layers_min) else { return false };
            let more = more.min(left[part.segment]);
            left[part.segment] -= more;
            layers.push(part.layers_min + more);
        }
        left.iter().all(|&left| left == 0)
    }

    /// No split's longest stage is shorter: layers divided as if they were sand.
    fn stage_min(&self) -> f64 {
        let segment = |(segment, &layers): (usize, &usize)| {
            let parts = self.parts.iter().filter(|part| part.segment == segment);
            let (mut fixed, mut rate) = (layers as f64, 0.0);
            for part in parts {
                fixed += part.fixed_seconds / part.layer_seconds;
                rate += 1.0 / part.layer_seconds;
            }
            fixed / rate
        };
        let even = self.segments.iter().enumerate().map(segment).fold(0.0, f64::max);
        let least = self.parts.iter().map(|part| part.seconds(part.layers_min));
        // A rounding error must not lift the bound over a split's own time.
        least.fold(even * (1.0 - 1e-9), f64::max)
    }

    fn compute(&self, layers: &[usize]) -> f64 {
        iter::zip(&self.parts, layers).map(|(part, &layers)| part.seconds(layers)).sum()
    }

    /// Writes the times of a split, by part, into a chain.
    fn count(&self, layers: &[usize], chain: &mut Chain) {
        (chain.compute, chain.stage_max, chain.decoding.beside) = (0.0, 0.0, None);
        for (part, &layers) in iter::zip(&self.parts, layers) {
            let seconds = part.seconds(layers);
            chain.compute += seconds;
            chain.stage_max = chain.stage_max.max(seconds);
            if part.decodes {
                chain.decoding.beside = Some(seconds);
            }
        }
    }

    fn by_seat(&self, layers: &[usize]) -> Vec<usize> {
        let mut by_seat = vec![0; layers.len()];
        for (part, &layers) in iter::zip(&self.parts, layers) {
            by_seat[part.seat] = layers;
        }
        by_seat
    }
}

impl Part {
    /// Seconds of a run through so many layers.
    fn seconds(&self, layers: usize) -> f64 {
        self.fixed_seconds + layers as f64 * self.layer_seconds
    }

    /// The most layers within a limit of seconds.
    fn most(&self, limit: f64) -> usize {
        if self.seconds(self.layers_max) <= limit {
            return self.layers_max;
        }
        let (mut within, mut beyond) = (0, self.layers_max);
        while within + 1 < beyond {
            let middle = within.midpoint(beyond);
            if self.seconds(middle) <= limit { within = middle } else { beyond = middle }
        }
        within
    }
}
