//! Reaches a coordinator that runs, from its own machine, to manage its cluster.
//!
//! ```text
//!  serve ─▶ DATA/serve.json: where gRPC listens ─┐
//!                                                ├─▶ Admin ── mutual TLS ─▶ the coordinator
//!  DATA/ca ─▶ a certificate for some minutes ────┘
//! ```
//!
//! Whoever can read the authority's key is the cluster, so it may manage it. The
//! certificate is made in memory for one command. The file may be there after a
//! crash: then nothing answers at its address, or somebody who cannot prove to be the
//! coordinator, and no harm is done.

use std::{
    fs::{self, File},
    io::Read,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use identity::{Authority, Expect, FileError, JoinToken, Subject, TokenId, Validity};
use link::tls::{self, ConnectError};
use proto::generated::admin::{
    CreateTokenRequest, DrainRequest, ListTokensRequest, RevokeTokenRequest, Token,
    admin_client::AdminClient,
};
use rustls::time_provider::DefaultTimeProvider;
use serde::{Deserialize, Serialize};
use tonic::{Code, Request, Status, transport::Channel};

use crate::{
    core::unix_now,
    tokens::{ListedToken, TokenPage, TokenUse},
};

/// The file of a data folder that says where its coordinator listens.
const ADDRESS_FILE: &str = "serve.json";
/// Bytes of it that are read.
const ADDRESS_BYTES_MAX: u64 = 1 << 10;
/// How long an administrator's certificate lasts, in seconds.
const LIFETIME_S: u64 = 300;
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);

/// A coordinator that runs.
#[derive(Debug)]
pub struct Admin(AdminClient<Channel>);

/// A worker that drains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DrainingWorker {
    /// 32 hexadecimal digits.
    pub id: String,
    /// Its name, for people.
    pub name: String,
    /// Videos that are to be finished before it leaves.
    pub open_videos: u32,
}

/// Why no coordinator is reached.
#[derive(Debug, thiserror::Error)]
pub enum NotReached {
    /// None runs on this folder. Start one, or give another folder.
    #[error("no coordinator runs on {}: there is no {ADDRESS_FILE}", data.display())]
    NotRunning {
        /// The folder.
        data: PathBuf,
    },
    /// It ended without a word, or cannot answer.
    #[error("no coordinator answers: {0}")]
    Silent(#[from] ConnectError),
    /// No certificate could be made.
    #[error(transparent)]
    Identity(#[from] identity::Error),
}

/// Why a coordinator did not do what it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// Ask for something else.
    #[error("{0}")]
    Refused(String),
    /// It could not, or the connection broke. Look whether it was done, and try again.
    #[error("the coordinator answers: {0}")]
    Failed(String),
}

impl Admin {
    /// Reaches the coordinator that runs on a data folder, with its authority.
    ///
    /// # Errors
    ///
    /// [`NotReached`] if there is none, or it does not answer.
    pub async fn reach(data: &Path, authority: &Authority) -> Result<Self, NotReached> {
        let address = read_address(&data.join(ADDRESS_FILE));
        let address =
            address.ok_or_else(|| NotReached::NotRunning { data: data.to_owned() })?.to_string();
        let validity = Validity { now_unix: unix_now(), lifetime_s: LIFETIME_S };
        let identity = authority.issue(&Subject::Administrator, validity)?;
        let clock = Arc::new(DefaultTimeProvider);
        let config = identity::client_config(&identity, Expect::Coordinator, clock);
        let channel = tls::connect(&address, Arc::new(config)).await?;
        Ok(Self(AdminClient::new(channel)))
    }

    /// Makes a join token.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub async fn create_token(&mut self, wanted: TokenUse) -> Result<JoinToken, AdminError> {
        let TokenUse { uses, lifetime_s } = wanted;
        let request = CreateTokenRequest { uses, ttl_seconds: lifetime_s };
        let token = self.0.create_token(asked(request)).await?.into_inner().token;
        token.parse().map_err(|error: identity::ParseTokenError| failed(&error))
    }

    /// Tokens after this one, or the first ones.
    ///
    /// # Errors
    ///
    /// [`AdminError`].
    pub async fn tokens(&mut self, after: Option<TokenId>) -> Result<TokenPage, AdminError> {
        let after_id = after.map(|id| id.to_string()).unwrap_or_default();
        let reply = self.0.list_tokens(asked(ListTokensRequest { after_id })).await?;
        let reply = reply.into_inner();
        let tokens = reply.tokens.into_iter().map(listed).collect::<Result<_, _>>()?;
        let next_after = match reply.next_after_id.as_str() {
            "" => None,
            id => Some(token_id(id)?),
        };
        Ok(TokenPage { tokens, next_after })
    }

