//! What the pool's commands can be asked for.

use std::{net::SocketAddr, num::NonZeroU32, ops::Range, path::PathBuf};

use clap::{Args as Arguments, Subcommand};
use identity::TokenId;

use crate::args::{Precision, Threads, whole};

/// Serves videos: a coordinator and, unless told otherwise, a worker.
///
/// Other machines join with the token that is written to DIR/join.token.
#[derive(Arguments, Debug)]
#[command(after_help = SERVE_EXAMPLES, args_override_self = true)]
pub(crate) struct ServeArgs {
    /// Folder of everything that is kept [default: filmloom in the user's data
    /// folder].
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// Where records are kept: etcd:http://HOST:PORT, or etcd:https://HOST:PORT, more
    /// addresses after commas [default: a file in the data folder].
    #[arg(long, value_name = "STORE")]
    pub(crate) store: Option<String>,
    #[command(flatten)]
    pub(crate) etcd: EtcdArgs,
    /// Name of the cluster in etcd.
    #[arg(long, value_name = "NAME", default_value = "filmloom")]
    pub(crate) cluster: String,
    /// Where HTTP listens.
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7842")]
    pub(crate) http: SocketAddr,
    /// Where workers come in, by gRPC with mutual TLS.
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:7843")]
    pub(crate) grpc: SocketAddr,
    /// A key that HTTP clients must have; may be given several times.
    #[arg(long, value_name = "KEY")]
    pub(crate) api_key: Vec<String>,
    /// Lets everyone in by HTTP, from any address.
    #[arg(long, conflicts_with = "api_key")]
    pub(crate) insecure: bool,
    /// Does not announce the coordinator on the local network.
    #[arg(long)]
    pub(crate) no_discovery: bool,
    /// Computes nothing in this process.
    #[arg(long)]
    pub(crate) no_worker: bool,
    /// Videos that are made at once, in turns.
    #[arg(long, value_name = "N", default_value = "4")]
    pub(crate) jobs: NonZeroU32,
    /// Videos that may wait.
    #[arg(long, value_name = "N", default_value = "1000")]
    pub(crate) queue: usize,
    /// Finished videos that are kept, in bytes: the oldest are deleted for newer
    /// ones.
    #[arg(long, value_name = "BYTES", default_value = "50GiB", value_parser = parse_bytes)]
    pub(crate) keep: u64,
    #[command(flatten)]
    pub(crate) trace: TraceArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

/// Computes for a coordinator.
#[derive(Arguments, Debug)]
#[command(after_help = WORKER_EXAMPLES, args_override_self = true)]
pub(crate) struct WorkerArgs {
    /// Where the coordinator's gRPC is [default: where it is announced on the local
    /// network].
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) join: Option<String>,
    /// The coordinator's join token; needed the first time only.
    #[arg(long, value_name = "TOKEN", env = "FILMLOOM_TOKEN", hide_env_values = true)]
    pub(crate) token: Option<String>,
    /// Folder of this worker's identity and of the weights that it fetched [default:
    /// filmloom/worker in the user's data folder].
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// This worker's name [default: the machine's].
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// Where other workers come in; `none` if this one only dials.
    #[arg(long, value_name = "HOST:PORT", default_value = "0.0.0.0:0", value_parser = parse_listen)]
    pub(crate) listen: Listen,
    /// Where other workers find this one; may be given several times [default: the
    /// address that the coordinator is reached from].
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) advertise: Vec<String>,
    /// Bytes of weights that are kept in DIR/blobs, fetched from the coordinator if
    /// it works with another model than this machine has.
    #[arg(long, value_name = "BYTES", default_value = "64GiB", value_parser = parse_bytes)]
    pub(crate) cache: u64,
    #[command(flatten)]
    pub(crate) trace: TraceArgs,
    #[command(flatten)]
    pub(crate) device: DeviceArgs,
}

