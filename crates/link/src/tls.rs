//! Channels and listeners of a cluster: TLS whose configuration names whom to
//! expect, and keep-alives that find a dead peer.
//!
//! A listener serves gRPC and the frames of hops: what a connection carries, its
//! handshake says.

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use identity::HOP_PROTOCOL;
use rustls::{CertificateError, ClientConfig, CommonState, ServerConfig};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Server, Uri};

use crate::service::DataService;

/// What opening a connection may take, TLS and all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be silent before it is probed, and how long the
/// probe may take.
pub(crate) const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// Bytes that a stream, and a connection, may have on their way: 10 Gbit/s over
/// ten milliseconds.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// Connections whose TLS handshake is going on.
const HANDSHAKES_MAX: usize = 64;
/// Largest HTTP/2 frame that is read.
const HTTP_FRAME_BYTES: u32 = 1 << 20;

/// A connection that this side opened.
pub(crate) type Opened = client::TlsStream<TcpStream>;
/// A connection that a peer opened.
pub type Accepted = server::TlsStream<TcpStream>;

/// Opens a channel to `address`, `HOST:PORT`.
///
/// # Errors
///
/// What went wrong, with its causes, as a sentence.
pub async fn connect(address: &str, config: Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    let connector = tower::service_fn(move |uri: Uri| {
        let config = Arc::clone(&config);
        async move {
            let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
            Ok::<_, io::Error>(TokioIo::new(dial(&authority, config).await?))
        }
    });
    let channel = endpoint(address)?.connect_with_connector(connector).await;
    channel.map_err(|error| ConnectError::new(address, &error))
}

/// Opens a connection for a hop: [`is_framed`] tells what it carries.
pub(crate) async fn open(address: &str, config: &ClientConfig) -> Result<Opened, ConnectError> {
    let config = Arc::new(identity::hop_config(config));
    let opened = timeout(CONNECT_TIMEOUT, dial(address, config)).await;
    let opened = opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    opened.map_err(|error| ConnectError::new(address, &error))
}

/// Whether a connection carries frames without gRPC.
pub(crate) fn is_framed(connection: &CommonState) -> bool {
    connection.alpn_protocol() == Some(HOP_PROTOCOL)
}

/// A channel over a connection that is open. There is no other one after it.
pub(crate) async fn channel(address: &str, opened: Opened) -> Result<Channel, ConnectError> {
    let mut opened = Some(TokioIo::new(opened));
    let connector = tower::service_fn(move |_: Uri| {
        let opened = opened.take();
        async move { opened.ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected)) }
    });
    let channel = endpoint(address)?.connect_with_connector(connector).await;
    channel.map_err(|error| ConnectError::new(address, &error))
}

fn endpoint(address: &str) -> Result<Endpoint, ConnectError> {
    let unreadable = |error| ConnectError { is_final: true, ..ConnectError::new(address, &error) };
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(unreadable)?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .max_frame_size(HTTP_FRAME_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    Ok(endpoint)
}

/// No channel could be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot connect to {address}: {reason}")]
pub struct ConnectError {
    /// Whereto.
    pub address: String,
    /// Why, with the causes.
    pub reason: String,
    /// Whether another attempt would end like this one: the address is none, or
    /// somebody answers who is not to be spoken with.
    pub is_final: bool,
}

/// Somebody answers, and there will be no connection.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct NoHandshake(String);

impl ConnectError {
    fn new(address: &str, error: &(dyn std::error::Error + 'static)) -> Self {
        // The first says only that it is a transport's.
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        let reason = causes.map(ToString::to_string).last();
        let reason = reason.unwrap_or_else(|| error.to_string());
        let mut all = std::iter::successors(Some(error), |cause| cause.source());
        let is_final = all.any(|cause| cause.downcast_ref().is_some_and(is_final));
        Self { address: address.to_owned(), reason, is_final }
    }
}

fn is_final(error: &io::Error) -> bool {
    let is_refused = error.get_ref().is_some_and(|inner| inner.is::<NoHandshake>());
    is_refused || error.kind() == io::ErrorKind::InvalidInput
}

async fn dial(address: &str, config: Arc<ClientConfig>) -> io::Result<Opened> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let tls = TlsConnector::from(config).connect(identity::server_name(), stream);
    tls.await.map_err(plain)
}

/// What rustls says; of a certificate, what `identity` does.
fn plain(error: io::Error) -> io::Error {
    let refused = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let Some(refused) = refused else { return error };
    let mut said = refused.to_string();
    if let rustls::Error::InvalidCertificate(CertificateError::Other(other)) = refused {
        said = other.0.to_string();
    }
    io::Error::other(NoHandshake(said))
}

/// Accepts connections and makes them TLS, beside each other, so that none waits
/// for a slow one. Those that carry frames go to `hops`; the others come out, for a
/// [`server()`].
pub fn incoming(
    listener: TcpListener,
    config: Arc<ServerConfig>,
    hops: DataService,
) -> ReceiverStream<io::Result<Accepted>> {
    let (sender, receiver) = mpsc::channel(HANDSHAKES_MAX);
    let acceptor = TlsAcceptor::from(config);
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    tokio::spawn(async move {
        loop {
            let Ok(place) = Arc::clone(&handshakes).acquire_owned().await else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = sender.closed() => return,
            };
            let (stream, from) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let (acceptor, sender, hops) = (acceptor.clone(), sender.clone(), hops.clone());
            tokio::spawn(async move {
                let handshake = async {
                    stream.set_nodelay(true)?;
                    acceptor.accept(stream).await
                };
                let stream = match timeout(CONNECT_TIMEOUT, handshake).await {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => return tracing::debug!(%from, %error, "a handshake failed"),
                    Err(_) => return tracing::debug!(%from, "a handshake took too long"),
                };
                if is_framed(stream.get_ref().1) {
                    drop(place);
                    tokio::select! {
                        () = hops.serve_framed(stream) => {}
                        () = sender.closed() => {}
                    }
                } else {
                    drop(sender.send(Ok(stream)).await);
                    drop(place);
                }
            });
        }
    });
    ReceiverStream::new(receiver)
}

/// A gRPC server whose connections are kept alive.
pub fn server() -> Server {
    Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(KEEP_ALIVE))
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(HTTP_FRAME_BYTES)
}
