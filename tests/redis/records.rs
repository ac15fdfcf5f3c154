//! Records of the original library, records written by hand, and what is no record.

use std::time::Duration;

use redis::Commands;
use syncguard::backend::{Acquired, Backend, BackendExt, HandOver, LookupBy, Mutation, Owner, Yield};
use syncguard::lock::{Code, Error, LockId};
use syncguard::stores::target::Setting;

use crate::support::redis_server::RedisServer;
use crate::{assert_done, assert_held, backend, backend_with, granted, key, request, take, ttl};

/// The server's time in milliseconds.
pub fn now(client: &mut redis::Connection) -> u64 {
    let (seconds, micros): (u64, u64) = redis::cmd("TIME").query(client).unwrap();
    seconds * 1000 + micros / 1000
}

pub fn record(id: &str, expires: u64, acquired: u64, key: &str, fence: &str) -> String {
    format!(
        r#"{{"lockId":"{id}","expiresAtMs":{expires},"acquiredAtMs":{acquired},"key":"{key}","fence":"{fence}"}}"#
    )
}

#[tokio::test]
async fn records_of_the_original_are_respected_and_its_counter_goes_on() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let mut client = server.client();
    let (id, now) = (LockId::mint(), now(&mut client));
    let stored = record(id.as_str(), now + 20_000, now, "a", "000000000000001");
    let _: () = client.set_options("syncguard:a", &stored, px(20_000)).unwrap();
    let _: () =
        client.set_options(format!("syncguard:id:{}", id.as_str()), "syncguard:a", px(20_000)).unwrap();
    let _: () = client.set("syncguard:fence:syncguard:a", "1").unwrap();

    assert_held(&backend.acquire(&request("a")).await.unwrap());
    let lease = backend.lookup(LookupBy::LockId(&id)).await.unwrap().unwrap();
    assert_eq!(lease.fence.value(), 1);
    assert_done(&backend.extend(&Owner::from(id), ttl(40_000)).await.unwrap());
    assert_done(&backend.release(&Owner::from(id)).await.unwrap());
    assert!(take(&backend, "a").await.fence.value() > 17_000_000_000_000);
}

#[tokio::test]
async fn foreign_json_is_read_like_our_own() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let mut client = server.client();
    for (name, text) in [("a\\/b", "a/b"), ("\\u00e9", "é"), ("q\\\"", "q\"")] {
        let (id, now) = (LockId::mint(), now(&mut client));
        let stored = format!(
            "{{ \"fence\" : \"42\", \"extra\": [1], \"key\":\"{name}\",\n \"acquiredAtMs\": {now}, \"expiresAtMs\": {}.0, \"lockId\":\"{}\" }}",
            now + 20_000,
            id.as_str()
        );
        let lock = format!("syncguard:{text}");
        let _: () = client.set_options(&lock, &stored, px(20_000)).unwrap();
        let _: () = client.set_options(format!("syncguard:id:{}", id.as_str()), &lock, px(20_000)).unwrap();
        assert_held(&backend.acquire(&request(text)).await.unwrap());
        let before = backend.lookup(LookupBy::Key(&key(text))).await.unwrap().unwrap();
        assert_eq!((before.key.as_str(), before.fence.value(), before.lock_id), (text, 42, id));
        let mut again = request(text);
        again.lock_id = id;
        assert_eq!(granted(backend.acquire(&again).await.unwrap()), before);
        let Mutation::Done(expires) = backend.extend(&Owner::from(id), ttl(50_000)).await.unwrap() else {
            panic!()
        };
        let after = backend.lookup(LookupBy::Key(&key(text))).await.unwrap().unwrap();
        assert_eq!(after, syncguard::lock::Lease { expires_at: expires, ..before });
        assert_done(&backend.release(&Owner::from(id)).await.unwrap());
    }
}

