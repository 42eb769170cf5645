//! How a machine becomes a node: a token becomes a certificate, which it keeps.
//!
//! Its key is kept before it asks. So a machine that crashed, or lost the answer, asks
//! again as the same node, and a token for one machine is good for it still.

use std::{
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use identity::{FileError, FileNames, Identity, JoinToken, Key};
use link::tls;
use proto::{
    VERSIONS,
    control::{
        JOIN_BYTES_MAX,
        wire::{JoinRequest, Versions, joining_client::JoiningClient},
    },
};
use rustls::time_provider::DefaultTimeProvider;

use crate::{Config, Error};

/// A certificate that ends so soon is replaced, in seconds: a month.
const RENEWED_BEFORE_S: u64 = 30 * 24 * 3600;

/// The node's identity: the one in its data folder, else one that the token is
/// exchanged for. One of another cluster than the token's, or one that ends soon, is
/// replaced if there is a token.
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

/// Exchanges a token for a certificate, and keeps it.
async fn join(config: &Config, token: &JoinToken, key: Key) -> Result<Identity, Error> {
    let tls_config = identity::join_config(token.fingerprint, Arc::new(DefaultTimeProvider));
    let channel = tls::connect(&config.coordinator, Arc::new(tls_config)).await?;
    let request = JoinRequest {
        versions: Some(Versions { oldest: *VERSIONS.start(), newest: *VERSIONS.end() }),
        token: token.to_string(),
        public_key: key.public_der(),
        name: config.name.clone(),
    };
    let mut client = JoiningClient::new(channel).max_decoding_message_size(JOIN_BYTES_MAX);
    let reply = client.join(request).await;
    let reply = reply.map_err(|status| Error::Refused(status.message().to_owned()))?.into_inner();
    let identity = Identity::new(key, reply.certificate.into(), reply.authority.into())?;
    identity.store(&config.data, FileNames::Node)?;
    Ok(identity)
}
