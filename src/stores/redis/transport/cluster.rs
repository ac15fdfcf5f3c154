//! A Redis Cluster: a link to each master, and the way of a request to the one that holds its key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared};
use redis::{Cmd, Pipeline, ServerErrorKind, Value};

use super::dial::Dialer;
use super::lane::Lane;
use super::link::{Link, closed};
use super::slots::{SlotMap, beside, slot_of};
use super::topology;
use crate::lock::{Error, Result};
use crate::stores::redis::config::RedisConfig;
use crate::stores::redis::config::endpoint::{Address, Endpoint};
use crate::stores::redis::error::Refusal;
use crate::stores::redis::wake::Wakes;

/// How many nodes may pass a request on to another one before it is given up.
const REDIRECTIONS: usize = 5;
/// How long after the slots were read they are not read again.
const READ_AGAIN_AFTER: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(in crate::stores::redis) struct Cluster(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    config: Arc<RedisConfig>,
    seeds: Vec<Address>,
    wakes: Wakes,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    links: HashMap<Address, Link>,
    map: Option<SlotMap>,
    /// Whether something has shown that the map is not right any more.
    stale: bool,
    /// The one reading that is under way, for everybody who waits for it.
    reading: Option<Reading>,
    read_at: Option<Instant>,
    /// Why the last reading failed.
    failure: Option<Refusal>,
    closed: bool,
}

type Reading = Shared<BoxFuture<'static, ()>>;

/// What an error reply says about the place of a key.
enum Misplaced {
    Moved(Address),
    /// For this one request, while the slot is on its way.
    Ask(Address),
    /// This node serves it not, and knows of no other.
    Unserved,
}

impl Cluster {
    pub(in crate::stores::redis) fn new(config: Arc<RedisConfig>, seeds: Vec<Address>) -> Cluster {
        let (wakes, known) = (Wakes::default(), Mutex::default());
        Cluster(Arc::new(Inner { config, seeds, wakes, known }))
    }

    /// Sends commands to the node that holds `key`, and follows where it points.
    ///
    /// # Errors
    /// Those of [`Link::request_all`], and not applied where no node holds the key.
    pub(in crate::stores::redis) async fn request_all(
        &self,
        key: &str,
        commands: &[&Cmd],
    ) -> Result<Vec<Value>> {
        let slot = slot_of(key);
        let mut address = self.master_of(slot).await?;
        let (mut asking, mut looked_again) = (false, false);
        for _ in 0..REDIRECTIONS {
            let sent = self.send(&address, commands, asking).await;
            let misplaced = match &sent {
                Ok(replies) => replies.first().and_then(|first| misplaced(first, &address)),
                // The node may be down and another one in its place.
                Err(error) => {
                    let reading = self.0.read_again();
                    if error.is_unknown() {
                        return sent;
                    }
                    reading.map(|_| Misplaced::Unserved)
                }
            };
            match misplaced {
                None => return sent,
                Some(Misplaced::Moved(to)) => {
                    self.0.moved(slot, &to);
                    (address, asking) = (to, false);
                }
                Some(Misplaced::Ask(to)) => (address, asking) = (to, true),
                Some(Misplaced::Unserved) if looked_again => return sent,
                Some(Misplaced::Unserved) => {
                    if let Some(reading) = self.0.read_again() {
                        reading.await;
                    }
                    match self.0.known().owner(slot) {
                        Some(to) if to != address => (address, asking) = (to, false),
                        _ => return sent,
                    }
                    looked_again = true;
                }
            }
        }
        Err(Error::unavailable(
            "the nodes of the Redis Cluster point to one another; its slots are being moved",
        ))
    }

    /// The link to the node that holds `key`.
    pub(in crate::stores::redis) async fn link_of(&self, key: &str) -> Result<Link> {
        let address = self.master_of(slot_of(key)).await?;
        self.0.link(&address)
    }

    /// The links to all nodes that hold slots, in the order of their addresses.
    pub(in crate::stores::redis) async fn masters(&self) -> Result<Vec<Link>> {
        // Whoever knows the master of one slot has read the map.
        self.master_of(0).await?;
        let mut addresses: Vec<Address> = match &self.0.known().map {
            Some(map) => map.masters().cloned().collect(),
            None => Vec::new(),
        };
        addresses.sort_by_cached_key(ToString::to_string);
        addresses.dedup();
        addresses.iter().map(|address| self.0.link(address)).collect()
    }

    pub(in crate::stores::redis) fn close(&self) {
        let links: Vec<Link> = {
            let mut known = self.0.known();
            (known.closed, known.map) = (true, None);
            known.links.drain().map(|(_, link)| link).collect()
        };
        links.iter().for_each(Link::close);
    }

