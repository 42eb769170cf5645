//! Why a call to etcd came to nothing, and whether it may be made again.

use std::{error::Error as _, io};

use crate::{error::Error, record::LeaseId};

/// Why a call came to nothing.
pub(super) enum Failure {
    Answer(etcd_client::Error),
    Late(String),
}

impl Failure {
    /// What it means for a call with leases. etcd does not say which is gone.
    pub(super) fn of_lease(self, leases: impl IntoIterator<Item = LeaseId>) -> Error {
        match (&self, leases.into_iter().next()) {
            (Self::Answer(error), Some(lease)) if is_lease_gone(error) => Error::NoLease { lease },
            _ => self.into(),
        }
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        let problem = match failure {
            Failure::Answer(error) => text(&error),
            Failure::Late(problem) => problem,
        };
        Self::Unavailable { problem }
    }
}

/// Which failed calls may be made again.
#[derive(Clone, Copy)]
pub(super) enum Retry {
    /// All: a second time does no harm.
    Always,
    /// Those that were not received.
    Unsent,
}

impl Retry {
    pub(super) fn is_due(self, error: &etcd_client::Error) -> bool {
        match self {
            Self::Always => !is_lease_gone(error),
            Self::Unsent => was_unsent(error),
        }
    }
}

/// Whether no etcd was there to receive the call.
fn was_unsent(error: &etcd_client::Error) -> bool {
    let etcd_client::Error::GRpcStatus(status) = error else { return false };
    let mut source = status.source();
    while let Some(error) = source {
        let refused = error.downcast_ref::<io::Error>().map(io::Error::kind);
        if refused == Some(io::ErrorKind::ConnectionRefused) {
            return true;
        }
        source = error.source();
    }
    false
}

pub(super) fn is_lease_gone(error: &etcd_client::Error) -> bool {
    error.to_string().contains("lease not found")
}

/// The error in few words.
pub(super) fn text(error: &etcd_client::Error) -> String {
    if let etcd_client::Error::GRpcStatus(status) = error {
        return status.message().to_owned();
    }
    error.to_string()
}
