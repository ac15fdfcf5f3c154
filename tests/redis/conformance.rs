//! The contract's rules, over Redis.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

use async_trait::async_trait;
use redis::Commands;
use syncguard::backend::Backend;
use syncguard::conformance::Fixture;
use syncguard::lock::{Fence, Key};
use syncguard::stores::redis::storage_keys;
use syncguard::stores::target::Setting;

use crate::support::redis_server::RedisServer;
use crate::{backend_with, text};

/// A prefix of its own on a server that the rules share while any of them runs.
pub struct RedisFixture {
    server: Arc<RedisServer>,
    /// Whatever stands before the host in the URL.
    login: &'static str,
    prefix: String,
}

impl RedisFixture {
    pub fn start() -> RedisFixture {
        static SERVER: Mutex<Weak<RedisServer>> = Mutex::new(Weak::new());
        RedisFixture::on(&SERVER, RedisServer::start)
    }

    pub fn on(shared: &Mutex<Weak<RedisServer>>, start: impl FnOnce() -> RedisServer) -> RedisFixture {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mut shared = shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let server = shared.upgrade().unwrap_or_else(|| Arc::new(start()));
        *shared = Arc::downgrade(&server);
        RedisFixture {
            server,
            prefix: format!("syncguard:rule{}", COUNT.fetch_add(1, Ordering::Relaxed)),
            login: "",
        }
    }

    pub fn by(self, login: &'static str) -> RedisFixture {
        RedisFixture { login, ..self }
    }

    fn open(&self, cleanup: bool) -> Arc<dyn Backend> {
        let options = [("keyPrefix", text(&self.prefix)), ("cleanupInIsLocked", Setting::Flag(cleanup))];
        Arc::new(backend_with(&self.server.url_for(self.login), &options))
    }
}

#[async_trait]
impl Fixture for RedisFixture {
    async fn backend(&self) -> Arc<dyn Backend> {
        self.open(false)
    }

    async fn backend_with_clean_up(&self) -> Arc<dyn Backend> {
        self.open(true)
    }

    async fn set_fence(&self, key: &Key, fence: Option<Fence>) {
        let name = storage_keys(&self.prefix, key).unwrap().fence;
        let mut client = self.server.client();
        match fence {
            Some(fence) => client.set::<_, _, ()>(name, fence.value()).unwrap(),
            None => client.del::<_, ()>(name).unwrap(),
        }
    }

    async fn spoil(&self, key: &Key) {
        let name = storage_keys(&self.prefix, key).unwrap().lock;
        self.server.client().set::<_, _, ()>(name, r#"{"lockId":"AAAAAAAAAAAAAAAAAAAAAA"}"#).unwrap();
    }

    /// The key vanishes at its PX.
    fn tolerance(&self) -> Duration {
        Duration::ZERO
    }
}

syncguard::conformance_suite!(RedisFixture::start());
