//! `filmloom serve`: a coordinator, and a worker beside it.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use ::worker::Finished;
use api::{Access, Keys};
use backend::Backend;
use coordinator::{Config, Running, Served};
use identity::JoinToken;
use tokio::sync::watch;
use types::ModelDigest;

use super::{
    Engine, ServeArgs,
    discovery::{self, Announced},
    host_name,
    process::Process,
    records, stopped, worker,
};
use crate::{failure::Failure, source, terminal};

/// Room for the clean frames of videos in the making, beside those that are kept.
const LOG_ROOM_BYTES: u64 = 64 << 30;

/// Serves until it is told to stop.
///
/// # Errors
///
/// [`Failure`] if the model, the folder or the addresses cannot be used.
pub(crate) fn run(args: &ServeArgs) -> Result<(), Failure> {
    let process = Process::start(args.trace.otlp.as_deref(), &host_name())?;
    let access = access(args)?;
    let device = &args.device;
    let checkpoint = source::open(device.model.as_deref())?;
    let engine = Engine::new(device.precision, device.threads.count(), checkpoint)?;
    let data = args.data.clone().map_or_else(default_data, Ok)?;
    process.run(serve(args, access, engine, data))
}

async fn serve(
    args: &ServeArgs,
    access: Access,
    engine: Engine,
    data: PathBuf,
) -> Result<(), Failure> {
    let library = Arc::new(engine.checkpoint.library()?);
    let digest = library.contents().digest;
    let served = Served {
        name: source::name(args.device.model.as_deref()),
        digest,
        model: engine.checkpoint.model()?,
        engine: engine.memory(),
    };
    let config = Config {
        data: data.clone(),
        state: records::state(args)?,
        http: args.http,
        grpc: args.grpc,
        access,
        served,
        library,
        jobs_max: args.jobs,
        queue_max: args.queue,
        log_bytes_max: args.keep.saturating_add(LOG_ROOM_BYTES),
        videos_bytes_max: args.keep,
    };
    let running = coordinator::start(config).await;
    let running = running.map_err(|error| Failure::Input(error.to_string()))?;
    let mut stop = stopped()?;
    terminal::say(&format!("HTTP at http://{}, workers at {}", running.http, running.grpc));
    let port = running.grpc.port();
    let (host, token) = (host_name(), running.token.display());
    terminal::say(&format!(
        "other machines join with: filmloom worker --join {host}:{port} --token \"$(cat {token})\""
    ));
    let _announced = announced(args, running.grpc, &running.token);
    if !args.no_worker {
        beside(args, (digest, engine), &data, &running, stop.clone())?;
    }
    let superseded = tokio::select! {
        _ = stop.changed() => false,
        () = running.superseded() => true,
    };
    running.stop().await;
    match superseded {
        false => Ok(()),
        true => Err(Failure::Machine(
            "another coordinator has begun on the same records: run one of them, or give each a \
             store of its own"
                .to_owned(),
        )),
    }
}

/// Tells the local network of a coordinator that other machines can reach.
fn announced(args: &ServeArgs, grpc: SocketAddr, token: &Path) -> Option<Announced> {
    if args.no_discovery || grpc.ip().is_loopback() {
        return None;
    }
    let token = fs::read_to_string(token).ok()?.trim().parse::<JoinToken>().ok()?;
    let announced = discovery::announce(grpc.port(), token.fingerprint);
    let announced = announced.inspect_err(|error| {
        tracing::warn!(%error, "not announced on the local network: workers need --join");
    });
    announced.ok()
}

/// Starts the worker of this process.
fn beside(
    args: &ServeArgs,
    (digest, engine): (ModelDigest, Engine),
    data: &Path,
    Running { token, grpc, .. }: &Running,
    stop: watch::Receiver<bool>,
) -> Result<(), Failure> {
    let token = fs::read_to_string(token)
        .map_err(|error| Failure::Machine(format!("cannot read {}: {error}", token.display())))?;
    let ip = if grpc.ip().is_unspecified() { Ipv4Addr::LOCALHOST.into() } else { grpc.ip() };
    let target = SocketAddr::new(ip, grpc.port()).to_string();
    let listen = Some(SocketAddr::new(grpc.ip(), 0));
    let class = engine.cpu.class();
    let config = worker::Config {
        token: Some(token),
        ..worker::config(target, data.join("own-worker"), host_name(), listen, &args.device, class)
    };
    let (cpu, checkpoint) = (engine.cpu, Some((digest, engine.checkpoint)));
    tokio::spawn(async move {
        match ::worker::run(config, cpu, checkpoint, stop).await {
            Ok(Finished::Stopped) => {}
            Ok(Finished::Drained) => {
                tracing::info!("the worker of this process has drained; the next start has one");
            }
            Err(error) => tracing::error!(%error, "the worker of this process ended"),
        }
    });
    Ok(())
}

fn access(args: &ServeArgs) -> Result<Access, Failure> {
    if args.insecure {
        terminal::say(
            "warning: --insecure lets everyone who reaches this machine make and delete videos",
        );
        return Ok(Access::Insecure);
    }
    if !args.api_key.is_empty() {
        let keys = Keys::new(&args.api_key).map_err(|error| Failure::Input(error.to_string()))?;
        return Ok(Access::Keys(keys));
    }
    if args.http.ip().is_loopback() {
        return Ok(Access::Loopback);
    }
    Err(Failure::Input(format!(
        "--http {} lets other machines in: give --api-key KEY, or --insecure to let everyone in",
        args.http
    )))
}

/// The user's data folder.
///
/// # Errors
///
/// [`Failure::Input`] if the system does not say where it is.
pub(super) fn default_data() -> Result<PathBuf, Failure> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    let base = set("XDG_DATA_HOME").map(PathBuf::from);
    let base = base.or_else(|| set("HOME").map(|home| Path::new(&home).join(".local/share")));
    let none = || Failure::Input("there is no home folder: give --data DIR".to_owned());
    Ok(base.ok_or_else(none)?.join("filmloom"))
}
