//! Passes frames on between two nodes that cannot reach each other.
//!
//! Both dial the coordinator and name the other one; the first waits for the
//! second. What they say to each other is theirs: frames are not looked into.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use proto::{
    data::{Hello, frame},
    generated::data::refusal::Reason,
};
use tokio::{sync::oneshot, time::sleep};
use types::NodeId;

use crate::{
    greeting::{GREETING_TIMEOUT, Refused},
    transport::{Link, ReceiveFrames, SendFrames, Unread, Unwanted, wait},
};

/// How long one side waits for the other. It is told before it gives up itself.
const PARTNER_TIMEOUT: Duration = Duration::from_secs(4);
const _: () = assert!(PARTNER_TIMEOUT.as_secs() < GREETING_TIMEOUT.as_secs());
/// Sides that wait.
const WAITING_MAX: usize = 256;

/// Sides that wait for their other one, by (from, to).
#[derive(Default)]
pub(crate) struct Relay {
    waiting: Mutex<BTreeMap<(NodeId, NodeId), oneshot::Sender<Side>>>,
}

struct Side {
    hello: Hello,
    link: Link,
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Relay")
    }
}

impl Relay {
    /// Passes on what comes from this side, once the other one is there. Ends when
    /// either does.
    ///
    /// # Errors
    ///
    /// The connection, and why nothing was passed on.
    pub(crate) async fn join(&self, hello: Hello, link: Link) -> Result<(), Unwanted> {
        let (from, to) = (hello.from.node, hello.to);
        let side = Side { hello, link };
        let partner = self.lock().remove(&(to, from));
        let mut side = match partner {
            Some(partner) => match partner.send(side) {
                // It is passed on there.
                Ok(()) => return Ok(()),
                // It has given up meanwhile.
                Err(side) => side,
            },
            None => side,
        };
        let (sender, partner) = oneshot::channel();
        {
            let mut waiting = self.lock();
            waiting.retain(|_, sender| !sender.is_closed());
            if WAITING_MAX <= waiting.len() {
                return Err(side.unwanted("too many nodes wait to be connected"));
            }
            // One that came before on the same way is given up.
            waiting.insert((from, to), sender);
        }
        let problem = tokio::select! {
            biased;
            partner = partner => match partner {
                Ok(partner) => {
                    pass_on(side, partner).await;
                    return Ok(());
                }
                Err(_) => "another connection took this one's place".to_owned(),
            },
            early = side.link.hither.receive() => match early {
                Ok(_) => "the node spoke before the other one greeted".to_owned(),
                Err(unread) => unread.to_string(),
            },
            () = sleep(PARTNER_TIMEOUT) => format!("node {to} did not come to be connected"),
        };
        Err(side.unwanted(&problem))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(NodeId, NodeId), oneshot::Sender<Side>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Side {
    fn unwanted(self, problem: &str) -> Unwanted {
        let refused = Refused { reason: Reason::UnknownNode, message: problem.to_owned() };
        Unwanted { refused, link: self.link }
    }
}

async fn pass_on(mut one: Side, mut other: Side) {
    let greeted = async {
        one.link.say(frame::Kind::Hello(other.hello.into())).await?;
        other.link.say(frame::Kind::Hello(one.hello.into())).await
    };
    if greeted.await.is_err() {
        return;
    }
    tokio::select! {
        _ = copy(one.link.hither, other.link.away) => {}
        _ = copy(other.link.hither, one.link.away) => {}
    }
}

async fn copy(
    mut hither: Box<dyn ReceiveFrames>,
    mut away: Box<dyn SendFrames>,
) -> Result<(), Unread> {
    loop {
        let frame = wait(&mut *away, hither.receive()).await??;
        away.send(frame).await?;
    }
}
