//! Requests that share a script hear what each would hear alone.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use redis::Commands;
use syncguard::backend::{AcquireRequest, Acquired, Backend, BackendExt, LookupBy, Mutation, Owner};
use syncguard::engine::{AcquireOptions, Client, ClientOptions, NoEnvironment};
use syncguard::lock::{Code, Lease, LockId, Result};
use syncguard::stores::redis::RedisBackend;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::records::{now, record};
use crate::support::proxy::Proxy;
use crate::support::redis_server::RedisServer;
use crate::{assert_done, assert_held, backend, eventually, granted, key, request, take, ttl};

async fn acquire_all(backend: &RedisBackend, names: &[String]) -> Vec<(AcquireRequest, Result<Acquired>)> {
    let requests: Vec<_> = names.iter().map(|name| request(name)).collect();
    let answers = join_all(requests.iter().map(|request| backend.acquire(request))).await;
    requests.into_iter().zip(answers).collect()
}

fn names(prefix: &str, count: usize) -> Vec<String> {
    (0..count).map(|i| format!("{prefix}{i}")).collect()
}

/// How often a script ran by its hash or its text.
fn scripts(client: &mut redis::Connection) -> u64 {
    let stats: String = redis::cmd("INFO").arg("commandstats").query(client).unwrap();
    let calls = |line: &str| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok();
    stats.lines().filter(|line| line.starts_with("cmdstat_eval")).filter_map(calls).sum()
}

#[tokio::test]
async fn what_is_asked_at_the_same_time_takes_few_scripts_and_is_stored_as_ever() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    take(&backend, "warm-up").await;
    let mut client = server.client();
    for round in 0..2 {
        let before = scripts(&mut client);
        let names = names("k", 100);
        let mut leases = Vec::new();
        for (request, answer) in acquire_all(&backend, &names).await {
            let lease = granted(answer.unwrap());
            assert_eq!((&lease.key, lease.lock_id), (&request.key, request.lock_id));
            leases.push(lease);
        }
        for (name, lease) in names.iter().zip(&leases) {
            let id = lease.lock_id.as_str();
            let (acquired, expires) = (lease.acquired_at.as_millis(), lease.expires_at.as_millis());
            assert_eq!(expires - acquired, 30_000);
            let stored: String = client.get(format!("syncguard:{name}")).unwrap();
            assert_eq!(stored, record(id, expires, acquired, name, &lease.fence.to_string()));
            let index = format!("syncguard:id:{id}");
            assert_eq!(client.get::<_, String>(&index).unwrap(), format!("syncguard:{name}"));
            let fence = format!("syncguard:fence:syncguard:{name}");
            assert_eq!(client.get::<_, u64>(&fence).unwrap(), lease.fence.value());
            for name in [format!("syncguard:{name}"), index] {
                let left: i64 = client.pttl(name).unwrap();
                assert!((29_000..=30_000).contains(&left), "{left}");
            }
            assert_eq!(client.pttl::<_, i64>(fence).unwrap(), -1);
        }
        let owners: Vec<_> = leases.into_iter().map(Owner::from).collect();
        for released in join_all(owners.iter().map(|owner| backend.release(owner))).await {
            assert_done(&released.unwrap());
        }
        let left: Vec<String> = client.keys("syncguard:*").unwrap();
        let left: Vec<_> = left.iter().filter(|name| !name.contains("fence:")).collect();
        assert_eq!(left.len(), 2, "lock and index of the warm-up: {left:?}");
        let took = scripts(&mut client) - before;
        assert!(took <= 12, "round {round}: 200 requests took {took} scripts");
    }
}

