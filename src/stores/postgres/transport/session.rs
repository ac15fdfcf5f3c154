//! One log-in at one server, and the task that drives it.

use std::future::poll_fn;
use std::sync::Arc;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_postgres::config::{SslMode as DriverSslMode, SslNegotiation};
use tokio_postgres::tls::{MakeTlsConnect, NoTls, TlsStream};
use tokio_postgres::types::{ToSql, Type};
use tokio_postgres::{AsyncMessage, Client, Config, Connection, Notification, Row};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::attentive::Sent;
use super::pooler;
use super::stream::{self, Stream};
use crate::crew::Crew;
use crate::lock::{Error, Result};
use crate::stores::postgres::config::host::Host;
use crate::stores::postgres::config::passfile::system_user;
use crate::stores::postgres::config::tls::SslMode;
use crate::stores::postgres::config::{PostgresConfig, SessionKind};
use crate::stores::postgres::error;
use crate::stores::postgres::error::Failure;
use crate::stores::target::Secret;

/// What to do with the notifications of a session.
pub(in crate::stores::postgres) type OnNotification = Arc<dyn Fn(Notification) + Send + Sync>;

/// A live session. Dropping it ends it.
pub(in crate::stores::postgres) struct Session {
    pub(in crate::stores::postgres) client: Client,
    /// Where it leads, for messages.
    pub(in crate::stores::postgres) place: Arc<str>,
    /// Whether the server process behind it may change: a pooler is in between.
    pub(in crate::stores::postgres) pooled: bool,
    standby: bool,
    read_only: bool,
    sent: Sent,
    /// Cancelled when the session is over, whoever ended it.
    pub(in crate::stores::postgres) over: CancellationToken,
    _ends: DropGuard,
}

impl Session {
    /// Whether the server is of the kind that the settings ask for.
    pub(in crate::stores::postgres) fn suits(&self, kind: SessionKind) -> bool {
        match kind {
            SessionKind::Any => true,
            SessionKind::ReadWrite => !self.read_only && !self.standby,
            SessionKind::ReadOnly => self.read_only || self.standby,
            SessionKind::Primary => !self.standby,
            SessionKind::Standby | SessionKind::PreferStandby => self.standby,
        }
    }

    /// How many bytes its socket has taken.
    pub(in crate::stores::postgres) fn sent(&self) -> u64 {
        self.sent.bytes()
    }

    pub(in crate::stores::postgres) fn is_over(&self) -> bool {
        self.over.is_cancelled() || self.client.is_closed()
    }

    /// Asks something that is not prepared.
    pub(in crate::stores::postgres) fn ask<'a>(
        &'a self,
        sql: &'a str,
        parameters: &'a [(&'a (dyn ToSql + Sync), Type)],
    ) -> BoxFuture<'a, Result<Vec<Row>, Failure>> {
        async move {
            let answer = ask(&self.client, sql, parameters).await;
            answer.map_err(|error| error::of_statement(&self.place, &error))
        }
        .boxed()
    }

    /// Connects, logs in and prepares the session, unless it is a pooler's: `pooled` where that is known.
    pub(in crate::stores::postgres) fn open<'a>(
        config: &'a PostgresConfig,
        host: &'a Host,
        pooled: bool,
        on_notification: OnNotification,
    ) -> BoxFuture<'a, Result<Session>> {
        Session::log_in(config, host, pooled, on_notification).boxed()
    }

    async fn log_in(
        config: &PostgresConfig,
        host: &Host,
        pooled: bool,
        on_notification: OnNotification,
    ) -> Result<Session> {
        let place: Arc<str> = host.to_string().into();
        let mut settings = Config::new();
        settings.application_name(&config.application_name).channel_binding(config.channel_binding);
        let user = user(config).await;
        user.as_ref().map(|user| settings.user(user));
        config.database.as_ref().map(|database| settings.dbname(database));
        config.options.as_ref().map(|options| settings.options(options));
        if let Some(password) = password(config, host, user).await? {
            settings.password(password.reveal());
        }
        let over = CancellationToken::new();
        let (stream, sent) = connect(host, &place).await?;
        let client = match (host, config.tls.mode) {
            (Host::Unix { .. }, _) | (_, SslMode::Disable) => {
                settings.ssl_mode(DriverSslMode::Disable);
                let opened = settings.connect_raw(stream, NoTls).boxed().await;
                let (client, connection) = opened.map_err(|error| error::of_connect(&place, &error))?;
                drive(connection, over.clone(), on_notification);
                client
            }
            (Host::Tcp { name, .. }, mode) => {
                let weak = mode == SslMode::Prefer;
                settings.ssl_mode(if weak { DriverSslMode::Prefer } else { DriverSslMode::Require });
                if config.tls.direct {
                    settings.ssl_negotiation(SslNegotiation::Direct);
                }
                let name = config.tls.server_name.as_ref().unwrap_or(name);
                let client_config = config.tls.client_config().await?;
                let mut connector = MakeRustlsConnect::new(client_config);
                let connector = MakeTlsConnect::<Box<dyn Stream>>::make_tls_connect(&mut connector, name)
                    .unwrap_or_else(|never| match never {});
                let opened = settings.connect_raw(stream, connector).boxed().await;
                let (client, connection) = opened.map_err(|error| error::of_connect(&place, &error))?;
                drive(connection, over.clone(), on_notification);
                client
            }
        };
        let ends = over.clone().drop_guard();
        let met = meet(config, &client, &place).await?;
        let pooled = pooled || met.pooled;
        if !pooled {
            // Not before it is known to be ours: whatever is set stays for the next client of a pool.
            set_up(config, &client, &place).await?;
        }
        let Met { standby, read_only, .. } = met;
        Ok(Session { client, place, pooled, standby, read_only, sent, over, _ends: ends })
    }
}

