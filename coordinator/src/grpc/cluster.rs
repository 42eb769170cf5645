//! The cluster's state for people's tools.

use plan::cluster::Presence;
use proto::generated::cluster::{
    ListNodesReply, ListNodesRequest, Node, cluster_server::Cluster, node,
};
use tonic::{Request, Response, Status};

use crate::core::{Core, Handle};

/// The service.
#[derive(Debug)]
pub(crate) struct State(Handle);

impl State {
    pub(crate) fn new(handle: Handle) -> Self {
        Self(handle)
    }
}

#[tonic::async_trait]
impl Cluster for State {
    async fn list_nodes(
        &self,
        _request: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesReply>, Status> {
        let reply = self.0.ask(|core| list(core)).await;
        reply.map(Response::new).ok_or_else(|| Status::unavailable("the coordinator stops"))
    }
}

fn list(core: &Core) -> ListNodesReply {
    let duties: std::collections::BTreeMap<_, _> = core.cluster.pipeline().duties().collect();
    let layer = |layer: usize| u32::try_from(layer).unwrap_or(u32::MAX);
    let nodes = core.cluster.members().map(|(id, member)| {
        let duty = duties.get(&id);
        let session = core.session(id);
        let layers = duty.and_then(|duty| duty.layers.clone()).unwrap_or_default();
        Node {
            id: id.to_string(),
            name: member.offer.name.clone(),
            incarnation: member.incarnation.0,
            state: match member.presence {
                Presence::Here if member.is_draining => node::State::Draining,
                Presence::Here => node::State::Here,
                Presence::Lost(_) | Presence::Gone => node::State::Lost,
            }
            .into(),
            device: session.map(|session| session.device.clone()).unwrap_or_default(),
            numeric_class: member.offer.class.name().to_owned(),
            memory_bytes: member.offer.memory_bytes,
            memory_used_bytes: session.map_or(0, |session| session.heartbeat.memory_used_bytes),
            first_layer: layer(layers.start),
            end_layer: layer(layers.end),
            text: duty.is_some_and(|duty| duty.text),
            decoder: duty.is_some_and(|duty| duty.decoder),
        }
    });
    ListNodesReply { coordinator: core.node.to_string(), nodes: nodes.collect() }
}
