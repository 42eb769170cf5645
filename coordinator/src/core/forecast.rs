//! What would run where, for jobs that nobody has asked for yet.
//!
//! The core only gives a snapshot: planning takes too long for a task that everything
//! goes through. [`Foresight`] plans elsewhere, a few at a time.

use std::sync::Arc;

use api::{Plan, PlanHop, PlanLeftOut, PlanNode, PlanPace, PlanWorker, Refusal};
use plan::{
    cluster::{
        Forecast, Snapshot,
        forecast::{Holder, Hop, LeftOut},
    },
    placement::{Accuracy, Carries, OneNode, Verdict},
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Core, views::parts};
use crate::model::Asked;

/// Plans that are made at once. Chosen: each keeps a core of the coordinator busy.
const PLANS_MAX: usize = 2;
/// When to come back: what a plan of ten workers takes.
const RETRY_AFTER_SECONDS: u64 = 1;

/// Room for planning beside the core.
#[derive(Clone, Debug)]
pub(crate) struct Foresight(Arc<Semaphore>);

/// A place in it, taken until what is planned there is done.
#[derive(Debug)]
pub(crate) struct Place(OwnedSemaphorePermit);

impl Foresight {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Semaphore::new(PLANS_MAX)))
    }

    /// Takes a place.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooManyRequests`] if all are taken.
    pub(crate) fn place(&self) -> Result<Place, Refusal> {
        let place = Arc::clone(&self.0).try_acquire_owned();
        place.map(Place).map_err(|_| Refusal::TooManyRequests {
            message: format!("{PLANS_MAX} plans are being made; come back later"),
            retry_after_seconds: RETRY_AFTER_SECONDS,
        })
    }
}

impl Place {
    /// Runs what takes a while on a thread of its own, to its end even if nobody waits
    /// for it any more.
    ///
    /// # Errors
    ///
    /// [`Refusal::Internal`] if it panics.
    pub(crate) async fn run<T: Send + 'static>(
        self,
        planning: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let planned = tokio::task::spawn_blocking(move || {
            let planned = planning();
            drop(self.0);
            planned
        });
        let ended = |error| Refusal::Internal { detail: format!("planning ended: {error}") };
        planned.await.map_err(ended)
    }
}

impl Core {
    /// What planning needs, and how right the present plan is.
    pub(crate) fn snapshot(&self) -> (Snapshot, Option<Accuracy>) {
        (self.cluster.snapshot(), self.accuracy())
    }

    /// The present plan beside what chunks really take, once some were made.
    pub(super) fn accuracy(&self) -> Option<Accuracy> {
        let prediction = &self.cluster.pipeline().plan()?.prediction;
        let (jobs, measured) = self.pace.measured().filter(|(_, time)| !time.is_zero())?;
        let jobs = u32::try_from(jobs).unwrap_or(u32::MAX);
        Some(prediction.beside(jobs, measured.as_secs_f64()))
    }
}

/// A forecast as the HTTP door shows it.
pub(crate) fn shown(
    asked: &Asked,
    jobs_max: u32,
    forecast: &Forecast,
    accuracy: Option<Accuracy>,
) -> Plan {
    let (plan, request) = (&forecast.plan, &forecast.request);
    let (prediction, explanation) = (&plan.prediction, &plan.explanation);
    let one_node = explanation.one_node;
    let gain = |node: OneNode| node.seconds_per_chunk / prediction.seconds_per_chunk;
    Plan {
        model: asked.model.clone(),
        size: asked.size,
        measured_size: asked.measured_size,
        fps: asked.fps,
        seconds: asked.seconds,
        pictures: asked.length.pictures,
        chunks: asked.length.chunks,
        jobs: asked.question.jobs.get(),
        jobs_at_once: forecast.jobs.get(),
        jobs_max,
        stands: forecast.stands,
        workers: forecast.holders.iter().map(worker).collect(),
        hops: forecast.hops.iter().map(hop).collect(),
        left_out: forecast.left_out.iter().map(left_out).collect(),
        chunk_seconds: prediction.chunk_seconds,
        seconds_per_chunk: prediction.seconds_per_chunk,
        pictures_per_second: forecast.pictures_per_second,
        first_chunk_seconds: prediction.first_chunk_seconds,
        video_seconds: forecast.video_seconds,
        videos_seconds: forecast.videos_seconds,
        bottleneck: plan.bound(request),
        verdict: plan.verdict(request),
        use_one_node: explanation.verdict == Verdict::UseOneNode,
        one_node: one_node.map(|node| PlanNode {
            id: forecast.nodes[node.worker].to_string(),
            name: request.workers[node.worker].name.clone(),
            seconds_per_chunk: node.seconds_per_chunk,
        }),
        gain: one_node.map(gain),
        measured: accuracy.map(pace),
    }
}

fn worker(holder: &Holder) -> PlanWorker {
    PlanWorker {
        id: holder.node.to_string(),
        name: holder.name.clone(),
        stages: parts(&holder.duty),
        need_bytes: holder.memory.need_bytes,
        usable_bytes: holder.memory.usable_bytes,
        compute_seconds: holder.load.compute_seconds,
        busy_share: holder.load.busy_share,
        limits: holder.limits.clone(),
    }
}

fn hop(hop: &Hop) -> PlanHop {
    let carries = match hop.load.carries {
        Carries::Hidden => "hidden",
        Carries::Velocity => "velocity",
        Carries::Clean => "clean",
    };
    PlanHop {
        from: hop.from.to_string(),
        to: hop.to.to_string(),
        carries: carries.to_owned(),
        messages: hop.load.messages,
        bytes: hop.load.bytes,
        seconds: hop.load.seconds,
        busy_share: hop.load.busy_share,
        is_measured: hop.is_measured,
    }
}

fn left_out(left_out: &LeftOut) -> PlanLeftOut {
    let LeftOut { node, name, why } = left_out;
    PlanLeftOut { id: node.to_string(), name: name.clone(), why: why.to_string() }
}

fn pace(accuracy: Accuracy) -> PlanPace {
    PlanPace {
        jobs: accuracy.jobs,
        predicted_seconds: accuracy.predicted_seconds,
        measured_seconds: accuracy.measured_seconds,
        error_percent: accuracy.error_percent(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn plans_beyond_their_places_are_refused_and_those_nobody_waits_for_keep_theirs() {
        let foresight = Foresight::new();
        let mut ends = Vec::new();
        for _ in 0..PLANS_MAX {
            let (end, ended) = mpsc::channel::<()>();
            let (begin, begun) = oneshot::channel();
            let place = foresight.place().unwrap();
            let client = tokio::spawn(place.run(move || (begin.send(()), ended.recv()).1));
            begun.await.unwrap();
            client.abort();
            assert!(client.await.is_err_and(|error| error.is_cancelled()));
            ends.push(end);
        }

        let refused = foresight.place().unwrap_err();

        assert!(matches!(refused, Refusal::TooManyRequests { retry_after_seconds: 1, .. }));
        drop(ends);
        let places = foresight.0.acquire_many(2).await;
        assert_eq!(places.unwrap().num_permits(), PLANS_MAX);
    }
}
