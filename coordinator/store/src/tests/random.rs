//! A store against a map, through any order of writes, and a watch against both.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{all, next};
use crate::{Error, Expect, Revision, Store, Write};

/// A write to one of few keys.
#[derive(Clone, Debug)]
pub(super) struct Call {
    key: usize,
    /// A value, or none to delete.
    value: Option<u8>,
    expect: Expected,
}

#[derive(Clone, Copy, Debug)]
enum Expected {
    Absent,
    Any,
    /// The record's revision, if there is one.
    Current,
    /// A revision of another commit.
    Other,
}

/// A value and its revision.
type Model = BTreeMap<String, (Vec<u8>, Revision)>;

pub(super) fn calls() -> impl Strategy<Value = Vec<Call>> {
    let expect = prop_oneof![
        Just(Expected::Absent),
        Just(Expected::Any),
        Just(Expected::Current),
        Just(Expected::Other)
    ];
    let call = (0..4_usize, prop::option::weighted(0.7, any::<u8>()), expect)
        .prop_map(|(key, value, expect)| Call { key, value, expect });
    prop::collection::vec(call, 1..40)
}

/// Makes the calls, on a store whose keys are none of these.
pub(super) async fn does_what_a_map_does(store: &dyn Store, calls: &[Call]) {
    let mut model = Model::new();
    let first = store.put("first", b"", Expect::Any).await.unwrap();
    let mut latest = first;
    for call in calls {
        let write = write(call, &model, latest);
        let found = model.get(&write.key).map(|(_, revision)| *revision);
        let done = store.commit(std::slice::from_ref(&write)).await;
        if !write.expect.holds(found) {
            assert_eq!(done, Err(Error::Conflict { key: write.key, found }), "{call:?}");
            continue;
        }
        let revision = done.unwrap();
        let changes = call.value.is_some() || found.is_some();
        assert_eq!(latest < revision, changes, "{call:?}: {latest:?}, {revision:?}");
        latest = revision;
        match call.value {
            Some(value) => model.insert(write.key, (vec![value], revision)),
            None => model.remove(&write.key),
        };
        assert_eq!(contents(store).await, model, "{call:?}");
    }
    assert_eq!(watched(store, first, latest).await, model);
}

fn write(call: &Call, model: &Model, latest: Revision) -> Write {
    let key = format!("random/{}", call.key);
    let current = model.get(&key).map(|(_, revision)| *revision);
    let expect = match call.expect {
        Expected::Absent => Expect::Absent,
        Expected::Any => Expect::Any,
        Expected::Current => current.map_or(Expect::Absent, Expect::Revision),
        Expected::Other => Expect::Revision(Revision(latest.0 + 1)),
    };
    match call.value {
        Some(value) => Write::put(&key, &[value], expect),
        None => Write::delete(&key, expect),
    }
}

async fn contents(store: &dyn Store) -> Model {
    let records = all(store, "random/").await;
    records.into_iter().map(|record| (record.key, (record.value, record.revision))).collect()
}

/// What the changes between two revisions come to.
async fn watched(store: &dyn Store, after: Revision, latest: Revision) -> Model {
    let (mut model, mut reached) = (Model::new(), after);
    let mut watch = store.watch("random/", after).await.unwrap();
    while reached < latest {
        let change = next(&mut watch).await.unwrap();
        assert!(reached < change.revision, "once and in order");
        reached = change.revision;
        match change.value {
            Some(value) => model.insert(change.key, (value, change.revision)),
            None => model.remove(&change.key),
        };
    }
    model
}
