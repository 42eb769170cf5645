//! The certificate authority of a cluster: the one key that makes members.
//!
//! Its certificate signs the certificates of members and no further authorities.
//! Every certificate begins a day before it was signed, because the clocks of
//! home machines are often wrong, and none outlives the authority's own.
//!
//! All keys are ECDSA on P-256, which every TLS library knows.
//!
//! Invariants: a member that serves has the fixed DNS name and may act as server
//! and client; clients and administrators have no name to serve under and may only
//! act as clients.

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SanType, SerialNumber,
    SubjectPublicKeyInfo, string::Ia5String,
};
use rustls_pki_types::CertificateDer;
use time::OffsetDateTime;

use crate::{
    Error, FileError, Fingerprint, Identity, Key, SERVER_NAME,
    certificate::{AuthorityContents, authority_from_pem, from_pem, not_a_certificate, to_pem},
    files::{self, Readers},
    subject::{SCHEME, Subject},
};

/// Seconds before signing at which a certificate begins. Chosen: a machine whose
/// clock is a day slow can still join.
const CLOCK_SLACK_S: u64 = 24 * 3600;

/// Life of an authority. Chosen: longer than a cluster is likely to be used.
const AUTHORITY_LIFETIME_S: u64 = 20 * 365 * 24 * 3600;

/// Bytes of the DER of a P-256 subject public key info.
const PUBLIC_KEY_BYTES: usize = 91;

/// File names of an authority.
const KEY_FILE: &str = "ca.key";
pub(crate) const CERTIFICATE_FILE: &str = "ca.crt";

/// The authority of a cluster, with its private key.
#[derive(Debug)]
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    expires_unix: u64,
}

/// For how long a certificate is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// The time now.
    pub now_unix: u64,
    /// Seconds until it expires.
    pub lifetime_s: u64,
}

impl Authority {
    /// Makes a new authority with a new key.
    ///
    /// # Errors
    ///
    /// [`Error::Time`] if no certificate can name the time; [`Error::Crypto`] if
    /// the system gives no randomness.
    pub fn create(now_unix: u64) -> Result<Self, Error> {
        let key = Key::new_pair()?;
        let public_key = key.subject_public_key_info();
        let validity = Validity { now_unix, lifetime_s: AUTHORITY_LIFETIME_S };
        let expires_unix = now_unix.saturating_add(AUTHORITY_LIFETIME_S);
        // The name tells clusters apart in the messages of other programs.
        let name = format!("filmloom cluster {}", &blake3::hash(&public_key).to_hex()[..16]);
        let mut params = params(&name, now_unix, expires_unix)?;
        params.serial_number = Some(serial(&name, &public_key, validity));
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let certificate = params.self_signed(&key).map_err(crypto)?.der().clone();
        Ok(Self { issuer: Issuer::new(params, key), certificate, expires_unix })
    }

    /// Reads an authority from the PEM of its certificate and of its key.
    ///
    /// # Errors
    ///
    /// [`Error::Pem`], [`Error::Certificate`], [`Error::NotAuthority`] or
    /// [`Error::PrivateKey`] if one of them cannot be used; [`Error::KeyMismatch`]
    /// if they are not of one pair.
    pub fn from_pem(certificate: &str, key: &str) -> Result<Self, Error> {
        Self::new(from_pem(certificate)?, Key::pair_from_pem(key)?)
    }

    /// Reads an authority from the files `ca.key` and `ca.crt` of a folder.
    ///
    /// # Errors
    ///
    /// [`FileError`] names the file and what to do.
    pub fn load(folder: &Path) -> Result<Self, FileError> {
        let path = folder.join(CERTIFICATE_FILE);
        let certificate = files::read_as(&path, Readers::Everyone, authority_from_pem)?;
        let key_path = folder.join(KEY_FILE);
        let key = files::read_as(&key_path, Readers::Owner, Key::pair_from_pem)?;
        Self::new(certificate, key).map_err(|source| {
            let path = if source == Error::KeyMismatch { key_path } else { path };
            FileError::Invalid { path, source }
        })
    }

    /// Writes the files `ca.key`, which only their owner can read, and `ca.crt`.
    /// The folder is made if it is not there.
    ///
    /// # Errors
    ///
    /// [`FileError::Io`] if the system refuses.
    pub fn store(&self, folder: &Path) -> Result<(), FileError> {
        files::create_folder(folder)?;
        files::write(&folder.join(KEY_FILE), &self.key_pem(), Readers::Owner)?;
        files::write(&folder.join(CERTIFICATE_FILE), &self.certificate_pem(), Readers::Everyone)
    }

