//! The best placement over all subsets, orders and splits.
//!
//! Of an order only four numbers matter to the split: its first and last worker,
//! the sum of its hops and its longest transfer. So for every first worker a dynamic
//! programme over (workers in their segments, last worker) keeps the orders that no
//! other beats in both sums ([`Label`]), and every end is judged by a bound: its
//! hops, the least compute and the shortest longest stage of any split. Ends that
//! might beat the best found so far are split in full, the most promising first.
//!
//! A set is a number with one digit for every unpinned worker: 0 where it is unused,
//! else its free segment counted from 1. Without pins that is a bit mask.

use super::{
    cost::{Chain, Decoding},
    problem::{Problem, Roles, Seat, Team},
    split::{self, Parts, Split},
};

/// The best team and its split, if it takes less than `bound` seconds per chunk.
pub(super) fn search(problem: &Problem, bound: f64) -> Option<(Team, Split)> {
    let mut search = Search::new(problem, bound);
    for first in 0..search.members.len() {
        search.orders_from(first);
        for end in search.ends(first) {
            if search.bound <= end.seconds_min {
                break;
            }
            search.split(&end);
        }
    }
    search.found
}

struct Search<'a> {
    problem: &'a Problem<'a>,
    /// Unpinned workers, then pinned ones in the order of their layers.
    members: Vec<Member>,
    /// Segment of every digit but 0.
    free: Vec<usize>,
    sets: usize,
    /// Orders by set and last member, of one first member.
    labels: Vec<Vec<Label>>,
    bound: f64,
    found: Option<(Team, Split)>,
}

struct Member {
    worker: usize,
    /// Value of its digit; 0 if it is pinned.
    place: usize,
    /// The segment it is pinned to.
    pin: Option<usize>,
}

/// An order that ends at its table entry's member.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Label {
    hops: f64,
    transfer_max: f64,
    /// Set, member and label before; `None` at the first stage.
    before: Option<(usize, usize, usize)>,
}

/// A complete order and a bound below its best split.
struct End {
    seconds_min: f64,
    at: (usize, usize, usize),
}

impl<'a> Search<'a> {
    fn new(problem: &'a Problem<'a>, bound: f64) -> Self {
        let segments = problem.segments.iter().enumerate();
        let free: Vec<_> =
            segments.clone().filter(|(_, s)| s.pin.is_none()).map(|(index, _)| index).collect();
        let digits = free.len() + 1;
        let mut sets = 1;
        let mut members = Vec::new();
        for &worker in &problem.holders {
            members.push(Member { worker, place: sets, pin: None });
            sets *= digits;
        }
        let pins = segments.filter_map(|(index, segment)| Some((index, segment.pin?)));
        members.extend(pins.map(|(index, worker)| Member { worker, place: 0, pin: Some(index) }));
        let labels = vec![Vec::new(); sets * members.len()];
        Self { problem, members, free, sets, labels, bound, found: None }
    }

    /// Fills the table with the orders that begin with a member.
    fn orders_from(&mut self, first: usize) {
        self.labels.iter_mut().for_each(Vec::clear);
        let start = Label { hops: 0.0, transfer_max: 0.0, before: None };
        match (self.members[first].pin, self.free.first()) {
            (Some(0), _) => self.keep(0, first, start),
            (None, Some(0)) => self.keep(self.members[first].place, first, start),
            _ => return,
        }
        // A step leads to a larger set, or to a pinned member behind all others.
        for set in 0..self.sets {
            for last in 0..self.members.len() {
                if !self.labels[set * self.members.len() + last].is_empty() {
                    self.steps(set, last);
                }
            }
        }
    }

    fn steps(&mut self, set: usize, last: usize) {
        let segment = self.segment(set, last);
        let stay = self.problem.segments[segment].pin.is_none().then_some(segment);
        let on = Some(segment + 1).filter(|&next| next < self.problem.segments.len());
        for target in [stay, on].into_iter().flatten() {
            let pinned = self.problem.segments[target].pin.is_some();
            let digit = self.free.iter().position(|&free| free == target).map_or(0, |at| at + 1);
            for next in 0..self.members.len() {
                let member = &self.members[next];
                let fits = match member.pin {
                    Some(pin) => pin == target,
                    None => !pinned && self.digit(set, next) == 0,
                };
                if fits {
                    self.step((set, last), (set + digit * member.place, next));
                }
            }
        }
    }

