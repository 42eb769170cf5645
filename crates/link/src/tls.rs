//! Channels and listeners of a cluster: TLS whose configuration names whom to
//! expect, and keep-alives that find a dead peer.

use std::{io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{CertificateError, ClientConfig, ServerConfig};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc},
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, TlsConnector, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Channel, Endpoint, Server, Uri};

/// What opening a connection may take, TLS and all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection may be silent before it is probed, and how long the
/// probe may take.
const KEEP_ALIVE: Duration = Duration::from_secs(3);
/// Bytes that a stream, and a connection, may have on their way: 10 Gbit/s over
/// ten milliseconds.
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// Connections whose TLS handshake is going on.
const HANDSHAKES_MAX: usize = 64;
/// Largest HTTP/2 frame that is read.
const HTTP_FRAME_BYTES: u32 = 1 << 20;

/// Opens a channel to `address`, `HOST:PORT`.
///
/// # Errors
///
/// What went wrong, with its causes, as a sentence.
pub async fn connect(address: &str, config: Arc<ClientConfig>) -> Result<Channel, ConnectError> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .map_err(|error| ConnectError::new(address, &error))?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .max_frame_size(HTTP_FRAME_BYTES)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES);
    let connector = tower::service_fn(move |uri: Uri| open(uri, Arc::clone(&config)));
    let channel = endpoint.connect_with_connector(connector).await;
    channel.map_err(|error| ConnectError::new(address, &error))
}

/// No channel could be opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot connect to {address}: {reason}")]
pub struct ConnectError {
    /// Whereto.
    pub address: String,
    /// Why, with the causes.
    pub reason: String,
}

impl ConnectError {
    fn new(address: &str, error: &dyn std::error::Error) -> Self {
        // The first says only that it is a transport's.
        let causes = std::iter::successors(error.source(), |cause| cause.source());
        let reason = causes.map(ToString::to_string).last();
        Self { address: address.to_owned(), reason: reason.unwrap_or_else(|| error.to_string()) }
    }
}

async fn open(
    uri: Uri,
    config: Arc<ClientConfig>,
) -> io::Result<TokioIo<tokio_rustls::client::TlsStream<TcpStream>>> {
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    let stream = TcpStream::connect(authority).await?;
    stream.set_nodelay(true)?;
    let tls = TlsConnector::from(config).connect(identity::server_name(), stream);
    Ok(TokioIo::new(tls.await.map_err(plain)?))
}

/// What `identity` says of a certificate, without what rustls puts around it.
fn plain(error: io::Error) -> io::Error {
    let refused = error.get_ref().and_then(|inner| inner.downcast_ref());
    if let Some(rustls::Error::InvalidCertificate(CertificateError::Other(other))) = refused {
        return io::Error::other(other.0.to_string());
    }
    error
}

/// Accepts connections and makes them TLS, beside each other, so that none waits
/// for a slow one.
pub fn incoming(
    listener: TcpListener,
    config: Arc<ServerConfig>,
) -> ReceiverStream<io::Result<TlsStream<TcpStream>>> {
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
            let (acceptor, sender) = (acceptor.clone(), sender.clone());
            tokio::spawn(async move {
                let handshake = async {
                    stream.set_nodelay(true)?;
                    acceptor.accept(stream).await
                };
                match timeout(CONNECT_TIMEOUT, handshake).await {
                    Ok(Ok(stream)) => drop(sender.send(Ok(stream)).await),
                    Ok(Err(error)) => tracing::debug!(%from, %error, "a handshake failed"),
                    Err(_) => tracing::debug!(%from, "a handshake took too long"),
                }
                drop(place);
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
