//! The PostgreSQL backend against real servers.

mod support;

#[path = "postgres/bursts.rs"]
mod bursts;
#[path = "postgres/conformance.rs"]
mod conformance;
#[path = "postgres/environment.rs"]
mod environment;
#[path = "postgres/faults.rs"]
mod faults;
#[path = "postgres/fences.rs"]
mod fences;
#[path = "postgres/originals.rs"]
mod originals;
#[path = "postgres/poolers.rs"]
mod poolers;
#[path = "postgres/reconnects.rs"]
mod reconnects;
#[path = "postgres/schema.rs"]
mod schema;
#[path = "postgres/targets.rs"]
mod targets;
#[path = "postgres/wakes.rs"]
mod wakes;
#[path = "postgres/watchers.rs"]
mod watchers;

use syncguard::backend::{AcquireRequest, Acquired, Backend, Mutation};
use syncguard::lock::{Code, Error, Key, Lease, LockId, Outcome, Ttl};
use syncguard::stores::postgres::{PostgresBackend, PostgresConfig};
use syncguard::stores::target::Password;
use syncguard::stores::target::{Setting, Settings, Target};

use support::postgres_server::PostgresServer;
use tokio_postgres::Client;

pub fn settings(values: &[(&str, Setting)]) -> Settings {
    values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

pub fn text(value: &str) -> Setting {
    Setting::Text(value.to_owned())
}

pub fn config(url: &str, options: &[(&str, Setting)]) -> PostgresConfig {
    PostgresConfig::from_target(Target::Url(url.to_owned()), settings(options), Password::None)
        .expect("a good target")
}

pub fn backend(url: &str) -> PostgresBackend {
    backend_with(url, &[])
}

pub fn backend_with(url: &str, options: &[(&str, Setting)]) -> PostgresBackend {
    PostgresBackend::new(config(url, options))
}

/// A server whose database `postgres` has the tables.
pub async fn server() -> PostgresServer {
    let server = PostgresServer::start();
    PostgresBackend::setup_schema(config(&server.url(), &[])).await.expect("the tables can be made");
    server
}

pub fn key(name: &str) -> Key {
    Key::new(name).expect("a good key")
}

pub fn ttl(millis: u64) -> Ttl {
    Ttl::from_millis(millis).expect("a good ttl")
}

pub fn request(name: &str) -> AcquireRequest {
    AcquireRequest { key: key(name), lock_id: LockId::mint(), ttl: ttl(30_000) }
}

/// Acquires what must be free.
pub async fn take(backend: &dyn Backend, name: &str) -> Lease {
    granted(backend.acquire(&request(name)).await.expect("an answer"))
}

pub fn granted(acquired: Acquired) -> Lease {
    match acquired {
        Acquired::Granted(lease) => lease,
        Acquired::Held { .. } => panic!("somebody else holds the key"),
    }
}

/// What must be held by somebody else.
pub fn assert_held(acquired: &Acquired) {
    assert!(matches!(acquired, Acquired::Held { .. }), "{acquired:?}");
}

pub fn assert_done<T: std::fmt::Debug>(mutation: &Mutation<T>) {
    assert!(matches!(mutation, Mutation::Done(_)), "{mutation:?}");
}

pub fn assert_is(error: &Error, code: Code, retryable: bool, outcome: Outcome) {
    assert_eq!(
        (error.code(), error.is_retryable(), error.outcome()),
        (code, retryable, outcome),
        "{error:?}"
    );
}

pub fn millis(number: u32) -> Setting {
    Setting::Number(number.into())
}

/// Waits for what happens in the background, and fails when it does not.
pub async fn eventually(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if happened().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    panic!("not within 5 s: {what}");
}

/// One value of one row.
pub async fn ask<T: for<'a> tokio_postgres::types::FromSql<'a>>(client: &Client, sql: &str) -> T {
    client.query_one(sql, &[]).await.expect("an answer").get(0)
}
