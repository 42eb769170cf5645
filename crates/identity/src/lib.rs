//! Who may speak in a cluster: its certificate authority, node certificates, join tokens.
//!
//! ```text
//! coordinator                                    worker
//!   Authority ── fingerprint ─▶ JoinToken ─ by hand ─▶ token
//!                                                   Key, join_config(fingerprint)
//!   server_config ◀── TLS, no client certificate ────
//!   TokenRecord   ◀── Join: token, public key ───────
//!   sign(subject) ─── certificate, authority ───────▶ Identity, kept in a folder
//!   server_config ◀── mutual TLS, client_config ─────
//!   peer(certificates) = the node
//! ```
//!
//! A cluster has one [`Authority`]. It signs the public key of every node, of the
//! coordinator, of every client and of whoever manages the cluster; the certificate
//! names which of them its holder is ([`Subject`]). A private key never leaves the machine it was made on. Who
//! has no certificate yet shows a [`JoinToken`], which also says which authority
//! to believe, so not even the first connection trusts a stranger.
//!
//! Invariants: a connection without a client certificate has no [`peer`], and
//! nothing but a join may be answered on it. Every server proves the one name
//! [`SERVER_NAME`], at whatever address it is reached, and its role. No clock is
//! read here: times are Unix seconds given by the caller, or come from the clock
//! that a TLS configuration is built with. The process-wide crypto provider of
//! rustls is neither used nor set.
//!
//! There is no list of revoked certificates: whoever serves refuses the [`Subject`]
//! of a member that was removed, and certificates live a limited time.

mod authority;
mod certificate;
mod error;
mod files;
mod hex;
mod identity;
mod record;
mod subject;
mod tls;
mod token;

pub use authority::{Authority, Validity};
pub use certificate::{Fingerprint, peer};
pub use error::Error;
pub use files::{FileError, write_secret_file};
pub use hex::ParseHexError;
pub use identity::{FileNames, Identity, Key};
pub use record::{SecretDigest, Terms, TokenError, TokenRecord};
pub use subject::{ClientName, ParseSubjectError, Subject, node_id};
pub use tls::{
    Expect, GRPC_PROTOCOL, HOP_PROTOCOL, SERVER_NAME, Untrusted, client_config, hop_config,
    join_config, server_config, server_name,
};
pub use token::{JoinToken, ParseTokenError, TokenId};
