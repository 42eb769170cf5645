//! Workers' sessions: a stream each, into the core and out of it.

use std::{pin::Pin, time::Duration};

use futures_util::Stream;
use identity::Subject;
use link::service::member;
use proto::{
    common_version,
    control::{self, wire},
};
use tokio::{
    sync::{mpsc, oneshot},
    time::timeout,
};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};
use types::NodeId;

use crate::core::{Entering, Event, Handle, NotEntered};

/// Messages that may wait for a worker; one that takes none is given up.
const MESSAGES_MAX: usize = 256;
/// How long a worker may take to say who it is.
const HELLO_TIMEOUT: Duration = Duration::from_secs(5);
/// How long it may say nothing.
const SILENCE_MAX: Duration = Duration::from_secs(10);

const NO_HELLO: &str = "a session begins with Hello";

/// What a worker is told at first.
#[derive(Clone, Debug)]
pub(crate) struct About {
    pub(crate) coordinator: NodeId,
    pub(crate) model: wire::Model,
    /// Milliseconds between heartbeats.
    pub(crate) heartbeat_ms: u32,
}

/// The service of sessions.
#[derive(Clone, Debug)]
pub(crate) struct Sessions {
    handle: Handle,
    about: About,
}

type Away = mpsc::Sender<Result<wire::ToWorker, Status>>;

impl Sessions {
    pub(crate) fn new(handle: Handle, about: About) -> Self {
        Self { handle, about }
    }

    async fn serve(self, node: NodeId, mut said: Streaming<wire::FromWorker>, away: Away) {
        let first = timeout(HELLO_TIMEOUT, said.message()).await;
        let first = first.ok().and_then(|first| first.ok().flatten());
        let hello = match first.ok_or_else(|| NO_HELLO.to_owned()).and_then(hello) {
            Ok(hello) => hello,
            Err(message) => {
                return refuse(&away, wire::refusal::Reason::Malformed, message).await;
            }
        };
        let versions = hello.versions.unwrap_or_default();
        let version = match common_version(versions.oldest..=versions.newest) {
            Ok(version) => version,
            Err(error) => {
                let reason = wire::refusal::Reason::Version;
                return refuse(&away, reason, error.to_string()).await;
            }
        };
        if control::node(&hello.node) != Ok(node) {
            let message = "the certificate is another node's".to_owned();
            return refuse(&away, wire::refusal::Reason::NotAMember, message).await;
        }
        // Welcome goes ahead of whatever the core has to say.
        let (sender, mut messages) = mpsc::channel(MESSAGES_MAX);
        let entering = Box::new(Entering { node, hello, sender });
        let (reply, entered) = oneshot::channel();
        self.handle.tell(Event::Enter(entering, reply)).await;
        let incarnation = match entered.await {
            Ok(Ok(incarnation)) => incarnation,
            Ok(Err(NotEntered { reason, message })) => {
                return refuse(&away, reason, message).await;
            }
            Err(_) => return,
        };
        let welcome = wire::to_worker::Kind::Welcome(wire::Welcome {
            version,
            incarnation: incarnation.0,
            coordinator: control::node_bytes(self.about.coordinator),
            model: Some(self.about.model.clone()),
            heartbeat_ms: self.about.heartbeat_ms,
        });
        let welcome = wire::ToWorker { incarnation: incarnation.0, kind: Some(welcome) };
        if away.send(Ok(welcome)).await.is_ok() {
            loop {
                tokio::select! {
                    message = messages.recv() => match message {
                        Some(message) => if away.send(message).await.is_err() { break },
                        None => break,
                    },
                    message = timeout(SILENCE_MAX, said.message()) => match message {
                        Ok(Ok(Some(message))) => match control::from_worker(message) {
                            Ok(message) => {
                                self.handle.tell(Event::Said(node, incarnation, message)).await;
                            }
                            Err(malformed) => {
                                tracing::warn!(%node, %malformed, "a message was dropped");
                            }
                        },
                        Ok(Ok(None) | Err(_)) | Err(_) => break,
                    },
                }
            }
        }
        drop(messages);
        self.handle.tell(Event::Lost(node, incarnation)).await;
    }
}

/// The message that a session begins with.
fn hello(first: wire::FromWorker) -> Result<wire::Hello, String> {
    match control::from_worker(first).map_err(|malformed| malformed.to_string())?.kind {
        Some(wire::from_worker::Kind::Hello(hello)) => Ok(hello),
        Some(_) | None => Err(NO_HELLO.to_owned()),
    }
}

async fn refuse(away: &Away, reason: wire::refusal::Reason, message: String) {
    let refusal = wire::Refusal { reason: reason.into(), message };
    let kind = Some(wire::to_worker::Kind::Refusal(refusal));
    drop(away.send(Ok(wire::ToWorker { incarnation: 0, kind })).await);
}

#[tonic::async_trait]
impl wire::control_server::Control for Sessions {
    type SessionStream = Pin<Box<dyn Stream<Item = Result<wire::ToWorker, Status>> + Send>>;

    async fn session(
        &self,
        request: Request<Streaming<wire::FromWorker>>,
    ) -> Result<Response<Self::SessionStream>, Status> {
        let Subject::Node(node) = member(&request)? else {
            return Err(Status::permission_denied("only a node opens a session"));
        };
        let (away, messages) = mpsc::channel(MESSAGES_MAX);
        tokio::spawn(self.clone().serve(node, request.into_inner(), away));
        Ok(Response::new(Box::pin(ReceiverStream::new(messages))))
    }
}