    /// Signs a public key, given as DER of its subject public key info.
    ///
    /// The holder's private key is not proven here: a TLS handshake does that
    /// whenever the certificate is used.
    ///
    /// # Errors
    ///
    /// [`Error::PublicKey`] if it is no P-256 key; [`Error::AuthorityExpired`] or
    /// [`Error::Time`] if the time is out of range; [`Error::Crypto`] if the
    /// signature fails.
    pub fn sign(
        &self,
        subject: &Subject,
        public_key: &[u8],
        validity: Validity,
    ) -> Result<CertificateDer<'static>, Error> {
        let Validity { now_unix, lifetime_s } = validity;
        if self.expires_unix <= now_unix {
            return Err(Error::AuthorityExpired { expired_unix: self.expires_unix });
        }
        let key = check_public_key(public_key)?;
        let expires_unix = now_unix.saturating_add(lifetime_s).min(self.expires_unix);
        let uri = subject.to_string();
        let mut params = params(&uri[SCHEME.len()..], now_unix, expires_unix)?;
        params.serial_number = Some(serial(&uri, public_key, validity));
        params.is_ca = IsCa::ExplicitNoCa;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        params.subject_alt_names = vec![SanType::URI(ascii(&uri)?)];
        if subject.is_server() {
            params.extended_key_usages.push(ExtendedKeyUsagePurpose::ServerAuth);
            params.subject_alt_names.push(SanType::DnsName(ascii(SERVER_NAME)?));
        }
        let certificate = params.signed_by(&key, &self.issuer).map_err(crypto)?;
        Ok(certificate.der().clone())
    }

    /// Makes a key and signs it: the identity of the coordinator itself, of an
    /// administrator on its machine, or of a client whose files are written here and
    /// carried to it.
    ///
    /// # Errors
    ///
    /// Those of [`Authority::sign`].
    pub fn issue(&self, subject: &Subject, validity: Validity) -> Result<Identity, Error> {
        let key = Key::generate()?;
        let certificate = self.sign(subject, &key.public_der(), validity)?;
        Identity::new(key, certificate, self.certificate.clone())
    }

    /// The authority's own certificate, which everyone may know.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The certificate as PEM text.
    pub fn certificate_pem(&self) -> String {
        to_pem(&self.certificate)
    }

    /// The private key as PEM text. Whoever reads it can make members.
    pub fn key_pem(&self) -> String {
        self.issuer.key().serialize_pem()
    }

    /// What join tokens name the authority by.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.certificate)
    }

    /// When the authority's certificate ends, and with it all that it signed.
    pub fn expires_unix(&self) -> u64 {
        self.expires_unix
    }

    fn new(certificate: CertificateDer<'static>, key: KeyPair) -> Result<Self, Error> {
        let AuthorityContents { public_key, expires_unix } = AuthorityContents::read(&certificate)?;
        if public_key != key.subject_public_key_info() {
            return Err(Error::KeyMismatch);
        }
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(not_a_certificate)?;
        Ok(Self { issuer, certificate, expires_unix })
    }
}

/// What all certificates have.
fn params(name: &str, now_unix: u64, expires_unix: u64) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date(now_unix.saturating_sub(CLOCK_SLACK_S))?;
    params.not_after = date(expires_unix)?;
    Ok(params)
}

fn check_public_key(der: &[u8]) -> Result<SubjectPublicKeyInfo, Error> {
    let refused = |problem: String| Error::PublicKey { problem };
    if der.len() != PUBLIC_KEY_BYTES {
        return Err(refused(format!("{} bytes instead of {PUBLIC_KEY_BYTES}", der.len())));
    }
    let key = SubjectPublicKeyInfo::from_der(der).map_err(|error| refused(error.to_string()))?;
    if key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
        return Err(refused("another kind of key".to_owned()));
    }
    Ok(key)
}

/// A number that no other certificate of the authority has: a digest of what
/// makes it differ. 19 bytes, so that it stays positive within the allowed 20.
fn serial(
    name: &str,
    public_key: &[u8],
    Validity { now_unix, lifetime_s }: Validity,
) -> SerialNumber {
    let mut digest = blake3::Hasher::new_derive_key("filmloom certificate serial, version 1");
    digest.update(&now_unix.to_le_bytes()).update(&lifetime_s.to_le_bytes());
    digest.update(public_key).update(name.as_bytes());
    SerialNumber::from_slice(&digest.finalize().as_bytes()[..19])
}

fn date(unix_s: u64) -> Result<OffsetDateTime, Error> {
    let out_of_range = Error::Time { unix_s };
    let Ok(seconds) = i64::try_from(unix_s) else { return Err(out_of_range) };
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| out_of_range)
}

fn ascii(text: &str) -> Result<Ia5String, Error> {
    text.try_into().map_err(crypto)
}

fn crypto(error: rcgen::Error) -> Error {
    Error::Crypto { problem: error.to_string() }
}
