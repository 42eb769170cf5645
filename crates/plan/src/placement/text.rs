//! A plan as people read it.

use std::fmt;

use super::{
    Bottleneck, Plan, Reason, Request, Stage, Verdict, WorkerMemory,
    explain::{POOL_GAIN_MIN, grouped},
};
use crate::units::{Bytes, seconds};

impl Plan {
    /// The plan as text of several lines, the last one ended.
    ///
    /// `request` is what was planned: it has the workers' names.
    pub fn text(&self, request: &Request) -> String {
        let name = |worker: usize| request.workers[worker].name.as_str();
        let mut lines = Vec::new();
        for (place, Stage { worker, layers }) in self.placement.stages.iter().enumerate() {
            let range = format!("{}..{}", layers.start, layers.end);
            lines.push(format!("stage {place}: layers {range} on {}", name(*worker)));
        }
        let (decoder, text) = (name(self.placement.decoder), name(self.placement.text));
        lines.push(format!("decoding on {decoder}, text encoding on {text}"));
        lines.extend(self.speed(request));
        lines.push(self.bound(request));
        lines.push(self.verdict(request));
        for WorkerMemory { worker, need_bytes, usable_bytes } in &self.prediction.memory {
            let (need, usable) = (Bytes(*need_bytes), Bytes(*usable_bytes));
            lines.push(format!("memory of {}: {need} of {usable}", name(*worker)));
        }
        for (reason, workers) in grouped(&self.explanation.left_out) {
            let names: Vec<_> = workers.into_iter().map(name).collect();
            lines.push(format!("left out: {}, {}", names.join(", "), reason));
        }
        lines.push(String::new());
        lines.join("\n")
    }

    fn speed(&self, request: &Request) -> Vec<String> {
        let prediction = &self.prediction;
        let mut lines = vec![format!(
            "one job: {} a chunk ({} without look-ahead), the first after {}",
            seconds(prediction.chunk_seconds),
            seconds(prediction.chunk_seconds_plain),
            seconds(prediction.first_chunk_seconds),
        )];
        let jobs = request.objective.jobs().get();
        if 1 < jobs {
            let (rate, each) = (prediction.chunks_per_second(), prediction.seconds_per_chunk);
            lines.push(format!(
                "{jobs} jobs: {rate:.3} chunks a second, one every {}",
                seconds(each)
            ));
        }
        lines
    }

    /// What bounds the speed, a sentence. `request` is what was planned.
    pub fn bound(&self, request: &Request) -> String {
        let name = |worker: usize| &request.workers[worker].name;
        let percent = 100.0 * self.prediction.busy_share;
        let longest = match self.prediction.bottleneck {
            Bottleneck::Worker { worker } => name(worker).clone(),
            Bottleneck::Link { from, to } => {
                format!("the link from {} to {}", name(from), name(to))
            }
        };
        let waits = if self.prediction.busy_share < 0.995 {
            "; the rest of the time passes wait for each other, which more jobs would fill"
        } else {
            ""
        };
        format!("bound by {longest}, busy {percent:.0} % of the time{waits}")
    }

    /// Whether pooling is worth it, a sentence. `request` is what was planned.
    pub fn verdict(&self, request: &Request) -> String {
        let name = |worker: usize| &request.workers[worker].name;
        let node = self.explanation.one_node;
        match (self.explanation.verdict, node) {
            (Verdict::PoolFaster { times }, Some(node)) => format!(
                "pool: {} a chunk, {times:.2} times as fast; {} alone takes {} a chunk",
                seconds(self.prediction.seconds_per_chunk),
                name(node.worker),
                seconds(node.seconds_per_chunk),
            ),
            (Verdict::UseOneNode, Some(node)) => {
                let when = if request.objective.jobs().get() == 1 { "in" } else { "every" };
                let alone = seconds(node.seconds_per_chunk);
                let pool = self.pool(node.seconds_per_chunk, when);
                format!("use one node: {} makes a chunk {when} {alone}, {pool}", name(node.worker))
            }
            (Verdict::PoolNeeded | Verdict::PoolFaster { .. } | Verdict::UseOneNode, _) => {
                "a pool is needed: no node can do everything alone".to_owned()
            }
        }
    }

    /// What the pool does where one node is as good.
    fn pool(&self, alone_seconds: f64, when: &str) -> String {
        match self.explanation.pool_seconds {
            Some(pool) if pool < alone_seconds => {
                let percent = 100.0 * POOL_GAIN_MIN;
                format!("the pool {when} {}: it gains less than {percent:.0} %", seconds(pool))
            }
            Some(pool) => format!("the pool {when} {}", seconds(pool)),
            None => "and no other worker could share it".to_owned(),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherClass { class } => {
                write!(f, "of another numeric class than {class}, and a video stays in one")
            }
            Self::TooLittleMemory { need_bytes, usable_bytes } => write!(
                f,
                "too little memory: one layer needs {}, {} may be used",
                Bytes(*need_bytes),
                Bytes(*usable_bytes)
            ),
            Self::NoShare => f.write_str("its share of the layers allows none"),
            Self::NoLayerLeft => f.write_str("no layer is left for a further stage"),
            Self::NoLink => f.write_str("not linked both ways to where it could stand"),
            Self::Slower { percent } if *percent < 0.05 => {
                f.write_str("would make no chunk faster")
            }
            Self::Slower { percent } => write!(f, "would slow every chunk by {percent:.1} %"),
        }
    }
}