#[tokio::test]
async fn each_acquire_hears_its_own_answer() {
    let server = RedisServer::start();
    let (backend, other) = (backend(&server.url()), backend(&server.url()));
    let mut client = server.client();
    let id = LockId::mint();
    let time = now(&mut client);
    let stored = |expires: u64, name: &str| record(id.as_str(), expires, 1, name, "000000000000001");
    let _: () = client
        .mset(&[
            ("syncguard:garbage", "garbage".to_owned()),
            ("syncguard:expired", stored(time - 5000, "expired")),
            ("syncguard:tolerated", stored(time - 500, "tolerated")),
            ("syncguard:fence:syncguard:words", "words".to_owned()),
            ("syncguard:fence:syncguard:long", "1234567890123456".to_owned()),
            ("syncguard:fence:syncguard:ahead", "800000000000000".to_owned()),
            ("syncguard:fence:syncguard:last", "899999999999999".to_owned()),
            ("syncguard:fence:syncguard:over", "900000000000000".to_owned()),
        ])
        .unwrap();
    let _: () = client.lpush("syncguard:list", "x").unwrap();
    let _: () = client.lpush("syncguard:fence:syncguard:fence-list", "x").unwrap();
    take(&other, "held").await;

    // Some requests before them, so that the first does not go by itself.
    let mut all = names("free", 6);
    let special = [
        "garbage",
        "expired",
        "tolerated",
        "words",
        "long",
        "ahead",
        "last",
        "over",
        "list",
        "fence-list",
        "held",
    ];
    all.extend(special.map(str::to_owned));
    let answers = acquire_all(&backend, &all).await;
    let answer = |name: &str| &answers[all.iter().position(|each| each == name).unwrap()].1;
    let fence = |name: &str| match answer(name) {
        Ok(Acquired::Granted(lease)) => lease.fence.value(),
        other => panic!("{name}: {other:?}"),
    };
    let refused = |name: &str, place: &str| match answer(name) {
        Err(error) => assert!(error.code() == Code::Internal && error.message().contains(place), "{error}"),
        Ok(other) => panic!("{name}: {other:?}"),
    };
    for name in &all[..6] {
        assert!(fence(name) / 10 >= time);
    }
    assert!(fence("expired") / 10 >= time);
    assert_eq!(fence("ahead"), 800_000_000_000_001);
    assert_eq!(fence("last"), 900_000_000_000_000);
    refused("garbage", "\"syncguard:garbage\"");
    refused("list", "\"syncguard:list\"");
    for name in ["words", "long", "fence-list"] {
        refused(name, &format!("syncguard:fence:syncguard:{name}"));
    }
    refused("over", "900000000000000");
    let Ok(Acquired::Held { free_in: Some(free_in) }) = answer("held") else {
        panic!("{:?}", answer("held"))
    };
    assert!(*free_in > Duration::from_secs(29) && *free_in <= Duration::from_secs(30), "{free_in:?}");
    let Ok(Acquired::Held { free_in: Some(free_in) }) = answer("tolerated") else {
        panic!("{:?}", answer("tolerated"))
    };
    assert!(*free_in <= Duration::from_millis(500), "{free_in:?}");

    // What was refused has changed nothing.
    assert_eq!(client.get::<_, String>("syncguard:garbage").unwrap(), "garbage");
    assert_eq!(client.llen::<_, i64>("syncguard:list").unwrap(), 1);
    for name in ["words", "long", "over", "fence-list"] {
        assert!(!client.exists::<_, bool>(format!("syncguard:{name}")).unwrap());
    }
    for name in ["held", "tolerated", "garbage"] {
        let fences: i64 = client.exists(format!("syncguard:fence:syncguard:{name}")).unwrap();
        assert_eq!(fences, i64::from(name == "held"), "a refusal mints no fence");
    }
}

#[tokio::test]
async fn each_release_hears_its_own_answer() {
    let server = RedisServer::start();
    let (backend, other) = (backend(&server.url()), backend(&server.url()));
    let mut client = server.client();
    let taken: Vec<Lease> = acquire_all(&backend, &names("mine", 20))
        .await
        .into_iter()
        .map(|(_, answer)| granted(answer.unwrap()))
        .collect();
    let (expired, stolen, gone, garbage) = (&taken[16], &taken[17], &taken[18], &taken[19]);
    let past = now(&mut client) - 5000;
    let old = record(expired.lock_id.as_str(), past, 1, "mine16", "000000000000001");
    let _: () = client.set("syncguard:mine16", old).unwrap();
    let _: () = client.del(&["syncguard:mine17", "syncguard:mine18"]).unwrap();
    let theirs = take(&other, "mine17").await;
    let _: () = client.set("syncguard:mine19", "garbage").unwrap();

    let watch = other.watch(&key("mine3")).await.unwrap();
    let owners: Vec<_> = taken.iter().cloned().map(Owner::from).collect();
    let answers = join_all(owners.iter().map(|owner| backend.release(owner))).await;
    let answer = |lease: &Lease| &answers[taken.iter().position(|each| each == lease).unwrap()];
    for lease in &taken[..16] {
        assert_done(answer(lease).as_ref().unwrap());
    }
    assert_eq!(*answer(expired).as_ref().unwrap(), Mutation::Expired);
    assert_eq!(*answer(stolen).as_ref().unwrap(), Mutation::NotFound);
    assert_eq!(*answer(gone).as_ref().unwrap(), Mutation::NotFound);
    let error = answer(garbage).as_ref().unwrap_err();
    assert!(error.code() == Code::Internal && error.message().contains("\"syncguard:mine19\""), "{error}");
    assert_eq!(client.get::<_, String>("syncguard:mine19").unwrap(), "garbage");
    assert!(other.is_locked(&theirs.key).await.unwrap());
    timeout(Duration::from_secs(5), watch.hint()).await.expect("waiters are woken");
}

