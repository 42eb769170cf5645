//! What workers and tools reach by gRPC: joining, sessions, the data plane, weights,
//! the cluster's state and its management, health and reflection.

mod admin;
mod blobs;
mod cluster;
mod joining;
mod session;

use std::sync::Arc;

use checkpoint::Library;
use identity::{Authority, Identity};
use link::{DataService, Switchboard, service::Relaying, tls};
use proto::{
    control::{FROM_WORKER_BYTES_MAX, JOIN_BYTES_MAX},
    generated::{
        DESCRIPTORS, cluster::cluster_server::ClusterServer,
        control::control_server::ControlServer, control::joining_server::JoiningServer,
    },
};
use rustls::time_provider::DefaultTimeProvider;
use tokio::{net::TcpListener, sync::watch};
use tonic::service::interceptor::InterceptedService;

use crate::{core::Handle, saver::Saver, tokens::Tokens};

/// What the gRPC side stands on.
pub(crate) struct Grpc {
    pub(crate) listener: TcpListener,
    pub(crate) authority: Arc<Authority>,
    pub(crate) identity: Identity,
    pub(crate) switchboard: Switchboard,
    pub(crate) handle: Handle,
    pub(crate) saver: Saver,
    pub(crate) tokens: Arc<Tokens>,
    pub(crate) about: About,
    pub(crate) library: Arc<Library>,
}

pub(crate) use session::About;

/// Serves until the process ends.
///
/// # Errors
///
/// The transport's, a sentence.
pub(crate) async fn serve(grpc: Grpc) -> Result<(), String> {
    let Grpc { listener, authority, identity, switchboard, handle, saver, .. } = grpc;
    let Grpc { tokens, about, library, .. } = grpc;
    let config = identity::server_config(&identity, Arc::new(DefaultTimeProvider));
    let (_kept, known) = watch::channel(Some(switchboard));
    let data = DataService::new(known, Relaying::On);
    let incoming = tls::incoming(listener, Arc::new(config), data.clone());
    let joining = joining::Joining::new(authority, Arc::clone(&tokens), handle.clone(), saver);
    let managing = admin::Managing::new(tokens, handle.clone()).into_server();
    let control = session::Sessions::new(handle.clone(), about);
    let lending = blobs::Lending::new(library).into_server();
    let state = ClusterServer::new(cluster::State::new(handle));
    let state = state.max_decoding_message_size(TOOL_BYTES_MAX);
    let (health, health_service) = tonic_health::server::health_reporter();
    let health_service = health_service.max_decoding_message_size(TOOL_BYTES_MAX);
    health.set_serving::<ControlServer<session::Sessions>>().await;
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let refused = |error: tonic_reflection::server::Error| error.to_string();
    let reflected = reflection().build_v1().map_err(refused)?;
    let reflected = reflected.max_decoding_message_size(TOOL_BYTES_MAX);
    // Python's library and older tools know this version only.
    let reflected_alpha = reflection().build_v1alpha().map_err(refused)?;
    let reflected_alpha = reflected_alpha.max_decoding_message_size(TOOL_BYTES_MAX);
    let served = tls::server()
        .add_service(JoiningServer::new(joining).max_decoding_message_size(JOIN_BYTES_MAX))
        .add_service(data.into_server())
        .add_service(ControlServer::new(control).max_decoding_message_size(FROM_WORKER_BYTES_MAX))
        .add_service(managing)
        .add_service(InterceptedService::new(lending, members_only))
        .add_service(InterceptedService::new(state, members_only))
        .add_service(InterceptedService::new(health_service, members_only))
        .add_service(InterceptedService::new(reflected, members_only))
        .add_service(InterceptedService::new(reflected_alpha, members_only));
    served.serve_with_incoming(incoming).await.map_err(|error| error.to_string())
}

/// Bytes of a request of a tool, at most.
const TOOL_BYTES_MAX: usize = 16 << 10;

/// Lets nobody in without a certificate of the cluster.
fn members_only(request: tonic::Request<()>) -> Result<tonic::Request<()>, tonic::Status> {
    link::service::member(&request)?;
    Ok(request)
}
