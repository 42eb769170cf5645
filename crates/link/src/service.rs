//! Where peers open connections: the data plane's gRPC service.

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use identity::Subject;
use proto::{
    data::Frame,
    generated::data::{
        data_server::{Data, DataServer},
        refusal::Reason,
    },
};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    greeting::{self, Refused, refusal},
    hop::FRAME_BYTES_MAX,
    relay::Relay,
    switchboard::{Switchboard, Weak},
    transport::{FRAMES_MAX, Link},
};

/// The service of a node.
#[derive(Clone, Debug)]
pub struct DataService {
    /// There once the node knows who it is. Connections do not keep it.
    switchboard: watch::Receiver<Option<Weak>>,
    relay: Option<Arc<Relay>>,
}

/// Whether a node passes on what is not for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relaying {
    /// It does: the coordinator.
    On,
    /// It does not.
    Off,
}

impl DataService {
    /// A service for the switchboard that is there, or will be, until the sender is
    /// dropped.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn new(switchboard: watch::Receiver<Option<Switchboard>>, relaying: Relaying) -> Self {
        let relay = (relaying == Relaying::On).then(Arc::default);
        let (sender, known) = watch::channel(weak(&switchboard));
        tokio::spawn(follow(switchboard, sender));
        Self { switchboard: known, relay }
    }

    /// The server for it, with its limits.
    pub fn into_server(self) -> DataServer<Self> {
        DataServer::new(self)
            .max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(FRAME_BYTES_MAX)
    }

    async fn serve(self, subject: Subject, away: Away, hither: Streaming<Frame>) {
        let mut link = Link::grpc(away.clone(), hither);
        let hello = match greeting::receive(&mut *link.hither).await {
            Ok(hello) => hello,
            Err(message) => return refuse(&away, Reason::Malformed, message).await,
        };
        let switchboard = self.switchboard.borrow().as_ref().and_then(Weak::upgrade);
        let Some(switchboard) = switchboard else {
            let message = "this node has not joined yet".to_owned();
            return refuse(&away, Reason::UnknownNode, message).await;
        };
        if hello.to == switchboard.me().end.node {
            if let Err(Refused { reason, message }) =
                switchboard.accept(&subject, hello, link).await
            {
                refuse(&away, reason, message).await;
            }
            return;
        }
        let is_who_it_says = matches!(&subject, Subject::Node(node) if *node == hello.from.node);
        let (Some(relay), true) = (&self.relay, is_who_it_says) else {
            let message = format!("this is node {}, not {}", switchboard.me().end.node, hello.to);
            return refuse(&away, Reason::UnknownNode, message).await;
        };
        drop(switchboard);
        if let Err(message) = relay.join(hello, link).await {
            refuse(&away, Reason::UnknownNode, message).await;
        }
    }
}

/// Lets go of a switchboard when its owner does.
async fn follow(
    mut switchboard: watch::Receiver<Option<Switchboard>>,
    known: watch::Sender<Option<Weak>>,
) {
    loop {
        tokio::select! {
            changed = switchboard.changed() => if changed.is_err() { return },
            () = known.closed() => return,
        }
        known.send_replace(weak(&switchboard));
    }
}

fn weak(switchboard: &watch::Receiver<Option<Switchboard>>) -> Option<Weak> {
    switchboard.borrow().as_ref().map(Switchboard::downgrade)
}

type Away = mpsc::Sender<Result<Frame, Status>>;

async fn refuse(away: &Away, reason: Reason, message: String) {
    tracing::debug!(?reason, %message, "a connection is refused");
    drop(away.send(Ok(refusal(Refused { reason, message }))).await);
}

#[tonic::async_trait]
impl Data for DataService {
    type HopStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

    async fn hop(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::HopStream>, Status> {
        let subject = member(&request)?;
        if !subject.is_server() {
            let message = format!("{subject} is no node, and has no hops");
            return Err(Status::permission_denied(message));
        }
        let (away, frames) = mpsc::channel(FRAMES_MAX);
        tokio::spawn(self.clone().serve(subject, away, request.into_inner()));
        Ok(Response::new(Box::pin(ReceiverStream::new(frames))))
    }
}

/// Who sent a request.
///
/// # Errors
///
/// `UNAUTHENTICATED` if the caller has no certificate of the cluster.
pub fn member<T>(request: &Request<T>) -> Result<Subject, Status> {
    let certificates = request.peer_certs().unwrap_or_default();
    let subject = identity::peer(&certificates).map_err(|error| {
        Status::unauthenticated(format!("the certificate names nobody: {error}"))
    })?;
    subject.ok_or_else(|| {
        Status::unauthenticated("a certificate of this cluster is needed: join it first")
    })
}
