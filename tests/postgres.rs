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

pub use support::asking::*;
use syncguard::stores::postgres::{PostgresBackend, PostgresConfig};
use syncguard::stores::target::Password;
use syncguard::stores::target::{Setting, Target};

use support::postgres_server::PostgresServer;
use tokio_postgres::Client;

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

pub fn millis(number: u32) -> Setting {
    Setting::Number(number.into())
}

/// One value of one row.
pub async fn ask<T: for<'a> tokio_postgres::types::FromSql<'a>>(client: &Client, sql: &str) -> T {
    client.query_one(sql, &[]).await.expect("an answer").get(0)
}
