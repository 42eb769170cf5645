//! What whoever manages the cluster asks for.
//!
//! Who comes here has an administrator's certificate: the service is behind
//! [`administrators_only`].

use std::sync::Arc;

use identity::{Subject, TokenId};
use proto::generated::admin::{
    CreateTokenReply, CreateTokenRequest, DrainReply, DrainRequest, ListTokensReply,
    ListTokensRequest, RevokeTokenReply, RevokeTokenRequest, Token,
    admin_server::{Admin, AdminServer},
};
use tonic::{Request, Response, Status, service::interceptor::InterceptedService};

use crate::{
    core::{Drained, Handle, NotDrained},
    tokens::{ListedToken, TokenUse, Tokens, TokensError},
};

/// Bytes of a request, at most.
const REQUEST_BYTES_MAX: usize = 1 << 10;

/// The service.
#[derive(Debug)]
pub(crate) struct Managing {
    tokens: Arc<Tokens>,
    handle: Handle,
}

type Guard = fn(Request<()>) -> Result<Request<()>, Status>;

impl Managing {
    pub(crate) fn new(tokens: Arc<Tokens>, handle: Handle) -> Self {
        Self { tokens, handle }
    }

    /// The server for it, which lets administrators in and nobody else.
    pub(crate) fn into_server(self) -> InterceptedService<AdminServer<Self>, Guard> {
        let server = AdminServer::new(self).max_decoding_message_size(REQUEST_BYTES_MAX);
        InterceptedService::new(server, administrators_only)
    }
}

#[tonic::async_trait]
impl Admin for Managing {
    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenReply>, Status> {
        let CreateTokenRequest { uses, ttl_seconds } = request.into_inner();
        let wanted = TokenUse { uses, lifetime_s: ttl_seconds };
        let token = self.tokens.create(wanted).await.map_err(|error| status(&error))?;
        tracing::info!(id = %token.id, ?uses, ?ttl_seconds, "a join token was made");
        Ok(Response::new(CreateTokenReply { token: token.to_string() }))
    }

    async fn list_tokens(
        &self,
        request: Request<ListTokensRequest>,
    ) -> Result<Response<ListTokensReply>, Status> {
        let after = request.into_inner().after_id;
        let after = if after.is_empty() { None } else { Some(token_id(&after)?) };
        let page = self.tokens.page(after).await.map_err(|error| status(&error))?;
        let next_after_id = page.next_after.map(|id| id.to_string()).unwrap_or_default();
        let tokens = page.tokens.into_iter().map(listed).collect();
        Ok(Response::new(ListTokensReply { tokens, next_after_id }))
    }

    async fn revoke_token(
        &self,
        request: Request<RevokeTokenRequest>,
    ) -> Result<Response<RevokeTokenReply>, Status> {
        let id = token_id(&request.into_inner().id)?;
        let join_token_replaced = self.tokens.revoke(id).await.map_err(|error| status(&error))?;
        tracing::info!(%id, join_token_replaced, "a join token was revoked");
        Ok(Response::new(RevokeTokenReply { join_token_replaced }))
    }

    async fn drain(&self, request: Request<DrainRequest>) -> Result<Response<DrainReply>, Status> {
        let DrainRequest { worker } = request.into_inner();
        let drained = self.handle.ask(move |core| core.drain(&worker)).await;
        let drained = drained.ok_or_else(|| Status::unavailable("the coordinator stops"))?;
        let Drained { node, name, open_videos } = drained.map_err(|not| not_drained(&not))?;
        let open_videos = u32::try_from(open_videos).unwrap_or(u32::MAX);
        Ok(Response::new(DrainReply { id: node.to_string(), name, open_videos }))
    }
}

/// Lets nobody in but who has the authority's key.
fn administrators_only(request: Request<()>) -> Result<Request<()>, Status> {
    let subject = link::service::member(&request)?;
    if subject == Subject::Administrator {
        return Ok(request);
    }
    Err(Status::permission_denied(format!(
        "{subject} does not manage this cluster: use `filmloom token` and `filmloom drain` on the \
         coordinator's machine"
    )))
}

fn token_id(text: &str) -> Result<TokenId, Status> {
    text.parse()
        .map_err(|error: identity::ParseHexError| Status::invalid_argument(error.to_string()))
}

fn listed(token: ListedToken) -> Token {
    let ListedToken { id, uses_left, expires_unix, revoked, created_unix } = token;
    Token { id: id.to_string(), uses_left, expires_unix, revoked, created_unix }
}

fn status(error: &TokensError) -> Status {
    let message = error.to_string();
    match error {
        TokensError::Unknown { .. } => Status::not_found(message),
        TokensError::Nothing => Status::invalid_argument(message),
        TokensError::Busy { .. } | TokensError::Store(_) => Status::unavailable(message),
        TokensError::Refused(_)
        | TokensError::Record { .. }
        | TokensError::File(_)
        | TokensError::Random(_) => Status::internal(message),
    }
}

