//! The one session that listens, and the task that keeps it: it takes and gives back the shared locks of
//! watched keys, and comes back by itself while somebody watches.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_postgres::Notification;
use tokio_postgres::types::{ToSql, Type};

use super::dial::Dialer;
use super::error::{Failure, again};
use super::record::column;
use super::session::Session;
use super::statements::Statements;
use super::wake::{Order, Registry};
use crate::lock::{Error, Result};

/// How many keys one statement takes.
const WIDTH: usize = 256;
/// The pauses between attempts to come back while nobody asks.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

pub(super) struct Listener {
    dialer: Arc<Dialer>,
    statements: Arc<Statements>,
    registry: Arc<Registry>,
    live: Option<Live>,
}

struct Live {
    session: Session,
    /// The class of the shared locks.
    class: i32,
}

/// Who waits to hear that a key is watched.
type Waiting = Vec<(Arc<str>, oneshot::Sender<Result<()>>)>;

impl Listener {
    pub(super) fn new(dialer: Arc<Dialer>, statements: Arc<Statements>, registry: Arc<Registry>) -> Listener {
        Listener { dialer, statements, registry, live: None }
    }

    /// Follows orders until nobody can give any.
    pub(super) async fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        let mut batch = Vec::new();
        loop {
            let over = self.live.as_ref().map(|live| live.session.over.clone());
            let lost = async move {
                match over {
                    Some(over) => over.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                count = orders.recv_many(&mut batch, WIDTH) => {
                    if count == 0 {
                        return;
                    }
                    self.follow(batch.drain(..)).await;
                }
                () = lost => self.come_back(&mut orders).await,
            }
        }
    }

    async fn follow(&mut self, orders: impl Iterator<Item = Order>) {
        let mut waiting = Waiting::new();
        let mut forgotten = Vec::new();
        for order in orders {
            match order {
                Order::Watch { key, done } => waiting.push((key, done)),
                Order::Forget { key } => forgotten.push(key),
            }
        }
        let outcome = self.change(&waiting, forgotten).await;
        if outcome.is_err() {
            // What the session holds is no longer known; with it goes everything it held.
            self.lose();
        }
        for (_, done) in waiting {
            let _ = done.send(outcome.as_ref().copied().map_err(again));
        }
    }

    async fn change(&mut self, waiting: &Waiting, forgotten: Vec<Arc<str>>) -> Result<()> {
        let mut free = Vec::new();
        for key in forgotten {
            if self.registry.keys().forget(&key) {
                free.push(key);
            }
        }
        if self.live.as_ref().is_some_and(|live| live.session.is_over()) {
            self.lose();
        }
        if self.live.is_none() && !waiting.is_empty() {
            self.open().await?;
        } else if let Some(live) = &self.live
            && !free.is_empty()
        {
            self.bounded(live.unlock(&free)).await?;
        }
        let mut wanted: Vec<Arc<str>> = Vec::new();
        for (key, _) in waiting {
            if !self.registry.keys().is_held(key) && !wanted.contains(key) {
                wanted.push(Arc::clone(key));
            }
        }
        self.hold(&wanted).await
    }

    /// Takes the shared locks of keys.
    async fn hold(&self, keys: &[Arc<str>]) -> Result<()> {
        let Some(live) = &self.live else { return Ok(()) };
        for some in keys.chunks(WIDTH) {
            let hashes = self.bounded(live.lock(some)).await?;
            let mut registry = self.registry.keys();
            hashes.into_iter().for_each(|(key, hash)| registry.hold(&key, hash));
        }
        Ok(())
    }

    /// A session that listens, and everything that is watched, held.
    async fn open(&mut self) -> Result<()> {
        let registry = Arc::clone(&self.registry);
        let on_notification = Arc::new(move |notification: Notification| {
            if let Ok(hash) = notification.payload().parse() {
                registry.keys().hint(hash);
            }
        });
        let session = self.dialer.dial(on_notification).await?;
        if self.dialer.is_pooled() {
            return Ok(());
        }
        let class = self.bounded(listen(&session, &self.statements)).await?;
        self.live = Some(Live { session, class });
        let wanted = self.registry.keys().wanted();
        self.hold(&wanted).await?;
        self.registry.keys().hint_all();
        Ok(())
    }

    fn lose(&mut self) {
        self.live = None;
        self.registry.keys().lose();
    }

    /// The session is over: gets another one while somebody watches. Orders are followed meanwhile.
    async fn come_back(&mut self, orders: &mut mpsc::UnboundedReceiver<Order>) {
        self.lose();
        let mut pause = FIRST_PAUSE;
        let mut batch = Vec::new();
        while self.live.is_none() && !self.registry.keys().wanted().is_empty() && !self.dialer.is_pooled() {
            if self.open().await.is_ok() {
                return;
            }
            self.lose();
            tokio::select! {
                () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
                count = orders.recv_many(&mut batch, WIDTH) => {
                    if count == 0 {
                        return;
                    }
                    self.follow(batch.drain(..)).await;
                }
            }
        }
    }

    async fn bounded<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T> {
        match tokio::time::timeout(self.dialer.config.operation_timeout, work).await {
            Ok(outcome) => outcome.map_err(|failure| failure.not_applied().error),
            Err(_) => Err(Error::timed_out("PostgreSQL did not answer the listener in time")),
        }
    }
}

async fn listen(session: &Session, statements: &Statements) -> Result<i32, Failure> {
    let rows = session.ask(&statements.wake, &[]).await?;
    let row = rows.first().ok_or_else(|| Error::internal("PostgreSQL answered nothing to a question"))?;
    let (class, channel): (i32, &str) = (column(row, "class")?, column(row, "channel")?);
    session.ask(&format!("LISTEN \"{channel}\""), &[]).await?;
    Ok(class)
}

impl Live {
    /// Waits for releases that are under way.
    async fn lock(&self, keys: &[Arc<str>]) -> Result<Vec<(Arc<str>, i32)>, Failure> {
        let sql = "SELECT hashtext(key) AS hash, pg_advisory_lock_shared($1, hashtext(key))::text
            FROM unnest($2) WITH ORDINALITY AS watched (key, n) ORDER BY n";
        let rows = self.query(sql, keys).await?;
        let hashes: Result<Vec<i32>> = rows.iter().map(|row| column(row, "hash")).collect();
        Ok(keys.iter().cloned().zip(hashes?).collect())
    }

    async fn unlock(&self, keys: &[Arc<str>]) -> Result<(), Failure> {
        let sql = "SELECT pg_advisory_unlock_shared($1, hashtext(key)) FROM unnest($2) AS watched (key)";
        self.query(sql, keys).await.map(drop)
    }

    async fn query(&self, sql: &str, keys: &[Arc<str>]) -> Result<Vec<tokio_postgres::Row>, Failure> {
        let names: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&self.class, Type::INT4), (&names, Type::TEXT_ARRAY)];
        self.session.ask(sql, &parameters).await
    }
}
