//! Listeners that know one carrier, beside some that know the other.

use std::time::Duration;

use link::Way;

use crate::{
    CARRIER,
    support::{Cluster, Options, exchange, serve},
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_that_dials_carries_by_what_the_other_one_knows() {
    let cluster = Cluster::new();
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);
    let (another, _server) = serve(&other.identity, &other.service, CARRIER.other()).await;

    for address in [other.address.clone(), another, other.address.clone()] {
        one.dial_at(&other, &address);
        exchange(&mut one, &mut other, &[0, 1, 2_000_000, 70_000]).await;
    }

    assert!(3 <= one.connections(&other));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn coordinator_passes_on_between_one_kind_and_the_other() {
    let cluster = Cluster::new();
    let coordinator = cluster.start(Options::coordinator()).await;
    let (another, _server) =
        serve(&coordinator.identity, &coordinator.service, CARRIER.other()).await;
    let (mut one, mut other) = (cluster.node(1).await, cluster.node(2).await);

    one.switchboard.connect(other.id, Way::Relay(coordinator.address.clone()));
    other.switchboard.connect(one.id, Way::Relay(another));

    exchange(&mut one, &mut other, &[0, 1, 2_000_000, 70_000]).await;
    let made = one.connections(&other);
    // Longer than a peer may be silent.
    tokio::time::sleep(Duration::from_secs(7)).await;
    exchange(&mut one, &mut other, &[3]).await;
    assert_eq!(one.connections(&other), made);
}
