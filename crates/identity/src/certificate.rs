//! What a certificate says, and whether an authority signed it.
//!
//! Invariant: a certificate names exactly one [`Subject`]. Other alternative names
//! (the fixed DNS name of those that serve) are no subjects.

use std::{convert::identity, time::Duration};

use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject};
use serde::{Deserialize, Serialize};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::{certificate::X509Certificate, extensions::GeneralName, time::ASN1Time};

use crate::{
    Error,
    hex::hex_text,
    subject::{SCHEME, Subject},
};

/// BLAKE3 of a certificate's DER: which authority a cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Fingerprint(pub [u8; 32]);

hex_text!(Fingerprint, "fingerprint", identity, identity);

impl Fingerprint {
    /// The fingerprint of a certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(*blake3::hash(certificate).as_bytes())
    }
}

/// Whom a connection's certificates name; none if the peer showed none.
///
/// It only reads the first certificate. That the chain was signed by the
/// cluster's authority and is in date was checked in the handshake: give this
/// nothing but a finished connection's `peer_certificates`.
///
/// # Errors
///
/// [`Error::Certificate`], [`Error::Subjects`] or [`Error::Subject`] if it does
/// not name one member of a cluster. Refuse the peer then.
pub fn peer(certificates: &[CertificateDer<'_>]) -> Result<Option<Subject>, Error> {
    certificates.first().map(|leaf| Ok(Contents::read(leaf)?.subject)).transpose()
}

/// What the certificate of a member says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Contents {
    pub(crate) subject: Subject,
    pub(crate) begins_unix: u64,
    pub(crate) expires_unix: u64,
}

/// What the certificate of an authority says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct AuthorityContents {
    /// DER of its subject public key info.
    pub(crate) public_key: Vec<u8>,
    pub(crate) expires_unix: u64,
}

impl Contents {
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let parsed = parse(certificate)?;
        let names = parsed.subject_alternative_name().map_err(not_a_certificate)?;
        let names = names.map_or(&[][..], |extension| &extension.value.general_names);
        let uris: Vec<&str> = names
            .iter()
            .filter_map(|name| if let GeneralName::URI(uri) = name { Some(*uri) } else { None })
            .filter(|uri| uri.starts_with(SCHEME))
            .collect();
        let [uri] = uris[..] else { return Err(Error::Subjects { found: uris.len() }) };
        let validity = parsed.validity();
        Ok(Self {
            subject: uri.parse()?,
            begins_unix: unix(validity.not_before),
            expires_unix: unix(validity.not_after),
        })
    }
}

impl AuthorityContents {
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Result<Self, Error> {
        let parsed = parse(certificate)?;
        if !parsed.is_ca() {
            return Err(Error::NotAuthority);
        }
        let public_key = parsed.public_key().raw.to_vec();
        Ok(Self { public_key, expires_unix: unix(parsed.validity().not_after) })
    }
}

/// Checks that an authority signed a certificate, whether or not it is in date.
pub(crate) fn check_signed(
    certificate: &CertificateDer<'_>,
    authority: &CertificateDer<'_>,
    begins_unix: u64,
) -> Result<(), Error> {
    let anchor = anchor_from_trusted_cert(authority).map_err(not_a_certificate)?;
    let leaf = EndEntityCert::try_from(certificate).map_err(not_a_certificate)?;
    let begins = UnixTime::since_unix_epoch(Duration::from_secs(begins_unix));
    let algorithms = rustls::crypto::ring::default_provider().signature_verification_algorithms;
    let usage = KeyUsage::client_auth();
    leaf.verify_for_usage(algorithms.all, &[anchor], &[], begins, usage, None, None)
        .map_err(|error| Error::Foreign { problem: error.to_string() })?;
    Ok(())
}

/// A certificate as PEM text.
pub(crate) fn to_pem(certificate: &CertificateDer<'_>) -> String {
    let config = pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF);
    pem::encode_config(&pem::Pem::new("CERTIFICATE", certificate.to_vec()), config)
}

/// The first certificate of a PEM text.
pub(crate) fn from_pem(text: &str) -> Result<CertificateDer<'static>, Error> {
    CertificateDer::from_pem_slice(text.as_bytes()).map_err(|_| Error::Pem { what: "certificate" })
}

/// The first certificate of a PEM text, which must be an authority's.
pub(crate) fn authority_from_pem(text: &str) -> Result<CertificateDer<'static>, Error> {
    let certificate = from_pem(text)?;
    AuthorityContents::read(&certificate)?;
    Ok(certificate)
}

pub(crate) fn not_a_certificate(error: impl ToString) -> Error {
    Error::Certificate { problem: error.to_string() }
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    let (rest, parsed) =
        x509_parser::parse_x509_certificate(certificate).map_err(not_a_certificate)?;
    if !rest.is_empty() {
        return Err(not_a_certificate("bytes follow it"));
    }
    Ok(parsed)
}

/// Times before 1970 count as its beginning.
fn unix(time: ASN1Time) -> u64 {
    u64::try_from(time.timestamp()).unwrap_or(0)
}
