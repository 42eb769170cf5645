//! `filmloom status`: who is here, what runs where and what bounds it.

use plan::units::Bytes;
use serde_json::Value;

use super::StatusArgs;
use crate::{failure::Failure, remote::Server, terminal};

/// Shows what the coordinator says.
///
/// # Errors
///
/// [`Failure`] if it cannot be reached, or lets nobody in without a key.
pub(crate) fn run(args: &StatusArgs) -> Result<(), Failure> {
    let server = Server::new(&args.server, args.api_key.as_deref())?;
    let cluster = server.json("/v1/cluster")?;
    if args.json {
        return terminal::json_lines(&cluster);
    }
    terminal::result(&text(&cluster))
}

fn text(cluster: &Value) -> String {
    let mut lines = Vec::new();
    let workers = cluster["workers"].as_array().map_or(&[][..], Vec::as_slice);
    lines.push(match workers.len() {
        1 => "1 worker".to_owned(),
        count => format!("{count} workers"),
    });
    for worker in workers {
        let stages = worker["stages"].as_array().map_or(&[][..], Vec::as_slice);
        let stages: Vec<_> = stages.iter().filter_map(Value::as_str).collect();
        let stages = if stages.is_empty() { "nothing".to_owned() } else { stages.join(", ") };
        let gib = worker["memory_bytes"].as_f64().unwrap_or(0.0) / f64::from(1 << 30);
        lines.push(format!(
            "  {:<16} {:<10} {:<28} {gib:>6.1} GiB  {stages}",
            shown(&worker["name"]),
            shown(&worker["state"]),
            shown(&worker["device"]),
        ));
        lines.extend(making(&worker["making"]));
        lines.extend(spent(&worker["spent"]));
    }
    let counts = [&cluster["running"], &cluster["queued"]].map(|count| count.as_u64().unwrap_or(0));
    lines.push(format!("{} videos are being made, {} wait", counts[0], counts[1]));
    if let Some(seconds) = cluster["chunk_seconds"].as_f64() {
        lines.push(format!("a chunk takes {seconds:.3} s, as planned"));
    }
    lines.extend(measured(cluster));
    if let Some(bottleneck) = cluster["bottleneck"].as_str() {
        lines.push(bottleneck.to_owned());
    }
    if cluster["use_one_node"] == true && 1 < workers.len() {
        lines.push("one node alone would be as fast".to_owned());
    }
    if let Some(problem) = cluster["problem"].as_str() {
        lines.push(format!("not ready: {problem}"));
    }
    lines.push(String::new());
    lines.join("\n")
}

/// What a worker is at.
fn making(making: &Value) -> Option<String> {
    let videos = making.as_array().filter(|videos| !videos.is_empty())?;
    let chunk = |video: &Value| {
        format!("chunk {} of {}", video["chunk"].as_u64().unwrap_or(0), shown(&video["video_id"]))
    };
    Some(format!("    makes {}", videos.iter().map(chunk).collect::<Vec<_>>().join(", ")))
}

/// Where a worker's time went since its pipeline was ready, once that is known.
fn spent(spent: &Value) -> Option<String> {
    let all = spent["seconds"].as_f64().filter(|&seconds| 0.0 < seconds)?;
    let percent =
        |name: &str| (spent[name].as_f64().unwrap_or(0.0) / all * 100.0).clamp(0.0, 100.0);
    let bytes = |name: &str| Bytes(spent[name].as_u64().unwrap_or(0));
    Some(format!(
        "    compute {:.0} %, decode {:.0} %, transfer {:.0} %, wait {:.0} % of {all:.0} s; \
         {} sent, {} received",
        percent("compute_seconds"),
        percent("decode_seconds"),
        percent("transfer_seconds"),
        percent("wait_seconds"),
        bytes("sent_bytes"),
        bytes("received_bytes"),
    ))
}

/// What chunks really take, once some were made.
fn measured(cluster: &Value) -> Option<String> {
    let seconds = cluster["seconds_per_chunk_measured"].as_f64()?;
    let Some(percent) = cluster["prediction_error_percent"].as_f64() else {
        return Some(format!("a chunk every {seconds:.3} s, as measured"));
    };
    let off = match percent.round() {
        0.0 => "as predicted".to_owned(),
        percent if percent < 0.0 => format!("predicted {:.0} % too low", -percent),
        percent => format!("predicted {percent:.0} % too high"),
    };
    Some(format!("a chunk every {seconds:.3} s, as measured; {off}"))
}

fn shown(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_chunks_really_take_is_shown_beside_the_plan_once_it_is_known() {
        let shown = |percent: f64| {
            let cluster = json!({
                "chunk_seconds": 2.0,
                "seconds_per_chunk_measured": 2.5,
                "prediction_error_percent": percent,
            });
            text(&cluster)
        };

        assert!(shown(-20.0).contains("2.500 s, as measured; predicted 20 % too low"));
        assert!(shown(12.0).contains("predicted 12 % too high"));
        assert!(shown(0.0).contains("measured; as predicted"));
        assert!(!text(&json!({ "chunk_seconds": 2.0 })).contains("measured"));
    }

    #[test]
    fn what_a_worker_makes_is_shown_while_it_does() {
        let shown = |making: Value| text(&json!({ "workers": [{ "making": making }] }));

        let video = json!([{ "video_id": "video_7", "chunk": 3 }]);
        assert!(shown(video).contains("makes chunk 3 of video_7"));
        assert!(!shown(json!([])).contains("makes"));
    }

    #[test]
    fn where_a_workers_time_went_is_shown_in_percent_once_it_is_known() {
        let shown = |seconds: f64| {
            let spent = json!({
                "seconds": seconds, "compute_seconds": 12.0, "decode_seconds": 1.0,
                "transfer_seconds": 3.0, "wait_seconds": 6.0,
                "sent_bytes": 2_500_000, "received_bytes": 999,
            });
            text(&json!({ "workers": [{ "name": "w1", "spent": spent }] }))
        };

        let line = "    compute 60 %, decode 5 %, transfer 15 %, wait 30 % of 20 s; \
                    2.50 MB sent, 999 B received";
        assert!(shown(20.0).contains(line), "{}", shown(20.0));
        assert!(!shown(0.0).contains('%'), "nothing is known yet");
    }
}
