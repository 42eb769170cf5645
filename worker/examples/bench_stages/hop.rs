//! The hop between the halves, as between two workers of a cluster.

use std::{path::Path, sync::Arc};

use backend::Cpu;
use identity::{FileNames, Identity};
use link::{
    Arrival, DataService, Me, Switchboard, Way,
    service::Relaying,
    switchboard::{NOTICES_MAX, Tls},
    tls,
};
use proto::data::{End, Message};
use rustls::time_provider::DefaultTimeProvider;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
};
use types::{Incarnation, ModelDigest, NodeId};

/// The lead and the last stage.
pub(crate) const NODES: [NodeId; 2] = [NodeId(1), NodeId(2)];

/// The other half.
#[derive(Clone)]
pub(crate) struct Peer {
    pub(crate) switchboard: Switchboard,
    pub(crate) node: NodeId,
}

impl Peer {
    pub(crate) fn send(&self, message: Message) {
        self.switchboard.send(self.node, message).unwrap();
    }
}

/// Keeps a hop to the other half.
pub(crate) fn meet(
    folder: &str,
    [own, other]: [NodeId; 2],
    way: Way,
    arrivals: mpsc::Sender<Arrival>,
) -> (Peer, Identity) {
    let identity = Identity::load(Path::new(folder), FileNames::Node).unwrap();
    let shown = identity.clone();
    let me = Me {
        end: End { node: own, incarnation: Incarnation(1) },
        model: ModelDigest([0; 32]),
        class: Some(Cpu::fastest_class()),
        tls: Tls(Arc::new(move |expect| {
            Arc::new(identity::client_config(&shown, expect, Arc::new(DefaultTimeProvider)))
        })),
        payload_bytes_max: 64 << 20,
    };
    // What becomes of the hop shows in the times; nobody reads of it.
    let (notices, _) = mpsc::channel(NOTICES_MAX);
    let switchboard = Switchboard::new(me, arrivals, notices);
    switchboard.connect(other, way);
    (Peer { switchboard, node: other }, identity)
}

/// Accepts connections at this host's address; gives where.
pub(crate) async fn listen(host: &str, peer: &Peer, identity: &Identity) -> String {
    let listener = TcpListener::bind((host, 0)).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let config = identity::server_config(identity, Arc::new(DefaultTimeProvider));
    let (known, receiver) = watch::channel(Some(peer.switchboard.clone()));
    let service = DataService::new(receiver, Relaying::Off);
    let incoming = tls::incoming(listener, Arc::new(config), service.clone());
    let service = service.into_server();
    tokio::spawn(async move {
        tls::server().add_service(service).serve_with_incoming(incoming).await.unwrap();
        drop(known);
    });
    address
}
