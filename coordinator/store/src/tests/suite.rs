//! The promises of the trait, asked of a store that is empty.

use std::time::Duration;

use super::{all, next, revision, value};
use crate::{
    Change, Error, Expect, LeaseId, List, Revision, Store, Write,
    record::{KEY_BYTES_MAX, LIST_MAX, VALUE_BYTES_MAX, WRITES_MAX},
};

/// Asks all of them.
pub(super) async fn keeps_all_promises(store: &dyn Store) {
    a_write_is_done_only_as_expected(store).await;
    a_list_is_in_order_and_in_pages(store).await;
    a_commit_is_done_as_a_whole_or_not(store).await;
    what_is_too_large_or_wrong_is_refused(store).await;
    a_watch_gives_every_change_in_order(store).await;
    a_watch_from_a_time_that_is_not_known_has_lagged(store).await;
    a_record_ends_with_its_lease(store).await;
}

async fn a_write_is_done_only_as_expected(store: &dyn Store) {
    let (key, conflict) = ("cas/job", |found| {
        let key = "cas/job".to_owned();
        Err(Error::Conflict { key, found })
    });
    assert_eq!(store.get(key).await, Ok(None));
    assert_eq!(store.put(key, b"0", Expect::Revision(Revision(1))).await, conflict(None));

    let first = store.put(key, b"1", Expect::Absent).await.unwrap();
    assert_eq!(store.put(key, b"x", Expect::Absent).await, conflict(Some(first)));
    let second = store.put(key, b"2", Expect::Revision(first)).await.unwrap();
    assert!(first < second);
    assert_eq!(store.put(key, b"x", Expect::Revision(first)).await, conflict(Some(second)));
    assert_eq!(store.delete(key, Expect::Revision(first)).await, conflict(Some(second)));

    let record = store.get(key).await.unwrap().unwrap();
    assert_eq!((&record.value[..], record.revision), (&b"2"[..], second));
    let deleted = store.delete(key, Expect::Revision(second)).await.unwrap();
    assert!(second < deleted);
    assert_eq!(store.get(key).await, Ok(None));
    assert_eq!(store.delete(key, Expect::Any).await, Ok(deleted), "nothing has changed");
    assert_eq!(store.delete(key, Expect::Revision(second)).await, conflict(None));
    assert!(deleted < store.put(key, b"3", Expect::Absent).await.unwrap());
}

async fn a_list_is_in_order_and_in_pages(store: &dyn Store) {
    for key in ["list/c", "list/a", "list/b/1", "list/b", "list", "lisu", "list0"] {
        store.put(key, key.as_bytes(), Expect::Any).await.unwrap();
    }
    let list = |after: Option<&str>, limit| {
        let after = after.map(str::to_owned);
        List { prefix: "list/".to_owned(), after, limit }
    };
    let keys = async |list: List| {
        let page = store.list(&list).await.unwrap();
        let keys: Vec<_> = page.records.into_iter().map(|record| record.key).collect();
        (keys.join(" "), page.next)
    };
    let end = |keys: &str| (keys.to_owned(), None);
    let more = |keys: &str, next: &str| (keys.to_owned(), Some(next.to_owned()));

    assert_eq!(keys(list(None, 10)).await, end("list/a list/b list/b/1 list/c"));
    assert_eq!(keys(list(None, 4)).await, end("list/a list/b list/b/1 list/c"));
    assert_eq!(keys(list(None, 3)).await, more("list/a list/b list/b/1", "list/b/1"));
    assert_eq!(keys(list(Some("list/b/1"), 3)).await, end("list/c"));
    assert_eq!(keys(list(Some("list/b/0"), 1)).await, more("list/b/1", "list/b/1"));
    assert_eq!(keys(list(Some("a"), 1)).await, more("list/a", "list/a"), "before the prefix");
    assert_eq!(keys(list(Some("list/c"), 1)).await, end(""));
    assert_eq!(keys(list(Some("z"), 1)).await, end(""), "behind the prefix");
    assert_eq!(all(store, "list/").await.len(), 4);
    let page = store.list(&list(None, 1)).await.unwrap();
    assert!(page.records[0].revision <= page.revision);
    for limit in [0, LIST_MAX + 1] {
        assert!(matches!(store.list(&list(None, limit)).await, Err(Error::Invalid { .. })));
    }
}

async fn a_commit_is_done_as_a_whole_or_not(store: &dyn Store) {
    let base = store.put("all/a", b"a", Expect::Any).await.unwrap();
    let writes = |expect| {
        vec![
            Write::put("all/b", b"b", Expect::Absent),
            Write::delete("all/a", Expect::Any),
            Write::check("all/c", expect),
        ]
    };

    let refused = store.commit(&writes(Expect::Revision(base))).await;
    let conflict = Error::Conflict { key: "all/c".to_owned(), found: None };
    assert_eq!(refused, Err(conflict));
    assert_eq!(all(store, "all/").await.len(), 1);
    assert_eq!(value(store, "all/a").await.unwrap(), b"a");

    let done = store.commit(&writes(Expect::Absent)).await.unwrap();
    let records = all(store, "all/").await;
    assert_eq!(records.len(), 1);
    assert_eq!((records[0].key.as_str(), records[0].revision), ("all/b", done));
    let checked = store.commit(&[Write::check("all/b", Expect::Revision(done))]).await;
    assert_eq!(checked, Ok(done), "a check alone changes nothing");
}

