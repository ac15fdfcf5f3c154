//! The one session that listens, and the task that keeps it: it takes and gives back the shared locks of
//! watched keys, comes back by itself while somebody watches, and ends when nobody has for a while.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;
use tokio_postgres::Notification;
use tokio_postgres::types::{ToSql, Type};

use super::locks::{Change, Registry};
use crate::lock::{Error, Result};
use crate::stores::net::backoff::Backoff;
use crate::stores::postgres::error::Failure;
use crate::stores::postgres::record::column;
use crate::stores::postgres::sql::Statements;
use crate::stores::postgres::transport::dial::Dialer;
use crate::stores::postgres::transport::session::Session;

/// How many keys one statement takes.
const WIDTH: usize = 64;
/// The pauses between attempts to come back while nobody asks.
const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// The session is asked for a sign of life at least this far apart, or after `operationTimeoutMs`.
const SHORTEST_BEAT: Duration = Duration::from_secs(1);

pub(in crate::stores::postgres) struct Listener {
    dialer: Arc<Dialer>,
    statements: Arc<Statements>,
    registry: Registry,
    live: Option<Live>,
    /// Whether nobody watched when the session was last asked for a sign of life.
    idle: bool,
    /// Whether the server has no room for more locks, as far as was seen.
    full: bool,
}

struct Live {
    session: Session,
    /// The class of the shared locks.
    class: i32,
    /// How many locks the server has for each session, and in all.
    share: usize,
    room: usize,
}

impl Listener {
    pub(in crate::stores::postgres) fn new(
        dialer: Arc<Dialer>,
        statements: Arc<Statements>,
        registry: Registry,
    ) -> Listener {
        Listener { dialer, statements, registry, live: None, idle: false, full: false }
    }

