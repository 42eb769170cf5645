//! Why a worker does not start, or stops.

/// Why a worker does not start, or stops.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It has no certificate yet. Give it a token.
    #[error(
        "this machine has not joined the cluster yet: give --token, which `filmloom serve` wrote to its join.token"
    )]
    NoToken,
    /// Its certificate is over. Give it a token.
    #[error(
        "the certificate of this machine ended at Unix time {ended_unix}: give --token to join \
         again"
    )]
    CertificateEnded {
        /// When it ended.
        ended_unix: u64,
    },
    /// The token cannot be read. Copy it again.
    #[error(transparent)]
    Token(#[from] identity::ParseTokenError),
    /// The coordinator said no.
    #[error("the coordinator refused: {0}")]
    Refused(String),
    /// The coordinator cannot be reached.
    #[error(transparent)]
    Connect(#[from] link::tls::ConnectError),
    /// The data folder is not as it must be.
    #[error(transparent)]
    File(#[from] identity::FileError),
    /// The certificate is not as it must be.
    #[error(transparent)]
    Identity(#[from] identity::Error),
    /// The model cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] checkpoint::Error),
    /// The folder of fetched weights cannot be used.
    #[error("fetched weights cannot be kept: {0}")]
    Blobs(#[from] checkpoint::Problem),
    /// The data plane cannot listen, or the system has no thread left.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried.
        action: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The device's thread ended. Start the worker again.
    #[error("the device's thread ended: start the worker again")]
    Device,
}
