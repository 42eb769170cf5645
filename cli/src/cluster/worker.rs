//! `filmloom worker`: computes for a coordinator.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use backend::Backend;
use identity::{FileNames, Identity, JoinToken};
use plan::placement::Limits;
use types::Class;
pub(super) use worker::Config;
use worker::{Finished, Roles};

use super::{
    WorkerArgs,
    args::{DeviceArgs, Listen},
    discovery, host_name,
    process::Process,
    serve::default_data,
    stopped,
};
use crate::{failure::Failure, source, system, terminal};

/// How long a coordinator is looked for.
const DISCOVERY_PATIENCE: Duration = Duration::from_secs(10);
/// What is said when a worker has left as it was asked to.
const DRAINED: &str = "drained: what was open here is finished, and this worker has left its \
                       cluster; start it again to take part";
/// Share of the free memory that a worker uses if nobody says.
const MEMORY_SHARE: f64 = 0.8;

/// Works until it is told to stop, or drained.
///
/// # Errors
///
/// [`Failure`] if the model cannot be read, or the coordinator refuses.
pub(crate) fn run(args: &WorkerArgs) -> Result<(), Failure> {
    let name = args.name.clone().unwrap_or_else(host_name);
    let process = Process::start(args.trace.otlp.as_deref(), &name)?;
    let device = &args.device;
    let checkpoint = source::open_any(device.model.as_deref())?;
    let checkpoint =
        checkpoint.map(|checkpoint| Ok::<_, Failure>((checkpoint.contents()?.digest, checkpoint)));
    let checkpoint = checkpoint.transpose()?;
    let cpu = Arc::new(device.precision.cpu(device.threads.count())?);
    let data = match &args.data {
        Some(data) => data.clone(),
        None => default_data()?.join("worker"),
    };
    std::fs::create_dir_all(&data).map_err(|error| {
        Failure::Input(format!("cannot make {}: {error}; give another --data", data.display()))
    })?;
    let coordinator = match &args.join {
        Some(join) => join.clone(),
        None => discovered(args, &data)?,
    };
    let listen = match args.listen {
        Listen::At(address) => Some(address),
        Listen::Nowhere => None,
    };
    let config = Config {
        token: args.token.clone(),
        advertise: args.advertise.clone(),
        cache_bytes_max: Some(args.cache),
        ..config(coordinator, data, name, listen, device, cpu.class())
    };
    process.run(async {
        let stop = stopped()?;
        let worked = worker::run(config, cpu, checkpoint, stop).await;
        match worked.map_err(|error| Failure::Input(error.to_string()))? {
            Finished::Stopped => {}
            Finished::Drained => terminal::say(DRAINED),
        }
        Ok(())
    })
}

/// Where the coordinator is that this machine's token or certificate is of.
fn discovered(args: &WorkerArgs, data: &Path) -> Result<String, Failure> {
    let token = args.token.as_deref().and_then(|token| token.trim().parse::<JoinToken>().ok());
    let known = Identity::load(data, FileNames::Node).ok().map(|identity| identity.fingerprint());
    let authority = token.map(|token| token.fingerprint).or(known).ok_or_else(|| {
        Failure::Input("give --join HOST:PORT, or --token to look for its coordinator".to_owned())
    })?;
    terminal::say("looking for the coordinator on the local network");
    let found = discovery::find(authority, DISCOVERY_PATIENCE);
    match found.map(discovery::answering) {
        Ok(Some(coordinator)) => Ok(coordinator),
        Ok(None) => Err(Failure::Input(
            "no coordinator of this token is heard of on the local network: give --join HOST:PORT"
                .to_owned(),
        )),
        Err(error) => {
            Err(Failure::Input(format!("cannot look around ({error}): give --join HOST:PORT")))
        }
    }
}

/// A worker's configuration, without token and advertised addresses. It fetches no
/// weights.
pub(super) fn config(
    coordinator: String,
    data: PathBuf,
    name: String,
    listen: Option<SocketAddr>,
    device: &DeviceArgs,
    class: Class,
) -> Config {
    let has = |role: &str| device.roles.iter().any(|other| other == role);
    let threads = device.threads.count();
    Config {
        coordinator,
        token: None,
        data,
        name,
        device: format!("{} ({threads} threads)", class.name()),
        threads: u32::try_from(threads).unwrap_or(u32::MAX),
        listen,
        advertise: Vec::new(),
        memory_bytes: device.memory.unwrap_or_else(free_memory),
        limits: Limits {
            layers: device.layers.clone(),
            memory_bytes_max: device.memory,
            layers_share_max: device.max_share,
        },
        roles: Roles { layers: has("layers"), text: has("text"), decoder: has("decode") },
        cache_bytes_max: None,
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a share of bytes is no more bytes")]
#[expect(clippy::cast_sign_loss, reason = "bytes are not negative")]
fn free_memory() -> u64 {
    let free = system::available_memory_bytes().unwrap_or(1 << 30);
    (free as f64 * MEMORY_SHARE) as u64
}