/// What etcd's TLS needs; the names are etcdctl's.
#[derive(Arguments, Debug, Default)]
pub(crate) struct EtcdArgs {
    /// The authority that signed etcd's certificate, in PEM: for https.
    #[arg(long, value_name = "FILE")]
    pub(crate) etcd_cacert: Option<PathBuf>,
    /// The certificate that etcd asks a client for, in PEM.
    #[arg(long, value_name = "FILE", requires = "etcd_key")]
    pub(crate) etcd_cert: Option<PathBuf>,
    /// That certificate's key, in PEM.
    #[arg(long, value_name = "FILE", requires = "etcd_cert")]
    pub(crate) etcd_key: Option<PathBuf>,
}

/// Where spans go.
#[derive(Arguments, Debug)]
pub(crate) struct TraceArgs {
    /// Sends spans of every job, chunk and run to this OpenTelemetry collector, by
    /// OTLP over gRPC without TLS [default: $OTEL_EXPORTER_OTLP_ENDPOINT, if it is
    /// set]; needs a build with `--features otlp`.
    #[arg(long, value_name = "URL")]
    pub(crate) otlp: Option<String>,
}

/// What a worker computes with, and for what.
#[derive(Arguments, Debug)]
pub(crate) struct DeviceArgs {
    /// Folder of the model [default: the embedded one].
    #[arg(short, long, value_name = "DIR")]
    pub(crate) model: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) threads: Threads,
    /// What to compute on; this build has the processor.
    #[arg(long, value_name = "DEVICE", default_value = "cpu", value_parser = ["cpu"])]
    pub(crate) device: String,
    /// Numbers to compute with.
    #[arg(long, value_enum, default_value_t = Precision::Auto)]
    pub(crate) precision: Precision,
    /// Memory it may use, such as 10GiB [default: four fifths of what is free].
    #[arg(long, value_name = "BYTES", value_parser = parse_bytes)]
    pub(crate) memory: Option<u64>,
    /// Exactly these layers, such as 0..4.
    #[arg(long, value_name = "A..B", value_parser = parse_layers)]
    pub(crate) layers: Option<Range<usize>>,
    /// At most this share of the layers, in 0..=1.
    #[arg(long, value_name = "SHARE", value_parser = parse_share)]
    pub(crate) max_share: Option<f64>,
    /// What it is for: layers, text and decode, or some of them.
    #[arg(
        long, value_name = "ROLE", value_delimiter = ',',
        default_values_t = ["layers".to_owned(), "text".to_owned(), "decode".to_owned()],
        value_parser = ["layers", "text", "decode"]
    )]
    pub(crate) roles: Vec<String>,
}

/// Makes, lists and revokes what makes a machine a node.
#[derive(Debug, Subcommand)]
pub(crate) enum TokenCommand {
    /// Makes a join token, whether `serve` runs or not.
    Create {
        /// Folder of the coordinator.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// How many machines may join with it [default: any number].
        #[arg(long, value_name = "N", value_parser = whole::<u32>(1..=u64::from(u32::MAX)))]
        uses: Option<u32>,
        /// How long it lasts, such as 1h or 90s [default: for ever].
        #[arg(long, value_name = "TIME", value_parser = parse_ttl)]
        ttl: Option<u64>,
    },
    /// Lists join tokens, without their secrets.
    List {
        /// Folder of the coordinator.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Writes JSON.
        #[arg(long)]
        json: bool,
    },
    /// Takes a join token back: it lets nobody in any more. Who has joined stays.
    Revoke {
        /// The token's id, as `list` shows it.
        #[arg(value_name = "ID")]
        id: TokenId,
        /// Folder of the coordinator.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
    },
    /// Writes ca.crt, client.crt and client.key for standard gRPC clients.
    Client {
        /// Folder of the coordinator.
        #[arg(long, value_name = "DIR")]
        data: Option<PathBuf>,
        /// Name of the client.
        #[arg(long, value_name = "NAME", default_value = "client")]
        name: String,
        /// Folder to write to.
        #[arg(short, long, value_name = "DIR")]
        output: PathBuf,
    },
}

/// Has a worker finish what is open on it, take nothing new, and leave.
///
/// To be run on the coordinator's machine, while `serve` runs.
#[derive(Arguments, Debug)]
pub(crate) struct DrainArgs {
    /// The worker's name, or its id if several have that name.
    #[arg(value_name = "WORKER")]
    pub(crate) worker: String,
    /// Folder of the coordinator.
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
}

