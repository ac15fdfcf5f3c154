//! What acquire, extend, release, hand_over and the reading operations do.

use std::time::Duration;

use redis::Commands;
use syncguard::backend::{Acquired, Backend, BackendExt, HandOver, LookupBy, Mutation, Owner, Yield};
use syncguard::lock::{Code, Lease, LockId};
use syncguard::stores::target::Setting;

use crate::support::redis_server::RedisServer;
use crate::{
    assert_done, assert_held, backend, backend_of, backend_with, granted, key, request, take, text, ttl,
};

fn known(lease: &Lease) -> Owner {
    Owner::from(lease.clone())
}

fn foreign(lease: &Lease) -> Owner {
    Owner::from(lease.lock_id)
}

#[tokio::test]
async fn what_is_stored_is_the_original_layout_to_the_byte() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let lease = take(&backend, "a").await;
    let mut client = server.client();

    let id = lease.lock_id.as_str();
    let (acquired, expires) = (lease.acquired_at.as_millis(), lease.expires_at.as_millis());
    assert_eq!(expires - acquired, 30_000);
    let stored: String = client.get("syncguard:a").unwrap();
    assert_eq!(
        stored,
        format!(
            r#"{{"lockId":"{id}","expiresAtMs":{expires},"acquiredAtMs":{acquired},"key":"a","fence":"{}"}}"#,
            lease.fence
        )
    );
    assert_eq!(client.get::<_, String>(format!("syncguard:id:{id}")).unwrap(), "syncguard:a");
    assert_eq!(
        client.get::<_, String>("syncguard:fence:syncguard:a").unwrap(),
        lease.fence.value().to_string()
    );
    for name in ["syncguard:a".to_owned(), format!("syncguard:id:{id}")] {
        let left: i64 = client.pttl(name).unwrap();
        assert!((29_000..=30_000).contains(&left), "{left}");
    }
    assert_eq!(client.pttl::<_, i64>("syncguard:fence:syncguard:a").unwrap(), -1);
    assert_eq!(redis::cmd("DBSIZE").query::<i64>(&mut client).unwrap(), 3);
    // The fence follows the clock, in units of 100 microseconds.
    assert_eq!(lease.fence.value() / 10, acquired);
}

/// How often the server ran a command since it was last asked to forget.
fn ran(client: &mut redis::Connection, command: &str) -> usize {
    let stats: String = redis::cmd("INFO").arg("commandstats").query(client).unwrap();
    let calls = stats.lines().find_map(|line| line.strip_prefix(&format!("cmdstat_{command}:calls=")));
    calls.and_then(|calls| calls.split(',').next()?.parse().ok()).unwrap_or(0)
}

#[tokio::test]
async fn a_free_key_costs_the_server_four_commands_to_take_and_four_to_give_back() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let mut client = server.client();
    // With a counter and without one.
    for _ in 0..2 {
        redis::cmd("CONFIG").arg("RESETSTAT").exec(&mut client).unwrap();
        let lease = take(&backend, "a").await;
        assert_eq!([ran(&mut client, "time"), ran(&mut client, "set"), ran(&mut client, "mget")], [1, 3, 0]);
        redis::cmd("CONFIG").arg("RESETSTAT").exec(&mut client).unwrap();
        assert_done(&backend.release(&Owner::from(lease)).await.unwrap());
        let each = ["get", "time", "del", "publish"].map(|command| ran(&mut client, command));
        assert_eq!(each, [1, 1, 1, 1]);
    }
    // A counter that is ahead of the clock goes the long way, and nothing shows.
    let ahead = "99999999999990";
    let _: () = client.set("syncguard:fence:syncguard:a", ahead).unwrap();
    let lease = take(&backend, "a").await;
    assert_eq!(lease.fence.to_string(), "099999999999991");
    let stored: String = client.get("syncguard:a").unwrap();
    assert!(stored.ends_with(r#""fence":"099999999999991"}"#), "{stored}");
    assert_eq!(ran(&mut client, "mget"), 1);
}

#[tokio::test]
async fn contention_writes_nothing_and_tells_when_the_key_is_free() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    take(&backend, "a").await;
    let mut client = server.client();
    let before = dirty(&mut client);
    let Acquired::Held { free_in: Some(free_in) } = backend.acquire(&request("a")).await.unwrap() else {
        panic!("it must be held")
    };
    assert!(free_in > Duration::from_secs(29) && free_in <= Duration::from_secs(30), "{free_in:?}");
    assert!(backend.is_locked(&key("a")).await.unwrap());
    assert!(!backend.is_locked(&key("b")).await.unwrap());
    backend.lookup(LookupBy::Key(&key("a"))).await.unwrap();
    assert_eq!(dirty(&mut client), before, "refusals and look-ups are read-only");
}

