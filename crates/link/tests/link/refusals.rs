//! Who is not spoken with, and what it is told.

use identity::{Expect, Subject};
use link::Way;
use proto::{
    data::{End, Hello, frame},
    generated::data::refusal::Reason,
};
use tonic::Code;
use types::{Class, Incarnation, ModelDigest, NodeId};

use crate::{
    hostile::{Peer, hello},
    support::{Cluster, Noon, Options, assert_names, client_config, exchange},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_differs_in_model_or_class_is_told_both_values_and_cannot_be_reached() {
    let cluster = Cluster::new();
    let other = cluster.node(2).await;
    let model = ModelDigest([9; 32]);
    let mut differs_in_model = cluster.start(Options { model, ..Options::node(1) }).await;
    let class = Some(Class::CpuBf16Amx);
    let mut differs_in_class = cluster.start(Options { class, ..Options::node(3) }).await;
    let mut misled = cluster.node(4).await;

    differs_in_model.dial(&other);
    differs_in_class.dial(&other);
    misled.dial_at(&differs_in_class, &other.address);

    let problem = differs_in_model.unreachable().await;
    assert_names(&problem, &[&model.to_string(), &other.switchboard.me().model.to_string()]);
    let problem = differs_in_class.unreachable().await;
    assert_names(&problem, &[&"cpu-f32", &"cpu-bf16-amx"]);
    let problem = misled.unreachable().await;
    let found = Subject::Node(other.id).to_string();
    assert_names(&problem, &[&found, &Subject::Node(differs_in_class.id).to_string()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hello_that_does_not_fit_is_refused_with_its_reason() {
    let cluster = Cluster::new();
    let (mut other, mut one) = (cluster.node(2).await, cluster.node(1).await);
    let hello = hello(&one, &other);
    other.switchboard.connect(one.id, Way::Accept);
    let another = End { node: NodeId(3), incarnation: Incarnation(1) };
    let changed = [
        (Hello { versions: 2..=3, ..hello.clone() }, Reason::Version, "1 to 1"),
        (Hello { versions: 2..=3, ..hello.clone() }, Reason::Version, "2 to 3"),
        (Hello { model: ModelDigest([7; 32]), ..hello.clone() }, Reason::Model, "0707"),
        (Hello { class: "gpu".to_owned(), ..hello.clone() }, Reason::Class, "gpu"),
        (Hello { from: another, ..hello.clone() }, Reason::UnknownNode, "certificate"),
        (Hello { to: NodeId(9), ..hello.clone() }, Reason::UnknownNode, "this is node"),
    ];

    for (hello, reason, part) in changed {
        let mut peer = Peer::open(&one, &other).await.unwrap();
        peer.say(frame::Kind::Hello(hello.into())).await;
        let refusal = peer.refusal().await;
        assert_eq!(refusal.reason(), reason);
        assert_names(&refusal.message, &[&part]);
    }

    one.dial(&other);
    exchange(&mut one, &mut other, &[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_without_a_hop_is_refused_until_there_is_one() {
    let cluster = Cluster::new();
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);

    let mut peer = Peer::open(&one, &other).await.unwrap();
    peer.say(frame::Kind::Hello(hello(&one, &other).into())).await;
    let refusal = peer.refusal().await;
    assert_eq!(refusal.reason(), Reason::UnknownNode);
    assert_names(&refusal.message, &[&"has no hop", &one.id.to_string()]);

    one.dial(&other);
    exchange(&mut one, &mut other, &[1]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_no_node_opens_no_hop() {
    let cluster = Cluster::new();
    let coordinator = cluster.start(Options::coordinator()).await;
    let fingerprint = cluster.authority().fingerprint();
    let stranger = identity::join_config(fingerprint, std::sync::Arc::new(Noon));
    let client = cluster.identity(&Subject::Client("ann".parse().unwrap()));
    let client = client_config(&client, Expect::Coordinator);
    let administrator = cluster.identity(&Subject::Administrator);
    let administrator = client_config(&administrator, Expect::Coordinator);

    let cases = [
        (stranger.into(), Code::Unauthenticated, "join it first"),
        (client, Code::PermissionDenied, "client/ann is no node"),
        (administrator, Code::PermissionDenied, "administrator is no node"),
    ];
    for (config, code, message) in cases {
        match Peer::open_with(config, &coordinator).await {
            Ok(mut peer) => assert_names(&peer.refusal().await.message, &[&message]),
            Err(refused) => {
                assert_eq!(refused.code(), code, "{refused}");
                assert_names(refused.message(), &[&message]);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificate_of_another_cluster_is_refused() {
    let (cluster, elsewhere) = (Cluster::new(), Cluster::new());
    let (other, mut stranger) = (cluster.node(2).await, elsewhere.node(1).await);

    stranger.dial(&other);

    let problem = stranger.unreachable().await;
    assert_names(&problem, &[&"invalid peer certificate", &other.address]);
}
