//! The tables as Prometheus reads them.

use std::{collections::BTreeMap, fmt::Write};

use plan::cluster::Presence;

use crate::core::Core;

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
    for (name, help, value) in [
        (
            "filmloom_compute_seconds_total",
            "Time in runs.",
            (|timing| timing.compute_seconds) as fn(&api::StageTiming) -> f64,
        ),
        ("filmloom_wait_seconds_total", "Time without work.", |timing| timing.wait_seconds),
        ("filmloom_sent_bytes_total", "Bytes sent.", |timing| timing.sent_bytes as f64),
    ] {
        head(&mut text, name, help, "counter");
        for timing in core.timings(&BTreeMap::new()) {
            let (worker, stage, value) = (&timing.worker, &timing.stage, value(&timing));
            // Writing to a string cannot fail.
            let _ = writeln!(text, "{name}{{worker=\"{worker}\",stage=\"{stage}\"}} {value}");
        }
    }
    text
}

fn gauge(text: &mut String, name: &str, help: &str, value: f64) {
    head(text, name, help, "gauge");
    let _ = writeln!(text, "{name} {value}");
}

fn head(text: &mut String, name: &str, help: &str, kind: &str) {
    let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} {kind}");
}
