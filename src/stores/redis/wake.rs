//! Hints that a key may be free: on which connection their channels are subscribed to.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use redis::{PushInfo, PushKind, Value};
use tokio::runtime::Handle;
use tokio::sync::Mutex as AsyncMutex;

use super::transport::connection::{Connection, WeakConnection};
use super::transport::link::{Link, WeakLink, closed};
use crate::backend::Watch;
use crate::lock::Result;
use crate::stores::watchers::{Left, Number, Source, Standing, Watchers, WeakWatchers};

/// The channels that somebody watches, by name.
#[derive(Clone, Debug, Default)]
pub(super) struct Wakes(Watchers<Channels>);

#[derive(Debug, Default)]
struct Channels;

#[derive(Debug)]
struct Channel {
    wakes: WeakWatchers<Channels>,
    home: Mutex<Home>,
    /// The connection on which SUBSCRIBE was sent last, so that subscribing and unsubscribing take turns.
    asked_on: AsyncMutex<Option<Asked>>,
}

#[derive(Debug)]
struct Home {
    /// Whose connection it belongs on. In a cluster a message reaches every node, but those who give their
    /// turn away ask for subscribers where the key lies.
    link: WeakLink,
    /// Where it is unsubscribed from.
    runtime: Handle,
}

#[derive(Debug)]
struct Asked {
    id: u64,
    connection: WeakConnection,
    confirmed: bool,
}

impl Source for Channels {
    type Name = Arc<str>;
    type Channel = Arc<Channel>;

    fn left(&mut self, name: &Arc<str>, number: Number, channel: &mut Arc<Channel>) -> Left {
        let (name, channel) = (Arc::clone(name), Arc::clone(channel));
        let runtime = channel.home().runtime.clone();
        runtime.spawn(async move { channel.close(&name, number).await });
        Left::Closing
    }
}

impl Wakes {
    /// Whether there are channels that belong on a connection of this link.
    pub(super) fn are_at(&self, link: &Link) -> bool {
        self.0.lock().channels().any(|(_, channel)| channel.home().link.is(link))
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
        {
            self.0.lock().hint(name);
        }
    }

    /// Subscribes again to everything that belongs on a new connection, and hints every watcher once, because
    /// it may have missed something in between.
    pub(super) fn renew(&self, link: &Link, connection: &Connection) {
        let channels = self.0.lock();
        for (name, channel) in channels.channels().filter(|(_, channel)| channel.home().link.is(link)) {
            let (wakes, connection) = (self.0.clone(), connection.clone());
            let (name, channel) = (Arc::clone(name), Arc::clone(channel));
            tokio::spawn(async move {
                // Whether or not it worked: who may have missed a hint must look.
                let _ = channel.subscribe(&name, &connection).await;
                wakes.lock().hint(&name);
            });
        }
    }

    /// Takes every channel to the link where it belongs now.
    pub(super) fn rehome(&self, place: impl Fn(&str) -> Option<Link>) {
        let channels = self.0.lock();
        for (name, channel) in channels.channels() {
            let Some(link) = place(name).filter(|link| !channel.home().link.is(link)) else { continue };
            channel.home().link = link.downgrade();
            let (wakes, name, channel) = (self.0.clone(), Arc::clone(name), Arc::clone(channel));
            tokio::spawn(async move {
                // Where there is no connection now, the link subscribes with the next one.
                if let Ok(connection) = link.connection().await {
                    let _ = channel.subscribe(&name, &connection).await;
                }
                wakes.lock().hint(&name);
            });
        }
    }

    /// Makes everybody look, because no hint will come any more.
    pub(super) fn hint_all(&self) {
        self.0.lock().hint_all();
    }
}

impl Channel {
    fn home(&self) -> MutexGuard<'_, Home> {
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

    /// Unsubscribes, unless somebody watches again by the time that it is its turn.
    async fn close(&self, name: &Arc<str>, number: Number) {
        let mut asked_on = self.asked_on.lock().await;
        let watched = || self.wakes.upgrade().is_some_and(|wakes| wakes.lock().is_watched(name, number));
        if let Some(asked) = asked_on.take_if(|_| !watched()) {
            asked.end(name).await;
        }
        if let Some(wakes) = self.wakes.upgrade() {
            wakes.lock().forget(name, number);
        }
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
    let wakes = &link.wakes().0;
    let home = || Home { link: link.downgrade(), runtime: Handle::current() };
    let share = wakes.watch(name.into(), |_, _| {
        let (wakes, home) = (wakes.downgrade(), Mutex::new(home()));
        // Each watcher subscribes for itself, in turn.
        Ok((Arc::new(Channel { wakes, home, asked_on: AsyncMutex::default() }), Standing::Open))
    })?;
    let channel = wakes.lock().channel(share.name()).cloned().ok_or_else(|| closed().into_error())?;
    *channel.home() = home();
    // Subscribing twice does no harm, so a connection that just broke costs nobody the hints.
    let mut connection = link.connection().await?;
    if let Err(error) = channel.subscribe(share.name(), &connection).await {
        if !connection.is_over() {
            return Err(error);
        }
        connection = link.connection().await?;
        channel.subscribe(share.name(), &connection).await?;
    }
    // Where it began: the link stays as long as somebody watches.
    Ok(share.into_watch(link.clone()))
}
