//! A good placement for clusters too large to search through.
//!
//! Starts are the best few workers of several rankings, chained each to its nearest
//! neighbour. From the best starts a local search adds, drops, replaces and moves
//! stages and the decoder, one at a time, as long as anything gets better; the text
//! side follows, since it takes no time. A team that cannot work yet is judged by the
//! layers and links it lacks. Teams are judged with quick splits,
//! the best ones are split in full, and so are all workers in their own order: a plan
//! is never worse than a plain division.
//!
//! The work is bounded by [`TEAMS_MAX`], however long it goes on getting better.
//! Measured by `examples/bench_placement.rs` on two cores of a shared machine: on 200
//! clusters each of 2 to 10 workers it is as good as the exact search on 99 % for one
//! job and 80 % for four, 0.03 % and 0.4 % slower on average and 15 % and 49 % at most;
//! 64 workers and 40 layers take 11 ms for one job and 26 ms for 32, 43 ms at most.

use super::{
    problem::{Problem, Roles, Seat, Team},
    split::{self, Split},
};

/// Teams judged per local search. This and the next three are chosen so that 64 workers
/// and 40 layers take less than 50 ms (`examples/bench_placement.rs`).
const TEAMS_MAX: usize = 1_500;

/// Starts that are searched from: the best ones.
const SEARCHES_MAX: usize = 5;

/// Leads that a ranking by nearness is made for: the fastest workers.
const LEADS_MAX: usize = 12;

/// Decoders that a start is tried with, besides the fastest one that stands apart.
const DECODERS_MAX: usize = 4;

/// How good a team is; less is better, the first field before the second.
#[derive(Clone, Copy, Debug)]
pub(super) struct Score {
    /// Layers without a place, and as many for every missing link.
    pub(super) missing: usize,
    /// Seconds per chunk; infinite if anything is missing.
    pub(super) seconds: f64,
}

/// The best team found and its split; `None` if none works.
pub(super) fn search(problem: &Problem) -> Option<(Team, Split)> {
    let mut starts: Vec<(Score, Team)> = Vec::new();
    for ranking in rankings(problem) {
        let start = best_start(problem, &ranking);
        starts.extend(start.filter(|(_, team)| starts.iter().all(|(_, other)| other != team)));
    }
    // A stable sort: of equals the earlier ranking.
    starts
        .sort_by(|(a, _), (b, _)| a.missing.cmp(&b.missing).then(a.seconds.total_cmp(&b.seconds)));
    starts.truncate(SEARCHES_MAX);
    let searched = starts.into_iter().filter_map(|(_, team)| Search::new(problem, team).run());
    let plain = in_order(problem).filter(|team| score(problem, team).missing == 0);
    let mut found: Option<(Team, Split)> = None;
    for team in searched.chain(plain) {
        let bound = found.as_ref().map_or(f64::INFINITY, |(_, split)| split.seconds);
        if let Some(split) = split::best(problem, &team, bound) {
            found = Some((team, split));
        }
    }
    found
}

/// Judges a team.
pub(super) fn score(problem: &Problem, team: &Team) -> Score {
    let layers = problem.request.work.layers;
    let (first, last) = team.ends();
    let hops = team.seats.windows(2).map(|pair| problem.hop(pair[0].worker, pair[1].worker));
    let decoding = problem.decoding(first, team.decoder);
    let ways = hops.chain([problem.back(last, first), decoding.way]);
    let links = ways.filter(|way| way.delay == f64::INFINITY).count();
    let room = problem.homeless(team);
    match split::quick(problem, team) {
        Ok(seconds) if links + room == 0 => Score { missing: 0, seconds },
        Ok(_) => Score { missing: (links + room) * layers, seconds: f64::INFINITY },
        Err(missing) => {
            Score { missing: missing + (links + room) * layers, seconds: f64::INFINITY }
        }
    }
}