    /// Takes a token back. Gives whether it was the one in `join.token`, which has
    /// another one then.
    ///
    /// # Errors
    ///
    /// [`AdminError`]; it is refused if there is no such token.
    pub async fn revoke_token(&mut self, id: TokenId) -> Result<bool, AdminError> {
        let request = asked(RevokeTokenRequest { id: id.to_string() });
        let reply = self.0.revoke_token(request).await?;
        Ok(reply.into_inner().join_token_replaced)
    }

    /// Has a worker, given by its id or its name, finish what is open on it and leave.
    ///
    /// # Errors
    ///
    /// [`AdminError`]; it is refused if no such worker is here, or several are.
    pub async fn drain(&mut self, worker: &str) -> Result<DrainingWorker, AdminError> {
        let request = asked(DrainRequest { worker: worker.to_owned() });
        let reply = self.0.drain(request).await?.into_inner();
        Ok(DrainingWorker { id: reply.id, name: reply.name, open_videos: reply.open_videos })
    }
}

impl From<Status> for AdminError {
    fn from(status: Status) -> Self {
        let message = status.message().to_owned();
        let is_refused = matches!(status.code(), Code::InvalidArgument | Code::NotFound);
        if is_refused { Self::Refused(message) } else { Self::Failed(message) }
    }
}

fn asked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(ANSWER_TIMEOUT);
    request
}

fn listed(token: Token) -> Result<ListedToken, AdminError> {
    let Token { id, uses_left, expires_unix, revoked, created_unix } = token;
    Ok(ListedToken { id: token_id(&id)?, uses_left, expires_unix, revoked, created_unix })
}

fn token_id(text: &str) -> Result<TokenId, AdminError> {
    text.parse().map_err(|error: identity::ParseHexError| failed(&error))
}

fn failed(error: &dyn std::error::Error) -> AdminError {
    AdminError::Failed(error.to_string())
}

/// What the file of the address says.
#[derive(Debug, Serialize, Deserialize)]
struct Address {
    grpc: SocketAddr,
}

/// The file that says where a coordinator listens, as long as it does.
#[derive(Debug)]
pub(crate) struct AddressFile(PathBuf);

impl AddressFile {
    /// Writes where gRPC listens.
    pub(crate) fn write(data: &Path, grpc: SocketAddr) -> Result<Self, FileError> {
        let path = data.join(ADDRESS_FILE);
        identity::write_secret_file(&path, &format!("{{\"grpc\":\"{grpc}\"}}\n"))?;
        Ok(Self(path))
    }

    /// Removes the file.
    pub(crate) fn remove(self) {
        // One that stays does no harm.
        let _ = fs::remove_file(self.0);
    }
}

/// Where a coordinator said that it listens, as this machine reaches it.
fn read_address(path: &Path) -> Option<SocketAddr> {
    let mut text = String::new();
    File::open(path).ok()?.take(ADDRESS_BYTES_MAX).read_to_string(&mut text).ok()?;
    let Address { grpc } = serde_json::from_str(&text).ok()?;
    let ip: IpAddr = match grpc {
        SocketAddr::V4(address) if address.ip().is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        SocketAddr::V6(address) if address.ip().is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        SocketAddr::V4(_) | SocketAddr::V6(_) => grpc.ip(),
    };
    Some(SocketAddr::new(ip, grpc.port()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn address_is_read_as_this_machine_reaches_it() {
        let data = tempfile::tempdir().unwrap();
        let path = data.path().join(ADDRESS_FILE);
        for (listens, reached) in [
            ("0.0.0.0:7843", "127.0.0.1:7843"),
            ("[::]:7843", "[::1]:7843"),
            ("10.0.0.2:1", "10.0.0.2:1"),
        ] {
            AddressFile::write(data.path(), listens.parse().unwrap()).unwrap();
            assert_eq!(read_address(&path), Some(reached.parse().unwrap()));
        }
        for other in ["", "{}", "{\"grpc\":7843}", &" ".repeat(5000)] {
            fs::write(&path, other).unwrap();
            assert_eq!(read_address(&path), None, "{other}");
        }
    }

    #[tokio::test]
    async fn file_that_a_crash_left_behind_is_harmless() {
        let data = tempfile::tempdir().unwrap();
        let authority = Authority::create(unix_now()).unwrap();
        let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();

        let none = Admin::reach(data.path(), &authority).await.unwrap_err();
        let file = AddressFile::write(data.path(), nobody).unwrap();
        let stale = Admin::reach(data.path(), &authority).await.unwrap_err();
        file.remove();

        assert!(matches!(none, NotReached::NotRunning { .. }), "{none}");
        assert!(matches!(stale, NotReached::Silent(_)), "{stale}");
        assert!(fs::read_dir(data.path()).unwrap().next().is_none());
    }
}
