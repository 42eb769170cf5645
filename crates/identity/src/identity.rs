//! The key and the certificate by which one member proves who it is.
//!
//! ```text
//! folder/node.key   PKCS #8 private key, mode 0600; alone until it is signed
//! folder/node.crt   what the authority signed
//! folder/ca.crt     the authority; written first, node.crt last
//! ```
//!
//! A client's files have `client` for `node`. They are plain PEM, for any gRPC
//! library. One that checks the name of the server must be told the name that all
//! servers of a cluster have; with Python's grpcio:
//!
//! ```text
//! read = lambda name: open(name, "rb").read()
//! authority, key, certificate = read("ca.crt"), read("client.key"), read("client.crt")
//! credentials = grpc.ssl_channel_credentials(authority, key, certificate)
//! options = [("grpc.ssl_target_name_override", "filmloom.internal")]
//! channel = grpc.secure_channel("box:7843", credentials, options)
//! ```
//!
//! Invariant: in an [`Identity`] the key is the certificate's, and the authority
//! signed the certificate. It may be out of date: its holder looks at
//! [`Identity::expires_unix`].

use std::{
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData};
use rustls::{
    RootCertStore,
    client::WebPkiServerVerifier,
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    sign::{CertifiedKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject};
use types::NodeId;

use crate::{
    Error, FileError, Fingerprint, Subject,
    authority::CERTIFICATE_FILE as AUTHORITY_FILE,
    certificate::{
        AuthorityContents, Contents, authority_from_pem, check_signed, from_pem, not_a_certificate,
        to_pem,
    },
    files::{self, Readers},
    subject::node_id,
    tls,
};

/// Key, certificate and authority of a member. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identity {
    key: Key,
    certificate: CertificateDer<'static>,
    authority: CertificateDer<'static>,
    contents: Contents,
    shown: Arc<SingleCertAndKey>,
    clients: Arc<dyn ClientCertVerifier>,
    servers: Arc<WebPkiServerVerifier>,
}

/// A private key, with its public half. Cheap to clone.
#[derive(Clone)]
pub struct Key(Arc<KeyPair>);

/// What the files of an identity are called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileNames {
    /// `node.key`, `node.crt`, `ca.crt`.
    Node,
    /// `client.key`, `client.crt`, `ca.crt`.
    Client,
}

impl Identity {
    /// Puts together what a join gave.
    ///
    /// Whether the authority is the right one was decided by the connection that
    /// the certificates came over, or by the owner of the files.
    ///
    /// # Errors
    ///
    /// [`Error::KeyMismatch`] if the certificate is of another key;
    /// [`Error::NotAuthority`] and [`Error::Foreign`] if the authority is none, or
    /// did not sign it; [`Error::Certificate`], [`Error::Subjects`] and
    /// [`Error::Subject`] if it is no member's certificate.
    pub fn new(
        key: Key,
        certificate: CertificateDer<'static>,
        authority: CertificateDer<'static>,
    ) -> Result<Self, Error> {
        AuthorityContents::read(&authority)?;
        let contents = Contents::read(&certificate)?;
        check_signed(&certificate, &authority, contents.begins_unix)?;
        let provider = tls::provider();
        let chain = vec![certificate.clone(), authority.clone()];
        let shown = CertifiedKey::from_der(chain, key.private_der(), &provider)
            .map_err(|_| Error::KeyMismatch)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone()).map_err(not_a_certificate)?;
        let roots = Arc::new(roots);
        let clients =
            WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
                .allow_unauthenticated()
                .build()
                .map_err(not_a_certificate)?;
        let servers = WebPkiServerVerifier::builder_with_provider(roots, provider)
            .build()
            .map_err(not_a_certificate)?;
        let shown = Arc::new(shown.into());
        Ok(Self { key, certificate, authority, contents, shown, clients, servers })
    }

    /// Reads an identity from its files.
    ///
    /// # Errors
    ///
    /// [`FileError::Missing`] if there is none yet; [`FileError::Exposed`] if
    /// others can read the key; else what is wrong with which file.
    pub fn load(folder: &Path, names: FileNames) -> Result<Self, FileError> {
        let [key_path, certificate_path] = names.paths(folder);
        let authority_path = folder.join(AUTHORITY_FILE);
        let key = files::read_as(&key_path, Readers::Owner, Key::from_pem)?;
        let certificate = files::read_as(&certificate_path, Readers::Everyone, from_pem)?;
        let authority = files::read_as(&authority_path, Readers::Everyone, authority_from_pem)?;
        Self::new(key, certificate, authority).map_err(|source| {
            let path = if source == Error::KeyMismatch { key_path } else { certificate_path };
            FileError::Invalid { path, source }
        })
    }

    /// Writes the files, each whole or not at all. The folder is made if it is
    /// not there.
    ///
    /// # Errors
    ///
    /// [`FileError::Io`] if the system refuses.
    pub fn store(&self, folder: &Path, names: FileNames) -> Result<(), FileError> {
        let [key_path, certificate_path] = names.paths(folder);
        files::create_folder(folder)?;
        files::write(&folder.join(AUTHORITY_FILE), &to_pem(&self.authority), Readers::Everyone)?;
        files::write(&key_path, &self.key.0.serialize_pem(), Readers::Owner)?;
        files::write(&certificate_path, &to_pem(&self.certificate), Readers::Everyone)
    }

    /// Who this is.
    pub fn subject(&self) -> &Subject {
        &self.contents.subject
    }

    /// When the certificate ends. Have its key signed again before.
    pub fn expires_unix(&self) -> u64 {
        self.contents.expires_unix
    }

    /// Which authority it is of.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.authority)
    }

    /// The key: a later certificate for it makes an identity with the same id.
    pub fn key(&self) -> &Key {
        &self.key
    }

    /// The authority's certificate.
    pub fn authority(&self) -> &CertificateDer<'static> {
        &self.authority
    }

    /// What is shown to peers: the certificate, then the authority's.
    pub(crate) fn shown(&self) -> Arc<SingleCertAndKey> {
        Arc::clone(&self.shown)
    }

    /// Checks the certificates of clients; none is fine too.
    pub(crate) fn clients(&self) -> Arc<dyn ClientCertVerifier> {
        Arc::clone(&self.clients)
    }

    /// Checks the certificates of servers.
    pub(crate) fn servers(&self) -> Arc<WebPkiServerVerifier> {
        Arc::clone(&self.servers)
    }
}

