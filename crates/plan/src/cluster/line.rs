//! Where jobs stand in the queue: seen in one walk, true until the queue changes.

use types::JobId;

use super::Cluster;

/// The whole queue at one time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Line {
    version: u64,
    /// In the order of the jobs' ids.
    standings: Vec<(JobId, Standing)>,
}

/// Where a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Jobs ahead of it.
    pub position: usize,
    /// Their chunks.
    pub chunks_ahead: u64,
}

impl Line {
    /// Where a job stands, if it waits.
    pub fn standing(&self, job: JobId) -> Option<Standing> {
        let found = self.standings.binary_search_by_key(&job, |&(id, _)| id).ok()?;
        Some(self.standings[found].1)
    }
}

impl Cluster {
    /// Where every job stands that waits.
    pub fn line(&self) -> Line {
        let mut chunks_ahead = 0;
        let mut standings: Vec<_> = (0..)
            .zip(self.queue())
            .map(|(position, job)| {
                let standing = Standing { position, chunks_ahead };
                chunks_ahead += self.jobs.get(&job).map_or(0, |job| u64::from(job.chunks_left()));
                (job, standing)
            })
            .collect();
        standings.sort_unstable_by_key(|&(job, _)| job);
        Line { version: self.queue.version(), standings }
    }

    /// Whether jobs still stand as they did.
    pub fn stands(&self, line: &Line) -> bool {
        self.queue.version() == line.version
    }

    /// Seconds until a job that stands there begins, as far as one can tell; `None` if
    /// nothing is placed.
    pub fn estimated_wait_seconds(&self, standing: Standing) -> Option<f64> {
        let prediction = &self.pipeline.plan()?.prediction;
        let placed = self.placed.iter().filter_map(|job| self.jobs.get(job));
        let chunks: u64 = placed.map(|job| u64::from(job.chunks_left())).sum();
        Some((chunks + standing.chunks_ahead) as f64 * prediction.seconds_per_chunk)
    }
}
