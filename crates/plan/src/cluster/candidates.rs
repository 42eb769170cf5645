//! Which members a plan is made of, where there are more than a planner can weigh.
//!
//! Planning takes 0.05 s for 64 members, 0.2 s for 256 and 26 s for 1,000, and a
//! pipeline has no more stages than the model has layers. (Measured with the work of
//! `bench_cluster` on two shared cores of an x86 server.) So the planner sees, in this
//! order, until there are [`CANDIDATES_MAX`]:
//!
//! 1. members that are pinned to layers, without which there is no plan;
//! 2. of every numeric class in turns, since a plan stands in one class: its
//!    fastest decoder, its fastest text encoder, then those that hold layers by
//!    the time that a layer takes them, the rest last.

use std::{cmp::Ordering, collections::BTreeMap};

use types::NodeId;

use crate::placement::Worker;

/// Members that a plan is made of at most. Chosen: planning them delays other events
/// by about as much as one write to a disk.
pub(super) const CANDIDATES_MAX: usize = 64;

/// The best so many members, in the order of their identities.
pub(super) fn candidates(able: Vec<(NodeId, Worker)>, max: usize) -> Vec<(NodeId, Worker)> {
    if able.len() <= max {
        return able;
    }
    let mut by_class = BTreeMap::<String, Vec<(NodeId, Worker)>>::new();
    let (mut ranked, unpinned): (Vec<_>, Vec<_>) = able
        .into_iter()
        .map(|candidate| (0, candidate))
        .partition(|(_, (_, worker))| worker.limits.layers.is_some());
    for (_, candidate) in unpinned {
        by_class.entry(candidate.1.class.clone()).or_default().push(candidate);
    }
    for class in by_class.into_values() {
        ranked.extend(best_first(class).into_iter().enumerate().map(|(rank, c)| (1 + rank, c)));
    }
    ranked.sort_by_key(|&(rank, (node, _))| (rank, node));
    ranked.truncate(max);
    let mut candidates: Vec<_> = ranked.into_iter().map(|(_, candidate)| candidate).collect();
    candidates.sort_by_key(|&(node, _)| node);
    candidates
}

/// Members of one class, the best first.
fn best_first(mut class: Vec<(NodeId, Worker)>) -> Vec<(NodeId, Worker)> {
    class.sort_by(|(node, worker), (other_node, other)| {
        holds_layers(other)
            .cmp(&holds_layers(worker))
            .then(worker.speed.layer_seconds.total_cmp(&other.speed.layer_seconds))
            .then(other.usable_bytes().cmp(&worker.usable_bytes()))
            .then(node.cmp(other_node))
    });
    let text = |worker: &Worker| worker.speed.text_seconds;
    let decode = |worker: &Worker| worker.speed.decode_seconds;
    for seconds in [text, decode] {
        let fastest = class
            .iter()
            .enumerate()
            .min_by(|(_, (_, worker)), (_, (_, other))| soonest(seconds(worker), seconds(other)));
        if let Some((index, _)) = fastest {
            class[..=index].rotate_right(1);
        }
    }
    class
}

fn holds_layers(worker: &Worker) -> bool {
    worker.limits.layers_share_max.is_none_or(|share| 0.0 < share)
}

fn soonest(seconds: Option<f64>, other: Option<f64>) -> Ordering {
    let seconds_of = |seconds: Option<f64>| seconds.unwrap_or(f64::INFINITY);
    seconds_of(seconds).total_cmp(&seconds_of(other))
}

#[cfg(test)]
mod tests {
    use types::Dtype;

    use super::*;
    use crate::placement::{Limits, Speed};

    #[test]
    fn few_members_are_all_candidates() {
        let able: Vec<_> = (0..4).map(|node| worker(node, 1.0)).collect();

        assert_eq!(candidates(able.clone(), 4), able);
    }

    #[test]
    fn fastest_are_chosen_and_stand_in_the_order_of_their_identities() {
        let able = (0..10).map(|node| worker(node, 10.0 - node as f64)).collect();

        assert_eq!(nodes(candidates(able, 3)), [7, 8, 9]);
    }

    #[test]
    fn pinned_members_and_the_fastest_decoder_and_text_encoder_are_never_left_out() {
        let mut able: Vec<_> = (0..10).map(|node| worker(node, 1.0 + node as f64)).collect();
        able[7].1.limits.layers = Some(0..4);
        able[8].1.speed.decode_seconds = Some(1.0);
        able[9].1.speed.text_seconds = Some(1.0);

        assert_eq!(nodes(candidates(able, 4)), [0, 7, 8, 9]);
    }

    #[test]
    fn classes_take_turns() {
        let mut able: Vec<_> = (0..10).map(|node| worker(node, 1.0 + node as f64)).collect();
        for (_, worker) in &mut able[8..] {
            worker.class = "cpu-bf16-amx".to_owned();
        }

        assert_eq!(nodes(candidates(able, 4)), [0, 1, 8, 9]);
    }

    #[test]
    fn members_that_hold_no_layers_come_last() {
        let mut able: Vec<_> = (0..5).map(|node| worker(node, 1.0 + node as f64)).collect();
        able[0].1.limits.layers_share_max = Some(0.0);

        assert_eq!(nodes(candidates(able, 2)), [1, 2]);
    }

    fn worker(node: u32, layer_seconds: f64) -> (NodeId, Worker) {
        let speed = Speed {
            layer_seconds,
            embedding_seconds: 0.0,
            head_seconds: 0.0,
            decode_seconds: None,
            text_seconds: None,
        };
        let (name, class) = (node.to_string(), "cpu-f32".to_owned());
        let limits = Limits::default();
        (
            NodeId(node.into()),
            Worker { name, class, residual: Dtype::F32, speed, memory_bytes: 1, limits },
        )
    }

    fn nodes(candidates: Vec<(NodeId, Worker)>) -> Vec<u128> {
        candidates.into_iter().map(|(NodeId(node), _)| node).collect()
    }
}
