//! Hints that a key may be free: channels, who watches them, and their subscriptions.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{PushInfo, PushKind, Value};
use tokio::runtime::Handle;
use tokio::sync::{Mutex as AsyncMutex, Notify};

use super::connection::Connection;
use super::link::Link;
use super::watchdog::Watchdog;
use crate::backend::Watch;
use crate::lock::Result;

/// The channels that somebody watches, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Wakes(Arc<Mutex<HashMap<Box<str>, Arc<Channel>>>>);

#[derive(Debug, Default)]
struct Channel {
    watchers: Mutex<Vec<Arc<Notify>>>,
    /// The connection on which SUBSCRIBE was sent last, so that subscribing and unsubscribing take turns.
    asked_on: AsyncMutex<Option<Asked>>,
}

#[derive(Debug)]
struct Asked {
    connection: u64,
    confirmed: bool,
}

impl Wakes {
    pub(super) fn is_empty(&self) -> bool {
        self.channels().is_empty()
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

    /// Subscribes to everything again on a new connection, and hints every watcher once, because it may
    /// have missed something in between.
    pub(super) fn renew(&self, connection: &Connection) {
        for (name, channel) in self.channels().iter() {
            let (name, channel, connection) = (name.clone(), channel.clone(), connection.clone());
            tokio::spawn(async move {
                // Whether or not it worked: who may have missed a hint must look.
                let _ = channel.subscribe(&name, &connection).await;
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

    async fn subscribe(&self, name: &str, connection: &Connection) -> Result<()> {
        let mut asked_on = self.asked_on.lock().await;
        if asked_on.as_ref().is_some_and(|asked| asked.connection == connection.id() && asked.confirmed) {
            return Ok(());
        }
        *asked_on = Some(Asked { connection: connection.id(), confirmed: false });
        // A server without RESP3 sends no hints on this connection; its waiters have their timers.
        if connection.pushes() {
            connection.subscribe(name).await?;
        }
        *asked_on = Some(Asked { connection: connection.id(), confirmed: true });
        Ok(())
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
        let channel = channels.entry(name.clone()).or_default().clone();
        channel.watchers().push(hints.clone());
        channel
    };
    let subscription = Subscription {
        link: link.clone(),
        name,
        channel: channel.clone(),
        hints: hints.clone(),
        runtime: Handle::current(),
    };
    let connection = link.connection().await?;
    let watchdog = Watchdog::over(&connection, link.patience());
    let subscribed = channel.subscribe(&subscription.name, &connection).await;
    watchdog.answered();
    subscribed?;
    Ok(Watch::new(hints, subscription))
}

/// One watcher's share in a channel. The last one to go unsubscribes.
struct Subscription {
    link: Link,
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
        let (link, name, channel) = (self.link.clone(), std::mem::take(&mut self.name), self.channel.clone());
        self.runtime.spawn(async move {
            let mut asked_on = channel.asked_on.lock().await;
            if let Some(asked) = asked_on.take_if(|_| channel.watchers().is_empty())
                && let Some(connection) = link.live()
                && connection.id() == asked.connection
                && connection.pushes()
            {
                // Where it fails the connection is over, and the subscription with it.
                let _ = connection.unsubscribe(&name).await;
            }
            let mut channels = link.wakes().channels();
            if channel.watchers().is_empty()
                && channels.get(&name).is_some_and(|it| Arc::ptr_eq(it, &channel))
            {
                channels.remove(&name);
            }
        });
    }
}