/// How many changes the server has seen.
fn dirty(client: &mut redis::Connection) -> String {
    let info: String = redis::cmd("INFO").arg("persistence").query(client).unwrap();
    info.lines().find(|line| line.starts_with("rdb_changes_since_last_save")).unwrap().to_owned()
}

#[tokio::test]
async fn the_same_lock_id_is_granted_the_same_lease_again() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let request = request("a");
    let first = granted(backend.acquire(&request).await.unwrap());
    assert_eq!(granted(backend.acquire(&request).await.unwrap()), first);
}

#[tokio::test]
async fn fences_rise_also_after_the_counter_is_lost() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let mut last = None;
    for round in 0..20 {
        let lease = take(&backend, "a").await;
        assert!(Some(lease.fence) > last, "{:?} after {last:?}", lease.fence);
        last = Some(lease.fence);
        assert_done(&backend.release(&known(&lease)).await.unwrap());
        if round == 10 {
            redis::cmd("FLUSHALL").exec(&mut server.client()).unwrap();
        }
    }
    // A counter ahead of the clock counts on by one.
    let _: () = server.client().set("syncguard:fence:syncguard:a", "88000000000000").unwrap();
    assert_eq!(take(&backend, "a").await.fence.value(), 88_000_000_000_001);
}

#[tokio::test]
async fn only_the_owner_extends_and_releases_known_or_not() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let mut client = server.client();
    for owner_of in [known, foreign] {
        let lease = take(&backend, "a").await;
        let stranger = Owner::from(LockId::mint());
        assert_eq!(backend.release(&stranger).await.unwrap(), Mutation::NotFound);
        assert_eq!(backend.extend(&stranger, ttl(1000)).await.unwrap(), Mutation::NotFound);
        let thief = Owner { lock_id: LockId::mint(), lease: Some(lease.clone()) };
        assert_eq!(backend.release(&thief).await.unwrap(), Mutation::NotFound);
        assert_eq!(backend.extend(&thief, ttl(1000)).await.unwrap(), Mutation::NotFound);

        let owner = owner_of(&lease);
        let Mutation::Done(expires) = backend.extend(&owner, ttl(60_000)).await.unwrap() else { panic!() };
        assert!(expires.as_millis() >= lease.acquired_at.as_millis() + 60_000);
        let read = backend.lookup(LookupBy::LockId(&lease.lock_id)).await.unwrap().unwrap();
        assert_eq!(read, Lease { expires_at: expires, ..lease.clone() });
        for name in ["syncguard:a".to_owned(), format!("syncguard:id:{}", lease.lock_id.as_str())] {
            assert!(client.pttl::<_, i64>(name).unwrap() > 59_000);
        }
        // Set, never added: a shorter time shortens.
        assert_done(&backend.extend(&owner, ttl(2000)).await.unwrap());
        assert!(client.pttl::<_, i64>("syncguard:a").unwrap() <= 2000);

        assert_done(&backend.release(&owner).await.unwrap());
        assert_eq!(backend.release(&owner).await.unwrap(), Mutation::NotFound);
        assert_eq!(backend.extend(&owner, ttl(1000)).await.unwrap(), Mutation::NotFound);
        assert_eq!(redis::cmd("KEYS").arg("*").query::<Vec<String>>(&mut client).unwrap().len(), 1);
    }
}

