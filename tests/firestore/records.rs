//! What the documents hold, byte for byte, and what is made of those that others wrote.

use std::collections::BTreeMap;
use std::time::Duration;

use googleapis_tonic_google_firestore_v1::google::firestore::v1::value::ValueType;
use syncguard::backend::{Acquired, Backend, BackendExt, HandOver, LookupBy, Mutation, Owner, Yield};
use syncguard::lock::{Code, Fence, LockId, Timestamp};
use syncguard::stores::firestore::storage_keys;
use syncguard::stores::target::Setting;

use crate::raw::{Raw, double, text, whole};
use crate::{backend_of, backend_on, emulator, held, key, request, take, ttl};

const ID: &str = "AAAAAAAAAAAAAAAAAAAAAA";

fn vectors() -> serde_json::Value {
    serde_json::from_str(include_str!("../../__test__/vectors/records.json")).unwrap()
}

/// A document as the vectors write it: integers as text, as in Firestore's JSON.
fn as_json(document: &BTreeMap<String, ValueType>) -> serde_json::Value {
    let value = |value: &ValueType| match value {
        ValueType::StringValue(text) => serde_json::json!({ "stringValue": text }),
        ValueType::IntegerValue(number) => serde_json::json!({ "integerValue": number.to_string() }),
        other => panic!("no lock holds {other:?}"),
    };
    document.iter().map(|(name, it)| (name.clone(), value(it))).collect::<serde_json::Map<_, _>>().into()
}

