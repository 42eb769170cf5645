//! `filmloom plan --server`: what would run where in a pool, at what speed, and why.
//!
//! The server plans; here its answer becomes a text for a terminal of 80 columns.

use plan::units::{Bytes, counted, grouped};
use serde_json::Value;

use super::Server;
use crate::{args::PlanArgs, failure::Failure, terminal, time};

/// Shows what the server's pool would do for the videos that `args` describe.
///
/// # Errors
///
/// [`Failure`] if the server cannot be reached, serves another model, or has no plan.
pub(crate) fn run(args: &PlanArgs) -> Result<(), Failure> {
    let server = Server::new(args.server.as_deref().unwrap_or_default(), args.api_key.as_deref())?;
    let plan = server.json_of("/v1/plan", &parameters(args)?)?;
    if args.json {
        return terminal::json_lines(&plan);
    }
    terminal::result(&text(&plan))
}

fn parameters(args: &PlanArgs) -> Result<Vec<(&'static str, String)>, Failure> {
    let mut parameters = vec![("seconds", args.seconds.to_string())];
    if let Some(model) = &args.model {
        let name = model.to_str().ok_or_else(|| {
            Failure::Input("--model: with --server, give a name in UTF-8".to_owned())
        })?;
        let folder = name.trim_end_matches('/');
        parameters.push(("model", if folder.is_empty() { name } else { folder }.to_owned()));
    }
    parameters.extend(args.size.map(|size| ("size", format!("{}x{}", size.width, size.height))));
    parameters.extend(args.jobs.map(|jobs| ("jobs", jobs.to_string())));
    Ok(parameters)
}

fn text(plan: &Value) -> String {
    let mut lines = heading(plan);
    lines.push(String::new());
    lines.push(row("worker", ["memory", "may use", "computes", "busy"]));
    for worker in list(&plan["workers"]) {
        lines.extend(worker_lines(worker));
    }
    lines.push(String::new());
    let hops = list(&plan["hops"]);
    if !hops.is_empty() {
        lines.push(row("from worker to worker, a chunk", ["bytes", "", "on its way", "busy"]));
        lines.extend(hops.iter().map(|hop| hop_line(plan, hop)));
        lines.push(String::new());
    }
    lines.extend(pace(plan));
    lines.push(shown(&plan["bottleneck"]).to_owned());
    lines.push(shown(&plan["verdict"]).to_owned());
    lines.extend(measured(&plan["measured"]));
    let left_out = list(&plan["left_out"]).iter();
    lines.extend(
        left_out.map(|worker| {
            format!("left out: {}, {}", shown(&worker["name"]), shown(&worker["why"]))
        }),
    );
    lines.push(String::new());
    lines.join("\n")
}

fn heading(plan: &Value) -> Vec<String> {
    let mut lines = vec![
        format!("{}, as its pool would make it", shown(&plan["model"])),
        format!(
            "{} s of {} at {} pictures/s: {} pictures, {}",
            plan["seconds"].as_f64().unwrap_or(0.0),
            shown(&plan["size"]),
            whole(&plan["fps"]),
            grouped(whole(&plan["pictures"])),
            counted(whole(&plan["chunks"]), "chunk"),
        ),
    ];
    let [jobs, at_once, jobs_max] =
        ["jobs", "jobs_at_once", "jobs_max"].map(|name| whole(&plan[name]));
    let videos = counted(jobs, "video");
    lines.push(match at_once < jobs {
        true => format!("{videos}, but memory for {at_once} at once"),
        false => format!("{videos} at once"),
    });
    if jobs_max < at_once {
        lines.push(format!("this server makes {jobs_max} at once: raise its --jobs for more"));
    }
    if plan["stands"] == false {
        lines.push("another plan than the one that stands: see `filmloom status`".to_owned());
    }
    if plan["size"] != plan["measured_size"] {
        let own = shown(&plan["measured_size"]);
        lines.push(format!("times are estimated from those of {own}, which were measured"));
    }
    lines
}