impl Score {
    /// Whether this is better by more than a rounding error.
    fn beats(&self, other: &Self) -> bool {
        self.missing < other.missing
            || self.missing == other.missing && self.seconds < other.seconds * (1.0 - 1e-9)
    }
}

/// Unpinned workers by speed, by room, by nearness, by speed and nearness; and by
/// speed and nearness to each of the fastest.
fn rankings(problem: &Problem) -> Vec<Vec<usize>> {
    let layers = problem.request.work.layers as f64;
    let speed = |worker: usize| problem.request.workers[worker].speed.layer_seconds;
    let room = |worker: usize| problem.layers_max(worker, Roles::default()) as f64;
    let others = |worker| problem.holders.iter().copied().filter(move |&other| other != worker);
    let hop = |worker: usize| {
        let mut delays: Vec<_> = others(worker)
            .map(|other| problem.hop(worker, other).delay.max(problem.hop(other, worker).delay))
            .collect();
        delays.sort_by(f64::total_cmp);
        delays.get(delays.len() / 4).copied().unwrap_or(0.0)
    };
    let ranked = |cost: &dyn Fn(usize) -> f64| {
        let mut ranking: Vec<_> =
            problem.holders.iter().map(|&worker| (cost(worker), worker)).collect();
        ranking.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        ranking.into_iter().map(|(_, worker)| worker).collect()
    };
    let weight = |worker| room(worker).min(layers) * speed(worker);
    let fastest: Vec<usize> = ranked(&speed);
    let mut rankings = vec![
        ranked(&|worker| -room(worker).min(layers)),
        ranked(&hop),
        ranked(&|worker| weight(worker) + hop(worker)),
    ];
    rankings.extend(fastest.iter().take(LEADS_MAX).map(|&lead| {
        let share = layers / 4.0;
        ranked(&|worker| {
            let there = problem.hop(lead, worker).delay + problem.hop(worker, lead).delay;
            // The lead itself comes first.
            if worker == lead { -1.0 } else { share * speed(worker) + there }
        })
    }));
    rankings.push(fastest);
    rankings
}

/// The best chain of a ranking's first few workers.
fn best_start(problem: &Problem, ranking: &[usize]) -> Option<(Score, Team)> {
    let most = ranking.len().min(problem.request.work.layers);
    let mut best: Option<(Score, Team)> = None;
    // The local search adds and drops what lies between the larger ones.
    for count in (0..=most).filter(|&count| count <= 8 || count % 4 == 0 || count == most) {
        let Some(team) = chained(problem, &ranking[..count]) else { continue };
        let fastest = problem.decoders.iter().take(DECODERS_MAX).copied();
        for decoder in [team.decoder].into_iter().chain(fastest) {
            let mut team = Team { decoder, ..team.clone() };
            team.text = problem.texts_of(&team).first().copied().unwrap_or(team.text);
            let score = score(problem, &team);
            if best.as_ref().is_none_or(|(best, _)| score.beats(best)) {
                best = Some((score, team));
            }
        }
    }
    best
}

/// Workers chained from the first of them, each to its nearest neighbour.
fn chained(problem: &Problem, workers: &[usize]) -> Option<Team> {
    let (mut left, mut last) = (workers.to_vec(), None::<usize>);
    let next = |last: Option<usize>, left: &mut Vec<usize>| {
        let near = |worker: usize| last.map_or(0.0, |last| problem.hop(last, worker).delay);
        let nearest = (0..left.len()).min_by(|&a, &b| near(left[a]).total_cmp(&near(left[b])))?;
        Some(left.remove(nearest))
    };
    let seats = seated(problem, workers.len(), |pin| {
        last = pin.or_else(|| next(last, &mut left));
        last
    })?;
    housed(problem, seats)
}

/// All workers in the order of the request, as a plain division has them.
fn in_order(problem: &Problem) -> Option<Team> {
    let count = problem.holders.len().min(problem.request.work.layers);
    let mut left = problem.holders.iter().copied();
    let seats = seated(problem, count, |pin| pin.or_else(|| left.next()))?;
    housed(problem, seats)
}

