//! How a machine becomes a node: a token becomes a certificate, which it keeps.

use std::{path::Path, sync::Arc};

use identity::{FileError, FileNames, Identity, JoinToken, Key};
use link::tls;
use proto::{
    VERSIONS,
    control::wire::{JoinRequest, Versions, joining_client::JoiningClient},
};
use rustls::time_provider::DefaultTimeProvider;

use crate::Error;

/// The node's identity: the one in its data folder, else one that the token is
/// exchanged for.
///
/// # Errors
///
/// [`Error`] if the folder holds a damaged one, there is no token, or the
/// coordinator does not accept it.
pub(crate) async fn identity(
    data: &Path,
    coordinator: &str,
    token: Option<&str>,
    name: &str,
) -> Result<Identity, Error> {
    match Identity::load(data, FileNames::Node) {
        Ok(identity) => return Ok(identity),
        Err(FileError::Missing { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let token: JoinToken = token.ok_or(Error::NoToken)?.trim().parse()?;
    let clock = Arc::new(DefaultTimeProvider);
    let config = identity::join_config(token.fingerprint, clock);
    let channel = tls::connect(coordinator, Arc::new(config)).await?;
    let key = Key::generate()?;
    let request = JoinRequest {
        versions: Some(Versions { oldest: *VERSIONS.start(), newest: *VERSIONS.end() }),
        token: token.to_string(),
        public_key: key.public_der(),
        name: name.to_owned(),
    };
    let reply = JoiningClient::new(channel).join(request).await;
    let reply = reply.map_err(|status| Error::Refused(status.message().to_owned()))?.into_inner();
    let identity = Identity::new(key, reply.certificate.into(), reply.authority.into())?;
    identity.store(data, FileNames::Node)?;
    Ok(identity)
}
