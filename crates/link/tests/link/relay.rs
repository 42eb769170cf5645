//! Two nodes that reach only the coordinator.

use link::Way;

use crate::{
    proxy::Proxy,
    support::{Cluster, Node, Options, assert_names, exchange, expect, message},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_by_the_coordinator_though_one_side_breaks_again_and_again() {
    let cluster = Cluster::new();
    let coordinator = cluster.start(Options::coordinator()).await;
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    let proxy = Proxy::start(&coordinator.address, 11, 12).await;
    relay(&one, &other, &coordinator.address);
    relay(&other, &one, &proxy.address);

    let sizes = [0, 1_500_000, 7, 60_000, 1 << 20].repeat(6);
    exchange(&mut one, &mut other, &sizes).await;
    exchange(&mut one, &mut other, &[0, 2]).await;

    assert!(3 <= proxy.ended(), "only {} connections ended", proxy.ended());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_life_comes_by_the_coordinator_too() {
    let cluster = Cluster::new();
    let coordinator = cluster.start(Options::coordinator()).await;
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    relay(&one, &other, &coordinator.address);
    relay(&other, &one, &coordinator.address);
    exchange(&mut one, &mut other, &[1, 2]).await;
    assert!(!other.connected(&one).await);

    drop(one);
    let mut one = cluster.start(Options { incarnation: 2, ..Options::node(1) }).await;
    relay(&one, &other, &coordinator.address);

    assert!(other.connected(&one).await);
    exchange(&mut one, &mut other, &[3, 4, 5]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waited_for_an_unreachable_peer_goes_by_the_coordinator() {
    let cluster = Cluster::new();
    let coordinator = cluster.start(Options::coordinator()).await;
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    one.dial_at(&other, "127.0.0.1:1");
    one.send(&other, message(0, 77));

    relay(&one, &other, &coordinator.address);
    let problem = one.unreachable().await;
    assert_names(&problem, &[&other.id.to_string(), &"did not come"]);
    relay(&other, &one, &coordinator.address);

    expect(&mut other, one.id, &[77]).await;
    exchange(&mut one, &mut other, &[1]).await;
}

fn relay(from: &Node, to: &Node, address: &str) {
    from.switchboard.connect(to.id, Way::Relay(address.to_owned()));
}
