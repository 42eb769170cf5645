//! Which job is next: the highest priority, there whose user has the fewest jobs
//! open, there the earliest. A job that had its turn comes before those that have
//! not.
//!
//! ```text
//!  priority 5   user 7: 4            heads: (4, user 7)
//!  priority 0   user 7: 1, 2         heads: (1, user 7), (3, user 8)
//!               user 8: 3
//! ```
//!
//! Only the first job of every user can be next, and one without open jobs beats all
//! behind it, so a choice looks at no more users than have jobs open, and one.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use types::JobId;

/// Too many jobs wait. Come back later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{waiting} jobs wait already: come back later")]
pub struct QueueFull {
    /// Jobs that wait.
    pub waiting: usize,
}

/// Jobs that wait.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Queue {
    places: BTreeSet<Place>,
    levels: BTreeMap<Reverse<i32>, Level>,
    by_job: BTreeMap<JobId, Place>,
    /// Jobs that came so far.
    came: u64,
    /// When those came that had their turn and have not ended.
    begun: BTreeMap<JobId, u64>,
    /// Grows with every change of the order.
    version: u64,
}

/// Jobs of one priority.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Level {
    users: BTreeMap<u64, BTreeSet<Ticket>>,
    /// The first job of every user.
    heads: BTreeSet<(Ticket, u64)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    priority: Reverse<i32>,
    ticket: Ticket,
    user: u64,
}

/// Jobs of one priority and user are in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Ticket {
    is_first_turn: bool,
    came: u64,
    job: JobId,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// A job comes.
    pub(super) fn push(&mut self, job: JobId, priority: i32, user: u64) {
        self.came += 1;
        let ticket = Ticket { is_first_turn: true, came: self.came, job };
        self.insert(Place { priority: Reverse(priority), ticket, user });
    }

    /// A job that had its turn comes again.
    pub(super) fn push_again(&mut self, job: JobId, priority: i32, user: u64) {
        let came = self.begun.remove(&job).unwrap_or_else(|| {
            self.came += 1;
            self.came
        });
        let ticket = Ticket { is_first_turn: false, came, job };
        self.insert(Place { priority: Reverse(priority), ticket, user });
    }

    /// A job has its turn.
    pub(super) fn begin(&mut self, job: JobId) {
        if let Some(place) = self.take(job) {
            self.begun.insert(job, place.ticket.came);
        }
    }

    /// A job will not come again.
    pub(super) fn remove(&mut self, job: JobId) {
        self.take(job);
        self.begun.remove(&job);
    }

    /// The job whose turn it is while jobs of these users are open.
    pub(super) fn next(&self, open: &[u64]) -> Option<JobId> {
        let (_, level) = self.levels.first_key_value()?;
        let mut best: Option<(usize, JobId)> = None;
        for &(ticket, user) in &level.heads {
            let jobs_open = open.iter().filter(|&&other| other == user).count();
            if best.is_none_or(|(fewest, _)| jobs_open < fewest) {
                best = Some((jobs_open, ticket.job));
            }
            if jobs_open == 0 {
                break;
            }
        }
        best.map(|(_, job)| job)
    }

    /// All jobs, the next one first, as if no user had more open than another.
    pub(super) fn in_order(&self) -> impl Iterator<Item = JobId> {
        self.places.iter().map(|place| place.ticket.job)
    }

    /// As long as it is the same, so is the order.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    fn insert(&mut self, place: Place) {
        self.version += 1;
        self.take(place.ticket.job);
        self.by_job.insert(place.ticket.job, place);
        self.places.insert(place);
        self.levels.entry(place.priority).or_default().insert(place.user, place.ticket);
    }

    fn take(&mut self, job: JobId) -> Option<Place> {
        let place = self.by_job.remove(&job)?;
        self.version += 1;
        self.places.remove(&place);
        if let Some(level) = self.levels.get_mut(&place.priority) {
            level.remove(place.user, place.ticket);
            if level.users.is_empty() {
                self.levels.remove(&place.priority);
            }
        }
        Some(place)
    }
}

