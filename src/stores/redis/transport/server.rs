//! Where a request goes: to the one server, or to the node of a cluster that holds its key.

use std::sync::Arc;

use redis::{Cmd, Pipeline, Value};

use super::cluster::Cluster;
use super::dial::Dialer;
use super::lane::Lane;
use super::link::Link;
use crate::lock::Result;
use crate::stores::redis::config::RedisConfig;
use crate::stores::redis::config::endpoint::Endpoint;
use crate::stores::redis::error;
use crate::stores::redis::scripts::Call;
use crate::stores::redis::wake::Wakes;

#[derive(Debug)]
pub(in crate::stores::redis) struct Server {
    /// For messages.
    place: String,
    way: Way,
}

#[derive(Debug)]
enum Way {
    Single(Link),
    Cluster(Cluster),
}

impl Server {
    /// Connects to nothing yet.
    pub(in crate::stores::redis) fn new(config: Arc<RedisConfig>) -> Server {
        let place = config.endpoint.to_string();
        let way = match config.endpoint.clone() {
            Endpoint::Cluster(seeds) => Way::Cluster(Cluster::new(config, seeds)),
            single => {
                // WAIT speaks of the writes of its own connection.
                let lane = if config.replicas > 0 { Lane::closed() } else { Lane::default() };
                Way::Single(Link::new(Dialer::new(config, single), Wakes::default(), None, lane))
            }
        };
        Server { place, way }
    }

    pub(in crate::stores::redis) fn place(&self) -> &str {
        &self.place
    }

    /// The link to whichever server holds a key.
    pub(in crate::stores::redis) async fn link(&self, key: &str) -> Result<Link> {
        match &self.way {
            Way::Single(link) => Ok(link.clone()),
            Way::Cluster(cluster) => cluster.link_of(key).await,
        }
    }

    /// Every server that holds keys, always in the same order as long as there are the same ones.
    pub(in crate::stores::redis) async fn masters(&self) -> Result<Vec<Link>> {
        match &self.way {
            Way::Single(link) => Ok(vec![link.clone()]),
            Way::Cluster(cluster) => cluster.masters().await,
        }
    }

    /// Whether nobody here hears of a key that is freed.
    pub(in crate::stores::redis) async fn is_without_pushes(&self, key: &str) -> bool {
        let link = self.link(key).await.ok();
        link.and_then(|link| link.live()).is_some_and(|connection| !connection.pushes())
    }

    /// Runs a script where its first key lies, and gives its text to a server that has not seen it or has
    /// forgotten it. A caller's event loop does it by itself where it can.
    ///
    /// # Errors
    /// Those of [`Link::request`], and what the server refuses.
    pub(in crate::stores::redis) async fn eval(&self, call: Call<'_>) -> Result<Value> {
        let reply = self.call(call).await?;
        self.accept(reply)
    }

    /// The same where the reply may be an error of the server's.
    pub(in crate::stores::redis) async fn call(&self, call: Call<'_>) -> Result<Value> {
        let mut reply = self.change(call.keys[0], &call.by_hash()).await?;
        if is_unknown_script(&reply) {
            reply = Box::pin(self.change(call.keys[0], &call.by_text())).await?;
        }
        Ok(reply)
    }

    /// [`Server::eval`] for a script that a caller may give up without its being undone.
    pub(in crate::stores::redis) async fn eval_reading(&self, call: Call<'_>) -> Result<Value> {
        let mut reply = self.send(call.keys[0], &call.by_hash()).await?;
        if is_unknown_script(&reply) {
            reply = self.send(call.keys[0], &call.by_text()).await?;
        }
        self.accept(reply)
    }

    async fn change(&self, key: &str, command: &Cmd) -> Result<Value> {
        match &self.way {
            Way::Single(link) => link.change(command).await,
            Way::Cluster(_) => Box::pin(self.send(key, command)).await,
        }
    }

    /// Whether the event loop that polls has a connection of its own.
    pub(in crate::stores::redis) fn has_lane(&self) -> bool {
        match &self.way {
            Way::Single(link) => link.has_lane(),
            Way::Cluster(_) => false,
        }
    }

    /// Waits for a connection, where it is known in advance which one is needed.
    pub(in crate::stores::redis) async fn connected(&self) -> Result<()> {
        match &self.way {
            Way::Single(link) => link.connection().await.map(drop),
            Way::Cluster(_) => Ok(()),
        }
    }

    /// One command that concerns one key.
    pub(in crate::stores::redis) async fn request(&self, key: &str, command: &Cmd) -> Result<Value> {
        let reply = self.send(key, command).await?;
        self.accept(reply)
    }

    /// Two commands that concern one key, in one go. Their replies may be errors of the server's.
    pub(in crate::stores::redis) async fn request_both(
        &self,
        key: &str,
        first: &Cmd,
        second: &Cmd,
    ) -> Result<(Value, Value)> {
        let replies = match &self.way {
            Way::Single(link) => {
                let mut pipeline = Pipeline::with_capacity(2);
                pipeline.add_command(first.clone()).add_command(second.clone());
                link.request_all(&pipeline).await?
            }
            Way::Cluster(cluster) => cluster.request_all(key, &[first, second]).await?,
        };
        let mut replies = replies.into_iter();
        Ok((replies.next().unwrap_or_default(), replies.next().unwrap_or_default()))
    }

    /// Several commands of which the first concerns the key, in one go. Their replies may be errors of the
    /// server's.
    pub(in crate::stores::redis) async fn send_all(
        &self,
        key: &str,
        commands: &[&Cmd],
    ) -> Result<Vec<Value>> {
        match &self.way {
            Way::Single(link) => {
                let mut pipeline = Pipeline::with_capacity(commands.len());
                for command in commands {
                    pipeline.add_command((*command).clone());
                }
                link.request_all(&pipeline).await
            }
            Way::Cluster(cluster) => cluster.request_all(key, commands).await,
        }
    }

    pub(in crate::stores::redis) fn close(&self) {
        match &self.way {
            Way::Single(link) => link.close(),
            Way::Cluster(cluster) => cluster.close(),
        }
    }

    /// An error reply as an error.
    pub(in crate::stores::redis) fn accept(&self, reply: Value) -> Result<Value> {
        match reply {
            Value::ServerError(error) => Err(error::refused(&self.place, error.code(), error.details())),
            reply => Ok(reply),
        }
    }

    /// The same where the reply may be an error of the server's.
    pub(in crate::stores::redis) async fn send(&self, key: &str, command: &Cmd) -> Result<Value> {
        match &self.way {
            Way::Single(link) => link.request(command).await,
            Way::Cluster(cluster) => {
                let mut replies = cluster.request_all(key, &[command]).await?;
                Ok(replies.pop().unwrap_or_default())
            }
        }
    }
}

fn is_unknown_script(reply: &Value) -> bool {
    matches!(reply, Value::ServerError(error) if error.code() == "NOSCRIPT")
}
