//! How long workers take for a chunk at work, beside what they were timed with.
//!
//! ```text
//!  heartbeats of a worker   │counters        ...          counters│
//!  commits of all videos    │  ▼   ▼   ▼  ▼  ...   ▼   ▼   ▼      │  weighted by size
//!                           └──────── one span: enough of both ───┘
//! ```
//!
//! A worker that was timed while its machine did something else is planned as a slow
//! one, and one that has got other work since as a fast one. What a span shows is
//! compared with what the plan expects; only what is far from it is news, as workers
//! that hold nothing keep what they were timed with.

use std::{collections::BTreeMap, time::Duration};

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
}

/// Seconds for a chunk.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Took {
    /// Of all runs.
    pub(super) compute: f64,
    /// Of decoding.
    pub(super) decode: f64,
}

impl Tempo {
    /// A chunk was made.
    pub(super) fn handle_commit(&mut self, times: f64) {
        self.chunks += times;
    }

    /// A worker of this pipeline speaks. Gives what a chunk took, if a span is over.
    pub(super) fn hear(&mut self, assignment: u64, node: NodeId, heard: Heard) -> Option<Took> {
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
        let spent = since(&heard.counters, &begun.counters);
        Some(Took {
            compute: spent.compute_seconds / chunks,
            decode: spent.decode_seconds / chunks,
        })
    }
}

impl Took {
    /// The speed of a worker that was thought to take so long, if it is another one.
    pub(super) fn corrects(self, planned: Self, speed: Speed) -> Option<Speed> {
        let runs = news(self.compute, planned.compute);
        let decoding = news(self.decode, planned.decode);
        if runs.is_none() && decoding.is_none() {
            return None;
        }
        let (runs, decoding) = (runs.unwrap_or(1.0), decoding.unwrap_or(1.0));
        Some(Speed {
            layer_seconds: speed.layer_seconds * runs,
            embedding_seconds: speed.embedding_seconds * runs,
            head_seconds: speed.head_seconds * runs,
            decode_seconds: speed.decode_seconds.map(|seconds| seconds * decoding),
            text_seconds: speed.text_seconds,
        })
    }
}

impl Core {
    /// What a worker of the pipeline has done: it may not be as fast as was thought.
    pub(super) fn hear_tempo(&mut self, node: NodeId, heard: Heard) {
        let assignment = self.cluster.pipeline().assignment();
        let Some(took) = self.tempo.hear(assignment, node, heard) else { return };
        let known = self.cluster.members().find(|&(member, _)| member == node);
        let Some(speed) = known.and_then(|(_, member)| member.speed) else { return };
        let planned = self.planned_tempo(node, speed);
        if let Some(corrected) = planned.and_then(|planned| took.corrects(planned, speed)) {
            let (planned, corrected_to) = (speed.layer_seconds, corrected.layer_seconds);
            tracing::info!(%node, planned, corrected_to, "a worker is not as fast as it was timed");
            self.cluster.handle_profiled(self.now(), node, corrected);
        }
    }

    fn planned_tempo(&self, node: NodeId, speed: Speed) -> Option<Took> {
        let pipeline = self.cluster.pipeline();
        let loads = &pipeline.plan()?.prediction.workers;
        let load = loads.iter().find(|load| pipeline.node(load.worker) == Some(node))?;
        let decode = speed.decode_seconds.filter(|_| pipeline.decoder() == Some(node));
        let decode = decode.unwrap_or(0.0);
        Some(Took { compute: load.compute_seconds - decode, decode })
    }
}

/// How many times as long something took as was planned, if that is news.
fn news(took: f64, planned: f64) -> Option<f64> {
    let times = took / planned;
    let is_news = times.is_normal() && !(NEWS_TIMES.recip()..=NEWS_TIMES).contains(&times);
    is_news.then_some(times)
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

        let took = tempo.hear(1, NODE, heard(1, 10, 27.0));
        assert_eq!(took, Some(Took { compute: 1.0, decode: 0.5 }));

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
    fn what_is_far_from_the_plan_corrects_the_part_that_it_is_of() {
        let speed = Speed {
            layer_seconds: 1.0,
            embedding_seconds: 2.0,
            head_seconds: 3.0,
            decode_seconds: Some(4.0),
            text_seconds: Some(5.0),
        };
        let planned = Took { compute: 10.0, decode: 4.0 };
        let corrected = |compute, decode| Took { compute, decode }.corrects(planned, speed);

        assert_eq!(corrected(14.0, 3.0), None);
        let slower =
            Speed { layer_seconds: 2.0, embedding_seconds: 4.0, head_seconds: 6.0, ..speed };
        assert_eq!(corrected(20.0, 4.0), Some(slower));
        assert_eq!(corrected(10.0, 2.0), Some(Speed { decode_seconds: Some(2.0), ..speed }));
        let nothing = Took { compute: 0.0, decode: 0.0 };
        assert_eq!(nothing.corrects(planned, speed), None, "it may have had nothing to do");
    }

    fn heard(incarnation: u64, seconds: u64, compute_seconds: f64) -> Heard {
        let decode_seconds = (compute_seconds - 7.0).max(0.0) / 2.0;
        Heard {
            incarnation: Incarnation(incarnation),
            at: Duration::from_secs(seconds),
            counters: Counters { compute_seconds, decode_seconds, ..Counters::default() },
        }
    }
}