    fn step(&mut self, (set, last): (usize, usize), (next_set, next): (usize, usize)) {
        let hop = self.problem.hop(self.members[last].worker, self.members[next].worker);
        if hop.delay == f64::INFINITY {
            return;
        }
        for index in 0..self.labels[set * self.members.len() + last].len() {
            let label = self.labels[set * self.members.len() + last][index];
            let before = Some((set, last, index));
            let hops = label.hops + hop.delay;
            let transfer_max = label.transfer_max.max(hop.transfer);
            self.keep(next_set, next, Label { hops, transfer_max, before });
        }
    }

    /// Keeps an order unless another one is as good, and drops those it beats.
    fn keep(&mut self, set: usize, last: usize, label: Label) {
        let labels = &mut self.labels[set * self.members.len() + last];
        let beats = |a: &Label, b: &Label| a.hops <= b.hops && a.transfer_max <= b.transfer_max;
        if !labels.iter().any(|kept| beats(kept, &label)) {
            labels.retain(|kept| !beats(&label, kept));
            labels.push(label);
        }
    }

    /// The complete orders that might beat the bound, the most promising first.
    fn ends(&self, first: usize) -> Vec<End> {
        let segments = self.problem.segments.len();
        let mut ends = Vec::new();
        for set in 0..self.sets {
            for last in 0..self.members.len() {
                let labels = &self.labels[set * self.members.len() + last];
                if labels.is_empty() || self.segment(set, last) + 1 < segments {
                    continue;
                }
                let Some(least) = self.least(set, first, last) else { continue };
                for (index, label) in labels.iter().enumerate() {
                    let (hops, transfer_max) = (label.hops, label.transfer_max);
                    let seconds_min = self.seconds(Chain { hops, transfer_max, ..least });
                    if seconds_min < self.bound {
                        ends.push(End { seconds_min, at: (set, last, index) });
                    }
                }
            }
        }
        ends.sort_by(|a, b| a.seconds_min.total_cmp(&b.seconds_min).then(a.at.cmp(&b.at)));
        ends
    }

    /// A chain below every split of a set between these ends, without hops.
    fn least(&self, set: usize, first: usize, last: usize) -> Option<Chain> {
        let seats = (0..self.members.len()).filter_map(|member| self.seat(set, member));
        let (first, last) = (self.members[first].worker, self.members[last].worker);
        let back = self.problem.back(last, first);
        if back.delay == f64::INFINITY {
            return None;
        }
        let roles =
            |worker| Roles { first: worker == first, last: worker == last, ..Roles::default() };
        let (compute, stage_max) =
            Parts::new(self.problem, &seats.collect::<Vec<_>>(), roles).least()?;
        let decoding = Decoding::default();
        Some(Chain { compute, stage_max, hops: 0.0, transfer_max: 0.0, back, decoding })
    }

    /// Splits an order with every decoder and text side that might beat the bound.
    fn split(&mut self, end: &End) {
        let seats = self.order(end.at);
        let mut team = Team { seats, decoder: 0, text: 0 };
        for &decoder in &self.problem.decoders {
            team.decoder = decoder;
            let without_text = |worker| Roles { encodes: false, ..team.roles(worker) };
            if self.bound <= split::seconds_min(self.problem, &team, without_text) {
                continue;
            }
            for text in self.problem.texts_of(&team) {
                team.text = text;
                if let Some(split) = split::best(self.problem, &team, self.bound) {
                    self.bound = split.seconds;
                    self.found = Some((team.clone(), split));
                }
            }
        }
    }

    /// The stages of an order, read from its end.
    fn order(&self, end: (usize, usize, usize)) -> Vec<Seat> {
        let (mut seats, mut at) = (Vec::new(), Some(end));
        while let Some((set, last, index)) = at {
            let segment = self.segment(set, last);
            seats.push(Seat { worker: self.members[last].worker, segment });
            at = self.labels[set * self.members.len() + last][index].before;
        }
        seats.reverse();
        seats
    }

    fn seat(&self, set: usize, member: usize) -> Option<Seat> {
        let used = self.members[member].pin.is_some() || self.digit(set, member) != 0;
        let worker = self.members[member].worker;
        used.then(|| Seat { worker, segment: self.segment(set, member) })
    }

    /// The segment of a member of a set.
    fn segment(&self, set: usize, member: usize) -> usize {
        self.members[member].pin.unwrap_or_else(|| self.free[self.digit(set, member) - 1])
    }

    fn digit(&self, set: usize, member: usize) -> usize {
        set / self.members[member].place % (self.free.len() + 1)
    }

    fn seconds(&self, chain: Chain) -> f64 {
        let request = self.problem.request;
        chain.seconds_per_chunk(&request.work, request.objective.jobs().get())
    }
}
