//! `filmloom token`: what makes a machine a node, or a program a client.
//!
//! Join tokens are made, listed and revoked by the coordinator if it runs; else its
//! records are opened here, as only one process can.

use std::{
    path::Path,
    time::{SystemTime, UNIX_EPOCH},
};

use coordinator::{Admin, ListedToken, NotReached, TokenPage, TokenUse, Tokens, TokensError};
use identity::{FileNames, JoinToken, Subject, TokenId, Validity};
use serde_json::{Value, json};

use super::{TokenCommand, block_on, manage::Folder};
use crate::{failure::Failure, terminal, time};

/// How long a client's certificate lasts, in seconds: a year.
const LIFETIME_S: u64 = 365 * 24 * 3600;

/// Does what was asked for.
///
/// # Errors
///
/// [`Failure::Input`] if the folder is no coordinator's, or in use by one that does not
/// answer, or there is no such token.
pub(crate) fn run(command: &TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::Create { data, uses, ttl } => {
            let folder = Folder::open(data.as_ref())?;
            let wanted = TokenUse { uses: *uses, lifetime_s: *ttl };
            let token = block_on(async { Place::find(&folder).await?.create(wanted).await })?;
            terminal::result(&format!("{token}\n"))
        }
        TokenCommand::List { data, json } => list(&Folder::open(data.as_ref())?, *json),
        TokenCommand::Revoke { id, data } => revoke(&Folder::open(data.as_ref())?, *id),
        TokenCommand::Client { data, name, output } => {
            client(&Folder::open(data.as_ref())?, name, output)
        }
    }
}

fn list(folder: &Folder, is_json: bool) -> Result<(), Failure> {
    let tokens = block_on(async { Place::find(folder).await?.list().await })?;
    let in_file = in_file(folder);
    if is_json {
        let tokens = tokens.iter().map(|token| as_json(token, in_file));
        return terminal::json_lines(&tokens.collect::<Vec<_>>());
    }
    terminal::result(&as_text(&tokens, in_file, now_unix()))
}

fn revoke(folder: &Folder, id: TokenId) -> Result<(), Failure> {
    let is_replaced = block_on(async { Place::find(folder).await?.revoke(id).await })?;
    let replaced = match is_replaced {
        true => format!("; {} has a new one", folder.token_file().display()),
        false => String::new(),
    };
    terminal::result(&format!("join token {id} lets nobody in any more{replaced}\n"))
}

fn client(folder: &Folder, name: &str, output: &Path) -> Result<(), Failure> {
    let refused = |error: &dyn std::error::Error| Failure::Input(error.to_string());
    let name = name.parse().map_err(|error: identity::ParseSubjectError| refused(&error))?;
    let validity = Validity { now_unix: now_unix(), lifetime_s: LIFETIME_S };
    let issued = folder.authority.issue(&Subject::Client(name), validity);
    let issued = issued.map_err(|error| refused(&error))?;
    std::fs::create_dir_all(output).map_err(|error| refused(&error))?;
    issued.store(output, FileNames::Client).map_err(|error| refused(&error))?;
    let (output, server) = (output.display(), identity::SERVER_NAME);
    terminal::say(&format!(
        "wrote ca.crt, client.crt and client.key to {output}; connect to the server as {server}"
    ));
    Ok(())
}

/// The tokens of a coordinator, wherever it is.
enum Place {
    Running(Box<Admin>),
    Stopped(Tokens),
}

impl Place {
    async fn find(folder: &Folder) -> Result<Self, Failure> {
        let not = match folder.coordinator().await {
            Ok(admin) => return Ok(Self::Running(Box::new(admin))),
            Err(not) => not,
        };
        folder.check_records(&not)?;
        let tokens = Tokens::open(&folder.data, folder.authority.fingerprint()).await;
        let tokens = tokens.map_err(|error| match not {
            NotReached::NotRunning { .. } => Failure::Input(error.to_string()),
            NotReached::Silent(_) | NotReached::Identity(_) => {
                Failure::Input(format!("{error}; and {not}"))
            }
        });
        Ok(Self::Stopped(tokens?))
    }

    async fn create(&mut self, wanted: TokenUse) -> Result<JoinToken, Failure> {
        match self {
            Self::Running(admin) => Ok(admin.create_token(wanted).await?),
            Self::Stopped(tokens) => Ok(tokens.create(wanted).await?),
        }
    }

    async fn page(&mut self, after: Option<TokenId>) -> Result<TokenPage, Failure> {
        match self {
            Self::Running(admin) => Ok(admin.tokens(after).await?),
            Self::Stopped(tokens) => Ok(tokens.page(after).await?),
        }
    }

    async fn list(&mut self) -> Result<Vec<ListedToken>, Failure> {
        let (mut listed, mut after) = (Vec::new(), None);
        loop {
            let page = self.page(after).await?;
            listed.extend(page.tokens);
            // Pages go on in the order of ids, or it would be for ever.
            match page.next_after {
                Some(next) if after < Some(next) => after = Some(next),
                Some(_) | None => return Ok(listed),
            }
        }
    }

