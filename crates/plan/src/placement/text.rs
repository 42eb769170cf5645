//! A plan as people read it.

use super::{
    Bottleneck, Plan, Reason, Request, Stage, Verdict, WorkerMemory,
    explain::{POOL_GAIN_MIN, grouped},
};
use crate::units::Bytes;

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
            lines.push(format!("left out: {}, {}", names.join(", "), words(reason)));
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

    fn bound(&self, request: &Request) -> String {
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

    fn verdict(&self, request: &Request) -> String {
        let pool = self.prediction.seconds_per_chunk;
        let alone = self.explanation.one_node.map_or_else(String::new, |node| {
            let name = &request.workers[node.worker].name;
            format!("{name} alone takes {} a chunk", seconds(node.seconds_per_chunk))
        });
        match self.explanation.verdict {
            Verdict::PoolNeeded => "a pool is needed: no node can do everything alone".to_owned(),
            Verdict::PoolFaster { times } => {
                format!("pool: {} a chunk, {times:.2} times as fast; {alone}", seconds(pool))
            }
            Verdict::UseOneNode => format!(
                "use one node: {alone}, the best placement {}: pooling gains less than {:.0} %",
                seconds(pool),
                100.0 * POOL_GAIN_MIN
            ),
        }
    }
}

fn words(reason: &Reason) -> String {
    match reason {
        Reason::OtherClass { class } => {
            format!("of another numeric class than {class}: pass --allow-mixed to use it")
        }
        Reason::TooLittleMemory { need_bytes, usable_bytes } => format!(
            "too little memory: one layer needs {}, {} may be used",
            Bytes(*need_bytes),
            Bytes(*usable_bytes)
        ),
        Reason::NoShare => "its share of the layers allows none".to_owned(),
        Reason::NoLayerLeft => "no layer is left for a further stage".to_owned(),
        Reason::NoLink => "not linked both ways to where it could stand".to_owned(),
        Reason::Slower { percent } if *percent < 0.05 => "would make no chunk faster".to_owned(),
        Reason::Slower { percent } => format!("would slow every chunk by {percent:.1} %"),
    }
}

/// Seconds with three significant digits: `1.25 s`, `38.0 ms`.
fn seconds(seconds: f64) -> String {
    let (value, unit) = if seconds < 0.9995 { (1e3 * seconds, "ms") } else { (seconds, "s") };
    let decimals = [9.995, 99.95].iter().filter(|&&limit| value < limit).count();
    format!("{value:.decimals$} {unit}")
}