    async fn send(&self, address: &Address, commands: &[&Cmd], asking: bool) -> Result<Vec<Value>> {
        let link = self.0.link(address)?;
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

    async fn master_of(&self, slot: u16) -> Result<Address> {
        let (known, stale) = {
            let known = self.0.known();
            (known.owner(slot), known.stale)
        };
        if known.is_none() || stale {
            let reading = self.0.read_again();
            if let (None, Some(reading)) = (&known, reading) {
                reading.await;
            }
        }
        if let Some(address) = known {
            return Ok(address);
        }
        let known = self.0.known();
        match (known.owner(slot), &known.failure) {
            _ if known.closed => Err(closed().into_error()),
            (Some(address), _) => Ok(address),
            (None, Some(failure)) => Err(failure.clone().into_error()),
            (None, None) => {
                Err(Error::unavailable(format!("no node of the Redis Cluster holds slot {slot} now")))
            }
        }
    }
}

impl Known {
    fn owner(&self, slot: u16) -> Option<Address> {
        self.map.as_ref()?.master_of(slot).cloned()
    }
}

impl Inner {
    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn link(self: &Arc<Self>, address: &Address) -> Result<Link> {
        let mut known = self.known();
        if known.closed {
            return Err(closed().into_error());
        }
        Ok(known.links.entry(address.clone()).or_insert_with(|| self.new_link(address)).clone())
    }

    fn new_link(self: &Arc<Self>, address: &Address) -> Link {
        let dialer = Dialer::new(self.config.clone(), Endpoint::Single(address.clone()));
        let cluster = Arc::downgrade(self);
        let on_trouble = move || {
            if let Some(cluster) = cluster.upgrade() {
                cluster.read_again();
            }
        };
        Link::new(dialer, self.wakes.clone(), Some(Arc::new(on_trouble)), Lane::closed())
    }

    fn moved(self: &Arc<Self>, slot: u16, to: &Address) {
        if let Some(map) = &mut self.known().map {
            map.moved(slot, to.clone());
        }
        self.rehome();
        // Where one slot has moved, others have, too.
        self.read_again();
    }

    /// Those who watch go where the slots are now.
    fn rehome(self: &Arc<Self>) {
        self.wakes.rehome(|name| {
            let owner = self.known().owner(slot_of(name))?;
            self.link(&owner).ok()
        });
    }

    /// The reading under way, or one that begins now; none where the last one was a moment ago. The next
    /// request begins it then.
    fn read_again(self: &Arc<Self>) -> Option<Reading> {
        let mut known = self.known();
        if known.closed {
            return None;
        }
        if let Some(reading) = &known.reading {
            return Some(reading.clone());
        }
        known.stale = true;
        if known.read_at.is_some_and(|at| at.elapsed() < READ_AGAIN_AFTER) {
            return None;
        }
        let cluster = self.clone();
        // In a task of its own, so that it survives the caller who caused it.
        let reading = tokio::spawn(async move {
            let read = topology::read(cluster.nodes(), cluster.config.connect_timeout).await;
            cluster.settle(read);
        });
        let reading = reading.map(drop).boxed().shared();
        known.reading = Some(reading.clone());
        Some(reading)
    }

    /// Whom to ask: who can be reached, whom the user named, and who else is known.
    fn nodes(self: &Arc<Self>) -> Vec<(Address, Link)> {
        let mut known = self.known();
        let is_live = |link: &Link| link.live().is_some_and(|connection| !connection.is_over());
        let mut nodes: Vec<(Address, Link)> =
            known.links.iter().map(|(node, link)| (node.clone(), link.clone())).collect();
        for seed in &self.seeds {
            if !known.links.contains_key(seed) {
                let link = self.new_link(seed);
                known.links.insert(seed.clone(), link.clone());
                nodes.push((seed.clone(), link));
            }
        }
        nodes.sort_by_key(|(node, link)| (!is_live(link), !self.seeds.contains(node)));
        nodes
    }

    fn settle(self: &Arc<Self>, read: Result<SlotMap>) {
        {
            let mut known = self.known();
            (known.reading, known.read_at) = (None, Some(Instant::now()));
            if known.closed {
                return;
            }
            match read {
                Ok(map) => {
                    // Nodes that left the cluster take their connections with them.
                    known.links.retain(|address, _| map.masters().any(|master| master == address));
                    (known.map, known.stale, known.failure) = (Some(map), false, None);
                }
                Err(error) => known.failure = Some(Refusal::from(error)),
            }
        }
        self.rehome();
    }
}

fn misplaced(reply: &Value, asked: &Address) -> Option<Misplaced> {
    let Value::ServerError(error) = reply else { return None };
    let to = || {
        // "12182 127.0.0.1:7001", a part of the protocol and no message.
        let (host, port) = error.details()?.split_ascii_whitespace().nth(1)?.rsplit_once(':')?;
        Some(beside(asked, host, port.parse().ok()?))
    };
    match error.kind() {
        Some(ServerErrorKind::Moved) => to().map(Misplaced::Moved),
        Some(ServerErrorKind::Ask) => to().map(Misplaced::Ask),
        Some(ServerErrorKind::ClusterDown) => Some(Misplaced::Unserved),
        _ => None,
    }
}
