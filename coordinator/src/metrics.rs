//! The tables as Prometheus reads them.

use std::fmt::Write;

use plan::cluster::Presence;
use proto::control::wire::Counters;

use crate::core::{Core, views::Counted};

/// What a worker counts since its process began: name, help, value.
type Metric = (&'static str, &'static str, fn(&Counters) -> f64);

const WORKER_METRICS: [Metric; 8] = [
    ("runs", "Runs through a stage, and steps of a lead.", |counted| counted.runs as f64),
    ("compute_seconds", "Time in runs and steps.", |counted| counted.compute_seconds),
    ("wait_seconds", "Time in which the device had nothing to do.", |counted| counted.wait_seconds),
    (
        "transfer_seconds",
        "Time in which a message was on its way to the worker or from it; overlaps the others.",
        |counted| counted.transfer_seconds,
    ),
    ("decode_seconds", "Time in decoding.", |counted| counted.decode_seconds),
    ("text_seconds", "Time in encoding prompts.", |counted| counted.text_seconds),
    ("sent_bytes", "Payload sent to other nodes.", |counted| counted.sent_bytes as f64),
    ("received_bytes", "Payload from other nodes.", |counted| counted.received_bytes as f64),
];

/// All metrics, in the text format, version 0.0.4.
pub(crate) fn text(core: &Core) -> String {
    let mut text = String::new();
    let view = core.cluster_view();
    let here = core.cluster.members().filter(|(_, member)| member.presence == Presence::Here);
    gauge(&mut text, "filmloom_workers", "Workers whose session is open.", here.count() as f64);
    gauge(&mut text, "filmloom_videos_running", "Videos that are being made.", view.running.into());
    gauge(&mut text, "filmloom_videos_queued", "Videos that wait.", view.queued.into());
    let ready = f64::from(u8::from(core.problem().is_none()));
    gauge(&mut text, "filmloom_ready", "Whether a video asked for now would be made.", ready);
    let predicted = view.chunk_seconds.unwrap_or(0.0);
    gauge(&mut text, "filmloom_chunk_seconds_predicted", "Time of a chunk, as planned.", predicted);
    workers(&mut text, &core.counted());
    text
}

fn workers(text: &mut String, counted: &[Counted]) {
    for (name, help, value) in WORKER_METRICS {
        let name = format!("filmloom_worker_{name}_total");
        head(text, &name, help, "counter");
        for Counted { node, stage, counters } in counted {
            let value = value(counters);
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}{{worker=\"{node}\",stage=\"{stage}\"}} {value}");
        }
    }
}

fn gauge(text: &mut String, name: &str, help: &str, value: f64) {
    head(text, name, help, "gauge");
    let _ = writeln!(text, "{name} {value}");
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use types::NodeId;

    use super::*;

    #[test]
    fn every_counter_of_every_worker_is_told_under_its_name() {
        let counters = Counters {
            runs: 1,
            compute_seconds: 2.5,
            wait_seconds: 3.0,
            decode_seconds: 5.0,
            text_seconds: 6.0,
            sent_bytes: 7,
            received_bytes: 8,
            transfer_seconds: 4.0,
        };
        let counted =
            |node, stage: &str| Counted { node: NodeId(node), stage: stage.to_owned(), counters };
        let mut text = String::new();

        workers(&mut text, &[counted(1, "layers 0..4"), counted(2, "")]);

        let values = ["1", "2.5", "3", "4", "5", "6", "7", "8"];
        for ((name, ..), value) in WORKER_METRICS.into_iter().zip(values) {
            let name = format!("filmloom_worker_{name}_total");
            assert!(text.contains(&format!("# TYPE {name} counter\n")), "{text}");
            for (node, stage) in [(1, "layers 0..4"), (2, "")] {
                let line = format!("{name}{{worker=\"{node:032x}\",stage=\"{stage}\"}} {value}\n");
                assert!(text.contains(&line), "{line} is not in {text}");
            }
        }
    }
}
