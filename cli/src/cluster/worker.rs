//! `filmloom worker`: computes for a coordinator.

use std::{net::SocketAddr, path::PathBuf};

use backend::Backend;
use plan::placement::Limits;
pub(super) use worker::Config;
use worker::Roles;

use super::{
    Engine, WorkerArgs,
    args::{DeviceArgs, Listen},
    block_on, host_name, log,
    serve::default_data,
    stopped,
};
use crate::{failure::Failure, source, system};

/// Share of the free memory that a worker uses if nobody says.
const MEMORY_SHARE: f64 = 0.8;

/// Works until it is told to stop.
///
/// # Errors
///
/// [`Failure`] if the model cannot be read, or the coordinator refuses.
pub(crate) fn run(args: &WorkerArgs) -> Result<(), Failure> {
    log();
    let device = &args.device;
    let checkpoint = source::open(device.model.as_deref())?;
    let engine = Engine::new(device.precision, device.threads.count(), checkpoint)?;
    let data = match &args.data {
        Some(data) => data.clone(),
        None => default_data()?.join("worker"),
    };
    std::fs::create_dir_all(&data).map_err(|error| {
        Failure::Input(format!("cannot make {}: {error}; give another --data", data.display()))
    })?;
    let listen = match args.listen {
        Listen::At(address) => Some(address),
        Listen::Nowhere => None,
    };
    let name = args.name.clone().unwrap_or_else(host_name);
    let config = Config {
        token: args.token.clone(),
        advertise: args.advertise.clone(),
        ..config(args.join.clone(), data, name, listen, device, &engine)
    };
    block_on(async {
        let stop = stopped();
        let worked = worker::run(config, engine.cpu, engine.checkpoint, stop).await;
        worked.map_err(|error| Failure::Input(error.to_string()))
    })
}

/// A worker's configuration, without token and advertised addresses.
pub(super) fn config(
    coordinator: String,
    data: PathBuf,
    name: String,
    listen: Option<SocketAddr>,
    device: &DeviceArgs,
    engine: &Engine,
) -> Config {
    let has = |role: &str| device.roles.iter().any(|other| other == role);
    let threads = device.threads.count();
    Config {
        coordinator,
        token: None,
        data,
        name,
        device: format!("{} ({threads} threads)", engine.cpu.class().name()),
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
    }
}

#[expect(clippy::cast_possible_truncation, reason = "a share of bytes is no more bytes")]
#[expect(clippy::cast_sign_loss, reason = "bytes are not negative")]
fn free_memory() -> u64 {
    let free = system::available_memory_bytes().unwrap_or(1 << 30);
    (free as f64 * MEMORY_SHARE) as u64
}
