//! Who gets in, and what is said to who does not.

use std::{
    fs,
    path::Path,
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use identity::JoinToken;

use crate::pool::{Pool, Process, filmloom, succeed};

#[test]
fn worker_without_a_good_token_does_not_get_in() {
    let (pool, other) = (Pool::start(&[]), Pool::start(&[]));
    let good: JoinToken = pool.token().parse().unwrap();
    let unknown = JoinToken::create(good.fingerprint).unwrap();
    let mut forged = JoinToken::create(good.fingerprint).unwrap();
    forged.id = good.id;
    let foreign: JoinToken = other.token().parse().unwrap();
    let data = tempfile::tempdir().unwrap();
    let refused = |token: &str| refusal(pool.worker(data.path()).args(["--token", token]));

    assert_eq!(
        refusal(&mut pool.worker(data.path())),
        "this machine has not joined the cluster yet: give --token, which `filmloom serve` wrote \
         to its join.token"
    );
    assert_eq!(
        refused(""),
        "the join token is empty: copy it from the file join.token of the coordinator"
    );
    assert_eq!(
        refused("fl1.abc"),
        "the join token is damaged: copy it again, all of its 126 letters"
    );
    assert_eq!(
        refused(&unknown.to_string()),
        format!(
            "the coordinator refused: join token {} is unknown here: get one from this cluster's \
             coordinator",
            unknown.id
        )
    );
    assert_eq!(
        refused(&forged.to_string()),
        format!(
            "the coordinator refused: the secret of join token {} is wrong: get a token from the \
             coordinator",
            good.id
        )
    );
    // It names another authority: its secret is not even sent.
    assert_eq!(
        refused(&foreign.to_string()),
        format!(
            "cannot connect to {}: the server is not of the cluster {} that the token is for: \
             check the address, or get a token from that server",
            pool.grpc, foreign.fingerprint
        )
    );
    let kept = fs::read_dir(data.path()).unwrap().map(|entry| entry.unwrap().file_name());
    assert!(kept.eq(["node.key"]), "its key is made before it asks, and nothing else is kept");
    assert!(pool.members().is_empty());
}

#[test]
fn narrow_token_lets_in_as_many_machines_as_it_says_and_as_long() {
    let mut pool = Pool::start(&[]);
    pool.stop_coordinator();
    let once = create_token(pool.data(), &["--uses", "1"]);
    let begun_unix = now_unix();
    let short = create_token(pool.data(), &["--ttl", "1s"]);
    let expires_unix = begun_unix + 1..=now_unix() + 1;
    pool.serve(&[]);
    pool.add_worker(&["--token", &once.to_string()]);
    pool.wait("one has joined", || (pool.members().len() == 1).then_some(()));
    pool.wait("it is too late", || (*expires_unix.end() <= now_unix()).then_some(()));
    let data = tempfile::tempdir().unwrap();
    let refused =
        |token: &JoinToken| refusal(pool.worker(data.path()).args(["--token", &token.to_string()]));

    let used_up =
        format!("the coordinator refused: join token {} is used up: create a new one", once.id);
    assert_eq!(refused(&once), used_up);
    let said = refused(&short);
    let expired = format!("the coordinator refused: join token {} expired at Unix time ", short.id);
    let rest = said.strip_prefix(&expired).unwrap_or_else(|| panic!("{said}"));
    let at_unix = rest.strip_suffix(": create a new one").unwrap().parse().unwrap();
    assert!(expires_unix.contains(&at_unix), "{at_unix} of {expires_unix:?}");
    // Who is in needs no token any more.
    pool.workers.clear();
    let mut known = pool.worker(&pool.data().join("w1"));
    let _known = Process(known.args(["--name", "again"]).spawn().unwrap());
    pool.wait("it is here again", || {
        pool.members().iter().any(|worker| worker["name"] == "again").then_some(())
    });
}

#[test]
fn certificate_of_another_cluster_lets_nobody_in() {
    let (pool, mut other) = (Pool::start(&[]), Pool::start(&[]));
    other.add_worker(&[]);
    other.wait("it has joined there", || (other.members().len() == 1).then_some(()));
    other.workers.clear();
    let data = other.data().join("w1");

    let log = pool.data().join("foreign.log");
    let mut foreign = pool.worker(&data);
    let foreign = Process(foreign.stderr(fs::File::create(&log).unwrap()).spawn().unwrap());
    let refused = format!(
        "no session with the coordinator problem=cannot connect to {}: invalid peer certificate: \
         UnknownIssuer\n",
        pool.grpc
    );
    pool.wait("it is refused", || {
        fs::read_to_string(&log).unwrap().contains(&refused).then_some(())
    });
    drop(foreign);
    assert!(pool.members().is_empty());

    // One that takes this cluster's authority for its own.
    fs::copy(pool.data().join("ca/ca.crt"), data.join("ca.crt")).unwrap();
    let certificate = data.join("node.crt");
    assert_eq!(
        refusal(&mut pool.worker(&data)),
        format!(
            "{}: the certificate was not signed by this authority (UnknownIssuer): join the \
             cluster again",
            certificate.display()
        )
    );
}

#[test]
fn http_is_for_this_machine_or_for_who_has_a_key() {
    let folder = tempfile::tempdir().unwrap();
    let mut serve = filmloom();
    serve.args(["serve", "--no-worker", "--http", "0.0.0.0:0", "--data"]).arg(folder.path());
    assert_eq!(
        refusal(&mut serve),
        "--http 0.0.0.0:0 lets other machines in: give --api-key KEY, or --insecure to let \
         everyone in"
    );

    let pool = Pool::start(&["--api-key", "secret"]);
    assert!(pool.json("/v1/models").is_none());
    let models = ureq::get(format!("http://{}/v1/models", pool.http));
    let models = models.header("authorization", "Bearer secret").call().unwrap();
    assert_eq!(models.status(), 200);
    assert!(pool.json("/healthz").is_some());
}

/// The last sentence of a command that refuses its input.
pub(crate) fn refusal(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    let last = said.lines().last().unwrap();
    last.strip_prefix("error: ").unwrap_or_else(|| panic!("{said}")).to_owned()
}

/// What `filmloom token create` gives.
fn create_token(data: &Path, arguments: &[&str]) -> JoinToken {
    let mut create = filmloom();
    create.args(["token", "create", "--data"]).arg(data).args(arguments);
    String::from_utf8(succeed(&mut create).stdout).unwrap().parse().unwrap()
}

fn now_unix() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
