//! How long workers take for a chunk at work, beside what they were timed with.
//!
//! ```text
//!  heartbeats of a worker   │counters        ...          counters│
//!  commits of all videos    │  ▼   ▼   ▼  ▼  ...   ▼   ▼   ▼      │  weighted by size
//!                           └──────── one span: enough of both ───┘
//! ```
//!
//! A worker that was timed while its machine did something else is planned as a slow
//! one, and one that has got other work since as a fast one. What a span shows of its
//! runs is compared with what the plan expects; only what is far from it is news, as
//! workers that hold nothing keep what they were timed with. A worker is corrected once
//! in a pipeline: after that the plan may not be of the speed that it is known to have.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use plan::placement::Speed;
use types::NodeId;

use super::{
    Core,
    spent::{Heard, since},
};

/// Chunks of a span, at least.
const CHUNKS_MIN: f64 = 16.0;
/// How long a span is, at least: many heartbeats.
const SPAN_MIN: Duration = Duration::from_secs(10);
/// How many times as slow, or as fast, as was thought is news. Chosen.
const NEWS_TIMES: f64 = 1.5;

/// The workers of one pipeline, at work.
#[derive(Debug, Default)]
pub(super) struct Tempo {
    assignment: u64,
    /// Chunks made, each as many times as its runs take longer than one of the model's
    /// own size.
    chunks: f64,
    /// Where spans begin.
    begun: BTreeMap<NodeId, (Heard, f64)>,
    corrected: BTreeSet<NodeId>,
}

impl Tempo {
    /// A chunk was made.
    pub(super) fn handle_commit(&mut self, times: f64) {
        self.chunks += times;
    }

    /// A worker of this pipeline speaks. Gives the seconds of a chunk's runs there, if a
    /// span is over.
    fn hear(&mut self, assignment: u64, node: NodeId, heard: Heard) -> Option<f64> {
        if self.assignment != assignment {
            *self = Self { assignment, ..Self::default() };
        }
        let now = (heard, self.chunks);
        let &mut (begun, chunks) = self.begun.entry(node).or_insert(now);
        if begun.incarnation != heard.incarnation {
            self.begun.insert(node, now);
            return None;
        }
        let chunks = self.chunks - chunks;
        if chunks < CHUNKS_MIN || heard.at.saturating_sub(begun.at) < SPAN_MIN {
            return None;
        }
        self.begun.insert(node, now);
        Some(since(&heard.counters, &begun.counters).compute_seconds / chunks)
    }
}

impl Core {
    /// What a worker of the pipeline has done: it may not be as fast as was thought.
    pub(super) fn hear_tempo(&mut self, node: NodeId, heard: Heard) {
        let assignment = self.cluster.pipeline().assignment();
        let Some(took) = self.tempo.hear(assignment, node, heard) else { return };
        let Some(speed) = self.cluster.member(node).and_then(|member| member.speed) else { return };
        let Some(planned) = self.planned_seconds(node, speed) else { return };
        if let Some(corrected) = corrected(speed, took, planned)
            && self.tempo.corrected.insert(node)
        {
            tracing::info!(%node, took, planned, "a worker is not as fast as it was timed");
            self.cluster.handle_profiled(self.now(), node, corrected);
        }
    }

    /// Seconds of a chunk's runs on a worker, as the plan has them.
    fn planned_seconds(&self, node: NodeId, speed: Speed) -> Option<f64> {
        let pipeline = self.cluster.pipeline();
        let loads = &pipeline.plan()?.prediction.workers;
        let load = loads.iter().find(|load| pipeline.node(load.worker) == Some(node))?;
        let decode = speed.decode_seconds.filter(|_| pipeline.decoder() == Some(node));
        Some(load.compute_seconds - decode.unwrap_or(0.0))
    }
}

/// The speed of a worker whose runs took so long, if that is far from what was planned.
fn corrected(speed: Speed, took: f64, planned: f64) -> Option<Speed> {
    let times = took / planned;
    let is_time = times.is_normal() && 0.0 < times;
    let is_news = is_time && !(NEWS_TIMES.recip()..=NEWS_TIMES).contains(&times);
    is_news.then_some(Speed {
        layer_seconds: speed.layer_seconds * times,
        embedding_seconds: speed.embedding_seconds * times,
        head_seconds: speed.head_seconds * times,
        ..speed
    })
}

#[cfg(test)]
mod tests {
    use proto::control::wire::Counters;
    use types::Incarnation;

    use super::*;

    const NODE: NodeId = NodeId(1);

    #[test]
    fn span_ends_with_enough_chunks_and_enough_time() {
        let mut tempo = Tempo::default();
        assert_eq!(tempo.hear(1, NODE, heard(1, 0, 7.0)), None);
        (0..10).for_each(|_| tempo.handle_commit(2.0));
        assert_eq!(tempo.hear(1, NODE, heard(1, 9, 17.0)), None, "that is a short time");

        assert_eq!(tempo.hear(1, NODE, heard(1, 10, 27.0)), Some(1.0));

        assert_eq!(tempo.hear(1, NODE, heard(1, 30, 40.0)), None, "nothing was made since");
    }

    #[test]
    fn other_lives_and_other_pipelines_begin_anew() {
        for (assignment, incarnation) in [(2, 1), (1, 2)] {
            let mut tempo = Tempo::default();
            tempo.hear(1, NODE, heard(1, 0, 0.0));
            (0..20).for_each(|_| tempo.handle_commit(1.0));

            assert_eq!(tempo.hear(assignment, NODE, heard(incarnation, 20, 20.0)), None);
        }
    }

    #[test]
    fn what_is_far_from_the_plan_corrects_the_times_of_runs() {
        let speed = Speed {
            layer_seconds: 1.0,
            embedding_seconds: 2.0,
            head_seconds: 3.0,
            decode_seconds: Some(4.0),
            text_seconds: Some(5.0),
        };
        let twice =
            Speed { layer_seconds: 2.0, embedding_seconds: 4.0, head_seconds: 6.0, ..speed };

        assert_eq!(corrected(speed, 20.0, 10.0), Some(twice));
        assert_eq!(corrected(twice, 10.0, 20.0), Some(speed));
        for (took, planned) in [(14.0, 10.0), (7.0, 10.0), (0.0, 10.0), (1.0, 0.0), (10.0, -1.0)] {
            assert_eq!(corrected(speed, took, planned), None, "{took} and {planned}");
        }
    }

    fn heard(incarnation: u64, seconds: u64, compute_seconds: f64) -> Heard {
        Heard {
            incarnation: Incarnation(incarnation),
            at: Duration::from_secs(seconds),
            counters: Counters { compute_seconds, ..Counters::default() },
        }
    }
}
