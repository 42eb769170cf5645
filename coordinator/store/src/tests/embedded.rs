//! What is particular to the store in a file.

use std::{fs, time::Duration};

use proptest::prelude::*;
use tempfile::TempDir;

use super::{gone, next, random, revision, suite, value};
use crate::{Embedded, Error, Expect, Store, Write};

#[tokio::test]
async fn it_keeps_all_promises() {
    let folder = TempDir::new().unwrap();
    suite::keeps_all_promises(&open(&folder).await).await;
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..Default::default() })]

    #[test]
    fn it_does_what_a_map_does(calls in random::calls()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let folder = TempDir::new().unwrap();
            random::does_what_a_map_does(&open(&folder).await, &calls).await;
        });
    }
}

#[tokio::test]
async fn records_survive_a_restart_unless_they_were_under_a_lease() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    let kept = store.put("kept", b"1", Expect::Any).await.unwrap();
    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    let leased = Write::put_leased("leased", b"1", Expect::Any, lease);
    let last = store.commit(&[leased]).await.unwrap();
    store.close().await;

    let store = open(&folder).await;

    assert_eq!(store.get("kept").await.unwrap().unwrap().revision, kept);
    assert_eq!(value(&store, "leased").await, None);
    assert!(last < revision(&store).await, "its end is a change");
    assert_eq!(store.keep_alive(lease).await, Err(Error::NoLease { lease }));
    let mut watch = store.watch("", last).await.unwrap();
    assert_eq!(next(&mut watch).await, Err(Error::Lagged), "of which no watch can tell");
}

#[tokio::test(start_paused = true)]
async fn a_lease_ends_when_its_time_is_over_and_not_before() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    let second = Duration::from_secs(1);
    let (short, long) = (store.grant(3 * second).await.unwrap(), store.grant(60 * second).await);
    let long = long.unwrap();
    for (key, lease) in [("short", short), ("long", long)] {
        store.commit(&[Write::put_leased(key, b"", Expect::Any, lease)]).await.unwrap();
    }

    for _ in 0..5 {
        tokio::time::sleep(2 * second).await;
        store.keep_alive(short).await.unwrap();
    }
    assert!(value(&store, "short").await.is_some(), "kept alive for ten seconds");
    gone(&store, "short").await;
    assert_eq!(store.keep_alive(short).await, Err(Error::NoLease { lease: short }));
    let late = store.commit(&[Write::put_leased("short", b"", Expect::Any, short)]).await;
    assert_eq!(late, Err(Error::NoLease { lease: short }));
    assert!(value(&store, "long").await.is_some());
    gone(&store, "long").await;
}

#[tokio::test]
async fn a_watch_that_is_too_slow_is_told_so_and_no_other_is() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    let begin = revision(&store).await;
    let mut slow = store.watch("", begin).await.unwrap();
    let mut quick = store.watch("", begin).await.unwrap();
    let value = vec![7; 8 << 10];

    // 64 changes at a time, and four times as many bytes as are kept.
    for i in 0..128 {
        let key = |j| format!("key/{i}/{j}");
        let writes: Vec<_> = (0..64).map(|j| Write::put(&key(j), &value, Expect::Any)).collect();
        store.commit(&writes).await.unwrap();
        for write in writes {
            assert_eq!(next(&mut quick).await.unwrap().key, write.key);
        }
    }

    assert_eq!(next(&mut slow).await, Err(Error::Lagged));
    assert_eq!(next(&mut slow).await, Err(Error::Lagged));
    let mut late = store.watch("", begin).await.unwrap();
    assert_eq!(next(&mut late).await, Err(Error::Lagged));
}

#[tokio::test]
async fn a_watch_ends_with_its_store() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    let mut watch = store.watch("", revision(&store).await).await.unwrap();

    let (ended, ()) = tokio::join!(next(&mut watch), async move {
        tokio::task::yield_now().await;
        store.close().await;
    });

    assert!(matches!(ended, Err(Error::Unavailable { .. })));
}

#[tokio::test]
async fn a_file_belongs_to_one_store_and_must_be_one() {
    let folder = TempDir::new().unwrap();
    let store = open(&folder).await;
    let second = Embedded::open(&folder.path().join("store")).await;
    assert!(matches!(second, Err(Error::Unavailable { .. })));
    store.close().await;

    let garbage = folder.path().join("garbage");
    fs::write(&garbage, [b"no store ".as_slice(); 1_000].concat()).unwrap();
    let opened = Embedded::open(&garbage).await;

    assert!(matches!(opened, Err(Error::Damaged { .. })), "{opened:?}");
    assert!(Embedded::open(&folder.path().join("none/store")).await.is_err());
}

async fn open(folder: &TempDir) -> Embedded {
    Embedded::open(&folder.path().join("store")).await.unwrap()
}
