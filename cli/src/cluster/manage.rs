//! Where the commands that manage a cluster find it: the coordinator that runs on a
//! data folder, else its records.

use std::path::PathBuf;

use coordinator::{Admin, AdminError, NotReached};
use identity::Authority;

use super::serve::default_data;
use crate::failure::Failure;

/// A coordinator's data folder, with its authority.
pub(super) struct Folder {
    pub(super) data: PathBuf,
    pub(super) authority: Authority,
}

impl Folder {
    /// The folder that was given, or the user's.
    pub(super) fn open(data: Option<&PathBuf>) -> Result<Self, Failure> {
        let data = data.cloned().map_or_else(default_data, Ok)?;
        let authority = Authority::load(&data.join("ca")).map_err(|error| {
            Failure::Input(format!(
                "{error}; give --data, the folder of a coordinator that ran once"
            ))
        })?;
        Ok(Self { data, authority })
    }

    /// The coordinator that runs on it.
    pub(super) async fn coordinator(&self) -> Result<Admin, NotReached> {
        Admin::reach(&self.data, &self.authority).await
    }

    /// The file of its records. It must be there: a new one would know nothing of the
    /// coordinator, and the coordinator nothing of it.
    pub(super) fn check_records(&self, why: &NotReached) -> Result<(), Failure> {
        let records = self.data.join("state.redb");
        if records.is_file() {
            return Ok(());
        }
        Err(Failure::Input(format!(
            "{why}; nor is {} there, so the records are in etcd, or nowhere yet: start `serve` first",
            records.display()
        )))
    }

    /// The file of the token for everyone.
    pub(super) fn token_file(&self) -> PathBuf {
        self.data.join("join.token")
    }
}

impl From<AdminError> for Failure {
    fn from(error: AdminError) -> Self {
        let message = error.to_string();
        match error {
            AdminError::Refused(_) => Self::Input(message),
            AdminError::Failed(_) => Self::Machine(message),
        }
    }
}
