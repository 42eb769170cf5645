//! How members of a cluster prove to each other who they are, as rustls
//! configurations.
//!
//! ```text
//!                  shows                    believes
//! server_config    its chain                no certificate, or one of the authority
//! client_config    its chain                the authority, the fixed name, the expected role
//! hop_config       as client_config         as client_config
//! join_config      nothing                  an authority with this fingerprint, the fixed
//!                                           name, the coordinator
//! ```
//!
//! A chain is the certificate and the authority's: who joins learns the authority
//! from it, and believes it for its fingerprint only. All servers have the name
//! [`SERVER_NAME`], because home machines have no names and change addresses; who
//! a server is, its role says. The name that a connection is opened under is
//! therefore not looked at.
//!
//! Every server speaks HTTP/2 and the frames of hops. A client asks for frames with
//! [`hop_config`] only, and gets HTTP/2 where they are unknown.
//!
//! Invariants: TLS 1.3 only. No session is ever resumed, so each connection checks
//! every certificate at its own time.

use std::{
    fmt,
    sync::{Arc, LazyLock},
};

use rustls::{
    CertificateError, ClientConfig, ConfigBuilder, DigitallySignedStruct, OtherError,
    RootCertStore, ServerConfig, SignatureScheme, WantsVerifier,
    client::{
        Resumption, WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls12_signature, verify_tls13_signature},
    time_provider::TimeProvider,
    version::TLS13,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use types::NodeId;

use crate::{Error, Fingerprint, Identity, Subject, peer};

/// The DNS name that the certificate of every server has.
pub const SERVER_NAME: &str = "filmloom.internal";

/// gRPC's protocol, which every member speaks.
pub const GRPC_PROTOCOL: &[u8] = b"h2";

/// The protocol of hops between members that both know it: frames without HTTP.
pub const HOP_PROTOCOL: &[u8] = b"filmloom-link/1";

static DNS_NAME: LazyLock<ServerName<'static>> =
    LazyLock::new(|| ServerName::try_from(SERVER_NAME).expect("the fixed name is a DNS name"));

/// Whom a client wants to reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// The coordinator and no other.
    Coordinator,
    /// This node and no other.
    Node(NodeId),
    /// The coordinator or any node.
    Member,
}

/// Why a server with a valid handshake is not the one to talk to. It comes inside
/// of a `rustls::CertificateError::Other`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Untrusted {
    /// Another member answered. Look the address up again.
    #[error("{found} answered instead of {expected}: check the address")]
    WrongPeer {
        /// Who was to be reached.
        expected: Expect,
        /// Who answered.
        found: Subject,
    },
    /// It shows no authority with the token's fingerprint. Check address and token.
    #[error(
        "the server is not of the cluster {fingerprint} that the token is for: \
         check the address, or get a token from that server"
    )]
    OtherCluster {
        /// The token's.
        fingerprint: Fingerprint,
    },
    /// Its certificate has the fixed name but names no member.
    #[error(transparent)]
    Certificate(#[from] Error),
}

/// How a member serves. A client may come without a certificate, but not with a
/// wrong one: who it is, [`peer`] tells of its certificates.
///
/// `clock` gives the time at which certificates are checked:
/// `rustls::time_provider::DefaultTimeProvider` in a program.
pub fn server_config(identity: &Identity, clock: Arc<dyn TimeProvider>) -> ServerConfig {
    let mut config = tls13(ServerConfig::builder_with_details(provider(), clock))
        .with_client_cert_verifier(identity.clients())
        .with_cert_resolver(identity.shown());
    config.alpn_protocols = vec![HOP_PROTOCOL.to_vec(), GRPC_PROTOCOL.to_vec()];
    config.send_tls13_tickets = 0;
    config
}

/// How a member opens connections to another one.
///
/// `clock` is as for [`server_config`].
pub fn client_config(
    identity: &Identity,
    expect: Expect,
    clock: Arc<dyn TimeProvider>,
) -> ClientConfig {
    let verifier = MemberVerifier { servers: identity.servers(), expect };
    let config = tls13(ClientConfig::builder_with_details(provider(), clock))
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_client_cert_resolver(identity.shown());
    finish(config)
}

/// The same for a hop: its own protocol is offered first, and gRPC's to a server
/// that does not know it.
pub fn hop_config(config: &ClientConfig) -> ClientConfig {
    let mut config = config.clone();
    config.alpn_protocols = vec![HOP_PROTOCOL.to_vec(), GRPC_PROTOCOL.to_vec()];
    config
}

/// How a machine without a certificate reaches the coordinator of the cluster
/// whose authority has this fingerprint.
///
/// `clock` is as for [`server_config`].
pub fn join_config(fingerprint: Fingerprint, clock: Arc<dyn TimeProvider>) -> ClientConfig {
    let verifier = JoinVerifier { fingerprint, provider: provider() };
    let config = tls13(ClientConfig::builder_with_details(provider(), clock))
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier))
        .with_no_client_auth();
    finish(config)
}

/// The name to open a connection under, whatever the address.
pub fn server_name() -> ServerName<'static> {
    DNS_NAME.clone()
}

/// The cryptography of every connection.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Checks a server against a known authority, then its role.
#[derive(Debug)]
struct MemberVerifier {
    servers: Arc<WebPkiServerVerifier>,
    expect: Expect,
}

/// Checks a server against the authority that it shows, if that has the right
/// fingerprint.
#[derive(Debug)]
struct JoinVerifier {
    fingerprint: Fingerprint,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for MemberVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let (servers, name) = (&self.servers, server_name());
        let verified =
            servers.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now)?;
        self.expect.check(end_entity)?;
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.servers.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.servers.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.servers.supported_verify_schemes()
    }
}

impl ServerCertVerifier for JoinVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let fingerprint = self.fingerprint;
        let authority = intermediates
            .iter()
            .find(|certificate| Fingerprint::of(certificate) == fingerprint)
            .ok_or(Untrusted::OtherCluster { fingerprint })?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let provider = Arc::clone(&self.provider);
        let servers = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider)
            .build()
            .map_err(|error| rustls::Error::General(error.to_string()))?;
        MemberVerifier { servers, expect: Expect::Coordinator }.verify_server_cert(
            end_entity,
            intermediates,
            server_name,
            ocsp_response,
            now,
        )
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

impl Expect {
    fn check(self, certificate: &CertificateDer<'_>) -> Result<(), Untrusted> {
        let found = peer(std::slice::from_ref(certificate))?.ok_or(Error::Subjects { found: 0 })?;
        let is_expected = match self {
            Self::Coordinator => found == Subject::Coordinator,
            Self::Node(id) => found == Subject::Node(id),
            Self::Member => found.is_server(),
        };
        if is_expected { Ok(()) } else { Err(Untrusted::WrongPeer { expected: self, found }) }
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Coordinator => Subject::Coordinator.fmt(f),
            Self::Node(id) => Subject::Node(id).fmt(f),
            Self::Member => f.write_str("the coordinator or a node"),
        }
    }
}

impl From<Untrusted> for rustls::Error {
    fn from(untrusted: Untrusted) -> Self {
        CertificateError::Other(OtherError(Arc::new(untrusted))).into()
    }
}

fn tls13<Side: rustls::ConfigSide>(
    builder: ConfigBuilder<Side, rustls::WantsVersions>,
) -> ConfigBuilder<Side, WantsVerifier> {
    builder.with_protocol_versions(&[&TLS13]).expect("ring has the cipher suites of TLS 1.3")
}

fn finish(mut config: ClientConfig) -> ClientConfig {
    config.alpn_protocols = vec![GRPC_PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    config
}