/// Seats for so many unpinned workers, shared out by the free segments' layers.
fn seated(
    problem: &Problem,
    mut workers: usize,
    mut next: impl FnMut(Option<usize>) -> Option<usize>,
) -> Option<Vec<Seat>> {
    let free = |from: usize| problem.segments[from..].iter().filter(|s| s.pin.is_none());
    let mut seats = Vec::new();
    for (index, segment) in problem.segments.iter().enumerate() {
        let mut count = 1;
        if segment.pin.is_none() {
            let (here, layers) =
                (segment.layers.len(), free(index).map(|s| s.layers.len()).sum::<usize>());
            let others = free(index).count() - 1;
            count = (workers * here).div_ceil(layers).min(workers.saturating_sub(others));
            count = count.clamp(1, here);
            workers = workers.checked_sub(count)?;
        }
        for _ in 0..count {
            seats.push(Seat { worker: next(segment.pin)?, segment: index });
        }
    }
    Some(seats)
}

/// Seats with the fastest decoder and text side that stand apart, if any do.
fn housed(problem: &Problem, seats: Vec<Seat>) -> Option<Team> {
    let (decoder, text) = (*problem.decoders.first()?, *problem.texts.first()?);
    let seated = |worker: usize| seats.iter().any(|seat| seat.worker == worker);
    let apart = |workers: &[usize], roles: Roles| {
        let fits = |&worker: &usize| !seated(worker) && problem.fits_beside(worker, roles);
        workers.iter().copied().find(fits)
    };
    let decodes = Roles { decodes: true, ..Roles::default() };
    let decoder = apart(&problem.decoders, decodes).unwrap_or(decoder);
    let encodes = Roles { encodes: true, ..Roles::default() };
    let text = apart(&problem.texts, encodes).unwrap_or(text);
    Some(Team { seats, decoder, text })
}

struct Search<'a> {
    problem: &'a Problem<'a>,
    team: Team,
    score: Score,
    /// Teams that may still be judged.
    teams_left: usize,
}

impl<'a> Search<'a> {
    fn new(problem: &'a Problem<'a>, team: Team) -> Self {
        let score = score(problem, &team);
        Self { problem, team, score, teams_left: TEAMS_MAX }
    }

    /// The team that no single change makes better, or the best one judged; `None` if
    /// that cannot work.
    fn run(mut self) -> Option<Team> {
        while self.house() | self.drop() | self.add() | self.replace() | self.shift() {}
        (self.score.missing == 0).then_some(self.team)
    }

    /// Moves the decoder.
    fn house(&mut self) -> bool {
        let problem = self.problem;
        let mut better = false;
        for &decoder in &problem.decoders {
            better |= self.offer(Team { decoder, ..self.team.clone() });
            // Where it would be in a stage's way, the stage may go.
            let place = self.team.seats.iter().position(|seat| seat.worker == decoder);
            if let Some(team) = place.and_then(|place| self.without(place)) {
                better |= self.offer(Team { decoder, ..team });
            }
        }
        better
    }

    /// Leaves a stage out.
    fn drop(&mut self) -> bool {
        let (mut better, mut place) = (false, 0);
        while place < self.team.seats.len() {
            if self.without(place).is_some_and(|team| self.offer(team)) {
                better = true;
            } else {
                place += 1;
            }
        }
        better
    }

    /// Inserts an unused worker where its hops are shortest.
    fn add(&mut self) -> bool {
        let mut better = false;
        for worker in self.unused() {
            if let Some(team) = nearest_seat(self.problem, &self.team, worker) {
                better |= self.offer(team);
            }
        }
        better
    }

    /// Gives a stage to an unused worker.
    fn replace(&mut self) -> bool {
        let mut better = false;
        for worker in self.unused() {
            for place in 0..self.team.seats.len() {
                let mut team = self.team.clone();
                if self.pinned(place) || team.holds(worker) {
                    continue;
                }
                team.seats[place].worker = worker;
                better |= self.offer(team);
            }
        }
        better
    }

