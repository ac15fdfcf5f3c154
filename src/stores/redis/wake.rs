//! Hints that a key may be free: channels, who watches them, and their subscriptions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{PushInfo, PushKind, Value};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::connection::{Connection, WeakConnection};
use super::link::{Link, WeakLink};
use crate::backend::Watch;
use crate::lock::Result;

/// The channels that somebody watches, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Wakes(Arc<Mutex<HashMap<Box<str>, Arc<Channel>>>>);

#[derive(Debug)]
struct Channel {
    watchers: Mutex<Vec<Arc<Notify>>>,
    /// Whose connection it belongs on. In a cluster a message reaches every node, but those who give their
    /// turn away ask for subscribers where the key lies.
    home: Mutex<WeakLink>,
    /// The connection on which SUBSCRIBE was sent last, so that subscribing and unsubscribing take turns.
    asked_on: AsyncMutex<Option<Asked>>,
}

#[derive(Debug)]
struct Asked {
    id: u64,
    connection: WeakConnection,
    confirmed: bool,
}

impl Wakes {
    /// Whether there are channels that belong on a connection of this link.
    pub(super) fn are_at(&self, link: &Link) -> bool {
        self.channels().values().any(|channel| channel.home().is(link))
    }

    /// Hands a message to whoever watches its channel, unless this backend itself, with this signature,
    /// gave its turn away.
    pub(super) fn deliver(&self, push: &PushInfo, signature: &str) {
        if push.kind != PushKind::Message {
            return;
        }
        let own = matches!(push.data.get(1), Some(Value::BulkString(from)) if from == signature.as_bytes());
        if !own
            && let Some(Value::BulkString(name)) = push.data.first()
            && let Ok(name) = std::str::from_utf8(name)
            && let Some(channel) = self.channels().get(name)
        {
            channel.hint();
        }
    }

    /// Subscribes again to everything that belongs on a new connection, and hints every watcher once, because
    /// it may have missed something in between.
    pub(super) fn renew(&self, link: &Link, connection: &Connection) {
        for (name, channel) in self.channels().iter().filter(|(_, channel)| channel.home().is(link)) {
            let (name, channel, connection) = (name.clone(), channel.clone(), connection.clone());
            tokio::spawn(async move {
                // Whether or not it worked: who may have missed a hint must look.
                let _ = channel.subscribe(&name, &connection).await;
                channel.hint();
            });
        }
    }

    /// Takes every channel to the link where it belongs now.
    pub(super) fn rehome(&self, place: impl Fn(&str) -> Option<Link>) {
        for (name, channel) in self.channels().iter() {
            let Some(link) = place(name).filter(|link| !channel.home().is(link)) else { continue };
            *channel.home() = link.downgrade();
            let (name, channel) = (name.clone(), channel.clone());
            tokio::spawn(async move {
                // Where there is no connection now, the link subscribes with the next one.
                if let Ok(connection) = link.connection().await {
                    let _ = channel.subscribe(&name, &connection).await;
                }
                channel.hint();
            });
        }
    }

    /// Makes everybody look, because no hint will come any more.
    pub(super) fn hint_all(&self) {
        self.channels().values().for_each(|channel| channel.hint());
    }

    fn channels(&self) -> MutexGuard<'_, HashMap<Box<str>, Arc<Channel>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Channel {
    fn watchers(&self) -> MutexGuard<'_, Vec<Arc<Notify>>> {
        self.watchers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn hint(&self) {
        self.watchers().iter().for_each(|watcher| watcher.notify_one());
    }

    fn home(&self) -> MutexGuard<'_, WeakLink> {
        self.home.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn subscribe(&self, name: &str, connection: &Connection) -> Result<()> {
        let mut asked_on = self.asked_on.lock().await;
        if asked_on.as_ref().is_some_and(|asked| asked.id == connection.id() && asked.confirmed) {
            return Ok(());
        }
        let asked =
            |confirmed| Some(Asked { id: connection.id(), connection: connection.downgrade(), confirmed });
        let before = std::mem::replace(&mut *asked_on, asked(false));
        // A server without RESP3 sends no hints on this connection; its waiters have their timers.
        if connection.pushes() {
            connection.subscribe(name).await?;
        }
        *asked_on = asked(true);
        if let Some(before) = before.filter(|before| before.id != connection.id()) {
            let name = name.to_owned();
            tokio::spawn(async move { before.end(&name).await });
        }
        Ok(())
    }
}

impl Asked {
    async fn end(&self, name: &str) {
        if let Some(connection) = self.connection.upgrade().filter(Connection::pushes) {
            // Where it fails the connection is over, and the subscription with it.
            let _ = connection.unsubscribe(name).await;
        }
    }
}

/// Subscribes to a channel; answers once the server has confirmed it.
///
/// # Errors
/// Those of [`Link::connection`] and of the subscription itself.
pub(super) async fn watch(link: &Link, name: String) -> Result<Watch> {
    let name: Box<str> = name.into();
    let hints = Arc::new(Notify::new());
    let channel = {
        let mut channels = link.wakes().channels();
        let new = || {
            let home = Mutex::new(link.downgrade());
            Arc::new(Channel { watchers: Mutex::default(), home, asked_on: AsyncMutex::default() })
        };
        let channel = channels.entry(name.clone()).or_insert_with(new).clone();
        *channel.home() = link.downgrade();
        channel.watchers().push(hints.clone());
        channel
    };
    let subscription = Subscription {
        wakes: link.wakes().clone(),
        _link: link.clone(),
        name,
        channel: channel.clone(),
        hints: hints.clone(),
        runtime: Handle::current(),
    };
    // Subscribing twice does no harm, so a connection that just broke costs nobody the hints.
    let mut connection = link.connection().await?;
    if let Err(error) = channel.subscribe(&subscription.name, &connection).await {
        if !connection.is_over() {
            return Err(error);
        }
        connection = link.connection().await?;
        channel.subscribe(&subscription.name, &connection).await?;
    }
    Ok(Watch::new(hints, subscription))
}

/// One watcher's share in a channel. The last one to go unsubscribes.
struct Subscription {
    wakes: Wakes,
    /// Where it began: the link stays as long as somebody watches.
    _link: Link,
    name: Box<str>,
    channel: Arc<Channel>,
    hints: Arc<Notify>,
    runtime: Handle,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut watchers = self.channel.watchers();
        watchers.retain(|watcher| !Arc::ptr_eq(watcher, &self.hints));
        if !watchers.is_empty() {
            return;
        }
        drop(watchers);
        let (wakes, name, channel) =
            (self.wakes.clone(), std::mem::take(&mut self.name), self.channel.clone());
        self.runtime.spawn(async move {
            let mut asked_on = channel.asked_on.lock().await;
            if let Some(asked) = asked_on.take_if(|_| channel.watchers().is_empty()) {
                asked.end(&name).await;
            }
            let mut channels = wakes.channels();
            if channel.watchers().is_empty()
                && channels.get(&name).is_some_and(|it| Arc::ptr_eq(it, &channel))
            {
                channels.remove(&name);
            }
        });
    }
}