fn worker_lines(worker: &Value) -> Vec<String> {
    let [need, usable] = ["need_bytes", "usable_bytes"].map(|name| bytes(&worker[name]));
    let computes = seconds(&worker["compute_seconds"]);
    let busy = percent(&worker["busy_share"]);
    let texts = |list: &[Value]| list.iter().map(shown).collect::<Vec<_>>().join(", ");
    let mut lines = vec![row(shown(&worker["name"]), [&need, &usable, &computes, &busy])];
    lines.push(format!("  {}", texts(list(&worker["stages"]))));
    let limits = list(&worker["limits"]);
    if !limits.is_empty() {
        lines.push(format!("  by its owner: {}", texts(limits)));
    }
    lines
}

fn hop_line(plan: &Value, hop: &Value) -> String {
    let name = |id: &Value| {
        let workers = list(&plan["workers"]);
        let worker = workers.iter().find(|worker| worker["id"] == *id);
        worker.map_or("?", |worker| shown(&worker["name"]))
    };
    let what = match hop["carries"].as_str() {
        Some("hidden") => "hidden states",
        Some("velocity") => "velocities",
        Some("clean") => "clean frames",
        _ => "?",
    };
    let way = format!("{} to {}: {what}", name(&hop["from"]), name(&hop["to"]));
    let busy = percent(&hop["busy_share"]);
    let assumed = if hop["is_measured"] == false { "assumed" } else { "" };
    row(&way, [&bytes(&hop["bytes"]), assumed, &seconds(&hop["seconds"]), &busy])
}

fn pace(plan: &Value) -> Vec<String> {
    let all = |name: &str| time::rough(plan[name].as_f64().unwrap_or(0.0));
    let mut lines = vec![format!(
        "one video: {} a chunk, the first after {}; all of it takes {}",
        seconds(&plan["chunk_seconds"]),
        seconds(&plan["first_chunk_seconds"]),
        all("video_seconds"),
    )];
    if 1 < whole(&plan["jobs"]) {
        lines.push(format!(
            "{}: a chunk every {}; all of them take {}",
            counted(whole(&plan["jobs"]), "video"),
            seconds(&plan["seconds_per_chunk"]),
            all("videos_seconds"),
        ));
    }
    let pictures = plan["pictures_per_second"].as_f64().unwrap_or(0.0);
    lines.push(format!("{pictures:.2} pictures/s, where {} play", whole(&plan["fps"])));
    lines
}

/// How right the plan of what runs now was.
fn measured(pace: &Value) -> Option<String> {
    let error = pace["error_percent"].as_f64()?.round();
    let off = match error {
        0.0 => "as predicted".to_owned(),
        error if error < 0.0 => format!("predicted {:.0} % too low", -error),
        error => format!("predicted {error:.0} % too high"),
    };
    Some(format!(
        "what runs now, {} at once: a chunk every {}, {off}",
        counted(whole(&pace["jobs"]), "video"),
        seconds(&pace["measured_seconds"]),
    ))
}