impl Level {
    fn insert(&mut self, user: u64, ticket: Ticket) {
        let tickets = self.users.entry(user).or_default();
        let head = tickets.first().copied();
        tickets.insert(ticket);
        if head.is_none_or(|head| ticket < head) {
            self.heads.extend([(ticket, user)]);
            head.map(|head| self.heads.remove(&(head, user)));
        }
    }

    fn remove(&mut self, user: u64, ticket: Ticket) {
        let Some(tickets) = self.users.get_mut(&user) else { return };
        tickets.remove(&ticket);
        let head = tickets.first().copied();
        if self.heads.remove(&(ticket, user)) {
            self.heads.extend(head.map(|head| (head, user)));
        }
        if head.is_none() {
            self.users.remove(&user);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn priority_goes_before_turns_and_turns_before_arrival() {
        let mut queue = Queue::default();
        for (job, priority, user) in [(1, 0, 7), (2, 0, 7), (3, 0, 8), (4, 5, 7)] {
            queue.push(JobId(job), priority, user);
        }

        let mut order = Vec::new();
        let mut open = Vec::new();
        while let Some(job) = queue.next(&open) {
            order.push(job.0);
            open.push(if job == JobId(3) { 8 } else { 7 });
            queue.begin(job);
        }

        assert_eq!(order, [4, 3, 1, 2]);
    }

    #[test]
    fn job_that_comes_again_is_before_those_that_wait_but_not_before_the_urgent() {
        let mut queue = Queue::default();
        queue.push(JobId(1), 0, 7);
        queue.push(JobId(2), 1, 7);
        queue.push_again(JobId(3), 0, 7);

        let positions = [1, 2, 3].map(|job| position(&queue, job));
        assert_eq!(positions, [Some(2), Some(0), Some(1)]);
        assert_eq!(position(&queue, 9), None);
    }

    #[test]
    fn jobs_that_come_again_keep_their_order() {
        let mut queue = Queue::default();
        for job in 1..=3 {
            queue.push(JobId(job), 0, 7);
        }
        queue.begin(JobId(1));
        queue.begin(JobId(2));

        queue.push_again(JobId(2), 0, 7);
        queue.push_again(JobId(1), 0, 7);

        let positions = [1, 2, 3].map(|job| position(&queue, job));
        assert_eq!(positions, [Some(0), Some(1), Some(2)]);
    }

    fn position(queue: &Queue, job: u128) -> Option<usize> {
        queue.in_order().position(|other| other == JobId(job))
    }

    /// The rule read off all jobs, without levels and heads.
    fn next_by_rule(queue: &Queue, open: &[u64]) -> Option<JobId> {
        let priority = queue.places.first()?.priority;
        let urgent = queue.places.iter().take_while(|place| place.priority == priority);
        let jobs_open = |user: u64| open.iter().filter(|&&other| other == user).count();
        let next = urgent.min_by_key(|place| (jobs_open(place.user), place.ticket));
        next.map(|place| place.ticket.job)
    }

    proptest! {
        #[test]
        fn heads_choose_as_the_rule_does(
            events in prop::collection::vec((0..4_u8, 0..12_u128, 0..3_i32, 0..4_u64), 1..80),
            open in prop::collection::vec(0..4_u64, 0..5),
        ) {
            let mut queue = Queue::default();
            for (event, job, priority, user) in events {
                match event {
                    0 => queue.push(JobId(job), priority, user),
                    1 => queue.push_again(JobId(job), priority, user),
                    2 => queue.begin(JobId(job)),
                    _ => queue.remove(JobId(job)),
                }
                prop_assert_eq!(queue.next(&open), next_by_rule(&queue, &open));
                prop_assert_eq!(queue.len(), queue.by_job.len());
            }
        }
    }
}