async fn what_is_too_large_or_wrong_is_refused(store: &dyn Store) {
    let largest = vec![7; VALUE_BYTES_MAX];
    store.put("large/a", &largest, Expect::Any).await.unwrap();
    assert_eq!(value(store, "large/a").await.unwrap(), largest);
    let page = List { prefix: "large/".to_owned(), after: None, limit: LIST_MAX };
    for i in 0..12 {
        store.put(&format!("large/{i}"), &largest, Expect::Any).await.unwrap();
    }
    assert_eq!(store.list(&page).await.unwrap().records.len(), 13, "a page of 6 MiB");

    let put = |key: &str, bytes| Write::put(key, &vec![7; bytes], Expect::Any);
    let half = VALUE_BYTES_MAX;
    for writes in [vec![put("k", VALUE_BYTES_MAX + 1)], vec![put("k", half), put("l", half)]] {
        assert!(matches!(store.commit(&writes).await, Err(Error::TooLarge { .. })));
    }
    let many = |n| (0..n).map(|i| put(&format!("many/{i}"), 1)).collect::<Vec<_>>();
    store.commit(&many(WRITES_MAX)).await.unwrap();
    let long = "k".repeat(KEY_BYTES_MAX);
    store.put(&long, b"", Expect::Any).await.unwrap();
    let too_long = format!("{long}k");
    for writes in [
        vec![],
        many(WRITES_MAX + 1),
        vec![put("k", 1), Write::delete("k", Expect::Any)],
        vec![put("", 1)],
        vec![put("a b", 1)],
        vec![put("ä", 1)],
        vec![put(&too_long, 1)],
    ] {
        assert!(matches!(store.commit(&writes).await, Err(Error::Invalid { .. })), "{writes:?}");
    }
    assert!(matches!(store.get("").await, Err(Error::Invalid { .. })));
    assert!(matches!(store.watch("\n", Revision(0)).await, Err(Error::Invalid { .. })));
}

async fn a_watch_gives_every_change_in_order(store: &dyn Store) {
    let before = revision(store).await;
    let first = store.put("watch/a", b"1", Expect::Any).await.unwrap();
    store.put("watching", b"other", Expect::Any).await.unwrap();
    let both = [
        Write::put("watch/b", b"2", Expect::Any),
        Write::put("other", b"", Expect::Any),
        Write::delete("watch/a", Expect::Any),
        Write::delete("watch/none", Expect::Any),
    ];
    let second = store.commit(&both).await.unwrap();
    let change = |key: &str, value: Option<&[u8]>, revision| {
        let (key, value) = (key.to_owned(), value.map(<[u8]>::to_vec));
        Ok(Change { key, value, revision })
    };

    let mut watch = store.watch("watch/", before).await.unwrap();
    assert_eq!(next(&mut watch).await, change("watch/a", Some(b"1"), first));
    let mut of_commit = [next(&mut watch).await.unwrap(), next(&mut watch).await.unwrap()];
    of_commit.sort_by(|a, b| a.key.cmp(&b.key));
    let [a, b] = of_commit;
    assert_eq!(Ok(a), change("watch/a", None, second));
    assert_eq!(Ok(b), change("watch/b", Some(b"2"), second));

    let mut later = store.watch("watch/", second).await.unwrap();
    let put = async {
        tokio::task::yield_now().await;
        store.put("watch/c", b"3", Expect::Any).await.unwrap()
    };
    let (woken, third) = tokio::join!(next(&mut later), put);
    assert_eq!(woken, change("watch/c", Some(b"3"), third), "a watch that waits wakes up");
    assert_eq!(next(&mut watch).await, change("watch/c", Some(b"3"), third));
}

async fn a_watch_from_a_time_that_is_not_known_has_lagged(store: &dyn Store) {
    let later = Revision(revision(store).await.0 + 1_000);
    let mut watch = store.watch("", later).await.unwrap();

    assert_eq!(next(&mut watch).await, Err(Error::Lagged));
    assert_eq!(next(&mut watch).await, Err(Error::Lagged), "it stays so");
}

async fn a_record_ends_with_its_lease(store: &dyn Store) {
    let none = LeaseId(1 << 40);
    let lost = Err(Error::NoLease { lease: none });
    let put = async |key: &str, lease| {
        store.commit(&[Write::put_leased(key, b"1", Expect::Any, lease)]).await
    };
    assert_eq!(put("lease/a", none).await, lost.clone());
    assert_eq!(store.keep_alive(none).await, lost.map(drop));
    assert_eq!(store.revoke(none).await, Ok(()));
    for ttl in [Duration::from_millis(999), Duration::from_secs(3_601)] {
        assert!(matches!(store.grant(ttl).await, Err(Error::Invalid { .. })));
    }

    let lease = store.grant(Duration::from_secs(60)).await.unwrap();
    let other = store.grant(Duration::from_secs(60)).await.unwrap();
    assert_ne!(lease, other);
    for key in ["lease/a", "lease/kept", "lease/moved"] {
        put(key, lease).await.unwrap();
    }
    store.put("lease/kept", b"2", Expect::Any).await.unwrap();
    let last = put("lease/moved", other).await.unwrap();
    store.keep_alive(lease).await.unwrap();
    let mut watch = store.watch("lease/", last).await.unwrap();

    store.revoke(lease).await.unwrap();

    let change = next(&mut watch).await.unwrap();
    assert_eq!((change.key.as_str(), change.value), ("lease/a", None));
    assert!(last < change.revision);
    let left: Vec<_> = all(store, "lease/").await.into_iter().map(|record| record.key).collect();
    assert_eq!(left, ["lease/kept", "lease/moved"], "a key is under its latest lease only");
    assert_eq!(store.keep_alive(lease).await, Err(Error::NoLease { lease }));
}
