//! Where what a device gives goes.

use proto::data::Message as Sent;
use types::{Dtype, Fence};

use crate::{message::Message, wire};

/// Where what the device gives goes.
pub trait Outlet: Send + 'static {
    /// To another worker, or to the coordinator.
    fn send(&self, to: To, message: Sent);
    /// A job cannot go on here.
    fn failed(&self, fence: Fence, problem: String);
}

/// Who is meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum To {
    /// Holder of the layers behind these.
    Next,
    /// Holder of layer 0.
    Lead,
    /// The coordinator.
    Coordinator,
}

/// Sends what the executor has for another worker; a job whose hidden state cannot be
/// sent as it is cannot go on.
pub(crate) fn pass_on(outlet: &impl Outlet, to: To, message: Message, residual: Dtype) {
    let fence = message.fence();
    match wire::sent(message, residual) {
        Ok(message) => outlet.send(to, message),
        Err(problem) => outlet.failed(fence, problem),
    }
}