    /// Moves a stage elsewhere, or exchanges two.
    fn shift(&mut self) -> bool {
        let mut better = false;
        for from in 0..self.team.seats.len() {
            for to in 0..self.team.seats.len() {
                if from == to || self.pinned(from) || self.pinned(to) {
                    continue;
                }
                let mut team = self.team.clone();
                let worker = team.seats[from].worker;
                team.seats[from].worker = team.seats[to].worker;
                team.seats[to].worker = worker;
                better |= self.offer(team);
                let mut team = self.team.clone();
                let segment = team.seats[to].segment;
                let mut seat = team.seats.remove(from);
                let alone = !team.seats.iter().any(|other| other.segment == seat.segment);
                seat.segment = segment;
                team.seats.insert(to, seat);
                if !alone {
                    better |= self.offer(team);
                }
            }
        }
        better
    }

    /// Takes a team if it is better, with whichever text side.
    fn offer(&mut self, team: Team) -> bool {
        let texts = self.problem.texts_of(&team);
        let mut better = texts.is_empty() && self.judge(team.clone());
        for text in texts {
            better |= self.judge(Team { text, ..team.clone() });
        }
        better
    }

    fn judge(&mut self, team: Team) -> bool {
        let Some(left) = self.teams_left.checked_sub(1) else { return false };
        self.teams_left = left;
        let score = score(self.problem, &team);
        let better = score.beats(&self.score);
        if better {
            (self.team, self.score) = (team, score);
        }
        better
    }

    /// The team without a stage; `None` if its segment has no other.
    fn without(&self, place: usize) -> Option<Team> {
        let mut team = self.team.clone();
        let gone = team.seats.remove(place);
        let others = team.seats.iter().any(|seat| seat.segment == gone.segment);
        others.then_some(team)
    }

    fn unused(&self) -> Vec<usize> {
        let holders = self.problem.holders.iter().copied();
        holders.filter(|&worker| !self.team.holds(worker)).collect()
    }

    fn pinned(&self, place: usize) -> bool {
        self.problem.segments[self.team.seats[place].segment].pin.is_some()
    }
}

/// A team with one more worker, seated where its hops are shortest; `None` if all
/// seats are taken.
pub(super) fn nearest_seat(problem: &Problem, team: &Team, worker: usize) -> Option<Team> {
    let (first, last) = team.ends();
    let taken = |segment: usize| team.seats.iter().filter(|seat| seat.segment == segment).count();
    let mut best: Option<(f64, usize, usize)> = None;
    for place in 0..=team.seats.len() {
        let before = place.checked_sub(1).map(|before| team.seats[before]);
        let behind = team.seats.get(place).copied();
        let hops = match (before, behind) {
            (Some(before), Some(behind)) => {
                problem.hop(before.worker, worker).delay + problem.hop(worker, behind.worker).delay
                    - problem.hop(before.worker, behind.worker).delay.min(f64::MAX)
            }
            (Some(before), None) => {
                problem.hop(before.worker, worker).delay + problem.back(worker, first).delay
                    - problem.back(before.worker, first).delay.min(f64::MAX)
            }
            (None, _) => {
                problem.hop(worker, first).delay + problem.back(last, worker).delay
                    - problem.back(last, first).delay.min(f64::MAX)
            }
        };
        for segment in [before, behind].into_iter().flatten().map(|seat| seat.segment) {
            let Problem { segments, .. } = problem;
            let free = segments[segment].pin.is_none();
            let room = taken(segment) < segments[segment].layers.len();
            if free && room && best.is_none_or(|(least, ..)| hops < least) {
                best = Some((hops, place, segment));
            }
        }
    }
    let (_, place, segment) = best?;
    let mut team = team.clone();
    team.seats.insert(place, Seat { worker, segment });
    Some(team)
}
