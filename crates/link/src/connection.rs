//! One connection of a hop, from when it may carry until it breaks.
//!
//! Invariant: it is noticed as connected after the one before was noticed as
//! broken, and before it carries anything; whoever drops the other end of `stop`
//! ends it.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};
use types::{Incarnation, NodeId};

use crate::{
    hop::Hop,
    switchboard::Notice,
    transport::{Broken, Link},
};

/// A connection that lasts so long is a good one, even if it carried nothing.
const GOOD_AFTER: Duration = Duration::from_secs(1);

/// A connection on which both sides have greeted.
pub(crate) struct Connection {
    pub(crate) peer: NodeId,
    /// The peer's life.
    pub(crate) incarnation: Incarnation,
    pub(crate) hop: Arc<Hop>,
    pub(crate) link: Link,
    pub(crate) notices: mpsc::Sender<Notice>,
    pub(crate) stop: oneshot::Receiver<()>,
}

/// What came of a connection.
pub(crate) struct Carried {
    /// Why it ended.
    pub(crate) problem: String,
    /// Whether another one may follow at once.
    pub(crate) is_good: bool,
}

impl Connection {
    /// Carries the hop's messages until the connection breaks or is stopped.
    pub(crate) async fn carry(mut self) -> Carried {
        let stopped = "another connection took its place, or its hop ended";
        let hop = Arc::clone(&self.hop);
        let _turn = tokio::select! {
            turn = hop.turn.lock() => turn,
            _ = &mut self.stop => return Carried { problem: stopped.to_owned(), is_good: false },
        };
        let is_new_life = match hop.begin(self.incarnation) {
            Ok(is_new_life) => is_new_life,
            Err(outlived) => {
                let problem = outlived.to_string();
                self.link.refuse(outlived.into()).await;
                return Carried { problem, is_good: false };
            }
        };
        let (peer, since, progress) = (self.peer, Instant::now(), hop.progress());
        let carried = async {
            // Who reads notices no more does not want them.
            drop(self.notices.send(Notice::Connected { peer, is_new_life }).await);
            hop.carry(self.link).await
        };
        let Broken(problem) = tokio::select! {
            broken = carried => broken,
            _ = &mut self.stop => Broken(stopped.to_owned()),
        };
        drop(self.notices.send(Notice::Broken { peer, problem: problem.clone() }).await);
        let is_good = progress < hop.progress() || GOOD_AFTER <= since.elapsed();
        Carried { problem, is_good }
    }
}