fn not_drained(not: &NotDrained) -> Status {
    let message = not.to_string();
    match not {
        NotDrained::Unknown { .. } => Status::not_found(message),
        NotDrained::Ambiguous { .. } => Status::invalid_argument(message),
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use identity::{Authority, Expect, Fingerprint, Validity};
    use link::{DataService, service::Relaying, tls};
    use proto::generated::admin::admin_client::AdminClient;
    use rustls::time_provider::DefaultTimeProvider;
    use tempfile::TempDir;
    use tokio::{net::TcpListener, sync::watch};
    use tonic::{Code, transport::Channel};

    use super::*;
    use crate::core::unix_now;

    #[tokio::test]
    async fn who_has_not_the_authoritys_key_manages_nothing() {
        let cluster = Cluster::start().await;
        let node = Subject::Node(types::NodeId(1));
        let client = Subject::Client("ann".parse().unwrap());
        let strangers = [Some(node), Some(client), Some(Subject::Coordinator), None];

        for subject in strangers {
            let code = match subject {
                Some(_) => Code::PermissionDenied,
                None => Code::Unauthenticated,
            };
            let mut stranger = cluster.connect(subject.as_ref()).await;
            let id = "00".repeat(8);
            let refused = [
                stranger.create_token(CreateTokenRequest::default()).await.map(drop),
                stranger.list_tokens(ListTokensRequest::default()).await.map(drop),
                stranger.revoke_token(RevokeTokenRequest { id }).await.map(drop),
                stranger.drain(DrainRequest::default()).await.map(drop),
            ];
            let refused = refused.map(|refused| refused.unwrap_err().code());
            assert_eq!(refused, [code; 4], "{subject:?}");
        }
        let mut administrator = cluster.connect(Some(&Subject::Administrator)).await;
        let listed = administrator.list_tokens(ListTokensRequest::default()).await.unwrap();
        assert_eq!(listed.into_inner(), ListTokensReply::default(), "no token was made");
    }

    #[tokio::test]
    async fn malformed_requests_are_refused_with_what_is_wrong() {
        let cluster = Cluster::start().await;
        let mut administrator = cluster.connect(Some(&Subject::Administrator)).await;

        let uses = CreateTokenRequest { uses: Some(0), ttl_seconds: None };
        let nobody = administrator.create_token(uses).await.unwrap_err();
        let other = RevokeTokenRequest { id: "ID".to_owned() };
        let other = administrator.revoke_token(other).await.unwrap_err();
        let unknown = RevokeTokenRequest { id: "00".repeat(8) };
        let unknown = administrator.revoke_token(unknown).await.unwrap_err();
        let long = DrainRequest { worker: "w".repeat(REQUEST_BYTES_MAX) };
        let long = administrator.drain(long).await.unwrap_err();

        assert_eq!((nobody.code(), other.code()), (Code::InvalidArgument, Code::InvalidArgument));
        assert!(nobody.message().contains("at least one machine"), "{nobody}");
        assert!(other.message().contains("16 lower-case hex digits"), "{other}");
        assert_eq!((unknown.code(), long.code()), (Code::NotFound, Code::OutOfRange));
    }

    /// A coordinator that answers nothing but this.
    struct Cluster {
        authority: Authority,
        fingerprint: Fingerprint,
        address: SocketAddr,
        _data: TempDir,
    }

    impl Cluster {
        async fn start() -> Self {
            let data = tempfile::tempdir().unwrap();
            let authority = Authority::create(unix_now()).unwrap();
            let fingerprint = authority.fingerprint();
            let tokens = Arc::new(Tokens::open(data.path(), fingerprint).await.unwrap());
            let (handle, _) = Handle::new();
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let identity = authority.issue(&Subject::Coordinator, validity()).unwrap();
            let config = identity::server_config(&identity, Arc::new(DefaultTimeProvider));
            let (_, nobody) = watch::channel(None);
            let hops = DataService::new(nobody, Relaying::Off);
            let incoming = tls::incoming(listener, Arc::new(config), hops);
            let service = Managing::new(tokens, handle).into_server();
            tokio::spawn(tls::server().add_service(service).serve_with_incoming(incoming));
            Self { authority, fingerprint, address, _data: data }
        }

        /// Comes with a certificate, or without one.
        async fn connect(&self, subject: Option<&Subject>) -> AdminClient<Channel> {
            let clock = Arc::new(DefaultTimeProvider);
            let config = match subject {
                Some(subject) => {
                    let identity = self.authority.issue(subject, validity()).unwrap();
                    identity::client_config(&identity, Expect::Coordinator, clock)
                }
                None => identity::join_config(self.fingerprint, clock),
            };
            let channel = tls::connect(&self.address.to_string(), Arc::new(config)).await;
            AdminClient::new(channel.unwrap())
        }
    }

    fn validity() -> Validity {
        Validity { now_unix: unix_now(), lifetime_s: 3600 }
    }
}