#[tokio::test]
async fn extend_restores_a_lost_reverse_mapping() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let lease = take(&backend, "a").await;
    let _: () = server.client().del(format!("syncguard:id:{}", lease.lock_id.as_str())).unwrap();
    assert_done(&backend.extend(&known(&lease), ttl(30_000)).await.unwrap());
    assert_done(&backend.release(&foreign(&lease)).await.unwrap());
}

#[tokio::test]
async fn a_lease_ends_by_itself_and_stays_ended() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let mut short = request("a");
    short.ttl = ttl(30);
    let lease = granted(backend.acquire(&short).await.unwrap());
    tokio::time::sleep(Duration::from_millis(60)).await;
    assert_eq!(backend.extend(&known(&lease), ttl(30_000)).await.unwrap(), Mutation::NotFound);
    assert_eq!(backend.lookup(LookupBy::Key(&key("a"))).await.unwrap(), None);
    assert_eq!(backend.lookup(LookupBy::LockId(&lease.lock_id)).await.unwrap(), None);
    let next = take(&backend, "a").await;
    assert!(next.fence > lease.fence);
    assert_eq!(backend.release(&known(&lease)).await.unwrap(), Mutation::NotFound);
    assert!(backend.is_locked(&key("a")).await.unwrap());
}

#[tokio::test]
async fn many_leases_are_extended_in_order_whatever_their_state() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let mut owners = Vec::new();
    for i in 0..150 {
        owners.push((known(&take(&backend, &format!("k{i}")).await), ttl(60_000)));
    }
    assert_done(&backend.release(&owners[70].0).await.unwrap());
    let _: () = server.client().set("syncguard:k90", "garbage").unwrap();
    owners[140].0.lease = None;
    let results = backend.extend_many(&owners).await;
    assert_eq!(results.len(), 150);
    for (i, result) in results.into_iter().enumerate() {
        match i {
            70 => assert_eq!(result.unwrap(), Mutation::NotFound),
            90 => assert_eq!(result.unwrap_err().code(), Code::Internal),
            _ => assert_done(&result.unwrap()),
        }
    }
    assert!(backend.extend_many(&[]).await.is_empty());
}

#[tokio::test]
async fn hand_over_passes_the_key_in_one_step() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let first = take(&backend, "a").await;
    for owner in [known(&first), foreign(&first)] {
        // The second round's owner is gone: the key is still taken for nobody twice.
        let next = request("a");
        let handed =
            backend.hand_over(&HandOver { owner: &owner, next: &next, yields: Yield::Never }).await.unwrap();
        if owner.lease.is_some() {
            assert_eq!(handed.released, Mutation::Done(()));
            let lease = granted(handed.next.unwrap());
            assert!(lease.fence > first.fence);
            assert_eq!(lease.lock_id, next.lock_id);
            assert_eq!(backend.lookup(LookupBy::LockId(&lease.lock_id)).await.unwrap(), Some(lease));
            assert_eq!(backend.lookup(LookupBy::LockId(&first.lock_id)).await.unwrap(), None);
        } else {
            assert_eq!(handed.released, Mutation::NotFound);
            assert_held(&handed.next.unwrap());
        }
    }
    assert_eq!(redis::cmd("DBSIZE").query::<i64>(&mut server.client()).unwrap(), 3);
}

#[tokio::test]
async fn hand_over_of_a_free_key_acquires_it() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let (owner, next) = (Owner::from(LockId::mint()), request("a"));
    let handed = backend
        .hand_over(&HandOver { owner: &owner, next: &next, yields: Yield::IfWatched { own: 0 } })
        .await
        .unwrap();
    assert_eq!(handed.released, Mutation::NotFound);
    granted(handed.next.unwrap());
}

