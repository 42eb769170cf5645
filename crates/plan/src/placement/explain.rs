//! Why a placement is as it is, as data.

use std::iter;

use super::{
    Classes, Prediction, Request, heuristic, predict,
    problem::{Problem, Roles, Seat, Team},
    split,
};

/// Why a placement is as it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// Every worker that does nothing, in the order of the request.
    pub left_out: Vec<LeftOut>,
    /// The fastest node that could do everything alone, if there is one.
    pub one_node: Option<OneNode>,
    /// Seconds per chunk of the best placement on several workers that was found, if any
    /// was.
    pub pool_seconds: Option<f64>,
    /// Whether pooling is worth it.
    pub verdict: Verdict,
}

/// A worker that does nothing.
#[derive(Clone, Debug, PartialEq)]
pub struct LeftOut {
    /// Its index.
    pub worker: usize,
    /// Why.
    pub reason: Reason,
}

/// Why a worker does nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// It is of another numeric class than the placement.
    OtherClass {
        /// The placement's class.
        class: String,
    },
    /// Its memory does not hold one layer and what a stage holds beside.
    TooLittleMemory {
        /// Bytes of the smallest stage.
        need_bytes: u64,
        /// Bytes it may use.
        usable_bytes: u64,
    },
    /// Its owner's share allows no layer.
    NoShare,
    /// Every stage has one layer already, or is pinned.
    NoLayerLeft,
    /// It has no links to and from where it could stand.
    NoLink,
    /// As a further stage, seated where its hops are shortest, it makes chunks no
    /// faster; this much slower, in percent of the seconds per chunk.
    Slower {
        /// Percent, at least 0.
        percent: f64,
    },
}

/// One node that could do everything alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct OneNode {
    /// Its index.
    pub worker: usize,
    /// Seconds per chunk of all jobs there.
    pub seconds_per_chunk: f64,
}

/// Whether pooling is worth it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// One node does everything, or would be as good: within [`POOL_GAIN_MIN`].
    UseOneNode,
    /// No node can do everything alone.
    PoolNeeded,
    /// The pool is so many times as fast as the best node alone.
    PoolFaster {
        /// Above `1 + POOL_GAIN_MIN`.
        times: f64,
    },
}

/// A pool that gains less than this share is not worth its links. Chosen: about
/// what two measurements of one profile differ by.
pub const POOL_GAIN_MIN: f64 = 0.02;

/// Explains a team that a search has found.
pub(super) fn explain(problem: &Problem, team: &Team, prediction: &Prediction) -> Explanation {
    let request = problem.request;
    let used: Vec<_> = prediction.memory.iter().map(|held| held.worker).collect();
    let seconds = prediction.seconds_per_chunk;
    let mut pool_seconds = (1 < used.len()).then_some(seconds);
    let mut left_out = Vec::new();
    for worker in (0..request.workers.len()).filter(|worker| !used.contains(worker)) {
        let joined = joined_seconds(problem, team, worker);
        if let (Ok(Some(joined)), 1) = (&joined, used.len()) {
            pool_seconds = Some(pool_seconds.map_or(*joined, |least: f64| least.min(*joined)));
        }
        let slower = |joined: Option<f64>| {
            let times = joined.map_or(1.0, |joined| joined / seconds);
            Reason::Slower { percent: (100.0 * (times - 1.0)).max(0.0) }
        };
        left_out.push(LeftOut { worker, reason: joined.map_or_else(|reason| reason, slower) });
    }
    let one_node = one_node(request);
    let verdict = match one_node {
        None => Verdict::PoolNeeded,
        Some(node)
            if used.len() == 1 || node.seconds_per_chunk <= seconds * (1.0 + POOL_GAIN_MIN) =>
        {
            Verdict::UseOneNode
        }
        Some(node) => Verdict::PoolFaster { times: node.seconds_per_chunk / seconds },
    };
    Explanation { left_out, one_node, pool_seconds, verdict }
}

/// Seconds per chunk with this worker as a further stage, as far as a quick split finds
/// any; else why it cannot be one.
fn joined_seconds(problem: &Problem, team: &Team, worker: usize) -> Result<Option<f64>, Reason> {
    let Request { work, workers, objective, classes, .. } = problem.request;
    let class = &workers[team.seats[0].worker].class;
    if *classes == Classes::One && workers[worker].class != *class {
        return Err(Reason::OtherClass { class: class.clone() });
    }
    let usable_bytes = workers[worker].usable_bytes();
    let footprint = &work.footprint;
    let need_bytes = footprint.layer(objective.jobs()).saturating_add(footprint.stage_bytes);
    if usable_bytes < need_bytes {
        return Err(Reason::TooLittleMemory { need_bytes, usable_bytes });
    }
    if problem.layers_max(worker, Roles::default()) == 0 {
        return Err(Reason::NoShare);
    }
    let Some(joined) = heuristic::nearest_seat(problem, team, worker) else {
        return Err(Reason::NoLayerLeft);
    };
    let ways = problem.ways(&joined);
    if ways.hops == f64::INFINITY || ways.back.delay == f64::INFINITY {
        return Err(Reason::NoLink);
    }
    Ok(split::quick(problem, &joined).ok())
}

/// The fastest node that can do everything alone.
fn one_node(request: &Request) -> Option<OneNode> {
    let pins = request.workers.iter().filter(|worker| worker.limits.layers.is_some()).count();
    let alone = |worker: usize| {
        let pinned = request.workers[worker].limits.layers.is_some();
        if usize::from(pinned) < pins {
            return None;
        }
        let team = Team { seats: vec![Seat { worker, segment: 0 }], decoder: worker, text: worker };
        let placement = team.placement(&[request.work.layers]);
        let prediction = predict(request, &placement).ok()?;
        let held = Problem::new(request, &[worker]).layers_max(worker, team.roles(worker));
        let fits = request.work.layers <= held;
        fits.then_some(OneNode { worker, seconds_per_chunk: prediction.seconds_per_chunk })
    };
    (0..request.workers.len()).filter_map(alone).reduce(|best, node| {
        if node.seconds_per_chunk < best.seconds_per_chunk { node } else { best }
    })
}

/// Workers by what they are left out for, for a text that groups them.
pub(super) fn grouped(left_out: &[LeftOut]) -> Vec<(&Reason, Vec<usize>)> {
    let mut groups: Vec<(&Reason, Vec<usize>)> = Vec::new();
    for LeftOut { worker, reason } in left_out {
        match groups.iter_mut().find(|(other, _)| *other == reason) {
            Some((_, workers)) => workers.push(*worker),
            None => groups.extend(iter::once((reason, vec![*worker]))),
        }
    }
    groups
}
