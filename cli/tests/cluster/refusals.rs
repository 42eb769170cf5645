//! What is said to nodes that are not as they should be. Nobody else is disturbed.

use std::{
    io::Write,
    net::TcpStream,
    time::{SystemTime, UNIX_EPOCH},
};

use identity::{Authority, FileNames, Key, Subject, Validity};
use proto::control::{self, wire};
use tonic::Code;
use wire::{from_worker::Kind as Said, refusal::Reason, to_worker::Kind as Asked};

use crate::{
    doors::refusal,
    peer::{Peer, join, versions},
    pool::Pool,
};

const PROMPT: &str = "a large red ball bounces over green hills";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_that_cannot_be_is_refused_with_the_values_of_both_sides() {
    let pool = Pool::start(&[]);
    let peer = Peer::join(&pool).await;
    let (_, welcome) = peer.open(Said::Hello(peer.hello())).await.unwrap();
    let Asked::Welcome(wire::Welcome { model: Some(model), .. }) = welcome else {
        panic!("{welcome:?}")
    };
    let served: String = model.digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let other = "09".repeat(32);

    let peer = Peer::join(&pool).await;
    let good = || peer.hello();
    let later = wire::Versions { oldest: 7, newest: 9 };
    let layers = wire::LayerRange { first: 5, end: 2 };
    let backwards = wire::Limits { layers: Some(layers), ..wire::Limits::default() };
    let cases = [
        (wire::Hello { versions: Some(later), ..good() }, Reason::Version, vec!["7 to 9", "1"]),
        (
            wire::Hello { models: vec![vec![9; 32]], fetches: false, ..good() },
            Reason::Model,
            vec![&served[..], &other[..]],
        ),
        (wire::Hello { boot: vec![1; 3], ..good() }, Reason::Malformed, vec!["boot", "3"]),
        (
            wire::Hello { classes: vec!["cpu-f64".to_owned()], ..good() },
            Reason::Malformed,
            vec!["cpu-f64"],
        ),
        (wire::Hello { name: String::new(), ..good() }, Reason::Malformed, vec!["name", "64"]),
        (
            wire::Hello { limits: Some(backwards), ..good() },
            Reason::Malformed,
            vec!["layers.first is 5"],
        ),
        (wire::Hello { node: vec![7; 16], ..good() }, Reason::NotAMember, vec!["certificate"]),
    ];
    for (hello, reason, words) in cases {
        let (found, message) = peer.refusal(hello).await;

        assert_eq!(found, reason, "{message}");
        assert!(words.iter().all(|word| message.contains(word)), "{words:?}: {message}");
    }
    let beat = Said::Heartbeat(wire::Heartbeat::default());
    let (_, answer) = peer.open(beat).await.unwrap();
    let Asked::Refusal(refusal) = answer else { panic!("{answer:?}") };
    assert_eq!(refusal.message, "a session begins with Hello");
    // It has done nothing wrong yet.
    let (_, answer) = peer.open(Said::Hello(good())).await.unwrap();
    assert!(matches!(answer, Asked::Welcome(_)), "{answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_processes_do_not_share_an_identity() {
    let pool = Pool::start(&[]);
    let peer = Peer::join(&pool).await;
    let (first, _) = peer.open(Said::Hello(peer.hello())).await.unwrap();

    let (reason, message) = peer.refusal(wire::Hello { boot: vec![2; 16], ..peer.hello() }).await;

    let node = peer.identity.key().node_id().to_string();
    assert_eq!(reason, Reason::IdentityInUse);
    assert!(message.contains(&node) && message.contains("data folder of its own"), "{message}");
    first.say(Said::Heartbeat(wire::Heartbeat::default())).await;
    assert_eq!(pool.members().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_that_ended_or_was_not_given_out_here_opens_nothing() {
    let pool = Pool::start(&[]);
    let authority = Authority::load(&pool.data().join("ca")).unwrap();
    let now_unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let identity = |now_unix, lifetime_s| {
        let key = Key::generate().unwrap();
        let subject = Subject::Node(key.node_id());
        let validity = Validity { now_unix, lifetime_s };
        let certificate = authority.sign(&subject, &key.public_der(), validity).unwrap();
        identity::Identity::new(key, certificate, authority.certificate().clone()).unwrap()
    };

    let ended = identity(now_unix - 7200, 3600);
    let data = tempfile::tempdir().unwrap();
    ended.store(data.path(), FileNames::Node).unwrap();
    assert_eq!(
        refusal(&mut pool.worker(data.path())),
        format!(
            "the certificate of this machine ended at Unix time {}: give --token to join again",
            now_unix - 3600
        )
    );
    // One that does not look at its own certificate.
    let ended = Peer::with(&pool, ended);
    assert!(ended.open(Said::Hello(ended.hello())).await.is_err());

    let never_joined = Peer::with(&pool, identity(now_unix, 3600));
    let (reason, message) = never_joined.refusal(never_joined.hello()).await;
    assert_eq!(reason, Reason::NotAMember);
    assert!(message.contains("join it with a token"), "{message}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn join_request_that_cannot_be_met_has_a_status_of_its_own() {
    let pool = Pool::start(&[]);
    let good = || wire::JoinRequest {
        versions: Some(versions()),
        token: pool.token(),
        public_key: Key::generate().unwrap().public_der(),
        name: "peer".to_owned(),
    };
    let later = Some(wire::Versions { oldest: 7, newest: 9 });
    let cases = [
        (wire::JoinRequest { versions: later, ..good() }, Code::FailedPrecondition),
        (wire::JoinRequest { token: "fl1.abc".to_owned(), ..good() }, Code::Unauthenticated),
        (wire::JoinRequest { token: String::new(), ..good() }, Code::Unauthenticated),
        (wire::JoinRequest { public_key: vec![7; 91], ..good() }, Code::InvalidArgument),
        (wire::JoinRequest { name: "a".repeat(65), ..good() }, Code::InvalidArgument),
        // More than such a request may have.
        (wire::JoinRequest { public_key: vec![7; 1 << 20], ..good() }, Code::OutOfRange),
    ];
    for (request, code) in cases {
        let name = request.name.clone();

        let status = join(&pool, request).await.unwrap_err();

        assert_eq!(status.code(), code, "{name}: {status:?}");
        assert!(!status.message().is_empty());
    }
    join(&pool, good()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn worker_that_claims_layers_that_are_not_there_is_left_out_and_told_why() {
    let pool = Pool::start(&[]);
    let peer = Peer::join(&pool).await;
    let layers = wire::LayerRange { first: 4, end: 99 };
    let limits = wire::Limits { layers: Some(layers), ..wire::Limits::default() };
    let roles = Some(wire::Roles { layers: true, text: true, decoder: true });
    let hello = wire::Hello { limits: Some(limits), roles, ..peer.hello() };
    let (mut session, _) = peer.open(Said::Hello(hello)).await.unwrap();
    let asked = session.next().await.unwrap();
    assert!(matches!(asked, Some(Asked::Profile(_))), "{asked:?}");

    // Faster than any machine, if it had such layers.
    let profiled = wire::Profiled {
        layer_seconds: 1e-9,
        decode_seconds: Some(1e-9),
        text_seconds: Some(1e-9),
        ..wire::Profiled::default()
    };
    session.say(Said::Profiled(profiled)).await;

    let problem = pool.wait("its pin is refused", || {
        pool.members().first()?["problem"].as_str().map(str::to_owned)
    });
    assert!(problem.contains("4..99") && problem.contains('8'), "{problem}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_talks_nonsense_stops_nobody() {
    let mut pool = Pool::start(&[]);
    pool.add_worker(&[]);
    pool.wait_ready(1);
    let peer = Peer::join(&pool).await;
    let (mut session, _) = peer.open(Said::Hello(peer.hello())).await.unwrap();
    let id = pool.create(PROMPT, 1, 1.0);

    for said in nonsense() {
        session.say(said).await;
    }
    TcpStream::connect(&pool.grpc).unwrap().write_all(&[0xff; 4096]).unwrap();
    let mut half = TcpStream::connect(&pool.http).unwrap();
    half.write_all(b"POST /v1/videos HTTP/1.1\r\ncontent-length: 99\r\n\r\n{").unwrap();

    pool.wait_completed(&id);
    assert_eq!(pool.json("/v1/cluster").unwrap()["running"], 0);
    // It was heard, asked for its speed, and for nothing since.
    let log = pool.logs();
    assert!(log.contains("node has 3 bytes, not 16"), "{log}");
    let asked = session.next().await.unwrap();
    assert!(matches!(asked, Some(Asked::Profile(_))), "{asked:?}");
}

/// Messages that no worker has a reason to send.
fn nonsense() -> Vec<Said> {
    let fence = |job: Vec<u8>| Some(wire::Fence { job, epoch: 1 });
    let unknown = || fence(vec![5; 16]);
    let peer = control::node_bytes(types::NodeId(5));
    vec![
        Said::Profiled(wire::Profiled { layer_seconds: f64::NAN, ..wire::Profiled::default() }),
        Said::StageReady(wire::StageReady { assignment: u64::MAX, load_seconds: -1.0 }),
        Said::StageFailed(wire::StageFailed { assignment: 0, problem: String::new() }),
        Said::Opened(wire::Opened { fence: None, problem: None }),
        Said::Opened(wire::Opened { fence: fence(vec![5; 3]), problem: None }),
        Said::Opened(wire::Opened { fence: unknown(), problem: None }),
        Said::Closed(wire::Closed { fence: unknown() }),
        Said::JobFailed(wire::JobFailed { fence: unknown(), problem: "it lies".to_owned() }),
        Said::LinkFailed(wire::LinkFailed { peer: vec![5; 3], problem: String::new() }),
        Said::LinkFailed(wire::LinkFailed { peer: peer.clone(), problem: String::new() }),
        Said::LinkMeasured(wire::LinkMeasured {
            peer,
            bytes_per_second: f64::INFINITY,
            latency_seconds: f64::NAN,
            ..wire::LinkMeasured::default()
        }),
        Said::Heartbeat(wire::Heartbeat {
            progress: vec![wire::Progress { fence: fence(vec![5; 3]), chunk: 9 }],
            memory_used_bytes: u64::MAX,
            counters: None,
            links: vec![wire::LinkSeen {
                peer: vec![9; 16],
                bytes_per_second: f64::NAN,
                latency_seconds: Some(-1.0),
            }],
            loading: u64::MAX,
        }),
    ]
}
