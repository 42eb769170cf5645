//! A node that says whatever a test has it say.

use std::{sync::Arc, time::Duration};

use identity::{Expect, Identity, JoinToken, Key};
use link::tls;
use proto::{
    VERSIONS,
    control::{self, wire},
};
use rustls::time_provider::DefaultTimeProvider;
use tokio::{sync::mpsc, time::timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};
use wire::{from_worker::Kind as Said, to_worker::Kind as Asked};

use crate::pool::Pool;

/// How long the coordinator may take for an answer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A node with a certificate.
pub(crate) struct Peer {
    pub(crate) identity: Identity,
    coordinator: String,
}

/// Its session.
pub(crate) struct Session {
    away: mpsc::Sender<wire::FromWorker>,
    asked: Streaming<wire::ToWorker>,
    pub(crate) incarnation: u64,
}

impl Peer {
    /// A node that has joined with the pool's token.
    pub(crate) async fn join(pool: &Pool) -> Self {
        let key = Key::generate().unwrap();
        let request = wire::JoinRequest {
            versions: Some(versions()),
            token: pool.token(),
            public_key: key.public_der(),
            name: "peer".to_owned(),
        };
        let reply = join(pool, request).await.unwrap();
        let identity = Identity::new(key, reply.certificate.into(), reply.authority.into());
        Self::with(pool, identity.unwrap())
    }

    /// A node of this identity, whoever has signed it.
    pub(crate) fn with(pool: &Pool, identity: Identity) -> Self {
        Self { identity, coordinator: pool.grpc.clone() }
    }

    /// What a good worker without the weights says first.
    pub(crate) fn hello(&self) -> wire::Hello {
        wire::Hello {
            versions: Some(versions()),
            node: control::node_bytes(self.identity.key().node_id()),
            boot: vec![1; 16],
            name: "peer".to_owned(),
            software: "test".to_owned(),
            device: "none".to_owned(),
            threads: 1,
            classes: vec!["cpu-f32".to_owned()],
            memory_bytes: 1 << 30,
            roles: Some(wire::Roles { layers: true, text: false, decoder: false }),
            fetches: true,
            ..wire::Hello::default()
        }
    }

    /// Opens a session that begins like this, until the coordinator has answered.
    pub(crate) async fn open(&self, first: Said) -> Result<(Session, Asked), Status> {
        let clock = Arc::new(DefaultTimeProvider);
        let config = identity::client_config(&self.identity, Expect::Coordinator, clock);
        let channel = tls::connect(&self.coordinator, Arc::new(config)).await;
        let channel = channel.map_err(|error| Status::unauthenticated(error.to_string()))?;
        let (away, messages) = mpsc::channel(64);
        away.send(wire::FromWorker { incarnation: 0, kind: Some(first) }).await.unwrap();
        let mut client = wire::control_client::ControlClient::new(channel);
        let asked = client.session(ReceiverStream::new(messages)).await?.into_inner();
        let mut session = Session { away, asked, incarnation: 0 };
        let answer = session.next().await?.unwrap();
        if let Asked::Welcome(welcome) = &answer {
            session.incarnation = welcome.incarnation;
        }
        Ok((session, answer))
    }

    /// What a session that begins like this is refused with.
    pub(crate) async fn refusal(&self, hello: wire::Hello) -> (wire::refusal::Reason, String) {
        let (_, answer) = self.open(Said::Hello(hello)).await.unwrap();
        let Asked::Refusal(refusal) = answer else { panic!("not refused: {answer:?}") };
        (refusal.reason(), refusal.message)
    }
}

impl Session {
    pub(crate) async fn say(&self, said: Said) {
        let message = wire::FromWorker { incarnation: self.incarnation, kind: Some(said) };
        self.away.send(message).await.unwrap();
    }

    /// What the coordinator asks for next; nothing once it has ended the session.
    pub(crate) async fn next(&mut self) -> Result<Option<Asked>, Status> {
        let next = timeout(PATIENCE, self.asked.message()).await.expect("in time")?;
        Ok(next.and_then(|message| message.kind))
    }
}

/// Asks for a certificate.
pub(crate) async fn join(
    pool: &Pool,
    request: wire::JoinRequest,
) -> Result<wire::JoinReply, Status> {
    let token: JoinToken = pool.token().parse().unwrap();
    let config = identity::join_config(token.fingerprint, Arc::new(DefaultTimeProvider));
    let channel = tls::connect(&pool.grpc, Arc::new(config)).await.unwrap();
    let reply = wire::joining_client::JoiningClient::new(channel).join(request).await;
    reply.map(tonic::Response::into_inner)
}

pub(crate) fn versions() -> wire::Versions {
    wire::Versions { oldest: *VERSIONS.start(), newest: *VERSIONS.end() }
}
