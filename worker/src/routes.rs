//! Where the device's messages go: who is next, who leads, who coordinates.

use std::sync::{Arc, Mutex, PoisonError};

use link::Switchboard;
use proto::{
    control::wire::{FromWorker, JobFailed, from_worker},
    data::Message,
};
use tokio::sync::mpsc;
use types::{Fence, NodeId};

use crate::device::{Outlet, To};

/// Known once the node is welcome; changed with every assignment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes(Arc<Mutex<Known>>);

#[derive(Debug, Default)]
pub(crate) struct Known {
    pub(crate) switchboard: Option<Switchboard>,
    pub(crate) coordinator: Option<NodeId>,
    pub(crate) next: Option<NodeId>,
    pub(crate) lead: Option<NodeId>,
}

impl Routes {
    pub(crate) fn update(&self, change: impl FnOnce(&mut Known)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub(crate) fn is_coordinator(&self, node: NodeId) -> bool {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.coordinator == Some(node)
    }

    fn send(&self, to: To, message: Message) -> Result<(), String> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let node = match to {
            To::Next => known.next,
            To::Lead => known.lead,
            To::Coordinator => known.coordinator,
        };
        let (Some(switchboard), Some(node)) = (&known.switchboard, node) else {
            return Err(format!("this worker was told of no {to:?}"));
        };
        switchboard.send(node, message).map_err(|error| error.to_string())
    }
}

/// The device's outlet: messages by the routes, failures by the session.
#[derive(Debug)]
pub(crate) struct RoutedOutlet {
    pub(crate) routes: Routes,
    pub(crate) outbox: mpsc::UnboundedSender<FromWorker>,
}

impl Outlet for RoutedOutlet {
    fn send(&self, to: To, message: Message) {
        let fence = message.fence;
        if let Err(problem) = self.routes.send(to, message) {
            self.failed(fence, problem);
        }
    }

    fn failed(&self, fence: Fence, problem: String) {
        let failed = JobFailed { fence: Some(fence.into()), problem };
        let kind = Some(from_worker::Kind::JobFailed(failed));
        // The process stops if nobody listens.
        drop(self.outbox.send(FromWorker { incarnation: 0, kind }));
    }
}
