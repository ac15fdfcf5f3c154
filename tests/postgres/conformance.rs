//! The contract's rules, over PostgreSQL.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use async_trait::async_trait;
use syncguard::backend::Backend;
use syncguard::conformance::Fixture;
use syncguard::lock::{Fence, Key};
use syncguard::stores::postgres::{PostgresBackend, storage_keys};
use syncguard::stores::target::Setting;

use crate::support::postgres_server::PostgresServer;
use crate::{backend_with, config, text};

/// Tables of its own on a server that the rules share while any of them runs.
struct PostgresFixture {
    server: Arc<PostgresServer>,
    locks: String,
    fences: String,
}

impl PostgresFixture {
    async fn start() -> PostgresFixture {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let fixture = PostgresFixture {
            server: shared(),
            locks: format!("locks{number}"),
            fences: format!("fences{number}"),
        };
        let config = config(&fixture.server.url(), &fixture.options(false));
        PostgresBackend::setup_schema(config).await.expect("the tables can be made");
        fixture
    }

    fn options(&self, cleanup: bool) -> [(&'static str, Setting); 4] {
        [
            ("tableName", text(&self.locks)),
            ("fenceTableName", text(&self.fences)),
            ("cleanupInIsLocked", Setting::Flag(cleanup)),
            ("poolSize", Setting::Number(2.0)),
        ]
    }

    fn open(&self, cleanup: bool) -> Arc<dyn Backend> {
        Arc::new(backend_with(&self.server.url(), &self.options(cleanup)))
    }
}

fn shared() -> Arc<PostgresServer> {
    static SERVER: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());
    let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
    let server = shared.upgrade().unwrap_or_else(|| Arc::new(PostgresServer::start()));
    *shared = Arc::downgrade(&server);
    server
}

#[async_trait]
impl Fixture for PostgresFixture {
    async fn backend(&self) -> Arc<dyn Backend> {
        self.open(false)
    }

    async fn backend_with_clean_up(&self) -> Arc<dyn Backend> {
        self.open(true)
    }

    async fn set_fence(&self, key: &Key, fence: Option<Fence>) {
        let name = storage_keys(key).unwrap().fence;
        let client = self.server.client().await;
        let table = &self.fences;
        client.execute(&format!("DELETE FROM {table} WHERE fence_key = $1"), &[&name]).await.unwrap();
        if let Some(fence) = fence {
            let value = i64::try_from(fence.value()).unwrap();
            let insert = format!("INSERT INTO {table} (fence_key, fence) VALUES ($1, $2)");
            client.execute(&insert, &[&name, &value]).await.unwrap();
        }
    }

    async fn spoil(&self, key: &Key) {
        let name = storage_keys(key).unwrap().lock;
        let insert = format!("INSERT INTO {} VALUES ($1, 'nobody', 0, 0, 'none', $1)", self.locks);
        self.server.client().await.execute(&insert, &[&name]).await.unwrap();
    }
}

syncguard::conformance_suite!(PostgresFixture::start().await);
