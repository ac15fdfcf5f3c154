//! Redis 6.2, where errors inside scripts come as texts.

use std::sync::{Mutex, Weak};

use syncguard::backend::{Backend, BackendExt, LookupBy, Owner};
use syncguard::lock::{Code, Error, Outcome};
use syncguard::stores::target::Setting;

use crate::conformance::RedisFixture;
use crate::support::free_port;
use crate::support::redis_server::RedisServer;
use crate::{assert_done, backend, backend_of, request, take, text, ttl};

mod conformance {
    use super::{Mutex, RedisFixture, RedisServer, Weak};

    fn fixture() -> RedisFixture {
        static SERVER: Mutex<Weak<RedisServer>> = Mutex::new(Weak::new());
        RedisFixture::on(&SERVER, || RedisServer::old(&[]))
    }

    syncguard::conformance_suite!(fixture());
}

fn assert_is(error: &Error, code: Code, retryable: bool) {
    assert_eq!(
        (error.code(), error.is_retryable(), error.outcome()),
        (code, retryable, Outcome::NotApplied),
        "{error:?}"
    );
}

#[tokio::test]
async fn what_a_script_may_not_do_is_told_by_its_code() {
    for server in [RedisServer::old(&[]), RedisServer::start()] {
        let backend = backend(&server.url());
        let mut client = server.client();
        let mut set = |name: &str, value: &str| {
            redis::cmd("CONFIG").arg("SET").arg(name).arg(value).exec(&mut client).unwrap();
        };
        let lease = take(&backend, "a").await;
        set("maxmemory", "1");
        assert_is(&backend.acquire(&request("b")).await.unwrap_err(), Code::RateLimited, true);
        set("maxmemory", "0");
        set("min-replicas-to-write", "1");
        assert_is(&backend.acquire(&request("b")).await.unwrap_err(), Code::ServiceUnavailable, true);
        set("min-replicas-to-write", "0");
        let (host, port) = ("127.0.0.1", free_port());
        redis::cmd("REPLICAOF").arg(host).arg(port).exec(&mut server.client()).unwrap();
        let owner = Owner::from(lease);
        for error in [
            backend.acquire(&request("b")).await.unwrap_err(),
            backend.release(&owner).await.unwrap_err(),
            backend.extend(&owner, ttl(60_000)).await.unwrap_err(),
        ] {
            assert_is(&error, Code::ServiceUnavailable, true);
        }
        redis::cmd("REPLICAOF").arg("NO").arg("ONE").exec(&mut server.client()).unwrap();
        assert_done(&backend.release(&owner).await.unwrap());
    }
}

#[tokio::test]
async fn what_an_acl_denies_inside_a_script_is_a_failed_authorisation() {
    for server in [RedisServer::old(&[]), RedisServer::start()] {
        let mut client = server.client();
        for (name, denied) in [("writer", "-set"), ("reader", "-get"), ("stranger", "resetkeys")] {
            let rules = ["on", "nopass", "~*", "&*", "+@all", denied];
            redis::cmd("ACL").arg("SETUSER").arg(name).arg(&rules).exec(&mut client).unwrap();
        }
        let login = |name: &str| {
            let port = Setting::Number(server.port.into());
            backend_of(&[("port", port), ("username", text(name)), ("password", text("x"))], &[])
        };
        let lease = take(&backend(&server.url()), "a").await;
        assert_is(&login("writer").acquire(&request("b")).await.unwrap_err(), Code::AuthFailed, false);
        let by_id = Owner::from(lease.lock_id);
        assert_is(&login("writer").extend(&by_id, ttl(1000)).await.unwrap_err(), Code::AuthFailed, false);
        let reader = login("reader");
        assert_is(&reader.release(&by_id).await.unwrap_err(), Code::AuthFailed, false);
        assert_is(&reader.extend(&by_id, ttl(1000)).await.unwrap_err(), Code::AuthFailed, false);
        let found = reader.lookup(LookupBy::LockId(&lease.lock_id)).await;
        assert_is(&found.unwrap_err(), Code::AuthFailed, false);
        assert_is(&login("stranger").acquire(&request("b")).await.unwrap_err(), Code::AuthFailed, false);
    }
}
