//! Connections as the network would carry them: whole TLS handshakes in memory.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic")]

mod connection;

use std::sync::Arc;

use identity::{
    Authority, Expect, GRPC_PROTOCOL, Identity, JoinToken, Key, SERVER_NAME, Subject, Untrusted,
    Validity, client_config, hop_config, join_config, server_config,
};
use rcgen::{KeyPair, PublicKeyData};
use rustls::{CertificateError, HandshakeKind, client::Resumption};
use types::NodeId;

use connection::{
    Clock, at, certificate_error, connect, connect_as, forged_leaf, handshake, showing, untrusted,
};

const NOW: u64 = 1_800_000_000;
const DAY_S: u64 = 24 * 3600;

#[tokio::test]
async fn members_know_each_other() {
    let cluster = authority();
    let (coordinator, node) = (coordinator(&cluster), node(&cluster, 7));

    let served = connect(
        client_config(&node, Expect::Coordinator, clock()),
        server_config(&coordinator, clock()),
    )
    .await;

    assert_eq!(served.client_saw, Ok(Some(Subject::Coordinator)));
    assert_eq!(served.server_saw, Ok(Some(Subject::Node(NodeId(7)))));
    assert_eq!(served.protocol.as_deref(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn hops_have_a_protocol_of_their_own_where_both_sides_know_it() {
    let cluster = authority();
    let (one, other) = (node(&cluster, 1), node(&cluster, 2));
    let hop = || hop_config(&client_config(&one, Expect::Node(NodeId(2)), clock()));
    let mut older = server_config(&other, clock());
    older.alpn_protocols = vec![GRPC_PROTOCOL.to_vec()];

    let framed = connect(hop(), server_config(&other, clock())).await;
    let grpc = connect(hop(), older).await;

    assert_eq!(framed.protocol.as_deref(), Some(&b"filmloom-link/1"[..]));
    assert_eq!(framed.server_saw, Ok(Some(Subject::Node(NodeId(1)))));
    assert_eq!(grpc.protocol.as_deref(), Some(&b"h2"[..]));
}

#[tokio::test]
async fn nodes_reach_each_other_at_any_name() {
    let cluster = authority();
    let (server, client) = (node(&cluster, 1), node(&cluster, 2));
    for expect in [Expect::Node(NodeId(1)), Expect::Member] {
        for name in [SERVER_NAME, "192.168.1.20", "box-a.lan"] {
            let config = client_config(&client, expect, clock());
            let served = connect_as(name, config, server_config(&server, clock())).await;
            assert_eq!(served.server_saw, Ok(Some(Subject::Node(NodeId(2)))), "{name}");
        }
    }
}

#[tokio::test]
async fn a_client_without_certificate_is_let_in_as_nobody() {
    let cluster = authority();
    let served = connect(
        join_config(cluster.fingerprint(), clock()),
        server_config(&coordinator(&cluster), clock()),
    )
    .await;

    assert_eq!(served.client_saw, Ok(Some(Subject::Coordinator)));
    assert_eq!(served.server_saw, Ok(None));
}

#[tokio::test]
async fn a_machine_joins_by_token_and_is_a_member() {
    let cluster = authority();
    let coordinator = coordinator(&cluster);
    let text = JoinToken::create(cluster.fingerprint()).unwrap().to_string();

    let token: JoinToken = text.parse().unwrap();
    let config = join_config(token.fingerprint, clock());
    assert!(connect(config, server_config(&coordinator, clock())).await.server_saw.is_ok());
    let key = Key::generate().unwrap();
    let subject = Subject::Node(key.node_id());
    let certificate = cluster.sign(&subject, &key.public_der(), validity()).unwrap();
    let joined = Identity::new(key, certificate, cluster.certificate().clone()).unwrap();

    let config = client_config(&joined, Expect::Coordinator, clock());
    let served = connect(config, server_config(&coordinator, clock())).await;
    assert_eq!(served.server_saw, Ok(Some(subject)));
}

#[tokio::test]
async fn a_joining_machine_refuses_another_cluster() {
    let (cluster, other) = (authority(), authority());
    let served = connect(
        join_config(other.fingerprint(), clock()),
        server_config(&coordinator(&cluster), clock()),
    )
    .await;

    let fingerprint = other.fingerprint();
    assert_eq!(untrusted(served.client_saw), Untrusted::OtherCluster { fingerprint });
}

#[tokio::test]
async fn the_true_authority_in_a_chain_does_not_vouch_for_the_leaf() {
    let (cluster, attacker) = (authority(), authority());
    let key = KeyPair::generate().unwrap();
    let public_key = key.subject_public_key_info();
    let own = attacker.sign(&Subject::Coordinator, &public_key, validity()).unwrap();
    let forged = forged_leaf(&cluster, &key);
    let [truth, lie] = [&cluster, &attacker].map(|authority| authority.certificate().clone());
    let joining = || join_config(cluster.fingerprint(), clock());
    let member = || client_config(&node(&cluster, 1), Expect::Coordinator, clock());

    for chain in [vec![own.clone(), truth.clone()], vec![own, lie, truth.clone()]] {
        for client in [joining(), member()] {
            let mut server = server_config(&coordinator(&attacker), clock());
            server.cert_resolver = showing(chain.clone(), &key);
            let error = certificate_error(connect(client, server).await.client_saw);
            assert!(matches!(error, CertificateError::UnknownIssuer), "{error:?}");
        }
    }
    for client in [joining(), member()] {
        let mut server = server_config(&coordinator(&attacker), clock());
        server.cert_resolver = showing(vec![forged.clone(), truth.clone()], &key);
        let error = certificate_error(connect(client, server).await.client_saw);
        assert!(matches!(error, CertificateError::BadSignature), "{error:?}");
    }
}

#[tokio::test]
async fn a_certificate_is_worth_nothing_without_its_key() {
    let cluster = authority();
    let (owner, thief) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let public_key = owner.subject_public_key_info();
    let leaf = cluster.sign(&Subject::Coordinator, &public_key, validity()).unwrap();
    let chain = vec![leaf, cluster.certificate().clone()];
    let member = client_config(&node(&cluster, 1), Expect::Coordinator, clock());
    for client in [join_config(cluster.fingerprint(), clock()), member] {
        let mut server = server_config(&coordinator(&cluster), clock());
        server.cert_resolver = showing(chain.clone(), &thief);
        let error = certificate_error(connect(client, server).await.client_saw);
        assert!(matches!(error, CertificateError::BadSignature), "{error:?}");
    }

    let mut client = join_config(cluster.fingerprint(), clock());
    client.client_auth_cert_resolver = showing(chain, &thief);
    let served = connect(client, server_config(&coordinator(&cluster), clock())).await;
    let error = certificate_error(served.server_saw);
    assert!(matches!(error, CertificateError::BadSignature), "{error:?}");
}

#[tokio::test]
async fn a_joining_machine_gives_its_token_to_no_node() {
    let cluster = authority();
    let served = connect(
        join_config(cluster.fingerprint(), clock()),
        server_config(&node(&cluster, 3), clock()),
    )
    .await;

    let (expected, found) = (Expect::Coordinator, Subject::Node(NodeId(3)));
    assert_eq!(untrusted(served.client_saw), Untrusted::WrongPeer { expected, found });
}

#[tokio::test]
async fn a_joining_machine_refuses_an_expired_coordinator() {
    let cluster = authority();
    let served = connect(
        join_config(cluster.fingerprint(), at(NOW + DAY_S + 1)),
        server_config(&coordinator(&cluster), clock()),
    )
    .await;

    let error = certificate_error(served.client_saw);
    assert!(matches!(error, CertificateError::ExpiredContext { .. }), "{error:?}");
}

#[tokio::test]
async fn nobody_poses_as_another_member() {
    let cluster = authority();
    let (caller, server) = (node(&cluster, 1), node(&cluster, 3));
    for expected in [Expect::Coordinator, Expect::Node(NodeId(4))] {
        let config = client_config(&caller, expected, clock());
        let served = connect(config, server_config(&server, clock())).await;
        let found = Subject::Node(NodeId(3));
        assert_eq!(untrusted(served.client_saw), Untrusted::WrongPeer { expected, found });
    }
    let config = client_config(&caller, Expect::Node(NodeId(3)), clock());
    let served = connect(config, server_config(&coordinator(&cluster), clock())).await;
    let (expected, found) = (Expect::Node(NodeId(3)), Subject::Coordinator);
    assert_eq!(untrusted(served.client_saw), Untrusted::WrongPeer { expected, found });
}

#[tokio::test]
async fn clients_and_administrators_are_known_and_serve_nobody() {
    let cluster = authority();
    let coordinator = coordinator(&cluster);
    for subject in [Subject::Client("lab".parse().unwrap()), Subject::Administrator] {
        let client = cluster.issue(&subject, validity()).unwrap();

        let config = client_config(&client, Expect::Coordinator, clock());
        let served = connect(config, server_config(&coordinator, clock())).await;
        assert_eq!(served.server_saw, Ok(Some(subject)));

        let config = client_config(&coordinator, Expect::Member, clock());
        let served = connect(config, server_config(&client, clock())).await;
        let error = certificate_error(served.client_saw);
        assert!(matches!(error, CertificateError::InvalidPurposeContext { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn a_client_of_another_cluster_is_refused() {
    let (cluster, other) = (authority(), authority());
    let key = KeyPair::generate().unwrap();
    let subject = Subject::Node(NodeId(1));
    let leaf = other.sign(&subject, &key.subject_public_key_info(), validity()).unwrap();
    for behind in [&other, &cluster] {
        // It believes the server, so that only the server can refuse.
        let mut client = join_config(cluster.fingerprint(), clock());
        let chain = vec![leaf.clone(), behind.certificate().clone()];
        client.client_auth_cert_resolver = showing(chain, &key);
        let served = connect(client, server_config(&coordinator(&cluster), clock())).await;
        let error = certificate_error(served.server_saw);
        assert!(matches!(error, CertificateError::UnknownIssuer), "{error:?}");
    }
}

#[tokio::test]
async fn a_certificate_is_good_until_it_expires_and_from_a_day_before() {
    let cluster = authority();
    let (coordinator, node) = (coordinator(&cluster), node(&cluster, 1));
    let server_saw = async |now_unix| {
        let config = client_config(&node, Expect::Coordinator, clock());
        connect(config, server_config(&coordinator, at(now_unix))).await.server_saw
    };
    let client_saw = async |now_unix| {
        let config = client_config(&node, Expect::Coordinator, at(now_unix));
        connect(config, server_config(&coordinator, clock())).await.client_saw
    };

    for good in [NOW - DAY_S, NOW + DAY_S] {
        assert!(server_saw(good).await.is_ok() && client_saw(good).await.is_ok(), "{good}");
    }
    for saw in [server_saw(NOW + DAY_S + 1).await, client_saw(NOW + DAY_S + 1).await] {
        let error = certificate_error(saw);
        assert!(matches!(error, CertificateError::ExpiredContext { .. }), "{error:?}");
    }
    for saw in [server_saw(NOW - DAY_S - 1).await, client_saw(NOW - DAY_S - 1).await] {
        let error = certificate_error(saw);
        assert!(matches!(error, CertificateError::NotValidYetContext { .. }), "{error:?}");
    }
}

#[tokio::test]
async fn no_session_outlives_its_connection() {
    let cluster = authority();
    let server = Arc::new(server_config(&coordinator(&cluster), clock()));
    let client = client_config(&node(&cluster, 1), Expect::Coordinator, clock());
    let mut keeping = client.clone();
    keeping.resumption = Resumption::in_memory_sessions(4);
    let mut giving = server_config(&coordinator(&cluster), clock());
    giving.send_tls13_tickets = 2;
    // Either side alone sees to it, whatever the other one would do.
    for (client, server) in [(client, Arc::new(giving)), (keeping, server)] {
        let client = Arc::new(client);
        for _ in 0..2 {
            let served = handshake(SERVER_NAME, Arc::clone(&client), Arc::clone(&server)).await;
            assert_eq!(served.kind, Some(HandshakeKind::Full));
        }
    }
}

fn authority() -> Authority {
    Authority::create(NOW).unwrap()
}

fn validity() -> Validity {
    Validity { now_unix: NOW, lifetime_s: DAY_S }
}

fn coordinator(cluster: &Authority) -> Identity {
    cluster.issue(&Subject::Coordinator, validity()).unwrap()
}

fn node(cluster: &Authority, id: u128) -> Identity {
    cluster.issue(&Subject::Node(NodeId(id)), validity()).unwrap()
}

fn clock() -> Arc<Clock> {
    at(NOW)
}
