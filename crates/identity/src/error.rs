//! What can be wrong with a key or a certificate.

use crate::subject::ParseSubjectError;

/// Why a key or a certificate cannot be used. Nothing has changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// The text was cut, or is of another file. Restore it.
    #[error("the text holds no {what} in PEM form: restore it from a copy")]
    Pem {
        /// What was looked for.
        what: &'static str,
    },
    /// The bytes are none, or come from a broken peer. Restore or request it again.
    #[error("this is not a certificate ({problem}): restore it, or ask for it again")]
    Certificate {
        /// What the parser said.
        problem: String,
    },
    /// Some other certificate stands where the authority's should. Restore it.
    #[error("the certificate is not the one of an authority: restore ca.crt from the coordinator")]
    NotAuthority,
    /// The certificate is of another cluster. Join this one again.
    #[error("the certificate was not signed by this authority ({problem}): join the cluster again")]
    Foreign {
        /// What the check said.
        problem: String,
    },
    /// Key and certificate are not of one pair. Restore both, or join again.
    #[error("the private key is not the certificate's: restore both from one copy, or join again")]
    KeyMismatch,
    /// The private key is damaged, or of a kind that is not used here.
    #[error("the private key cannot be used ({problem}): it must be an ECDSA P-256 key in PKCS #8")]
    PrivateKey {
        /// What the parser said.
        problem: String,
    },
    /// The public key is damaged, or of a kind that is not used here. Refuse it.
    #[error(
        "the public key cannot be used ({problem}): \
         send the DER of an ECDSA P-256 subject public key info"
    )]
    PublicKey {
        /// What the parser said.
        problem: String,
    },
    /// The certificate names nobody, or several. Refuse its holder.
    #[error("the certificate names {found} members of a cluster, it must name one: join again")]
    Subjects {
        /// URIs of ours in it.
        found: usize,
    },
    /// The certificate names something that is unknown here. Refuse its holder.
    #[error(transparent)]
    Subject(#[from] ParseSubjectError),
    /// No certificate can name this time. Set the machine's clock.
    #[error("Unix time {unix_s} is out of a certificate's range: set the clock of this machine")]
    Time {
        /// The time given.
        unix_s: u64,
    },
    /// The authority is too old to sign. Create a new one; all nodes join again.
    #[error("the authority expired at Unix time {expired_unix}: create a new one and join again")]
    AuthorityExpired {
        /// When it did.
        expired_unix: u64,
    },
    /// No key or signature could be made. Check the system's source of randomness.
    #[error("no key or signature could be made ({problem}): check this system's random source")]
    Crypto {
        /// What the library said.
        problem: String,
    },
}
