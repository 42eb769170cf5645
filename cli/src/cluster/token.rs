//! `filmloom token`: what makes a machine a node, or a program a client.

use std::{
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
};

use coordinator::{TokenUse, create_token};
use identity::{Authority, FileNames, Subject, Validity};
use store::Embedded;

use super::{TokenCommand, block_on, serve::default_data};
use crate::{failure::Failure, terminal};

/// How long a client's certificate lasts, in seconds: a year.
const LIFETIME_S: u64 = 365 * 24 * 3600;

/// Makes what was asked for.
///
/// # Errors
///
/// [`Failure::Input`] if the folder is no coordinator's, or in use.
pub(crate) fn run(command: &TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { data, uses, ttl } => create(data.as_ref(), *uses, *ttl),
        TokenCommand::Client { data, name, output } => client(data.as_ref(), name, output),
    }
}

fn create(
    data: Option<&PathBuf>,
    uses: Option<u32>,
    lifetime_s: Option<u64>,
) -> Result<(), Failure> {
    let data = data.cloned().map_or_else(default_data, Ok)?;
    let authority = authority(&data)?;
    let records = records(&data)?;
    block_on(async {
        let store = Embedded::open(&records).await;
        let store = store.map_err(|error| {
            Failure::Input(format!("{error}; while `serve` runs, use its join.token"))
        })?;
        let token = create_token(&store, authority.fingerprint(), TokenUse { uses, lifetime_s });
        let token = token.await.map_err(Failure::Machine)?;
        store.close().await;
        terminal::result(&format!("{token}\n"))
    })
}

/// The file of a coordinator's records, which must be there: a new one would know
/// nothing of the coordinator, and the coordinator nothing of it.
fn records(data: &Path) -> Result<PathBuf, Failure> {
    let records = data.join("state.redb");
    if records.is_file() {
        return Ok(records);
    }
    let token = data.join("join.token");
    Err(Failure::Input(format!(
        "{} is not there: a coordinator that keeps its records in etcd has no tokens but {}; use \
         that one",
        records.display(),
        token.display()
    )))
}

fn client(data: Option<&PathBuf>, name: &str, output: &Path) -> Result<(), Failure> {
    let refused = |error: &dyn std::error::Error| Failure::Input(error.to_string());
    let data = data.cloned().map_or_else(default_data, Ok)?;
    let authority = authority(&data)?;
    let name = name.parse().map_err(|error: identity::ParseSubjectError| refused(&error))?;
    let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let validity = Validity { now_unix, lifetime_s: LIFETIME_S };
    let issued = authority.issue(&Subject::Client(name), validity);
    let issued = issued.map_err(|error| refused(&error))?;
    std::fs::create_dir_all(output).map_err(|error| refused(&error))?;
    issued.store(output, FileNames::Client).map_err(|error| refused(&error))?;
    let (output, server) = (output.display(), identity::SERVER_NAME);
    terminal::say(&format!(
        "wrote ca.crt, client.crt and client.key to {output}; connect to the server as {server}"
    ));
    Ok(())
}

fn authority(data: &Path) -> Result<Authority, Failure> {
    Authority::load(&data.join("ca")).map_err(|error| {
        Failure::Input(format!("{error}; give --data, the folder of a coordinator that ran once"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn token_is_refused_where_the_records_are_elsewhere_and_none_are_begun() {
        let data = tempfile::tempdir().unwrap();
        Authority::create(1_700_000_000).unwrap().store(&data.path().join("ca")).unwrap();

        let failure = create(Some(&data.path().to_path_buf()), None, None).unwrap_err();

        assert!(failure.line().contains("join.token"), "{failure}");
        assert_eq!(failure.exit_code(), 2);
        assert!(!data.path().join("state.redb").exists());
    }
}
