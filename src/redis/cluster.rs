//! A Redis Cluster: a link to each master, and the way of a request to the one that holds its key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{Cmd, Pipeline, ServerError, ServerErrorKind, Value};
use tokio::sync::Mutex as AsyncMutex;

use super::config::RedisConfig;
use super::dial::Dialer;
use super::endpoint::{Address, Endpoint};
use super::error;
use super::link::Link;
use super::slots::{SlotMap, beside, slot_of};
use crate::lock::{Error, Result};

/// How many nodes may pass a request on to another one before it is given up.
const REDIRECTIONS: usize = 5;

#[derive(Debug)]
pub(super) struct Cluster {
    config: Arc<RedisConfig>,
    seeds: Vec<Address>,
    known: Mutex<Known>,
    /// Held by whoever asks for the map, so that it is asked for once.
    reading: AsyncMutex<()>,
}

#[derive(Debug, Default)]
struct Known {
    links: HashMap<Address, Link>,
    map: Option<SlotMap>,
    closed: bool,
}

/// Where an error reply says that the key is.
enum Redirection {
    Moved(Address),
    /// For this one request, while the slot is on its way.
    Ask(Address),
}

impl Cluster {
    pub(super) fn new(config: Arc<RedisConfig>, seeds: Vec<Address>) -> Cluster {
        Cluster { config, seeds, known: Mutex::default(), reading: AsyncMutex::default() }
    }

    /// Sends commands to the node that holds `key`, and follows where it points.
    ///
    /// # Errors
    /// Those of [`Link::request_all`], and not applied where no node holds the key.
    pub(super) async fn request_all(&self, key: &str, commands: &[&Cmd]) -> Result<Vec<Value>> {
        let slot = slot_of(key);
        let mut address = self.master_of(slot).await?;
        let mut asking = false;
        for _ in 0..REDIRECTIONS {
            let replies = match self.send(&address, commands, asking).await {
                Ok(replies) => replies,
                Err(error) => {
                    // The node may be down and another one in its place.
                    self.forget_map();
                    return Err(error);
                }
            };
            match replies.first().and_then(|first| redirection(first, &address)) {
                None => return Ok(replies),
                Some(Redirection::Moved(to)) => {
                    self.moved(slot, &to);
                    (address, asking) = (to, false);
                }
                Some(Redirection::Ask(to)) => (address, asking) = (to, true),
            }
        }
        self.forget_map();
        Err(Error::unavailable(
            "the nodes of the Redis Cluster point to one another; its slots are being moved",
        ))
    }

    /// The link to the node that holds `key`.
    pub(super) async fn link_of(&self, key: &str) -> Result<Link> {
        let address = self.master_of(slot_of(key)).await?;
        self.link(&address)
    }

    pub(super) fn close(&self) {
        let mut known = self.known();
        known.closed = true;
        known.map = None;
        for (_, link) in known.links.drain() {
            link.close();
        }
    }

    async fn send(&self, address: &Address, commands: &[&Cmd], asking: bool) -> Result<Vec<Value>> {
        let link = self.link(address)?;
        let mut pipeline = Pipeline::with_capacity(commands.len() + 1);
        if asking {
            pipeline.cmd("ASKING");
        }
        for command in commands {
            pipeline.add_command((*command).clone());
        }
        let mut replies = link.request_all(&pipeline).await?;
        if asking {
            replies.remove(0);
        }
        Ok(replies)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(&self, address: &Address) -> Result<Link> {
        let mut known = self.known();
        if known.closed {
            return Err(super::link::closed().into_error());
        }
        let config = &self.config;
        let new = || Link::new(Dialer::new(config.clone(), Endpoint::Single(address.clone())));
        Ok(known.links.entry(address.clone()).or_insert_with(new).clone())
    }

    fn forget_map(&self) {
        self.known().map = None;
    }

    fn moved(&self, slot: u16, to: &Address) {
        if let Some(map) = &mut self.known().map {
            map.moved(slot, to.clone());
        }
    }

    async fn master_of(&self, slot: u16) -> Result<Address> {
        if let Some(map) = &self.known().map {
            return owner(map, slot);
        }
        let _one_at_a_time = self.reading.lock().await;
        if let Some(map) = &self.known().map {
            return owner(map, slot);
        }
        let map = self.read_map().await?;
        let found = owner(&map, slot);
        let mut known = self.known();
        // Nodes that left the cluster take their connections with them.
        known.links.retain(|address, _| map.masters().any(|master| master == address));
        known.map = Some(map);
        found
    }

    /// Asks every node that is known until one answers.
    async fn read_map(&self) -> Result<SlotMap> {
        let mut nodes: Vec<Address> = self.known().links.keys().cloned().collect();
        nodes.extend(self.seeds.iter().filter(|seed| !nodes.contains(seed)).cloned().collect::<Vec<_>>());
        let mut command = Cmd::with_capacity(2, 16);
        command.arg("CLUSTER").arg("SLOTS");
        let mut last = None;
        for node in nodes {
            match self.link(&node)?.request(&command).await {
                Ok(Value::ServerError(refusal)) => last = Some(refused(&node, &refusal)),
                Ok(reply) => match SlotMap::parse(&reply, &node) {
                    Some(map) if map.masters().next().is_some() => return Ok(map),
                    Some(_) => {
                        last = Some(Error::unavailable(format!("the node {node} knows of no slots yet")))
                    }
                    None => last = Some(error::unexpected(&node.to_string(), &reply)),
                },
                Err(error) => last = Some(error),
            }
        }
        Err(last.unwrap_or_else(|| Error::unavailable("no node of the Redis Cluster is known")))
    }
}

fn owner(map: &SlotMap, slot: u16) -> Result<Address> {
    map.master_of(slot)
        .cloned()
        .ok_or_else(|| Error::unavailable(format!("no node of the Redis Cluster holds slot {slot} now")))
}

fn redirection(reply: &Value, asked: &Address) -> Option<Redirection> {
    let Value::ServerError(error) = reply else { return None };
    let to = || {
        // "12182 127.0.0.1:7001", a part of the protocol and no message.
        let (host, port) = error.details()?.split_ascii_whitespace().nth(1)?.rsplit_once(':')?;
        Some(beside(asked, host, port.parse().ok()?))
    };
    match error.kind() {
        Some(ServerErrorKind::Moved) => to().map(Redirection::Moved),
        Some(ServerErrorKind::Ask) => to().map(Redirection::Ask),
        _ => None,
    }
}

fn refused(node: &Address, reply: &ServerError) -> Error {
    error::refused(&node.to_string(), reply.code(), reply.details())
}
