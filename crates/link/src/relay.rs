//! Passes frames on between two nodes that cannot reach each other.
//!
//! Both dial the coordinator and name the other one; the first waits for the
//! second. What they say to each other is theirs: frames are not looked into.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use proto::data::{Frame, Hello, frame};
use tokio::{sync::oneshot, time::sleep};
use types::NodeId;

use crate::{
    greeting::GREETING_TIMEOUT,
    transport::{Broken, Link, ReceiveFrames, SendFrames},
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
    pub(crate) async fn join(&self, hello: Hello, link: Link) -> Result<(), String> {
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
                return Err("too many nodes wait to be connected".to_owned());
            }
            // One that came before on the same way is given up.
            waiting.insert((from, to), sender);
        }
        tokio::select! {
            biased;
            partner = partner => {
                let taken = |_| "another connection took this one's place".to_owned();
                pass_on(side, partner.map_err(taken)?).await;
                Ok(())
            }
            early = side.link.hither.receive() => match early {
                Ok(_) => Err("the node spoke before the other one greeted".to_owned()),
                Err(Broken(problem)) => Err(problem),
            },
            () = sleep(PARTNER_TIMEOUT) => Err(format!("node {to} did not come to be connected")),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<(NodeId, NodeId), oneshot::Sender<Side>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn pass_on(mut one: Side, mut other: Side) {
    let hello = |hello: Hello| frame(frame::Kind::Hello(hello.into()));
    let greeted = async {
        one.link.away.send(hello(other.hello)).await?;
        other.link.away.send(hello(one.hello)).await
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
) -> Result<(), Broken> {
    loop {
        let frame: Frame = hither.receive().await?;
        away.send(frame).await?;
    }
}