/// Shows who is here, what runs where and what bounds it.
#[derive(Arguments, Debug)]
pub(crate) struct StatusArgs {
    /// The coordinator's HTTP.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7842")]
    pub(crate) server: String,
    /// A key of the server.
    #[arg(long, value_name = "KEY", env = "FILMLOOM_API_KEY", hide_env_values = true)]
    pub(crate) api_key: Option<String>,
    /// Writes JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Where a worker listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listen {
    At(SocketAddr),
    Nowhere,
}

fn parse_listen(text: &str) -> Result<Listen, String> {
    match text {
        "none" => Ok(Listen::Nowhere),
        text => text.parse().map(Listen::At).map_err(|_| "give HOST:PORT, or none".to_owned()),
    }
}

fn parse_layers(text: &str) -> Result<Range<usize>, String> {
    let ends = text.split_once("..");
    let layers = ends.and_then(|(first, end)| Some(first.parse().ok()?..end.parse().ok()?));
    let refused = || "give the first layer and the one after the last, such as 0..4".to_owned();
    layers.filter(|layers: &Range<usize>| !layers.is_empty()).ok_or_else(refused)
}

fn parse_share(text: &str) -> Result<f64, String> {
    let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    share.ok_or_else(|| "give a share from 0 to 1".to_owned())
}

/// Bytes, with a unit or without.
fn parse_bytes(text: &str) -> Result<u64, String> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "kib" | "k" => 1024.0,
        "mib" | "m" => 1_048_576.0,
        "gib" | "g" => 1_073_741_824.0,
        "tib" | "t" => 1_099_511_627_776.0,
        "kb" => 1e3,
        "mb" => 1e6,
        "gb" => 1e9,
        "tb" => 1e12,
        _ => f64::NAN,
    };
    let bytes = number.parse::<f64>().map_or(f64::NAN, |number| number * factor);
    if !(1.0..1e18).contains(&bytes) {
        return Err("give bytes, such as 10GiB or 500MB".to_owned());
    }
    #[expect(clippy::cast_possible_truncation, reason = "it is within the limits")]
    #[expect(clippy::cast_sign_loss, reason = "as above")]
    Ok(bytes as u64)
}

/// Seconds, with a unit.
fn parse_ttl(text: &str) -> Result<u64, String> {
    let (number, factor) = match text.trim() {
        text if text.ends_with('s') => (&text[..text.len() - 1], 1),
        text if text.ends_with('m') => (&text[..text.len() - 1], 60),
        text if text.ends_with('h') => (&text[..text.len() - 1], 3600),
        text if text.ends_with('d') => (&text[..text.len() - 1], 86_400),
        text => (text, 1),
    };
    let seconds = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    let refused = || "give a time such as 90s, 10m, 1h or 7d".to_owned();
    seconds.filter(|&seconds| 0 < seconds).ok_or_else(refused)
}

const SERVE_EXAMPLES: &str = "\
Examples:
  filmloom serve
  filmloom serve --http 0.0.0.0:7842 --api-key \"$(cat key)\" --data /srv/filmloom";

const WORKER_EXAMPLES: &str = "\
Examples:
  filmloom worker --join boxA:7843 --token \"$(cat join.token)\"
  filmloom worker --join boxA:7843 --layers 0..4 --memory 6GiB --threads 4";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_and_mistakes_refused_with_advice() {
        assert_eq!(parse_bytes("10GiB"), Ok(10 << 30));
        assert_eq!(parse_bytes("1.5 MB"), Ok(1_500_000));
        assert!(parse_bytes("ten").unwrap_err().contains("10GiB"));
        assert!(parse_bytes("-1").is_err() && parse_bytes("0").is_err());
        assert_eq!(parse_layers("2..5"), Ok(2..5));
        assert!(parse_layers("5..2").is_err() && parse_layers("5").is_err());
        assert_eq!(parse_ttl("1h"), Ok(3600));
        assert!(parse_ttl("0s").is_err() && parse_ttl("soon").is_err());
        assert_eq!(parse_listen("none"), Ok(Listen::Nowhere));
        assert!(parse_listen("here").is_err());
    }
}
