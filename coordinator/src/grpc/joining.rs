//! A token becomes a certificate.

use std::sync::Arc;

use identity::{Authority, JoinToken, Subject, TokenError, TokenRecord, Validity, node_id};
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
};

/// How long a node's certificate lasts, in seconds: a year.
const LIFETIME_S: u64 = 365 * 24 * 3600;
/// Attempts to count a use of a token while others count theirs.
const ATTEMPTS_MAX: usize = 16;

/// The service that answers without a certificate.
#[derive(Debug)]
pub(crate) struct Joining {
    authority: Arc<Authority>,
    handle: Handle,
    saver: Saver,
}

impl Joining {
    pub(crate) fn new(authority: Arc<Authority>, handle: Handle, saver: Saver) -> Self {
        Self { authority, handle, saver }
    }

    /// Counts a use of a token.
    async fn use_token(&self, token: &JoinToken) -> Result<(), Status> {
        let key = format!("{}{}", records::TOKENS, token.id);
        let store = self.saver.store();
        for _ in 0..ATTEMPTS_MAX {
            let found = store.get(&key).await.map_err(unavailable)?;
            let found = found.ok_or_else(|| denied(&TokenError::Unknown { id: token.id }))?;
            let record = serde_json::from_slice::<TokenRecord>(&found.value);
            let mut record = record.map_err(|error| Status::internal(error.to_string()))?;
            record.use_once(token, unix_now()).map_err(|error| denied(&error))?;
            let value = serde_json::to_vec(&record);
            let value = value.map_err(|error| Status::internal(error.to_string()))?;
            match store.put(&key, &value, Expect::Revision(found.revision)).await {
                Ok(_) => return Ok(()),
                Err(StoreError::Conflict { .. }) => {}
                Err(error) => return Err(unavailable(error)),
            }
        }
        Err(Status::unavailable("too many nodes join at once: try again"))
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
        if name.is_empty() || 64 < name.chars().count() {
            return Err(Status::invalid_argument("a name has 1 to 64 characters"));
        }
        let token: JoinToken =
            token.parse().map_err(|error: identity::ParseTokenError| denied(&error))?;
        let node = node_id(&public_key);
        let validity = Validity { now_unix: unix_now(), lifetime_s: LIFETIME_S };
        let certificate = self.authority.sign(&Subject::Node(node), &public_key, validity);
        let certificate =
            certificate.map_err(|error| Status::invalid_argument(error.to_string()))?;
        self.use_token(&token).await?;
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
            Err(error) => return Err(unavailable(error)),
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

fn unavailable(error: StoreError) -> Status {
    Status::unavailable(format!("the state store is away: {error}"))
}
