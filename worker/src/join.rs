//! How a machine becomes a node: a token becomes a certificate, which it keeps.
//!
//! Its key is kept before it asks. So a machine that crashed, or lost the answer, asks
//! again as the same node, and a token for one machine is good for it still.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use identity::{FileError, FileNames, Identity, JoinToken, Key};
use link::{
    jittered,
    tls::{self, ConnectError},
};
use proto::{
    VERSIONS,
    control::{
        JOIN_BYTES_MAX,
        wire::{JoinReply, JoinRequest, Versions, joining_client::JoiningClient},
    },
};
use rustls::time_provider::DefaultTimeProvider;
use tokio::time::timeout;
use tonic::{Code, Status};

use crate::{Config, Error};

/// A certificate that ends so soon is replaced, in seconds: a month.
const RENEWED_BEFORE_S: u64 = 30 * 24 * 3600;
/// Waits before the coordinator is asked again: the first, and the longest.
const WAIT_MIN: Duration = Duration::from_millis(200);
const WAIT_MAX: Duration = Duration::from_secs(5);
/// Between two lines that say that it is waited for.
const LINE_EVERY: Duration = Duration::from_secs(600);
/// How long it may take to answer: its state store may be slow.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// The node's identity: the one in its data folder, else one that the token is
/// exchanged for. One of another cluster than the token's, or one that ends soon, is
/// replaced if there is a token. Waits for the coordinator as long as it is away.
///
/// # Errors
///
/// [`Error`] if the folder holds a damaged one, there is no token, or the
/// coordinator does not accept it.
pub(crate) async fn identity(config: &Config) -> Result<Identity, Error> {
    let token = config.token.as_deref().map(|token| token.trim().parse::<JoinToken>());
    let known = match Identity::load(&config.data, FileNames::Node) {
        Ok(identity) => identity,
        Err(FileError::Missing { .. }) => {
            let token = token.ok_or(Error::NoToken)??;
            return join(config, &token, Key::keep(&config.data, FileNames::Node)?).await;
        }
        Err(error) => return Err(error.into()),
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let Some(Ok(token)) = token else {
        let ended_unix = known.expires_unix();
        return (now < ended_unix).then_some(known).ok_or(Error::CertificateEnded { ended_unix });
    };
    let lasts = now.saturating_add(RENEWED_BEFORE_S) < known.expires_unix();
    if token.fingerprint == known.fingerprint() && lasts {
        return Ok(known);
    }
    join(config, &token, known.key().clone()).await
}

/// Joins with the key of an identity that the coordinator does not know any more.
///
/// # Errors
///
/// As [`identity`].
pub(crate) async fn join_again(config: &Config) -> Result<(), Error> {
    let token: JoinToken = config.token.as_deref().ok_or(Error::NoToken)?.trim().parse()?;
    let known = Identity::load(&config.data, FileNames::Node)?;
    join(config, &token, known.key().clone()).await.map(drop)
}

/// Exchanges a token for a certificate, and keeps it. Asks as long as nobody answers:
/// machines are started in any order.
async fn join(config: &Config, token: &JoinToken, key: Key) -> Result<Identity, Error> {
    let (mut wait, mut told) = (WAIT_MIN, None::<Instant>);
    let reply = loop {
        match ask(config, token, &key).await {
            Ok(reply) => break reply,
            Err(Setback::Final(error)) => return Err(error),
            Err(Setback::Passing(problem)) => {
                if told.is_none_or(|told| LINE_EVERY <= told.elapsed()) {
                    let coordinator = &config.coordinator;
                    tracing::warn!(%problem, "waiting for the coordinator at {coordinator}");
                    told = Some(Instant::now());
                }
            }
        }
        tokio::time::sleep(jittered(wait)).await;
        wait = (wait * 2).min(WAIT_MAX);
    };
    let identity = Identity::new(key, reply.certificate.into(), reply.authority.into())?;
    identity.store(&config.data, FileNames::Node)?;
    Ok(identity)
}

/// Why the coordinator gave no certificate.
#[derive(Debug)]
enum Setback {
    /// It is not there, or cannot answer. It may later.
    Passing(String),
    /// It will not.
    Final(Error),
}

async fn ask(config: &Config, token: &JoinToken, key: &Key) -> Result<JoinReply, Setback> {
    let tls_config = identity::join_config(token.fingerprint, Arc::new(DefaultTimeProvider));
    let channel = tls::connect(&config.coordinator, Arc::new(tls_config)).await?;
    let request = JoinRequest {
        versions: Some(Versions { oldest: *VERSIONS.start(), newest: *VERSIONS.end() }),
        token: token.to_string(),
        public_key: key.public_der(),
        name: config.name.clone(),
    };
    let mut client = JoiningClient::new(channel).max_decoding_message_size(JOIN_BYTES_MAX);
    let reply = timeout(ANSWER_PATIENCE, client.join(request)).await;
    let silent = |_| Setback::Passing("it is silent".to_owned());
    Ok(reply.map_err(silent)??.into_inner())
}

impl From<ConnectError> for Setback {
    fn from(error: ConnectError) -> Self {
        match error.is_final {
            true => Self::Final(error.into()),
            false => Self::Passing(error.reason),
        }
    }
}

impl From<Status> for Setback {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        match status.code() {
            Code::Unavailable
            | Code::Unknown
            | Code::Cancelled
            | Code::DeadlineExceeded
            | Code::Aborted
            // A connection that broke in the middle looks like this as well.
            | Code::Internal
            | Code::ResourceExhausted => Self::Passing(message),
            Code::Ok
            | Code::InvalidArgument
            | Code::NotFound
            | Code::AlreadyExists
            | Code::PermissionDenied
            | Code::FailedPrecondition
            | Code::OutOfRange
            | Code::Unimplemented
            | Code::DataLoss
            | Code::Unauthenticated => Self::Final(Error::Refused(message)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_passes_is_asked_again_and_a_refusal_is_not() {
        let is_passing = |code| matches!(Setback::from(Status::new(code, "")), Setback::Passing(_));

        for broken in [Code::Unavailable, Code::Unknown, Code::Internal] {
            assert!(is_passing(broken), "{broken:?}");
        }
        for refused in [Code::Unauthenticated, Code::FailedPrecondition, Code::InvalidArgument] {
            assert!(!is_passing(refused), "{refused:?}");
        }
    }

    #[tokio::test]
    async fn address_that_is_none_is_no_reason_to_wait_and_one_without_a_server_is() {
        let token = JoinToken::create(identity::Fingerprint([7; 32])).unwrap();
        // Its port was free a moment ago.
        let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let asked = async |address: &str| {
            let tls_config =
                identity::join_config(token.fingerprint, Arc::new(DefaultTimeProvider));
            tls::connect(address, Arc::new(tls_config)).await.map_err(Setback::from).err()
        };

        assert!(matches!(asked(&closed).await, Some(Setback::Passing(_))));
        for none in ["no port", "127.0.0.1", "127.0.0.1:port"] {
            assert!(matches!(asked(none).await, Some(Setback::Final(Error::Connect(_)))), "{none}");
        }
    }
}
