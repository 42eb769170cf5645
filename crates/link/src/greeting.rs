//! Who greets whom, and whether they can speak with each other.

use std::time::Duration;

use proto::{
    VERSIONS, common_version,
    data::{Frame, Hello, frame},
    generated::data::{Refusal, refusal::Reason},
};
use tokio::time::timeout;
use types::{Class, NodeId};

use crate::{switchboard::Me, transport::ReceiveFrames};

/// What each step of greeting each other may take.
pub(crate) const GREETING_TIMEOUT: Duration = Duration::from_secs(5);

/// A peer is not spoken with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Refused {
    /// What is to be told to it.
    pub reason: Reason,
    /// A sentence that names both sides' values.
    pub message: String,
}

/// What this side says first on a connection to a peer.
pub(crate) fn hello(me: &Me, peer: NodeId, taken: u64) -> Hello {
    Hello {
        versions: VERSIONS,
        from: me.end,
        to: peer,
        model: me.model,
        class: me.class.map_or_else(String::new, |class| class.name().to_owned()),
        taken,
    }
}

/// Whether this Hello is of the peer that is meant, and one can speak with it.
pub(crate) fn check(me: &Me, peer: NodeId, hello: &Hello) -> Result<(), Refused> {
    let refused = |reason, message| Err(Refused { reason, message });
    if let Err(error) = common_version(hello.versions.clone()) {
        return refused(Reason::Version, error.to_string());
    }
    if hello.from.node != peer || hello.to != me.end.node {
        let (from, to) = (hello.from.node, hello.to);
        let message = format!("this is from {from} to {to}, not from {peer} to {}", me.end.node);
        return refused(Reason::UnknownNode, message);
    }
    if hello.model != me.model {
        let (ours, theirs) = (me.model, hello.model);
        let message = format!("this node works with model {ours}, the peer with {theirs}");
        return refused(Reason::Model, message);
    }
    let ours = me.class.map_or("", Class::name);
    if !ours.is_empty() && !hello.class.is_empty() && ours != hello.class {
        let message = format!("this node computes in {ours}, the peer in {}", hello.class);
        return refused(Reason::Class, message);
    }
    Ok(())
}

/// The other side's Hello.
pub(crate) async fn receive(hither: &mut dyn ReceiveFrames) -> Result<Hello, String> {
    let first = timeout(GREETING_TIMEOUT, hither.receive()).await;
    let first = first.map_err(|_| "the peer did not greet".to_owned())?;
    match first.map_err(|broken| broken.to_string())?.kind {
        Some(frame::Kind::Hello(hello)) => {
            Hello::try_from(hello).map_err(|malformed| malformed.to_string())
        }
        Some(frame::Kind::Refusal(refusal)) => Err(refusal.message),
        Some(frame::Kind::Head(_) | frame::Kind::Part(_) | frame::Kind::Taken(_)) | None => {
            Err("the peer did not begin with Hello".to_owned())
        }
    }
}

/// Refusal as a frame.
pub(crate) fn refusal(Refused { reason, message }: Refused) -> Frame {
    frame(frame::Kind::Refusal(Refusal { reason: reason.into(), message }))
}
