//! What workers' time has gone into since their pipeline was ready.
//!
//! Workers count since their process began. The first heartbeat of a worker's life
//! that comes after the pipeline is ready is what later ones are compared with, so
//! measuring and loading do not count.

use std::{collections::BTreeMap, time::Duration};

use proto::control::wire::Counters;
use serde_json::{Value, json};
use types::{Incarnation, NodeId};

/// The workers of one pipeline.
#[derive(Debug, Default)]
pub(super) struct Spent {
    assignment: u64,
    workers: BTreeMap<NodeId, (Heard, Heard)>,
}

/// What a worker said.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Heard {
    /// In which life.
    pub(super) incarnation: Incarnation,
    /// When.
    pub(super) at: Duration,
    /// What it had done by then.
    pub(super) counters: Counters,
}

impl Spent {
    /// A worker speaks while this pipeline is ready. Another pipeline, and another
    /// life, begin anew.
    pub(super) fn hear(&mut self, assignment: u64, node: NodeId, heard: Heard) {
        if self.assignment != assignment {
            (self.assignment, self.workers) = (assignment, BTreeMap::new());
        }
        let (first, latest) = self.workers.entry(node).or_insert((heard, heard));
        if first.incarnation != heard.incarnation {
            *first = heard;
        }
        *latest = heard;
    }

    /// Where a worker's time went, as the door shows it; nothing before its second
    /// heartbeat.
    pub(super) fn view(&self, node: NodeId) -> Option<Value> {
        let (first, latest) = self.workers.get(&node)?;
        let seconds = latest.at.saturating_sub(first.at).as_secs_f64();
        if seconds <= 0.0 {
            return None;
        }
        let Counters {
            runs,
            compute_seconds,
            wait_seconds,
            decode_seconds,
            text_seconds,
            sent_bytes,
            received_bytes,
            transfer_seconds,
        } = since(&latest.counters, &first.counters);
        Some(json!({
            "seconds": seconds,
            "runs": runs,
            "compute_seconds": compute_seconds,
            "transfer_seconds": transfer_seconds,
            "wait_seconds": wait_seconds,
            "decode_seconds": decode_seconds,
            "text_seconds": text_seconds,
            "sent_bytes": sent_bytes,
            "received_bytes": received_bytes,
        }))
    }
}

/// What was done after `begun`. A process that began again has counted anew: what is
/// less than before counts as nothing.
pub(super) fn since(now: &Counters, begun: &Counters) -> Counters {
    let seconds = |now: f64, begun: f64| (now - begun).max(0.0);
    Counters {
        runs: now.runs.saturating_sub(begun.runs),
        compute_seconds: seconds(now.compute_seconds, begun.compute_seconds),
        wait_seconds: seconds(now.wait_seconds, begun.wait_seconds),
        decode_seconds: seconds(now.decode_seconds, begun.decode_seconds),
        text_seconds: seconds(now.text_seconds, begun.text_seconds),
        sent_bytes: now.sent_bytes.saturating_sub(begun.sent_bytes),
        received_bytes: now.received_bytes.saturating_sub(begun.received_bytes),
        transfer_seconds: seconds(now.transfer_seconds, begun.transfer_seconds),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_counts_from_the_first_heartbeat_of_a_life_on_a_pipeline() {
        let mut spent = Spent::default();
        spent.hear(1, NODE, heard(1, 10, 4.0));
        assert_eq!(spent.view(NODE), None, "nothing to compare with");
        spent.hear(1, NODE, heard(1, 20, 9.0));
        assert_eq!(shown(&spent), (10.0, 5.0));

        spent.hear(1, NODE, heard(2, 30, 1.0));
        assert_eq!(spent.view(NODE), None, "another life");
        spent.hear(1, NODE, heard(2, 34, 2.0));
        assert_eq!(shown(&spent), (4.0, 1.0));

        spent.hear(2, NODE, heard(2, 40, 7.0));
        assert_eq!(spent.view(NODE), None, "another pipeline");
        spent.hear(2, NODE, heard(2, 41, 8.0));
        assert_eq!(shown(&spent), (1.0, 1.0));
    }

    #[test]
    fn counters_that_fell_count_as_nothing() {
        let (before, after) = (heard(1, 0, 8.0).counters, heard(1, 0, 3.0).counters);

        assert_eq!(since(&after, &before), Counters::default());
    }

    const NODE: NodeId = NodeId(7);

    fn heard(incarnation: u64, at_seconds: u64, compute_seconds: f64) -> Heard {
        let (incarnation, at) = (Incarnation(incarnation), Duration::from_secs(at_seconds));
        Heard { incarnation, at, counters: Counters { compute_seconds, ..Counters::default() } }
    }

    fn shown(spent: &Spent) -> (f64, f64) {
        let view = spent.view(NODE).unwrap();
        (view["seconds"].as_f64().unwrap(), view["compute_seconds"].as_f64().unwrap())
    }
}