#[tokio::test]
async fn hostile_keys_work_and_stay_apart() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let long = "x".repeat(512);
    let emoji = "🔒".repeat(128);
    let keys = [
        "fence:x",
        "fence:syncguard:x",
        "x",
        "id:x",
        "{a}",
        "}{",
        "a:b",
        "%2F",
        ".",
        "..",
        "__x__",
        "a/b",
        "../../etc/passwd",
        "'; DROP TABLE x; --",
        "\"",
        "\\",
        "\u{1}\n\r\t\u{7f}",
        "%s%d",
        "a\"b\\c",
        &long,
        &emoji,
        "é",
        "id:AAAAAAAAAAAAAAAAAAAAAA",
        "a:wake",
    ];
    let mut leases = Vec::new();
    for name in keys {
        leases.push(take(&backend, name).await);
    }
    for (name, lease) in keys.iter().zip(&leases) {
        assert_held(&backend.acquire(&request(name)).await.unwrap());
        let read = backend.lookup(LookupBy::Key(&key(name))).await.unwrap();
        assert_eq!(read.as_ref(), Some(lease), "{name:?}");
        assert_eq!(backend.lookup(LookupBy::LockId(&lease.lock_id)).await.unwrap().as_ref(), Some(lease));
        assert_done(&backend.extend(&foreign(lease), ttl(10_000)).await.unwrap());
    }
    for (lease, owner_of) in leases.iter().zip([known, foreign].iter().cycle()) {
        assert_done(&backend.release(&owner_of(lease)).await.unwrap());
    }
    let left: Vec<String> = redis::cmd("KEYS").arg("*").query(&mut server.client()).unwrap();
    assert_eq!(left.len(), keys.len(), "only fences are left: {left:?}");
}

#[tokio::test]
async fn prefixes_keep_locks_apart_and_the_clients_own_stands_before_everything() {
    let server = RedisServer::start();
    let port = Setting::Number(server.port.into());
    let facts = [("port", port), ("clientKeyPrefix", text("app/"))];
    let backend = backend_of(&facts, &[("keyPrefix", text("p:"))]);
    let other = backend_with(&server.url(), &[("keyPrefix", text("p"))]);
    let lease = take(&backend, "a").await;
    take(&other, "a").await;
    assert_ne!(backend.capabilities().store, other.capabilities().store);
    let id = lease.lock_id.as_str();
    let mut client = server.client();
    assert_eq!(client.get::<_, String>(format!("app/p:id:{id}")).unwrap(), "app/p:a");
    assert!(client.exists::<_, bool>("app/p:a").unwrap());
    assert!(client.exists::<_, bool>("app/p:fence:p:a").unwrap());
    assert_done(&backend.release(&foreign(&lease)).await.unwrap());

    let bare = backend_with(&server.url(), &[("keyPrefix", text(""))]);
    let lease = take(&bare, "a").await;
    assert!(client.exists::<_, bool>("a").unwrap());
    assert_done(&bare.release(&foreign(&lease)).await.unwrap());
}

#[tokio::test]
async fn without_a_prefix_a_lock_id_of_another_process_does_as_much() {
    let server = RedisServer::start();
    let [ours, theirs] = [(); 2].map(|()| backend_with(&server.url(), &[("keyPrefix", text(""))]));
    let lease = take(&ours, "a").await;
    let owner = foreign(&lease);
    assert_eq!(theirs.lookup(LookupBy::LockId(&lease.lock_id)).await.unwrap().as_ref(), Some(&lease));
    let Mutation::Done(expires) = theirs.extend(&owner, ttl(60_000)).await.unwrap() else { panic!() };
    assert!(expires.as_millis() >= lease.acquired_at.as_millis() + 60_000);
    for extended in theirs.extend_many(&[(owner.clone(), ttl(9000)), (known(&lease), ttl(9000))]).await {
        assert_done(&extended.unwrap());
    }
    let next = request("a");
    let handing = HandOver { owner: &owner, next: &next, yields: Yield::Never };
    let lease = granted(theirs.hand_over(&handing).await.unwrap().next.unwrap());
    assert_done(&ours.release(&foreign(&lease)).await.unwrap());
    for mutation in [ours.release(&foreign(&lease)).await, ours.release(&owner).await] {
        assert_eq!(mutation.unwrap(), Mutation::NotFound);
    }
    assert_eq!(ours.extend(&owner, ttl(1000)).await.unwrap(), Mutation::NotFound);
    assert_eq!(ours.lookup(LookupBy::LockId(&lease.lock_id)).await.unwrap(), None);
}