#[tokio::test]
async fn what_is_no_record_is_an_internal_error_that_names_its_place_and_stays() {
    let server = RedisServer::start();
    let backend = backend_with(&server.url(), &[("cleanupInIsLocked", Setting::Flag(true))]);
    let mut client = server.client();
    let id = LockId::mint();
    let good = record(id.as_str(), now(&mut client) + 20_000, 1, "a", "000000000000001");
    let index = format!("syncguard:id:{}", id.as_str());
    let mut broken: Vec<String> = ["", "garbage", "null", "[]", "{}", "1"].map(str::to_owned).to_vec();
    for (from, to) in [
        ("}", ""),
        ("\"fence\":\"000000000000001\"", "\"fence\":1"),
        ("\"fence\":\"000000000000001\"", "\"fence\":\"1e3\""),
        ("\"fence\":\"000000000000001\"", "\"fence\":\"1234567890123456\""),
        (",\"fence\":\"000000000000001\"", ""),
        ("\"acquiredAtMs\":1", "\"acquiredAtMs\":-1"),
        ("\"acquiredAtMs\":1", "\"acquiredAtMs\":1.5"),
        ("\"acquiredAtMs\":1", "\"acquiredAtMs\":\"1\""),
        ("\"acquiredAtMs\":1", "\"acquiredAtMs\":99999999999999999999"),
        ("\"key\":\"a\"", "\"key\":\"a\"b\""),
        ("\"key\":\"a\"", "\"key\":\"\""),
        (id.as_str(), "short"),
    ] {
        broken.push(good.replace(from, to));
    }
    for stored in broken {
        let _: () = client.set("syncguard:a", &stored).unwrap();
        let _: () = client.set(&index, "syncguard:a").unwrap();
        assert_all_fail(&backend, id, "\"syncguard:a\"", &stored).await;
        assert_eq!(client.get::<_, String>("syncguard:a").unwrap(), stored);
    }
    let _: () = client.del("syncguard:a").unwrap();
    let _: () = client.lpush("syncguard:a", "x").unwrap();
    assert_all_fail(&backend, id, "\"syncguard:a\"", "a list").await;
    assert_eq!(client.llen::<_, i64>("syncguard:a").unwrap(), 1);
}

async fn assert_all_fail(backend: &dyn Backend, id: LockId, place: &str, stored: &str) {
    let owner = Owner::from(id);
    let next = request("a");
    let errors: Vec<(&str, Error)> = vec![
        ("acquire", backend.acquire(&next).await.map(drop).unwrap_err()),
        ("release", backend.release(&owner).await.map(drop).unwrap_err()),
        ("extend", backend.extend(&owner, ttl(1000)).await.map(drop).unwrap_err()),
        ("lookup key", backend.lookup(LookupBy::Key(&key("a"))).await.map(drop).unwrap_err()),
        ("lookup id", backend.lookup(LookupBy::LockId(&id)).await.map(drop).unwrap_err()),
        ("is_locked", backend.is_locked(&key("a")).await.map(drop).unwrap_err()),
        (
            "hand over",
            backend
                .hand_over(&HandOver { owner: &owner, next: &next, yields: Yield::Never })
                .await
                .map(drop)
                .unwrap_err(),
        ),
    ];
    for (operation, error) in errors {
        assert_eq!(error.code(), Code::Internal, "{operation} of {stored}");
        assert!(error.message().contains(place), "{operation}: {}", error.message());
        assert!(error.message().contains("expected"), "{operation}: {}", error.message());
        assert!(!error.is_retryable() && !error.is_unknown(), "{operation}: {error:?}");
        assert!(!format!("{error:?}").contains(id.as_str()), "{operation}: {error:?}");
    }
}

#[tokio::test]
async fn a_fence_that_is_no_number_is_an_internal_error() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let mut client = server.client();
    for bad in ["", "x", "-1", "1.5", "1e3", " 1", "1234567890123456"] {
        let _: () = client.set("syncguard:fence:syncguard:a", bad).unwrap();
        let error = backend.acquire(&request("a")).await.unwrap_err();
        assert_eq!(error.code(), Code::Internal);
        assert!(error.message().contains("syncguard:fence:syncguard:a"), "{error}");
        assert_eq!(client.get::<_, String>("syncguard:fence:syncguard:a").unwrap(), bad);
    }
    let _: () = client.del("syncguard:fence:syncguard:a").unwrap();
    let _: () = client.lpush("syncguard:fence:syncguard:a", "x").unwrap();
    let error = backend.acquire(&request("a")).await.unwrap_err();
    assert!(
        error.code() == Code::Internal && error.message().contains("syncguard:fence:syncguard:a"),
        "{error}"
    );
    assert_eq!(client.keys::<_, Vec<String>>("*").unwrap().len(), 1);
}

