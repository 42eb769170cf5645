//! A node that starts again is another one: counts begin anew. What waited for it
//! arrives, as it may have been meant for the life that is to come.

use link::Way;
use proto::{
    data::{Kind, Message, frame},
    generated::data::refusal::Reason,
};
use types::NodeId;

use crate::{
    hostile::{Peer, hello},
    support::{Cluster, Node, Options, exchange, expect, message, messages},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_life_of_the_one_that_dials_begins_anew() {
    let cluster = Cluster::new();
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    one.dial(&other);
    exchange(&mut one, &mut other, &[1, 2, 3]).await;
    assert!(!other.connected(&one).await);
    drop(one);
    other.broken().await;
    let waited = send_between(&other, 1);

    let mut one = cluster.start(Options { incarnation: 2, ..Options::node(1) }).await;
    one.dial(&other);

    assert!(other.connected(&one).await);
    assert!(!one.connected(&other).await);
    assert!(one.receive(other.id).await == waited);
    exchange(&mut one, &mut other, &[4, 5]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_life_of_the_one_that_waits_begins_anew() {
    let cluster = Cluster::new();
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    one.dial(&other);
    exchange(&mut one, &mut other, &[1, 2, 3]).await;
    assert!(!one.connected(&other).await);
    drop(other);
    one.broken().await;
    let waited = send_between(&one, 2);

    let mut other = cluster.start(Options { incarnation: 2, ..Options::node(2) }).await;
    // More than the life before has sent, so that its counts would fit.
    let sizes = [7; 6];
    other.switchboard.connect(one.id, Way::Accept);
    messages(&sizes).for_each(|message| other.send(&one, message));
    one.dial(&other);

    assert!(one.connected(&other).await);
    expect(&mut one, other.id, &sizes).await;
    assert!(other.receive(one.id).await == waited);
    exchange(&mut one, &mut other, &[4, 5]).await;
    assert_eq!(one.connections(&other), 2, "the first connection to the new life serves");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn life_that_is_over_does_not_disturb_the_one_that_lives() {
    let cluster = Cluster::new();
    let mut other = cluster.node(2).await;
    let mut alive = cluster.start(Options { incarnation: 5, ..Options::node(1) }).await;
    alive.dial(&other);
    exchange(&mut alive, &mut other, &[1]).await;

    let over = cluster.start(Options { incarnation: 4, ..Options::node(1) }).await;
    let mut peer = Peer::open(&over, &other).await.unwrap();
    peer.say(frame::Kind::Hello(hello(&over, &other).into())).await;

    let refusal = peer.refusal().await;
    assert_eq!(refusal.reason(), Reason::Incarnation);
    assert_eq!(refusal.message, "incarnation 4 of the node is over: 5 is known");
    exchange(&mut alive, &mut other, &[2, 3]).await;
    assert_eq!(alive.connections(&other), 1);
}

/// Sends something to node `to` while it has no life.
fn send_between(from: &Node, to: u128) -> Message {
    let waiting = Message { kind: Kind::Clean { chunk: 0 }, ..message(0, 1) };
    from.switchboard.send(NodeId(to), waiting.clone()).unwrap();
    waiting
}