impl Key {
    /// Makes a new key.
    ///
    /// # Errors
    ///
    /// [`Error::Crypto`] if the system gives no randomness.
    pub fn generate() -> Result<Self, Error> {
        Ok(Self(Arc::new(Self::new_pair()?)))
    }

    /// The public half, as DER of its subject public key info: what is signed.
    pub fn public_der(&self) -> Vec<u8> {
        self.0.subject_public_key_info()
    }

    /// The id of the node that holds this key.
    pub fn node_id(&self) -> NodeId {
        node_id(&self.public_der())
    }

    /// The key of a folder, which is made and written if there is none. Whoever has
    /// its key signed keeps it before: an answer that was lost can be asked for again.
    ///
    /// # Errors
    ///
    /// [`FileError`] names the file and what to do; [`FileError::Invalid`] too if the
    /// system gives no randomness.
    pub fn keep(folder: &Path, names: FileNames) -> Result<Self, FileError> {
        let [path, certificate_path] = names.paths(folder);
        match files::read_as(&path, Readers::Owner, Self::from_pem) {
            Err(FileError::Missing { .. }) => {}
            kept => return kept,
        }
        let key =
            Self::generate().map_err(|source| FileError::Invalid { path: path.clone(), source })?;
        files::create_folder(folder)?;
        // A certificate of another key is good for nothing.
        files::remove(&certificate_path)?;
        files::write(&path, &key.0.serialize_pem(), Readers::Owner)?;
        Ok(key)
    }

    fn from_pem(text: &str) -> Result<Self, Error> {
        Ok(Self(Arc::new(Self::pair_from_pem(text)?)))
    }

    fn private_der(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }

    pub(crate) fn new_pair() -> Result<KeyPair, Error> {
        KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)
            .map_err(|error| Error::Crypto { problem: error.to_string() })
    }

    pub(crate) fn pair_from_pem(text: &str) -> Result<KeyPair, Error> {
        let der = PrivatePkcs8KeyDer::from_pem_slice(text.as_bytes())
            .map_err(|_| Error::Pem { what: "PKCS #8 private key" })?;
        KeyPair::from_pkcs8_der_and_sign_algo(&der, &PKCS_ECDSA_P256_SHA256)
            .map_err(|error| Error::PrivateKey { problem: error.to_string() })
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Key").field(&self.node_id()).finish()
    }
}

impl FileNames {
    /// The files of key and certificate.
    fn paths(self, folder: &Path) -> [PathBuf; 2] {
        match self {
            Self::Node => ["node.key", "node.crt"],
            Self::Client => ["client.key", "client.crt"],
        }
        .map(|name| folder.join(name))
    }
}