#[tokio::test]
async fn expired_records_without_px_are_free_and_cleaned_up_only_when_told() {
    let server = RedisServer::start();
    let mut client = server.client();
    let now = crate::records::now(&mut client);
    let id = LockId::mint();
    let record = crate::records::record(id.as_str(), now - 5_000, now - 10_000, "a", "000000000000007");
    let index = format!("syncguard:id:{}", id.as_str());
    let _: () = client.set("syncguard:a", &record).unwrap();
    let _: () = client.set(&index, "syncguard:a").unwrap();
    let plain = backend(&server.url());
    assert!(!plain.is_locked(&key("a")).await.unwrap());
    assert_eq!(plain.lookup(LookupBy::Key(&key("a"))).await.unwrap(), None);
    assert_eq!(plain.release(&Owner::from(id)).await.unwrap(), Mutation::Expired);
    assert_eq!(plain.extend(&Owner::from(id), ttl(1000)).await.unwrap(), Mutation::Expired);
    assert!(client.exists::<_, bool>("syncguard:a").unwrap());

    let cleaning = backend_with(&server.url(), &[("cleanupInIsLocked", Setting::Flag(true))]);
    assert!(!cleaning.is_locked(&key("a")).await.unwrap());
    assert_eq!(redis::cmd("DBSIZE").query::<i64>(&mut client).unwrap(), 0);

    let _: () = client.set("syncguard:a", &record).unwrap();
    take(&plain, "a").await;

    // Within the tolerance it is still live, and younger than two seconds it is not cleaned up.
    let now = crate::records::now(&mut client);
    let _: () = client
        .set("syncguard:b", crate::records::record(id.as_str(), now - 300, now - 600, "b", "1"))
        .unwrap();
    let Acquired::Held { free_in: Some(free_in) } = plain.acquire(&request("b")).await.unwrap() else {
        panic!()
    };
    assert!(free_in <= Duration::from_millis(700), "{free_in:?}");
    let _: () = client
        .set("syncguard:c", crate::records::record(id.as_str(), now - 1500, now - 1600, "c", "1"))
        .unwrap();
    assert!(!cleaning.is_locked(&key("c")).await.unwrap());
    assert!(client.exists::<_, bool>("syncguard:c").unwrap());
}

#[tokio::test]
async fn clean_up_spares_what_has_changed_since_it_was_read() {
    let server = RedisServer::start();
    let lease = take(&backend(&server.url()), "a").await;
    let mut client = server.client();
    let index = format!("syncguard:id:{}", lease.lock_id.as_str());
    let script = redis::Script::new(include_str!("../../src/stores/redis/scripts/clean_up.lua"));
    let mut invocation = script.key("syncguard:a");
    let deleted: i64 = invocation.key(&index).arg("what was read").invoke(&mut client).unwrap();
    assert_eq!(deleted, 0);
    assert_eq!(client.exists::<_, usize>(&["syncguard:a".to_owned(), index]).unwrap(), 2);
}

#[tokio::test]
async fn close_ends_everything_and_later_calls_are_invalid() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let lease = take(&backend, "a").await;
    let watch = backend.watch(&key("a")).await.unwrap();
    backend.close().await.unwrap();
    tokio::time::timeout(Duration::from_secs(5), watch.hint()).await.expect("who waits is told to look");
    backend.close().await.unwrap();
    assert_eq!(backend.acquire(&request("b")).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(backend.release(&known(&lease)).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(backend.is_locked(&key("a")).await.unwrap_err().code(), Code::InvalidArgument);
    assert_eq!(backend.watch(&key("a")).await.unwrap_err().code(), Code::InvalidArgument);
    let mut client = server.client();
    crate::eventually("the server sees the connection go", async || clients(&mut client) == 1).await;
}

#[tokio::test]
async fn dropping_the_backend_closes_its_connection() {
    let server = RedisServer::start();
    let mut client = server.client();
    {
        let backend = backend(&server.url());
        take(&backend, "a").await;
        drop(backend.watch(&key("a")).await.unwrap());
        assert_eq!(clients(&mut client), 2);
    }
    crate::eventually("the server sees the connection go", async || clients(&mut client) == 1).await;
}

fn clients(client: &mut redis::Connection) -> usize {
    redis::cmd("CLIENT").arg("LIST").query::<String>(client).unwrap().lines().count()
}
