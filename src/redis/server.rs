//! Where a request goes: to the one server, or to the node of a cluster that holds its key.

use std::sync::Arc;

use redis::{Pipeline, Value};

use super::config::RedisConfig;
use super::dial::Dialer;
use super::endpoint::Endpoint;
use super::error;
use super::link::Link;
use super::script::Call;
use crate::lock::Result;

#[derive(Debug)]
pub(super) enum Server {
    Single(Link),
}

impl Server {
    /// Connects to nothing yet.
    pub(super) fn new(config: Arc<RedisConfig>) -> Server {
        let to: Endpoint = config.endpoint.clone();
        Server::Single(Link::new(Dialer::new(config, to)))
    }

    /// The link to whichever server holds a key.
    pub(super) async fn link(&self, _key: &str) -> Result<&Link> {
        match self {
            Server::Single(link) => Ok(link),
        }
    }

    /// Where the server is, for messages.
    pub(super) fn place(&self) -> String {
        match self {
            Server::Single(link) => link.place(),
        }
    }

    /// Runs a script, and gives its text to a server that has not seen it or has forgotten it.
    ///
    /// # Errors
    /// Those of [`Link::request`], and what the server refuses.
    pub(super) async fn eval(&self, call: Call<'_>) -> Result<Value> {
        let link = self.link(call.keys[0]).await?;
        let mut reply = link.request(&call.by_hash()).await?;
        if matches!(&reply, Value::ServerError(error) if error.code() == "NOSCRIPT") {
            reply = link.request(&call.by_text()).await?;
        }
        self.check(link, reply)
    }

    /// Sends commands that concern one key in one go, and answers their replies; an error reply is one too.
    pub(super) async fn pipeline(&self, key: &str, commands: &Pipeline) -> Result<Vec<Value>> {
        self.link(key).await?.request_all(commands).await
    }

    pub(super) fn close(&self) {
        match self {
            Server::Single(link) => link.close(),
        }
    }

    fn check(&self, link: &Link, reply: Value) -> Result<Value> {
        match reply {
            Value::ServerError(error) => Err(error::refused(&link.place(), error.code(), error.details())),
            reply => Ok(reply),
        }
    }
}