fn from_json(document: &serde_json::Value) -> Vec<(&str, ValueType)> {
    let fields = document.as_object().unwrap().iter();
    fields
        .map(|(name, value)| match value.as_object().unwrap().iter().next().unwrap() {
            (kind, value) if kind == "stringValue" => (name.as_str(), text(value.as_str().unwrap())),
            (_, value) => (name.as_str(), whole(value.as_str().unwrap().parse().unwrap())),
        })
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_are_those_of_the_vectors() {
    let project = emulator::project();
    let (backend, raw) = (backend_on(&project, &[]), Raw::new(emulator::shared(), &project));
    let lease = take(&backend, "a").await;

    let mut expected = vectors()["firestore"]["locks/a"].clone();
    expected["lockId"]["stringValue"] = lease.lock_id.as_str().into();
    expected["expiresAtMs"]["integerValue"] = lease.expires_at.as_millis().to_string().into();
    expected["acquiredAtMs"]["integerValue"] = lease.acquired_at.as_millis().to_string().into();
    expected["fence"]["stringValue"] = lease.fence.to_string().into();
    assert_eq!(as_json(&raw.get("locks/a").await.unwrap()), expected);

    let mut expected = vectors()["firestore"]["fence_counters/fence:a"].clone();
    expected["fence"]["stringValue"] = lease.fence.to_string().into();
    assert_eq!(as_json(&raw.get("fence_counters/fence:a").await.unwrap()), expected);

    backend.release(&Owner::from(lease)).await.unwrap();
    assert_eq!(raw.get("locks/a").await, None);
    assert!(raw.get("fence_counters/fence:a").await.is_some(), "the fence stays");
}

/// The emulator lets nothing go by itself: what a TTL policy goes by is tried, not the policy.
#[tokio::test(flavor = "multi_thread")]
async fn a_counter_that_may_go_says_when() {
    const DAY_MS: u64 = 86_400_000;
    let project = emulator::project();
    let raw = Raw::new(emulator::shared(), &project);
    let going = backend_on(&project, &[("fenceRetentionMs", Setting::Number(86_400_000.0))]);
    let counter = async || raw.get("fence_counters/fence:a").await.expect("a counter");
    let goes_at = async || match counter().await.get("expireAt") {
        Some(ValueType::TimestampValue(time)) => {
            u64::try_from(time.seconds).unwrap() * 1000 + u64::try_from(time.nanos).unwrap() / 1_000_000
        }
        other => panic!("{other:?}"),
    };

    let before = Timestamp::now().as_millis();
    let lease = take(&going, "a").await;
    let goes = goes_at().await;
    // A millisecond is ten fences; the server's clock is this machine's.
    assert!((before + DAY_MS - 1..=Timestamp::now().as_millis() + DAY_MS + 1).contains(&goes), "{goes}");
    assert_eq!(goes, lease.fence.value().div_ceil(10) + DAY_MS);
    let next = request("a");
    let owner = Owner::from(lease);
    going.hand_over(&HandOver { owner: &owner, next: &next, yields: Yield::Never }).await.unwrap();
    let Some(ValueType::StringValue(fence)) = counter().await.remove("fence") else { panic!("no fence") };
    assert_eq!(
        goes_at().await,
        fence.parse::<u64>().unwrap().div_ceil(10) + DAY_MS,
        "after a hand-over, too"
    );
    going.release(&Owner::from(next.lock_id)).await.unwrap();

    // A counter ahead of the clock stays until the clock has passed it, and a day more.
    raw.put("fence_counters/fence:a", &[("fence", text("080000000000000"))]).await;
    let ahead = take(&going, "a").await;
    assert_eq!(ahead.fence.to_string(), "080000000000001");
    assert_eq!(goes_at().await, 8_000_000_000_001 + DAY_MS);
    going.release(&Owner::from(ahead)).await.unwrap();

    // Whoever keeps counters for ever takes the time away.
    let lease = take(&backend_on(&project, &[]), "a").await;
    assert_eq!(counter().await.keys().collect::<Vec<_>>(), ["fence", "keyDebug"]);
    going.release(&Owner::from(lease.clone())).await.unwrap();

    // A counter that is gone is made anew, above what was.
    raw.delete("fence_counters/fence:b").await;
    let first = take(&going, "b").await;
    going.release(&Owner::from(first.clone())).await.unwrap();
    raw.delete("fence_counters/fence:b").await;
    assert!(take(&going, "b").await.fence > first.fence);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_of_the_original_are_read() {
    let project = emulator::project();
    let (backend, raw) = (backend_on(&project, &[]), Raw::new(emulator::shared(), &project));
    let vectors = vectors();
    // Expired by now: whoever comes next counts on from it.
    raw.put("locks/a", &from_json(&vectors["firestore"]["locks/a"])).await;
    raw.put("fence_counters/fence:a", &from_json(&vectors["firestore"]["fence_counters/fence:a"])).await;
    let lease = take(&backend, "a").await;
    assert!(lease.fence > Fence::new(17_636_832_000_000).unwrap());

    // Doubles with whole values, as a client may have written them.
    let (now, in_a_minute) = (Timestamp::now(), Timestamp::now().plus(ttl(60_000)));
    for number in [whole as fn(u64) -> ValueType, double] {
        let fields = [
            ("lockId", text(ID)),
            ("expiresAtMs", number(in_a_minute.as_millis())),
            ("acquiredAtMs", number(now.as_millis())),
            ("key", text("b")),
            ("fence", text("000000000000001")),
        ];
        raw.put("locks/b", &fields).await;
        let found = backend.lookup(LookupBy::Key(&key("b"))).await.unwrap().expect("a live lease");
        assert_eq!((found.expires_at, found.acquired_at), (in_a_minute, now));
        assert_eq!(found.fence.to_string(), "000000000000001");
        assert!(held(&backend, "b").await);
        let owner = Owner::from(LockId::parse(ID).unwrap());
        assert!(matches!(backend.extend(&owner, ttl(90_000)).await.unwrap(), Mutation::Done(_)));
        assert!(matches!(raw.get("locks/b").await.unwrap()["expiresAtMs"], ValueType::IntegerValue(_)));
        assert_eq!(backend.release(&owner).await.unwrap(), Mutation::Done(()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_read_is_internal_and_named_and_stays() {
    let project = emulator::project();
    let (backend, raw) = (backend_on(&project, &[]), Raw::new(emulator::shared(), &project));
    let good = || {
        vec![
            ("lockId", text(ID)),
            ("expiresAtMs", whole(1)),
            ("acquiredAtMs", whole(1)),
            ("key", text("a")),
            ("fence", text("000000000000001")),
        ]
    };
    let wrong = [
        ("lockId", text("short")),
        ("lockId", whole(1)),
        ("expiresAtMs", text("1")),
        ("expiresAtMs", ValueType::DoubleValue(1.5)),
        ("expiresAtMs", ValueType::DoubleValue(f64::NAN)),
        ("expiresAtMs", ValueType::DoubleValue(f64::INFINITY)),
        ("expiresAtMs", ValueType::IntegerValue(-1)),
        ("expiresAtMs", ValueType::IntegerValue(i64::MAX)),
        ("acquiredAtMs", ValueType::BooleanValue(true)),
        ("key", text("")),
        ("key", whole(1)),
        ("fence", whole(1)),
        ("fence", text("1e3")),
        ("fence", text("0000000000000001")),
    ];
    for (field, value) in wrong {
        let mut fields = good();
        fields.iter_mut().find(|(name, _)| *name == field).unwrap().1 = value;
        unreadable(&backend, &raw, &fields, field).await;
    }
    for field in ["lockId", "expiresAtMs", "acquiredAtMs", "key", "fence"] {
        let fields: Vec<_> = good().into_iter().filter(|(name, _)| *name != field).collect();
        unreadable(&backend, &raw, &fields, field).await;
    }
    // The fence counter alike.
    raw.delete("locks/a").await;
    raw.put("fence_counters/fence:a", &[("fence", whole(1))]).await;
    let error = backend.acquire(&request("a")).await.unwrap_err();
    assert_eq!(error.code(), Code::Internal);
    assert!(error.message().contains("fence_counters/fence:a"), "{error}");
    assert_eq!(raw.get("locks/a").await, None, "nothing was written");
}

async fn unreadable(backend: &crate::FirestoreBackend, raw: &Raw, fields: &[(&str, ValueType)], field: &str) {
    raw.put("locks/a", fields).await;
    for error in [
        backend.acquire(&request("a")).await.map(|_| ()).unwrap_err(),
        backend.is_locked(&key("a")).await.map(|_| ()).unwrap_err(),
        backend.lookup(LookupBy::Key(&key("a"))).await.map(|_| ()).unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::Internal, "{field}: {error:?}");
        assert!(error.message().contains("locks/a") && error.message().contains(field), "{error}");
        assert!(!error.message().contains(ID), "a lock id is a secret: {error}");
    }
    assert!(raw.get("locks/a").await.is_some(), "it is never deleted");
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_firestore_forbids_take_the_hashed_form() {
    let project = emulator::project();
    let (backend, raw) = (backend_on(&project, &[]), Raw::new(emulator::shared(), &project));
    for name in [".", "..", "__x__", "a/b", "/"] {
        take(&backend, name).await;
        let id = storage_keys(&key(name)).unwrap().lock;
        assert_eq!(id.len(), 22);
        let document = raw.get(&format!("locks/{id}")).await.expect("the document");
        assert_eq!(document["key"], text(name));
    }
    take(&backend, "emoji \u{1f512} %2F \\").await;
    assert!(raw.get("locks/emoji \u{1f512} %2F \\").await.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_documents_with_one_lock_id_the_wrong_one_is_never_touched() {
    let project = emulator::project();
    let (ours, theirs) = (backend_on(&project, &[]), backend_on(&project, &[]));
    let raw = Raw::new(emulator::shared(), &project);
    let lease = take(&ours, "a").await;
    let document = |key: &str, expires_at: u64| {
        [
            ("lockId", text(lease.lock_id.as_str())),
            ("expiresAtMs", whole(expires_at)),
            ("acquiredAtMs", whole(1)),
            ("key", text(key)),
            ("fence", text("000000000000001")),
        ]
    };
    let owner = Owner::from(lease.lock_id);
    let live = lease.expires_at.as_millis();
    // Copies of it elsewhere, an expired leftover, and one that can't be read.
    raw.put("locks/0", &document("a", live)).await;
    raw.put("locks/z", &document("a", live)).await;
    raw.put("locks/b", &document("b", 1)).await;
    raw.put("locks/c", &[("lockId", text(lease.lock_id.as_str()))]).await;
    assert!(matches!(theirs.extend(&owner, ttl(90_000)).await.unwrap(), Mutation::Done(_)));
    assert_eq!(raw.get("locks/0").await.unwrap()["expiresAtMs"], whole(live), "a copy is left alone");
    let found = theirs.lookup(LookupBy::LockId(&lease.lock_id)).await.unwrap().expect("the lease");
    assert_eq!(found.key, lease.key);

    // A second live lease under the same lock id: who can tell which is meant? A process that was granted it.
    raw.put("locks/d", &document("d", live)).await;
    let stranger = backend_on(&project, &[]);
    for error in [
        stranger.release(&owner).await.map(|_| ()).unwrap_err(),
        stranger.extend(&owner, ttl(1000)).await.map(|_| ()).unwrap_err(),
        stranger.lookup(LookupBy::LockId(&lease.lock_id)).await.map(|_| ()).unwrap_err(),
    ] {
        assert_eq!(error.code(), Code::Internal, "{error:?}");
        assert!(!format!("{error:?}").contains(lease.lock_id.as_str()));
    }
    assert_eq!(ours.release(&Owner::from(lease)).await.unwrap(), Mutation::Done(()));
    assert_eq!(raw.get("locks/a").await, None);
    for copy in ["locks/0", "locks/z", "locks/b", "locks/c", "locks/d"] {
        assert!(raw.get(copy).await.is_some(), "{copy} stays");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn collections_and_databases_are_those_that_were_named() {
    let project = emulator::project();
    let options =
        [("collection", crate::text("apps/x/own-locks")), ("fenceCollection", crate::text("own-fences"))];
    let facts = [
        ("projectId", crate::text(&project)),
        ("databaseId", crate::text("second")),
        ("host", crate::text(emulator::shared())),
        ("ssl", Setting::Flag(false)),
    ];
    let (ours, theirs) = (backend_of(&facts, &options), backend_of(&facts, &options));
    let raw = Raw::of_database(emulator::shared(), &project, "second");
    let lease = take(&ours, "a").await;
    assert!(raw.get("apps/x/own-locks/a").await.is_some());
    assert!(raw.get("own-fences/fence:a").await.is_some());
    assert!(held(&theirs, "a").await);
    assert!(!held(&backend_on(&project, &[]), "a").await, "the other database knows nothing of it");
    assert_eq!(theirs.release(&Owner::from(lease.lock_id)).await.unwrap(), Mutation::Done(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn clean_up_removes_what_expired_long_ago_and_nothing_else() {
    let project = emulator::project();
    let raw = Raw::new(emulator::shared(), &project);
    let keeping = backend_on(&project, &[]);
    let cleaning = backend_on(&project, &[("cleanupInIsLocked", Setting::Flag(true))]);
    let mut short = request("a");
    short.ttl = ttl(1);
    assert!(matches!(keeping.acquire(&short).await.unwrap(), Acquired::Granted(_)));
    tokio::time::sleep(Duration::from_millis(1200)).await;
    assert!(!cleaning.is_locked(&key("a")).await.unwrap());
    assert!(raw.get("locks/a").await.is_some(), "not yet");
    tokio::time::sleep(Duration::from_millis(1000)).await;
    assert!(!keeping.is_locked(&key("a")).await.unwrap());
    assert!(raw.get("locks/a").await.is_some(), "only where it is switched on");
    assert!(!cleaning.is_locked(&key("a")).await.unwrap());
    assert_eq!(raw.get("locks/a").await, None);
    assert!(raw.get("fence_counters/fence:a").await.is_some());
}