fn row(name: &str, columns: [&str; 4]) -> String {
    let [a, b, c, d] = columns;
    format!("{name:<36}{a:>12}{b:>12}{c:>12}{d:>8}")
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn shown(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

fn whole(value: &Value) -> u64 {
    value.as_u64().unwrap_or(0)
}

fn bytes(value: &Value) -> String {
    Bytes(whole(value)).to_string()
}

fn percent(share: &Value) -> String {
    share.as_f64().map_or("?".to_owned(), |share| format!("{:.0} %", 100.0 * share))
}

fn seconds(value: &Value) -> String {
    value.as_f64().map_or("?".to_owned(), plan::units::seconds)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn plan_is_a_table_with_its_reasons() {
        let plan = plan();

        let expected = "\
mini, as its pool would make it
60 s of 128x128 at 16 pictures/s: 960 pictures, 81 chunks
2 videos at once

worker                                    memory     may use    computes    busy
boxA                                      120 MB     2.00 GB      500 ms    80 %
  layers 0..4, text
  by its owner: --layers 0..4
boxB                                      150 MB     1.00 GB      625 ms   100 %
  layers 4..8, decode

from worker to worker, a chunk             bytes              on its way    busy
boxA to boxB: hidden states              1.47 MB                 12.5 ms     2 %
boxB to boxA: velocities               147,456 B     assumed     1.50 ms     0 %

one video: 1.05 s a chunk, the first after 2.50 s; all of it takes 86 s
2 videos: a chunk every 625 ms; all of them take 1 min 43 s
19.20 pictures/s, where 16 play
bound by boxB, busy 100 % of the time
pool: 625 ms a chunk, 1.60 times as fast; boxA alone takes 1.00 s a chunk
what runs now, 1 video at once: a chunk every 1.00 s, predicted 5 % too high
left out: boxC, it is draining: it leaves when its videos are made
";
        assert_eq!(text(&plan), expected);
        assert!(expected.lines().take(14).all(|line| line.chars().count() <= 80));
    }

    #[test]
    fn what_limits_the_answer_is_said() {
        let mut plan = plan();
        plan["jobs"] = json!(8);
        plan["jobs_at_once"] = json!(6);
        plan["jobs_max"] = json!(4);
        plan["stands"] = json!(false);
        plan["size"] = json!("256x256");
        plan["hops"] = json!([]);
        plan["measured"] = json!(null);

        let text = text(&plan);

        for line in [
            "8 videos, but memory for 6 at once\n",
            "this server makes 4 at once: raise its --jobs for more\n",
            "another plan than the one that stands: see `filmloom status`\n",
            "times are estimated from those of 128x128, which were measured\n",
        ] {
            assert!(text.contains(line), "{text}");
        }
        assert!(!text.contains("to worker") && !text.contains("what runs now"), "{text}");
    }

    fn plan() -> Value {
        let worker = |name: &str, stages: &[&str], limits: &[&str]| json!({ "id": format!("id-{name}"), "name": name, "stages": stages, "limits": limits });
        let with = |mut value: Value, more: Value| {
            let more = more.as_object().unwrap().clone();
            value.as_object_mut().unwrap().extend(more);
            value
        };
        let first = with(
            worker("boxA", &["layers 0..4", "text"], &["--layers 0..4"]),
            json!({ "need_bytes": 120_000_000, "usable_bytes": 2_000_000_000,
                    "compute_seconds": 0.5, "busy_share": 0.8 }),
        );
        let last = with(
            worker("boxB", &["layers 4..8", "decode"], &[]),
            json!({ "need_bytes": 150_000_000, "usable_bytes": 1_000_000_000,
                    "compute_seconds": 0.625, "busy_share": 1.0 }),
        );
        json!({
            "model": "mini", "size": "128x128", "measured_size": "128x128", "fps": 16,
            "seconds": 60.0, "pictures": 960, "chunks": 81,
            "jobs": 2, "jobs_at_once": 2, "jobs_max": 4, "stands": true,
            "workers": [first, last],
            "hops": [
                { "from": "id-boxA", "to": "id-boxB", "carries": "hidden", "messages": 5,
                  "bytes": 1_474_560, "seconds": 0.0125, "busy_share": 0.02, "is_measured": true },
                { "from": "id-boxB", "to": "id-boxA", "carries": "velocity", "messages": 4,
                  "bytes": 147_456, "seconds": 0.0015, "busy_share": 0.002,
                  "is_measured": false },
            ],
            "left_out": [{
                "id": "id-boxC", "name": "boxC",
                "why": "it is draining: it leaves when its videos are made",
            }],
            "chunk_seconds": 1.05, "seconds_per_chunk": 0.625, "pictures_per_second": 19.2,
            "first_chunk_seconds": 2.5, "video_seconds": 86.4, "videos_seconds": 103.1,
            "bottleneck": "bound by boxB, busy 100 % of the time",
            "verdict": "pool: 625 ms a chunk, 1.60 times as fast; boxA alone takes 1.00 s a chunk",
            "use_one_node": false, "gain": 1.6,
            "measured": { "jobs": 1, "predicted_seconds": 1.05, "measured_seconds": 1.0,
                          "error_percent": 5.0 },
        })
    }
}
