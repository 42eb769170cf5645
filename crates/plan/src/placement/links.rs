//! What connects every ordered pair of workers.

/// One direction between two workers, as it was measured.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Link {
    /// Bytes a second, above 0.
    pub bytes_per_second: f64,
    /// Seconds on the way, one way.
    pub latency_seconds: f64,
}

/// The links of a cluster; a pair without one cannot reach each other.
#[derive(Clone, Debug, PartialEq)]
pub struct Links {
    workers: usize,
    /// By `from * workers + to`.
    pairs: Vec<Option<Link>>,
}

impl Links {
    /// No links between so many workers.
    pub fn none(workers: usize) -> Self {
        Self { workers, pairs: vec![None; workers * workers] }
    }

    /// The same link between all of so many workers.
    pub fn uniform(workers: usize, link: Link) -> Self {
        Self::from_fn(workers, |_, _| Some(link))
    }

    /// The links that a function of (from, to) gives.
    pub fn from_fn(workers: usize, link: impl Fn(usize, usize) -> Option<Link>) -> Self {
        let mut links = Self::none(workers);
        for from in 0..workers {
            for to in (0..workers).filter(|&to| to != from) {
                links.pairs[from * workers + to] = link(from, to);
            }
        }
        links
    }

    /// Workers that are connected.
    pub fn workers(&self) -> usize {
        self.workers
    }

    /// The link from one worker to another; `None` if there is none.
    pub fn between(&self, from: usize, to: usize) -> Option<Link> {
        if self.workers <= from || self.workers <= to {
            return None;
        }
        self.pairs[from * self.workers + to]
    }
}

impl Link {
    /// Seconds that so many bytes keep the link busy.
    pub(super) fn transfer_seconds(&self, bytes: u64) -> f64 {
        bytes as f64 / self.bytes_per_second
    }
}
