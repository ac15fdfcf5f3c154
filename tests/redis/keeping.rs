//! Renewal over a slow network.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use syncguard::backend::BackendExt;
use syncguard::engine::{AcquireOptions, Client, ClientOptions, Environment, KeepPolicy, Policy};
use syncguard::lock::{Error, LockId};
use tokio::runtime::Handle;

use crate::support::proxy::Proxy;
use crate::support::redis_server::RedisServer;
use crate::{backend, key, ttl};

#[derive(Debug, Default)]
struct Losses(Mutex<Vec<Error>>);

impl Environment for Losses {
    fn lost(&self, _: &LockId, error: Error) {
        self.0.lock().unwrap().push(error);
    }
    fn ping(&self) {}
    fn is_busy(&self) -> bool {
        false
    }
    fn pass_on(&self) {}
    fn silent_for(&self) -> Duration {
        Duration::ZERO
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_round_trip_longer_than_the_interval_loses_nothing() {
    let server = RedisServer::start();
    let proxy = Proxy::to(server.port);
    let losses = Arc::new(Losses::default());
    let client = Client::new(
        Arc::new(backend(&proxy.url())),
        ClientOptions::default(),
        losses.clone(),
        Handle::current(),
    );
    let keep = KeepPolicy { interval: Some(Duration::from_millis(50)), ..KeepPolicy::default() };
    let options = AcquireOptions { key: key("a"), ttl: ttl(1000), keep: Some(keep), observer: None };
    let lease = client.lock(options, &Policy::default(), None).await.expect("free");
    // There and back: 120 ms, the double of which is still far from the TTL.
    proxy.delay(Duration::from_millis(60));
    let direct = backend(&server.url());
    for _ in 0..40 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(losses.0.lock().unwrap().is_empty(), "{losses:?}");
        assert!(!client.remaining(&lease.lock_id).is_zero());
        assert!(direct.is_locked(&key("a")).await.expect("answers"));
    }
    client.release(lease.lock_id, None).await.expect("answers");
}