#[tokio::test]
async fn a_fence_never_exceeds_its_limit_and_nothing_is_written_then() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let mut client = server.client();
    let _: () = client.set("syncguard:fence:syncguard:a", "899999999999999").unwrap();
    let lease = take(&backend, "a").await;
    assert_eq!(lease.fence.to_string(), "900000000000000");
    let stored: String = client.get("syncguard:a").unwrap();
    assert!(stored.ends_with(r#""fence":"900000000000000"}"#), "{stored}");
    assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
    let error = backend.acquire(&request("a")).await.unwrap_err();
    assert!(error.code() == Code::Internal && error.message().contains("900000000000000"), "{error}");
    assert_eq!(client.keys::<_, Vec<String>>("*").unwrap(), ["syncguard:fence:syncguard:a"]);
    assert_eq!(client.get::<_, String>("syncguard:fence:syncguard:a").unwrap(), "900000000000000");
}

#[tokio::test]
async fn no_lease_stays_without_its_fence_also_where_nothing_may_be_deleted() {
    let server = RedisServer::start();
    let mut client = server.client();
    redis::cmd("ACL")
        .arg(&["SETUSER", "some", "on", ">p", "~*", "&*", "+@all", "-del"])
        .exec(&mut client)
        .unwrap();
    let backend = backend(&server.url_for("some:p@"));
    let _: () = client.set("syncguard:fence:syncguard:a", "900000000000000").unwrap();
    backend.acquire(&request("a")).await.unwrap_err();
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(client.keys::<_, Vec<String>>("*").unwrap(), ["syncguard:fence:syncguard:a"]);
}

#[tokio::test]
async fn a_reverse_mapping_that_points_elsewhere_harms_nobody() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let mut client = server.client();
    let lease = take(&backend, "a").await;
    let id = LockId::mint();
    let index = format!("syncguard:id:{}", id.as_str());
    for elsewhere in ["", "other:a", "syncguard:", "syncguard:fence:syncguard:a", "syncguard:id:x"] {
        let _: () = client.set(&index, elsewhere).unwrap();
        for error in [
            backend.release(&Owner::from(id)).await.map(drop).unwrap_err(),
            backend.extend(&Owner::from(id), ttl(1000)).await.map(drop).unwrap_err(),
            backend.lookup(LookupBy::LockId(&id)).await.map(drop).unwrap_err(),
        ] {
            assert_eq!(error.code(), Code::Internal);
            assert!(error.message().contains("syncguard:id:…"), "{error}");
        }
    }
    // Another's lock: not ours to touch, and no mistake either, since locks change hands.
    let _: () = client.set(&index, "syncguard:a").unwrap();
    assert_eq!(backend.release(&Owner::from(id)).await.unwrap(), Mutation::NotFound);
    assert_eq!(backend.extend(&Owner::from(id), ttl(1000)).await.unwrap(), Mutation::NotFound);
    assert_eq!(backend.lookup(LookupBy::LockId(&id)).await.unwrap(), None);
    let _: () = client.del(&index).unwrap();
    let _: () = client.lpush(&index, "x").unwrap();
    assert_eq!(backend.release(&Owner::from(id)).await.unwrap_err().code(), Code::Internal);
    assert_eq!(backend.lookup(LookupBy::Key(&key("a"))).await.unwrap(), Some(lease));
    assert!(matches!(backend.acquire(&request("a")).await.unwrap(), Acquired::Held { .. }));
}

fn px(millis: u64) -> redis::SetOptions {
    redis::SetOptions::default().with_expiration(redis::SetExpiry::PX(millis))
}