/// The driver's future, boxed because it is not general enough to be sent as it is.
fn ask<'a>(
    client: &'a Client,
    sql: &'a str,
    parameters: &'a [(&'a (dyn ToSql + Sync), Type)],
) -> BoxFuture<'a, Result<Vec<Row>, tokio_postgres::Error>> {
    client.query_typed(sql, parameters).boxed()
}

/// What a session leads to.
struct Met {
    pooled: bool,
    standby: bool,
    read_only: bool,
}

/// Finds out what the session leads to, and leaves no trace.
async fn meet(config: &PostgresConfig, client: &Client, place: &str) -> Result<Met> {
    let announced = pooler::announced(&client.cancel_token()).await;
    let rows = ask(client, include_str!("../sql/meet.sql"), &[]).await;
    let rows = rows.map_err(|error| error::of_connect(place, &error))?;
    let row = rows.first().ok_or_else(|| Error::internal("PostgreSQL answered nothing to a question"))?;
    let unreadable = |error| Error::internal("PostgreSQL answered something else").because(error);
    let pid: i32 = row.try_get("pid").map_err(unreadable)?;
    Ok(Met {
        // A pooler announces a number of its own, or none.
        pooled: config.pooler.unwrap_or(announced != Some(pid)),
        standby: row.try_get("standby").map_err(unreadable)?,
        read_only: row.try_get("read_only").map_err(unreadable)?,
    })
}

/// Sets up a session that is ours alone.
async fn set_up(config: &PostgresConfig, client: &Client, place: &str) -> Result<()> {
    let limit = millis(config.operation_timeout).to_string();
    let parameters: [(&(dyn ToSql + Sync), Type); 1] = [(&limit, Type::TEXT)];
    let set = ask(client, include_str!("../sql/session.sql"), &parameters).await;
    set.map(drop).map_err(|error| error::of_connect(place, &error))
}

/// What `statement_timeout` can be; zero would be none.
pub(in crate::stores::postgres) fn millis(time: std::time::Duration) -> i32 {
    i32::try_from(time.as_millis()).unwrap_or(i32::MAX).max(1)
}

/// Who logs in: whoever runs this, as libpq has it, where nobody is named.
async fn user(config: &PostgresConfig) -> Option<String> {
    match &config.user {
        Some(user) => Some(user.clone()),
        // The system may have to ask a directory.
        None => Crew::read("user", None, system_user).await.ok().flatten(),
    }
}

async fn password(config: &PostgresConfig, host: &Host, user: Option<String>) -> Result<Option<Secret>> {
    if let Some(password) = config.password.get().await? {
        return Ok(Some(password));
    }
    let (Some(file), Some(user)) = (config.passfile.clone(), user) else { return Ok(None) };
    let database = config.database.clone().unwrap_or_else(|| user.clone());
    let (name, port) = match host {
        Host::Tcp { name, port, .. } => (name.clone(), *port),
        Host::Unix { directory, port } => (directory.to_string_lossy().into_owned(), *port),
    };
    let path = file.path().to_owned();
    Crew::read("passwords", Some(&path), move || file.find(&name, port, &database, &user)).await
}

/// The first address that accepts.
async fn connect(host: &Host, place: &str) -> Result<(Box<dyn Stream>, Sent)> {
    let unreachable = |error: std::io::Error| error::of_socket(place, &error);
    let addresses = stream::resolve(host).await.map_err(unreachable)?;
    stream::open(addresses).await.map_err(unreachable)
}

/// Reads and writes in a task of its own until either side ends it.
fn drive<S, T>(mut connection: Connection<S, T>, over: CancellationToken, on_notification: OnNotification)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: TlsStream + Unpin + Send + 'static,
{
    tokio::spawn(async move {
        let running = async {
            while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
                if let AsyncMessage::Notification(notification) = message {
                    on_notification(notification);
                }
            }
        };
        tokio::select! {
            () = running => {}
            () = over.cancelled() => {}
        }
        over.cancel();
    });
}
