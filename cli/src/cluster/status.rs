//! `filmloom status`: who is here, what runs where and what bounds it.

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
    lines.push(format!("{} workers", workers.len()));
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
    }
    let counts = [&cluster["running"], &cluster["queued"]].map(|count| count.as_u64().unwrap_or(0));
    lines.push(format!("{} videos are being made, {} wait", counts[0], counts[1]));
    if let Some(seconds) = cluster["chunk_seconds"].as_f64() {
        lines.push(format!("a chunk takes {seconds:.3} s, as planned"));
    }
    if let Some(bottleneck) = cluster["bottleneck"].as_str() {
        lines.push(bottleneck.to_owned());
    }
    if cluster["use_one_node"] == true {
        lines.push("one node alone would be as fast".to_owned());
    }
    if let Some(problem) = cluster["problem"].as_str() {
        lines.push(format!("not ready: {problem}"));
    }
    lines.push(String::new());
    lines.join("\n")
}

fn shown(value: &Value) -> &str {
    value.as_str().unwrap_or("?")
}
