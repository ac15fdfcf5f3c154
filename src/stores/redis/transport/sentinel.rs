//! Asking sentinels where their master is (<https://redis.io/docs/latest/develop/reference/sentinel-clients/>).

use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use redis::{Cmd, PushInfo, Value};

use super::connection::{Connection, Holder, Settings};
use crate::lock::Code;
use crate::stores::redis::config::RedisConfig;
use crate::stores::redis::config::endpoint::{Address, MasterName};
use crate::stores::redis::error::Refusal;

/// The first sentinel that answers decides. None may use up the time of those after it.
pub(in crate::stores::redis) async fn find_master(
    sentinels: &[Address],
    master: &MasterName,
    config: &RedisConfig,
) -> Result<Address, Refusal> {
    let share = config.connect_timeout / u32::try_from(sentinels.len() + 1).unwrap_or(u32::MAX);
    let mut unknown = false;
    let mut last = None;
    for sentinel in sentinels {
        match tokio::time::timeout(share, ask(sentinel, master, config)).await {
            Ok(Ok(Some(address))) => return Ok(address),
            Ok(Ok(None)) => unknown = true,
            Ok(Err(refusal)) => last = Some(refusal),
            Err(_) => {}
        }
    }
    if unknown {
        return Err(Refusal::unavailable(format!(
            "the sentinels know no master named {:?}; check the name",
            master.as_str()
        )));
    }
    // A wrong password is worth more to the user than the sentence that all of them failed.
    Err(match last {
        Some(refusal) if refusal.code() == Code::AuthFailed => refusal,
        Some(refusal) => {
            Refusal::unavailable("no sentinel can be reached; are they running?").because(refusal.message())
        }
        None => Refusal::timed_out("no sentinel answered in time"),
    })
}

/// Whoever holds a connection for one question.
struct Briefly;

impl Holder for Briefly {
    fn pushed(&self, _push: &PushInfo) {}

    fn ended(&self, _id: u64) {}

    /// The question has its own limit.
    fn silent(&self, _connection: Connection) -> BoxFuture<'static, ()> {
        std::future::ready(()).boxed()
    }
}

async fn ask(
    sentinel: &Address,
    master: &MasterName,
    config: &RedisConfig,
) -> Result<Option<Address>, Refusal> {
    let settings = Settings {
        address: sentinel,
        tls: config.sentinel_tls.as_ref(),
        login: &config.sentinel_login,
        db: 0,
        client_name: None,
    };
    let connection = Connection::open(settings, Arc::new(Briefly)).await?;
    let mut command = Cmd::with_capacity(3, 64);
    command.arg("SENTINEL").arg("GET-MASTER-ADDR-BY-NAME").arg(master.as_str());
    match connection.request(&command).await.map_err(Refusal::from)? {
        Value::Nil => Ok(None),
        Value::Array(parts) => match parts.as_slice() {
            [Value::BulkString(host), Value::BulkString(port)] => Ok(address(host, port)),
            _ => Ok(None),
        },
        Value::ServerError(error) => Err(Refusal::unavailable(format!(
            "the sentinel at {sentinel} answered with the error {}",
            error.code()
        ))),
        _ => Ok(None),
    }
}

fn address(host: &[u8], port: &[u8]) -> Option<Address> {
    let (host, port) = (std::str::from_utf8(host).ok()?, std::str::from_utf8(port).ok()?);
    Some(Address::tcp(host, port.parse().ok()?))
}

/// A server that was master until a moment ago may still be called one.
pub(in crate::stores::redis) async fn verify_master(connection: &Connection) -> Result<(), Refusal> {
    let mut command = Cmd::with_capacity(1, 4);
    match connection.request(command.arg("ROLE")).await.map_err(Refusal::from)? {
        Value::Array(parts) if matches!(parts.first(), Some(Value::BulkString(role)) if role == b"master") => {
            Ok(())
        }
        // Who may not ask relies on the sentinels, and on READONLY.
        Value::ServerError(error) if error.code() == "NOPERM" => Ok(()),
        _ => Err(Refusal::unavailable(format!("Redis at {} is no master now", connection.place()))),
    }
}
