//! Every message arrives once, in order, whatever becomes of connections.

use std::time::Duration;

use link::{
    Notice, Way,
    hop::{Full, WAITING_MAX},
    switchboard::SendError,
};

use crate::{
    proxy::Proxy,
    support::{
        Cluster, Node, Options, PAYLOAD_BYTES_MAX, exchange, expect, message, messages, soon,
    },
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_of_all_sizes_arrive_both_ways_in_order() {
    let cluster = Cluster::new();
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    one.dial(&other);

    let sizes = [0, 1, 5_000_000, 0, 1 << 20, (1 << 20) + 1, 70_000, 5_000_000, 0].repeat(3);
    exchange(&mut one, &mut other, &sizes).await;

    let traffic = one.switchboard.traffic(other.id).unwrap();
    let bytes: u64 = sizes.iter().map(|&size| size as u64).sum();
    assert_eq!((traffic.sent_bytes, traffic.received_bytes), (bytes, bytes));
    assert_eq!((traffic.connections, one.switchboard.total()), (1, traffic));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_on_the_way_is_counted_at_both_ends_and_stops_when_all_is_taken() {
    let cluster = Cluster::new();
    let (one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    assert_eq!(one.switchboard.transfer(), Duration::ZERO);
    one.dial(&other);

    one.send(&other, message(0, 5_000_000));
    assert!(one.switchboard.transfer() < one.switchboard.transfer(), "it is on its way");
    expect(&mut other, one.id, &[5_000_000]).await;
    quiet(&one).await;

    let (sender, receiver) = (one.switchboard.transfer(), other.switchboard.transfer());
    assert!(Duration::ZERO < receiver && receiver < sender, "{receiver:?} of {sender:?}");
    one.switchboard.disconnect(other.id);
    one.switchboard.connect(other.id, Way::Accept);
    one.send(&other, message(1, 0));
    assert!(sender < one.switchboard.transfer(), "it waits");
    one.switchboard.disconnect(other.id);
    let given_up = one.switchboard.transfer();
    assert_eq!(one.switchboard.transfer(), given_up);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hop_at_work_shows_how_fast_it_is() {
    let cluster = Cluster::new();
    let (one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    one.dial(&other);

    for chunk in 0..10 {
        one.send(&other, message(chunk, 5_000_000));
        other.receive(one.id).await;
        quiet(&one).await;
        if !one.switchboard.seen().is_empty() {
            break;
        }
    }

    let seen = one.switchboard.seen();
    assert!(matches!(*seen, [(peer, seen)] if peer == other.id && 0.0 < seen.bytes_per_second));
    assert_eq!(other.switchboard.seen(), [], "it has sent nothing");
}

/// Waits until nothing of a node is on its way.
async fn quiet(node: &Node) {
    soon(async {
        while node.switchboard.transfer() < node.switchboard.transfer() {
            tokio::task::yield_now().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn messages_arrive_once_though_connections_end_at_any_byte() {
    let cluster = Cluster::new();
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    let proxy = Proxy::start(&other.address, 7, 20).await;
    one.dial_at(&other, &proxy.address);

    let sizes = [0, 300_000, 7, 1_500_000, 0, 40_000, 1, 65_536, 2_000_000, 9].repeat(12);
    exchange(&mut one, &mut other, &sizes).await;
    exchange(&mut one, &mut other, &[3, 0]).await;

    assert!(10 <= proxy.ended(), "only {} connections ended", proxy.ended());
    let (there, back) = (one.connections(&other), other.connections(&one));
    assert!(5 <= there.min(back), "only {there} and {back} connections carried");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn peer_that_takes_nothing_stops_its_sender_and_nobody_else() {
    let cluster = Cluster::new();
    let (one, mut free) = (cluster.node(1).await, cluster.node(3).await);
    let mut stuck = cluster.start(Options { arrivals_max: 1, ..Options::node(2) }).await;
    one.dial(&stuck);
    one.dial(&free);
    stuck.connected(&one).await;

    let mut sent = 0;
    let full = loop {
        match one.switchboard.send(stuck.id, message(sent, 100)) {
            Ok(()) => sent += 1,
            Err(full) => break full,
        }
    };
    assert_eq!(full, SendError::Full(Full { peer: stuck.id }));
    let sizes = [100, 1_000_000].repeat(20);
    messages(&sizes).for_each(|message| one.send(&free, message));

    expect(&mut free, one.id, &sizes).await;
    expect(&mut stuck, one.id, &vec![100; sent as usize]).await;
    assert!(one.switchboard.send(stuck.id, message(0, 0)).is_ok());
}

#[tokio::test]
async fn so_many_messages_wait_and_no_more() {
    let cluster = Cluster::new();
    let (one, other) = (cluster.node(1).await, cluster.node(2).await);
    one.switchboard.connect(other.id, Way::Accept);

    (0..WAITING_MAX).for_each(|_| one.send(&other, message(0, 0)));

    let full = Err(SendError::Full(Full { peer: other.id }));
    assert_eq!(one.switchboard.send(other.id, message(0, 0)), full);
    let (bytes, max) = (PAYLOAD_BYTES_MAX + 1, PAYLOAD_BYTES_MAX);
    let large = Err(SendError::TooLarge { bytes, max });
    assert_eq!(one.switchboard.send(other.id, message(0, bytes)), large);
    one.switchboard.disconnect(other.id);
    let gone = Err(SendError::NoPeer(other.id));
    assert_eq!(one.switchboard.send(other.id, message(0, 0)), gone);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hop_that_was_ended_comes_back_though_the_peer_kept_its_end() {
    let cluster = Cluster::new();
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    one.dial(&other);
    exchange(&mut one, &mut other, &[1, 2, 3]).await;

    one.switchboard.retain(|_| false);
    other.send(&one, message(0, 4));
    one.dial(&other);
    exchange_after(&mut one, &mut other, 4).await;

    other.switchboard.disconnect(one.id);
    one.dial(&other);
    exchange(&mut one, &mut other, &[5, 6]).await;
}

/// What waited arrives first.
async fn exchange_after(one: &mut Node, other: &mut Node, waiting: usize) {
    one.send(other, message(0, 9));
    expect(one, other.id, &[waiting]).await;
    expect(other, one.id, &[9]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn same_way_once_more_leaves_the_connection_alone() {
    let cluster = Cluster::new();
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    one.dial(&other);
    exchange(&mut one, &mut other, &[1]).await;

    one.dial(&other);
    exchange(&mut one, &mut other, &[2, 3]).await;

    assert_eq!((one.connections(&other), other.connections(&one)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connection_that_carries_nothing_lasts_until_its_peer_falls_silent() {
    let cluster = Cluster::new();
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    let proxy = Proxy::start(&other.address, 7, 0).await;
    one.dial_at(&other, &proxy.address);
    exchange(&mut one, &mut other, &[1]).await;

    // Longer than a peer may be silent.
    tokio::time::sleep(Duration::from_secs(7)).await;
    exchange(&mut one, &mut other, &[2]).await;
    assert_eq!((one.connections(&other), other.connections(&one)), (1, 1));

    proxy.freeze();
    one.broken().await;
    other.broken().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_that_dial_each_other_settle_on_a_connection() {
    let cluster = Cluster::new();
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    one.switchboard.connect(other.id, Way::Dial(vec![other.address.clone()]));
    other.switchboard.connect(one.id, Way::Dial(vec![one.address.clone()]));

    let sizes = [10, 200_000].repeat(40);
    exchange(&mut one, &mut other, &sizes).await;
    exchange(&mut one, &mut other, &sizes).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_dials_while_the_other_ones_connection_carries() {
    let cluster = Cluster::new();
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    one.dial(&other);
    exchange(&mut one, &mut other, &[1]).await;
    assert!(!one.connected(&other).await);

    other.switchboard.connect(one.id, Way::Dial(vec![one.address.clone()]));
    assert!(!one.connected(&other).await);
    // Time to do what is not to be done.
    tokio::time::sleep(Duration::from_millis(300)).await;

    exchange(&mut one, &mut other, &[2, 3]).await;
    assert_eq!((one.connections(&other), other.connections(&one)), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_of_a_dropped_switchboard_goes_on() {
    let cluster = Cluster::new();
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    one.dial(&other);
    exchange(&mut one, &mut other, &[1]).await;
    other.connected(&one).await;

    // Its server goes on.
    let Node { id, switchboard, known, mut arrivals, mut notices, server: _server, .. } = one;
    drop((switchboard, known));

    assert!(soon(arrivals.recv()).await.is_none());
    while soon(notices.recv()).await.is_some() {}
    assert!(matches!(other.notice().await, Notice::Broken { peer, .. } if peer == id));
}
