//! Opens connections in memory, between honest ends and others.

use std::{io, sync::Arc, time::Duration};

use identity::{Authority, SERVER_NAME, Subject, Untrusted, peer};
use rcgen::{CertificateParams, Issuer, KeyPair, SanType};
use rustls::{
    CertificateError, ClientConfig, HandshakeKind, ServerConfig,
    crypto::ring,
    sign::{CertifiedKey, SingleCertAndKey},
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// What both ends of a connection made of each other.
pub(crate) struct Served {
    pub(crate) client_saw: Result<Option<Subject>, rustls::Error>,
    pub(crate) server_saw: Result<Option<Subject>, rustls::Error>,
    pub(crate) protocol: Option<Vec<u8>>,
    pub(crate) kind: Option<HandshakeKind>,
}

pub(crate) async fn connect(client: ClientConfig, server: ServerConfig) -> Served {
    connect_as(SERVER_NAME, client, server).await
}

pub(crate) async fn connect_as(name: &str, client: ClientConfig, server: ServerConfig) -> Served {
    handshake(name, Arc::new(client), Arc::new(server)).await
}

/// Opens a connection and sends a letter each way, so that either end knows
/// whether the other one refused it.
pub(crate) async fn handshake(
    name: &str,
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> Served {
    let (near, far) = duplex(64 << 10);
    let name = name.to_owned().try_into().unwrap();
    let connecting = async {
        let mut stream = TlsConnector::from(client).connect(name, near).await?;
        exchange(&mut stream).await?;
        let (_, connection) = stream.get_ref();
        let protocol = connection.alpn_protocol().map(<[u8]>::to_vec);
        Ok((seen(connection.peer_certificates()), protocol, connection.handshake_kind()))
    };
    let accepting = async {
        let mut stream = TlsAcceptor::from(server).accept(far).await?;
        exchange(&mut stream).await?;
        Ok(seen(stream.get_ref().1.peer_certificates()))
    };
    let (connected, accepted) = tokio::join!(connecting, accepting);
    let server_saw = accepted.map_err(tls_error);
    match connected.map_err(tls_error) {
        Ok((saw, protocol, kind)) => Served { client_saw: Ok(saw), server_saw, protocol, kind },
        Err(error) => Served { client_saw: Err(error), server_saw, protocol: None, kind: None },
    }
}

async fn exchange(stream: &mut (impl AsyncReadExt + AsyncWriteExt + Unpin)) -> io::Result<()> {
    stream.write_all(b"x").await?;
    stream.flush().await?;
    stream.read_u8().await.map(drop)
}

fn seen(certificates: Option<&[CertificateDer<'_>]>) -> Option<Subject> {
    peer(certificates.unwrap_or_default()).unwrap()
}

fn tls_error(error: io::Error) -> rustls::Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    tls.cloned().unwrap_or_else(|| rustls::Error::General(error.to_string()))
}

pub(crate) fn certificate_error(saw: Result<Option<Subject>, rustls::Error>) -> CertificateError {
    match saw {
        Err(rustls::Error::InvalidCertificate(error)) => error,
        other => panic!("no certificate was refused: {other:?}"),
    }
}

pub(crate) fn untrusted(saw: Result<Option<Subject>, rustls::Error>) -> Untrusted {
    let error = certificate_error(saw);
    let CertificateError::Other(inner) = &error else { panic!("refused otherwise: {error:?}") };
    inner.0.downcast_ref::<Untrusted>().unwrap().clone()
}

/// A certificate for `key` under the name of an authority that did not sign it.
pub(crate) fn forged_leaf(authority: &Authority, key: &KeyPair) -> CertificateDer<'static> {
    let attacker = KeyPair::generate().unwrap();
    let issuer = Issuer::from_ca_cert_der(authority.certificate(), attacker).unwrap();
    let mut params = CertificateParams::new([SERVER_NAME.to_owned()]).unwrap();
    let uri = Subject::Coordinator.to_string();
    params.subject_alt_names.push(SanType::URI(uri.try_into().unwrap()));
    params.signed_by(key, &issuer).unwrap().der().clone()
}

/// Shows any chain and signs with any key, as only an attacker would.
pub(crate) fn showing(chain: Vec<CertificateDer<'static>>, key: &KeyPair) -> Arc<SingleCertAndKey> {
    let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
    let key = ring::default_provider().key_provider.load_private_key(key).unwrap();
    Arc::new(CertifiedKey::new(chain, key).into())
}

pub(crate) fn at(now_unix: u64) -> Arc<Clock> {
    Arc::new(Clock(now_unix))
}

/// A clock that stands.
#[derive(Debug)]
pub(crate) struct Clock(u64);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(Duration::from_secs(self.0)))
    }
}