    async fn revoke(&mut self, id: TokenId) -> Result<bool, Failure> {
        match self {
            Self::Running(admin) => Ok(admin.revoke_token(id).await?),
            Self::Stopped(tokens) => Ok(tokens.revoke(id).await?),
        }
    }
}

impl From<TokensError> for Failure {
    fn from(error: TokensError) -> Self {
        let message = error.to_string();
        match error {
            TokensError::Unknown { .. } | TokensError::Nothing => Self::Input(message),
            TokensError::Refused(_)
            | TokensError::Busy { .. }
            | TokensError::Store(_)
            | TokensError::Record { .. }
            | TokensError::File(_)
            | TokensError::Random(_) => Self::Machine(message),
        }
    }
}

/// The token that the file for everyone holds, if it is there.
fn in_file(folder: &Folder) -> Option<TokenId> {
    let token = std::fs::read_to_string(folder.token_file()).ok()?;
    Some(token.parse::<JoinToken>().ok()?.id)
}

fn as_text(tokens: &[ListedToken], in_file: Option<TokenId>, now_unix: u64) -> String {
    let mut text = String::new();
    let mut line = |id: &str, machines: &str, made: &str, ends: &str, state: &str| {
        let line = format!("{id:<16}  {machines:<8}  {made:<15}  {ends:<15}  {state}");
        text += line.trim_end();
        text.push('\n');
    };
    line("token", "machines", "made", "ends", "state");
    for token in tokens {
        let machines = token.uses_left.map_or_else(|| "any".to_owned(), |uses| uses.to_string());
        let made = token.created_unix.map_or_else(
            || "?".to_owned(),
            |created| format!("{} ago", rough(now_unix.saturating_sub(created))),
        );
        let ends = match token.expires_unix {
            None => "never".to_owned(),
            Some(end) if end <= now_unix => "is over".to_owned(),
            Some(end) => format!("in {}", rough(end - now_unix)),
        };
        let file = if in_file == Some(token.id) { ", in join.token" } else { "" };
        let state = format!("{}{file}", state(token, now_unix));
        line(&token.id.to_string(), &machines, &made, &ends, &state);
    }
    text
}

fn as_json(token: &ListedToken, in_file: Option<TokenId>) -> Value {
    json!({
        "id": token.id.to_string(),
        "uses_left": token.uses_left,
        "created_at": token.created_unix,
        "expires_at": token.expires_unix,
        "state": state(token, now_unix()),
        "in_file": in_file == Some(token.id),
    })
}

/// Whether a token lets machines in, or why not.
fn state(token: &ListedToken, now_unix: u64) -> &'static str {
    if token.revoked {
        return "revoked";
    }
    if token.expires_unix.is_some_and(|end| end <= now_unix) {
        return "expired";
    }
    if token.uses_left == Some(0) { "used up" } else { "good" }
}

fn rough(seconds: u64) -> String {
    time::rough(seconds as f64)
}

fn now_unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use identity::Authority;

    use super::*;

    #[test]
    fn token_is_refused_where_the_records_are_elsewhere_and_none_are_begun() {
        let data = tempfile::tempdir().unwrap();
        Authority::create(now_unix()).unwrap().store(&data.path().join("ca")).unwrap();

        let given = Some(data.path().to_path_buf());
        let create = TokenCommand::Create { data: given, uses: None, ttl: None };
        let failure = run(&create).unwrap_err();

        assert!(failure.line().contains("start `serve`"), "{failure}");
        assert_eq!(failure.exit_code(), 2);
        assert!(!data.path().join("state.redb").exists());
    }

    #[test]
    fn list_says_what_every_token_is_good_for() {
        let token = |number, uses_left, expires_unix, revoked| ListedToken {
            id: TokenId([number; 8]),
            uses_left,
            expires_unix,
            revoked,
            created_unix: Some(1_000),
        };
        let old = ListedToken { created_unix: None, ..token(5, None, None, false) };
        let tokens = [
            token(1, None, None, false),
            token(2, Some(3), Some(1_100), false),
            token(3, Some(0), None, false),
            token(4, None, Some(1_060), true),
            old,
            token(6, Some(0), Some(1_060), false),
        ];

        let text = as_text(&tokens, Some(TokenId([1; 8])), 1_060);

        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "token             machines  made             ends             state",
                "0101010101010101  any       60 s ago         never            good, in join.token",
                "0202020202020202  3         60 s ago         in 40 s          good",
                "0303030303030303  0         60 s ago         never            used up",
                "0404040404040404  any       60 s ago         is over          revoked",
                "0505050505050505  any       ?                never            good",
                "0606060606060606  0         60 s ago         is over          expired",
            ]
        );
    }
}