#[tokio::test]
async fn of_many_for_one_key_one_is_granted_and_a_repeat_is_the_same_lease() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    take(&backend, "warm-up").await;
    let same = vec!["a".to_owned(); 40];
    let answers = acquire_all(&backend, &same).await;
    let (won, lost): (Vec<_>, Vec<_>) =
        answers.into_iter().partition(|(_, answer)| matches!(answer, Ok(Acquired::Granted(_))));
    assert_eq!(won.len(), 1);
    lost.iter().for_each(|(_, answer)| assert_held(answer.as_ref().unwrap()));

    let (request, first) = won.into_iter().next().unwrap();
    let others: Vec<_> = names("b", 10).iter().map(|name| crate::request(name)).collect();
    let all = join_all(others.iter().chain([&request]).map(|request| backend.acquire(request))).await;
    assert_eq!(granted(all.into_iter().next_back().unwrap().unwrap()), granted(first.unwrap()));
}

#[tokio::test]
async fn a_burst_for_one_key_takes_as_few_scripts_as_one_for_many_keys() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let mut client = server.client();
    take(&backend, "warm-up").await;
    for names in [names("k", 1000), vec!["a".to_owned(); 1000], vec!["held".to_owned(); 1000]] {
        if names[0] == "held" {
            take(&backend, "held").await;
        }
        let before = scripts(&mut client);
        let answers = acquire_all(&backend, &names).await;
        let took = scripts(&mut client) - before;
        assert!(took <= 24, "1,000 requests for {} and so on took {took} scripts", names[0]);
        let won = answers.iter().filter(|(_, answer)| matches!(answer, Ok(Acquired::Granted(_)))).count();
        assert_eq!(won, [1000, 1, 0][["k0", "a", "held"].iter().position(|name| *name == names[0]).unwrap()]);
        for (_, answer) in &answers {
            if let Acquired::Held { free_in } = answer.as_ref().unwrap() {
                let free_in = free_in.unwrap();
                assert!(
                    free_in > Duration::from_secs(25) && free_in <= Duration::from_secs(30),
                    "{free_in:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_burst_for_one_key_on_a_slow_network_times_out_for_nobody() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let backend = Arc::new(backend(&proxy.url()));
    let client = Client::new(backend, ClientOptions::default(), Arc::new(NoEnvironment), Handle::current());
    let acquire = |name: &str| {
        let options = AcquireOptions { key: key(name), ttl: ttl(30_000), keep: None, observer: None };
        client.acquire(options, None)
    };
    granted(acquire("warm-up").await.unwrap());
    proxy.delay(Duration::from_millis(12));
    let mut direct = server.client();
    for distinct in [true, false] {
        let before = scripts(&mut direct);
        let names: Vec<_> =
            (0..1000).map(|i| if distinct { format!("k{i}") } else { "a".to_owned() }).collect();
        let answers = join_all(names.iter().map(|name| acquire(name))).await;
        let answers: Vec<_> = answers.into_iter().map(|answer| answer.expect("an answer in time")).collect();
        let won = answers.iter().filter(|answer| matches!(answer, Acquired::Granted(_))).count();
        assert_eq!(won, if distinct { 1000 } else { 1 });
        // At 24 ms for each four of them: some 100 ms.
        let took = scripts(&mut direct) - before;
        assert!(took <= 24, "1,000 requests took {took} scripts");
    }
}

#[tokio::test]
async fn a_lock_id_that_is_repeated_in_a_burst_is_granted_once_and_unchanged() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    take(&backend, "warm-up").await;
    let others: Vec<_> = names("b", 10).iter().map(|name| crate::request(name)).collect();
    let first = request("a");
    let longer = AcquireRequest { ttl: ttl(60_000), ..first.clone() };
    let all = [&others[0], &first, &longer, &first].into_iter().chain(&others[1..]);
    let answers = join_all(all.map(|request| backend.acquire(request))).await;
    let leases: Vec<_> = answers.into_iter().map(|answer| granted(answer.unwrap())).collect();
    let read = backend.lookup(LookupBy::Key(&key("a"))).await.unwrap();
    assert_eq!(read.as_ref(), Some(&leases[1]));
    assert!(leases[1..4].iter().all(|lease| *lease == leases[1]), "{:?}", &leases[1..4]);
}

#[tokio::test]
async fn what_cannot_be_read_is_held_for_none_of_a_burst() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let mut client = server.client();
    let _: () = client.lpush("syncguard:list", "x").unwrap();
    let _: () = client.set("syncguard:garbage", "garbage").unwrap();
    let _: () = client.set("syncguard:fence:syncguard:words", "words").unwrap();
    let mut all = names("free", 6);
    all.extend(["list", "garbage", "words"].repeat(3).into_iter().map(str::to_owned));
    for (request, answer) in acquire_all(&backend, &all).await {
        if request.key.as_str().starts_with("free") {
            granted(answer.unwrap());
        } else {
            let error = answer.unwrap_err();
            assert!(
                error.code() == Code::Internal && error.message().contains(request.key.as_str()),
                "{error}"
            );
        }
    }
}

#[tokio::test]
async fn a_lease_that_is_released_twice_in_a_burst_is_there_once() {
    let server = RedisServer::start();
    let backend = backend(&server.url());
    let mut leases = Vec::new();
    for name in names("k", 8) {
        leases.push(take(&backend, &name).await);
    }
    let thief = Owner { lock_id: LockId::mint(), lease: Some(leases[3].clone()) };
    let owner = Owner::from(leases[3].clone());
    let mut owners: Vec<_> = leases.into_iter().map(Owner::from).collect();
    owners.extend([owner.clone(), thief, owner]);
    let mut client = server.client();
    let before = scripts(&mut client);
    let answers = join_all(owners.iter().map(|owner| backend.release(owner))).await;
    let answers: Vec<_> = answers.into_iter().map(Result::unwrap).collect();
    assert_eq!(answers[..8], [Mutation::Done(()); 8]);
    assert_eq!(answers[8..], [Mutation::NotFound; 3]);
    // All of them together, and the thief's by itself.
    assert_eq!(scripts(&mut client) - before, 2);
}

#[tokio::test]
async fn what_the_server_refuses_to_one_is_not_refused_to_others() {
    let server = RedisServer::start();
    let user = ["alice", "on", ">secret", "+@all", "~syncguard:id:*", "~syncguard:fence:*", "~syncguard:a*"];
    redis::cmd("ACL").arg("SETUSER").arg(&user).exec(&mut server.client()).unwrap();
    let backend = backend(&server.url().replace("redis://", "redis://alice:secret@"));
    let mut all = names("a", 8);
    all.push("b".to_owned());
    all.extend(names("aa", 8));
    for (request, answer) in acquire_all(&backend, &all).await {
        if request.key == key("b") {
            assert_eq!(answer.unwrap_err().code(), Code::AuthFailed);
        } else {
            granted(answer.unwrap());
        }
    }
}

#[tokio::test]
async fn whoever_gives_up_before_the_request_left_has_asked_for_nothing() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let backend = std::sync::Arc::new(backend(&proxy.url()));
    take(&*backend, "warm-up").await;
    proxy.mute();
    // One after another, so that each takes a script of its own, until as many are under way as there may be.
    let mut client = server.client();
    let mut under_way = Vec::new();
    for name in names("sent", 4) {
        let (backend, request) = (backend.clone(), request(&name));
        under_way.push(tokio::spawn(async move { backend.acquire(&request).await }));
        let lock = format!("syncguard:{name}");
        eventually("it is there", async || client.exists(&lock).unwrap()).await;
    }
    let (given_up, patient) = (request("given-up"), request("patient"));
    let waits = {
        let (backend, patient) = (backend.clone(), patient.clone());
        tokio::spawn(async move { backend.acquire(&patient).await })
    };
    timeout(Duration::from_millis(50), backend.acquire(&given_up)).await.unwrap_err();
    assert!(!client.exists::<_, bool>("syncguard:patient").unwrap(), "both wait");
    proxy.cut();
    for task in under_way {
        assert!(task.await.unwrap().unwrap_err().is_unknown());
    }
    // The next ones leave, on the next connection.
    granted(waits.await.unwrap().unwrap());
    assert!(!backend.is_locked(&key("given-up")).await.unwrap());
    let fence: bool = client.exists("syncguard:fence:syncguard:given-up").unwrap();
    assert!(!fence, "it was never sent");
}
