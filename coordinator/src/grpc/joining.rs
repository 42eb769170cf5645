//! A token becomes a certificate.

use std::sync::Arc;

use identity::{Authority, JoinToken, Subject, Validity, node_id};
use proto::{
    common_version,
    control::{self, wire},
};
use store::{Error as StoreError, Expect};
use tonic::{Request, Response, Status};
use types::NodeId;

use crate::{
    core::{Handle, unix_now},
    records,
    saver::Saver,
    tokens::{Tokens, TokensError},
};

/// How long a node's certificate lasts, in seconds: a year.
const LIFETIME_S: u64 = 365 * 24 * 3600;

/// The service that answers without a certificate.
#[derive(Debug)]
pub(crate) struct Joining {
    authority: Arc<Authority>,
    tokens: Arc<Tokens>,
    handle: Handle,
    saver: Saver,
}

impl Joining {
    pub(crate) fn new(
        authority: Arc<Authority>,
        tokens: Arc<Tokens>,
        handle: Handle,
        saver: Saver,
    ) -> Self {
        Self { authority, tokens, handle, saver }
    }
}

#[tonic::async_trait]
impl wire::joining_server::Joining for Joining {
    async fn join(
        &self,
        request: Request<wire::JoinRequest>,
    ) -> Result<Response<wire::JoinReply>, Status> {
        let wire::JoinRequest { versions, token, public_key, name } = request.into_inner();
        let versions = versions.unwrap_or_default();
        common_version(versions.oldest..=versions.newest)
            .map_err(|error| Status::failed_precondition(error.to_string()))?;
        control::node_name(&name).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let token: JoinToken =
            token.parse().map_err(|error: identity::ParseTokenError| denied(&error))?;
        let node = node_id(&public_key);
        let validity = Validity { now_unix: unix_now(), lifetime_s: LIFETIME_S };
        let certificate = self.authority.sign(&Subject::Node(node), &public_key, validity);
        let certificate =
            certificate.map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.tokens.use_once(&token, node).await.map_err(refused)?;
        self.admit(node, name).await?;
        Ok(Response::new(wire::JoinReply {
            node: control::node_bytes(node),
            certificate: certificate.to_vec(),
            authority: self.authority.certificate().to_vec(),
        }))
    }
}

impl Joining {
    async fn admit(&self, node: NodeId, name: String) -> Result<(), Status> {
        tracing::info!(%node, %name, "a node joins");
        let record = records::Node { name, incarnation: 0, boot: String::new() };
        let value =
            serde_json::to_vec(&record).map_err(|error| Status::internal(error.to_string()))?;
        let put = self.saver.store().put(&records::node_key(node), &value, Expect::Absent).await;
        match put {
            // It has joined before, with the same key.
            Ok(_) | Err(StoreError::Conflict { .. }) => {}
            Err(error) => return Err(unavailable(&error)),
        }
        let added = self.handle.ask(move |core| {
            if !core.knows(node) {
                core.add_node(node, record);
            }
        });
        added.await.ok_or_else(|| Status::unavailable("the coordinator stops"))
    }
}

fn denied(error: &dyn std::error::Error) -> Status {
    Status::unauthenticated(error.to_string())
}

/// A node may ask again, but for one that its token refuses.
fn refused(error: TokensError) -> Status {
    match error {
        TokensError::Refused(error) => denied(&error),
        TokensError::Store(error) => unavailable(&error),
        busy @ TokensError::Busy { .. } => Status::unavailable(busy.to_string()),
        TokensError::Unknown { .. }
        | TokensError::Nothing
        | TokensError::Record { .. }
        | TokensError::File(_)
        | TokensError::Random(_) => Status::internal(error.to_string()),
    }
}

fn unavailable(error: &StoreError) -> Status {
    Status::unavailable(format!("the state store is away: {error}"))
}