    pub(in crate::stores::postgres) async fn run(mut self) {
        let registry = self.registry.clone();
        let news = registry.lock().source.news();
        let mut beat = Instant::now() + self.beat();
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        loop {
            if let Err(error) = self.follow().await {
                // What the session holds is no longer known; with it goes everything it held.
                self.lose();
                registry.lock().answer_all(&Err(error));
                if registry.lock().is_wanted() {
                    // Who comes meanwhile is a reason to try at once.
                    backoff.failed();
                    tokio::select! {
                        () = news.notified() => {}
                        () = backoff.wait() => {}
                    }
                    continue;
                }
            }
            backoff.succeeded();
            let over = self.live.as_ref().map(|live| live.session.over.clone());
            let lost = async move {
                match over {
                    Some(over) => over.cancelled().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = news.notified() => {}
                () = lost => {}
                () = tokio::time::sleep_until(beat), if self.live.is_some() => {
                    self.look_after().await;
                    beat = Instant::now() + self.beat();
                }
            }
        }
    }

    fn beat(&self) -> Duration {
        self.dialer.config.operation_timeout.max(SHORTEST_BEAT)
    }

    /// Makes the session hold what is watched, and nothing else.
    async fn follow(&mut self) -> Result<()> {
        let mut opened = false;
        self.full = false;
        loop {
            if self.live.as_ref().is_some_and(|live| live.session.is_over()) {
                self.lose();
            }
            if self.live.is_none() && self.registry.lock().is_wanted() && !self.dialer.is_pooled() {
                self.open().await?;
                opened = true;
            }
            let change = self.registry.lock().next_change(WIDTH);
            let Some(change) = change else { break };
            self.apply(change).await?;
        }
        if opened {
            self.registry.lock().hint_all();
        }
        Ok(())
    }

    /// A session that listens, and holds nothing yet.
    async fn open(&mut self) -> Result<()> {
        let registry = self.registry.clone();
        let on_notification = Arc::new(move |notification: Notification| {
            if let Ok(hash) = notification.payload().parse() {
                registry.lock().notified(hash);
            }
        });
        let session = self.dialer.dial(on_notification).await?;
        if !self.dialer.is_pooled() {
            self.live = Some(self.bounded(listen(session, &self.statements)).await?);
        }
        self.registry.lock().lose();
        Ok(())
    }

    async fn apply(&mut self, change: Change) -> Result<()> {
        let Some(live) = &self.live else {
            // Nobody listens behind a pooler; and where nobody watches, there is nothing to hold.
            change.hold.into_iter().for_each(|key| self.registry.lock().do_without(key));
            return Ok(());
        };
        if !change.free.is_empty() {
            self.bounded(live.unlock(&change.free)).await?;
            self.registry.lock().source.look_again();
            self.full = false;
        }
        if change.hold.is_empty() {
            return Ok(());
        }
        let room = if self.full { 0 } else { self.room(live, change.hold.len()).await? };
        self.full = room < change.hold.len();
        let (hold, without) = change.hold.split_at(room);
        if !hold.is_empty() {
            let (class, hashes) = self.bounded(live.lock(hold, &self.statements)).await?;
            if class != live.class {
                return Err(Error::unavailable(
                    "the table of locks was made anew; the listener starts again",
                ));
            }
            let mut keys = self.registry.lock();
            hold.iter().zip(hashes).for_each(|(key, hash)| keys.hold(key, hash));
        }
        let mut keys = self.registry.lock();
        without.iter().for_each(|key| keys.do_without(Arc::clone(key)));
        Ok(())
    }

    /// For how many of so many more locks the server has room: those that each session may have, and beyond them
    /// no more than leave half of all to others.
    async fn room(&self, live: &Live, wanted: usize) -> Result<usize> {
        let held = self.registry.lock().source.held();
        if held + wanted <= live.share {
            return Ok(wanted);
        }
        let taken = self.bounded(live.taken()).await?;
        let beyond = (live.room / 2).saturating_sub(taken);
        Ok(wanted.min(beyond.max(live.share.saturating_sub(held))))
    }

    /// Asks whether the session still listens to the right table; ends it where nobody has watched for long.
    async fn look_after(&mut self) {
        let Some(live) = &self.live else { return };
        let wanted = self.registry.lock().is_wanted();
        let good = if wanted {
            let class = self.bounded(live.class(&self.statements)).await;
            class.is_ok_and(|class| class == live.class)
        } else {
            !self.idle
        };
        self.idle = !wanted;
        if good {
            self.registry.lock().source.look_again();
        } else {
            self.lose();
        }
    }

    fn lose(&mut self) {
        self.live = None;
        self.registry.lock().lose();
    }

    async fn bounded<T>(&self, work: impl Future<Output = Result<T, Failure>>) -> Result<T> {
        match tokio::time::timeout(self.dialer.config.operation_timeout, work).await {
            Ok(outcome) => outcome.map_err(|failure| failure.not_applied().error),
            Err(_) => Err(Error::timed_out("PostgreSQL did not answer the listener in time")),
        }
    }
}

async fn listen(session: Session, statements: &Statements) -> Result<Live, Failure> {
    let rows = session.ask(&statements.wake, &[]).await?;
    let row = rows.first().ok_or_else(nothing)?;
    let (class, channel): (i32, &str) = (column(row, "class")?, column(row, "channel")?);
    let count = |name| Ok::<_, Failure>(usize::try_from(column::<i64>(row, name)?).unwrap_or(usize::MAX));
    let (share, room) = (count("share")?, count("room")?);
    session.ask(&format!("LISTEN \"{channel}\""), &[]).await?;
    Ok(Live { session, class, share, room })
}

impl Live {
    /// Waits for releases that are under way. Answers the class that the table has by now as well.
    async fn lock(&self, keys: &[Arc<str>], statements: &Statements) -> Result<(i32, Vec<i32>), Failure> {
        let rows = self.query(&statements.hold, keys).await?;
        let hashes: Result<Vec<i32>> = rows.iter().map(|row| column(row, "hash")).collect();
        let class = rows.first().map_or(Ok(self.class), |row| column(row, "class"))?;
        Ok((class, hashes?))
    }

    async fn unlock(&self, keys: &[Arc<str>]) -> Result<(), Failure> {
        let sql = "SELECT pg_advisory_unlock_shared($1, hashtext(key)) FROM unnest($2) AS watched (key)";
        self.query(sql, keys).await.map(drop)
    }

    /// The class that the table has now: another one, once it was dropped and made anew.
    async fn class(&self, statements: &Statements) -> Result<i32, Failure> {
        let rows = self.session.ask(&statements.wake, &[]).await?;
        Ok(column(rows.first().ok_or_else(nothing)?, "class")?)
    }

    /// How many locks there are at the server.
    async fn taken(&self) -> Result<usize, Failure> {
        let rows = self.session.ask("SELECT count(*) AS taken FROM pg_locks", &[]).await?;
        let taken: i64 = column(rows.first().ok_or_else(nothing)?, "taken")?;
        Ok(usize::try_from(taken).unwrap_or(usize::MAX))
    }

    async fn query(&self, sql: &str, keys: &[Arc<str>]) -> Result<Vec<tokio_postgres::Row>, Failure> {
        let names: Vec<&str> = keys.iter().map(|key| &**key).collect();
        let parameters: [(&(dyn ToSql + Sync), Type); 2] =
            [(&self.class, Type::INT4), (&names, Type::TEXT_ARRAY)];
        self.session.ask(sql, &parameters).await
    }
}

fn nothing() -> Error {
    Error::internal("PostgreSQL answered nothing to a question")
}
