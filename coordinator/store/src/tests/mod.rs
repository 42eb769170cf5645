//! What every store promises, and what is particular to each.

mod embedded;
#[cfg(feature = "etcd")]
mod etcd;
mod random;
mod suite;

use std::time::Duration;

use crate::{Change, Error, List, Record, Revision, Store, Watch};

/// Time for what must come. Only a test that fails takes so long.
const PATIENCE: Duration = Duration::from_secs(60);

async fn next(watch: &mut Box<dyn Watch>) -> Result<Change, Error> {
    tokio::time::timeout(PATIENCE, watch.next()).await.expect("a change, or an error")
}

async fn value(store: &dyn Store, key: &str) -> Option<Vec<u8>> {
    store.get(key).await.unwrap().map(|record| record.value)
}

/// All records with a prefix, listed in pages of two.
async fn all(store: &dyn Store, prefix: &str) -> Vec<Record> {
    let (mut records, mut after) = (Vec::new(), None);
    loop {
        let page = store.list(&List { prefix: prefix.to_owned(), after, limit: 2 }).await.unwrap();
        records.extend(page.records);
        after = page.next;
        if after.is_none() {
            return records;
        }
    }
}

async fn revision(store: &dyn Store) -> Revision {
    let list = List { prefix: String::new(), after: None, limit: 1 };
    store.list(&list).await.unwrap().revision
}

/// Waits until a key is gone, in the store's own time.
async fn gone(store: &dyn Store, key: &str) {
    let gone = async {
        while value(store, key).await.is_some() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the key goes");
}
