//! Where peers open connections: the data plane's gRPC service, and the same without
//! gRPC.

use std::{pin::Pin, sync::Arc};

use futures_util::Stream;
use identity::Subject;
use proto::{
    data::{Frame, Hello},
    generated::data::{
        data_server::{Data, DataServer},
        refusal::Reason,
    },
};
use rustls::pki_types::CertificateDer;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, TryAcquireError, mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use crate::{
    greeting::{self, Refused},
    hop::FRAME_BYTES_MAX,
    relay::Relay,
    switchboard::{Switchboard, Weak},
    tls::Accepted,
    transport::{FRAMES_MAX, Link, Unwanted},
};

/// Peers that are about to greet. Each may take a few seconds.
const GREETINGS_MAX: usize = 256;

/// The service of a node. Clones are the same.
#[derive(Clone, Debug)]
pub struct DataService {
    /// There once the node knows who it is. Connections do not keep it.
    switchboard: watch::Receiver<Option<Weak>>,
    relay: Option<Arc<Relay>>,
    /// Room for peers that have not greeted yet.
    greetings: Arc<Semaphore>,
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
        let greetings = Arc::new(Semaphore::new(GREETINGS_MAX));
        Self { switchboard: known, relay, greetings }
    }

    /// The server for it, with its limits.
    pub fn into_server(self) -> DataServer<Self> {
        DataServer::new(self)
            .max_decoding_message_size(FRAME_BYTES_MAX)
            .max_encoding_message_size(FRAME_BYTES_MAX)
    }

    /// Serves a connection that carries frames without gRPC.
    pub(crate) async fn serve_framed(self, stream: Accepted) {
        let Ok(place) = self.place() else {
            return tracing::debug!("{GREETINGS_MAX} peers are about to greet: one is not heard");
        };
        let subject = node(stream.get_ref().1.peer_certificates().unwrap_or_default());
        let link = Link::framed(stream);
        match subject {
            Ok(subject) => self.serve(subject, link, place).await,
            Err(status) => {
                let message = status.message().to_owned();
                link.refuse(Refused { reason: Reason::UnknownNode, message }).await;
            }
        }
    }

    fn place(&self) -> Result<OwnedSemaphorePermit, TryAcquireError> {
        Arc::clone(&self.greetings).try_acquire_owned()
    }

    async fn serve(self, subject: Subject, mut link: Link, place: OwnedSemaphorePermit) {
        let greeted = greeting::receive(&mut *link.hither).await;
        drop(place);
        let taken_up = match greeted {
            Ok(hello) => self.take_up(&subject, hello, link).await,
            Err(message) => {
                let refused = Refused { reason: Reason::Malformed, message };
                Err(Unwanted { refused, link })
            }
        };
        if let Err(Unwanted { refused, link }) = taken_up {
            link.refuse(refused).await;
        }
    }

    async fn take_up(&self, subject: &Subject, hello: Hello, link: Link) -> Result<(), Unwanted> {
        let unknown = |message| Refused { reason: Reason::UnknownNode, message };
        let switchboard = self.switchboard.borrow().as_ref().and_then(Weak::upgrade);
        let Some(switchboard) = switchboard else {
            let refused = unknown("this node has not joined yet".to_owned());
            return Err(Unwanted { refused, link });
        };
        if hello.to == switchboard.me().end.node {
            return switchboard.accept(subject, hello, link).await;
        }
        let is_who_it_says = matches!(subject, Subject::Node(node) if *node == hello.from.node);
        let (Some(relay), true) = (&self.relay, is_who_it_says) else {
            let own = switchboard.me().end.node;
            let refused = unknown(format!("this is node {own}, not {}", hello.to));
            return Err(Unwanted { refused, link });
        };
        drop(switchboard);
        relay.join(hello, link).await
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

#[tonic::async_trait]
impl Data for DataService {
    type HopStream = Pin<Box<dyn Stream<Item = Result<Frame, Status>> + Send>>;

    async fn hop(
        &self,
        request: Request<Streaming<Frame>>,
    ) -> Result<Response<Self::HopStream>, Status> {
        let subject = node(&request.peer_certs().unwrap_or_default())?;
        let place = self.place().map_err(|_| {
            let message = format!("{GREETINGS_MAX} peers are about to greet: try again");
            Status::resource_exhausted(message)
        })?;
        let (away, frames) = mpsc::channel::<Result<Frame, Status>>(FRAMES_MAX);
        let link = Link::grpc(away, request.into_inner());
        tokio::spawn(self.clone().serve(subject, link, place));
        Ok(Response::new(Box::pin(ReceiverStream::new(frames))))
    }
}

/// Whose hop it may be, by the certificates that it shows.
fn node(certificates: &[CertificateDer<'_>]) -> Result<Subject, Status> {
    let subject = shown(certificates)?;
    if !subject.is_server() {
        let message = format!("{subject} is no node, and has no hops");
        return Err(Status::permission_denied(message));
    }
    Ok(subject)
}

/// Who sent a request.
///
/// # Errors
///
/// `UNAUTHENTICATED` if the caller has no certificate of the cluster.
pub fn member<T>(request: &Request<T>) -> Result<Subject, Status> {
    shown(&request.peer_certs().unwrap_or_default())
}

fn shown(certificates: &[CertificateDer<'_>]) -> Result<Subject, Status> {
    let subject = identity::peer(certificates).map_err(|error| {
        Status::unauthenticated(format!("the certificate names nobody: {error}"))
    })?;
    subject.ok_or_else(|| {
        Status::unauthenticated("a certificate of this cluster is needed: join it first")
    })
}
