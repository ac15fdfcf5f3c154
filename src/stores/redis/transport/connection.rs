//! One multiplexed connection: requests of everybody in order, pushes beside them.

use std::fmt;
use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::{
    AsyncConnectionConfig, Cmd, ErrorKind, ProtocolVersion, PushInfo, RedisConnectionInfo, ServerErrorKind,
    Value,
};
use tokio::sync::oneshot;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::corked::corked;
use super::traffic::{Asked, Traffic};
use super::{stream, watchdog};
use crate::event_loop::{Executor, TaskRef, here, stay};
use crate::lock::{Code, Result};
use crate::stores::redis::config::Login;
use crate::stores::redis::config::endpoint::Address;
use crate::stores::redis::config::tls::Tls;
use crate::stores::redis::error::{self, Refusal};

/// What a new connection needs to know.
#[derive(Clone, Copy, Debug)]
pub(in crate::stores::redis) struct Settings<'a> {
    pub(in crate::stores::redis) address: &'a Address,
    pub(in crate::stores::redis) tls: Option<&'a Tls>,
    pub(in crate::stores::redis) login: &'a Login,
    pub(in crate::stores::redis) db: u32,
    pub(in crate::stores::redis) client_name: Option<&'a str>,
}

/// Requests that are queued but not yet written. Beyond it, callers wait their turn.
const QUEUE: usize = 1024;
/// How much leaves in one write, about.
const BATCH_BYTES: usize = 64 * 1024;
/// How long whoever left an event loop still waits for it to read a reply.
const PATIENCE: Duration = Duration::from_millis(50);

/// Who hears what becomes of a connection.
pub(in crate::stores::redis) trait Holder: Send + Sync + 'static {
    fn pushed(&self, push: &PushInfo);

    /// Once, when it is over.
    fn ended(&self, id: u64);

    /// Replies are due, and for a while there was none.
    fn silent(&self, connection: Connection) -> BoxFuture<'static, ()>;
}

/// A live connection. Dropping the last clone closes it.
#[derive(Clone)]
pub(in crate::stores::redis) struct Connection(Arc<Inner>);

#[derive(Clone)]
pub(in crate::stores::redis) struct WeakConnection(Weak<Inner>);

struct Inner {
    requests: MultiplexedConnection,
    traffic: Arc<Traffic>,
    holder: Arc<dyn Holder>,
    opened_in: Duration,
    /// Different for every connection of the process.
    id: u64,
    place: Box<str>,
    pushes: bool,
    end: CancellationToken,
    /// Takes the driver to an event loop.
    ticket: Mutex<Option<oneshot::Sender<Arc<Executor>>>>,
    home: OnceLock<Home>,
    _ends_with_last_clone: DropGuard,
}

/// The event loop that drives a connection, or did.
struct Home {
    executor: Weak<Executor>,
    driver: OnceLock<TaskRef>,
    /// Whether the engine drives it after all.
    left: AtomicBool,
}

type Driver = Pin<Box<dyn Future<Output = ()> + Send>>;

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({} to {})", self.0.id, self.0.place)
    }
}

impl Connection {
    /// Connects and logs in.
    pub(in crate::stores::redis) async fn open(
        settings: Settings<'_>,
        holder: Arc<dyn Holder>,
    ) -> Result<Connection, Refusal> {
        static NEXT_ID: AtomicU64 = AtomicU64::new(1);
        let place = settings.address.to_string();
        let password = settings.login.password.get().await?;
        let begun = Instant::now();
        let traffic = Arc::new(Traffic::default());
        let mut pushes = true;
        let (requests, driver) = loop {
            let stream = stream::open(settings.address, settings.tls)
                .await
                .map_err(|error| Refusal::io(&place, &error))?;
            let stream = corked(stream, traffic.clone());
            let mut info =
                RedisConnectionInfo::default().set_lib_name("syncguard", env!("CARGO_PKG_VERSION"));
            let user = password.as_ref().and_then(|password| password.user());
            if let Some(username) = user.or(settings.login.username.as_deref()) {
                info = info.set_username(username);
            }
            if let Some(password) = &password {
                info = info.set_password(password.reveal());
            }
            let mut config = AsyncConnectionConfig::new()
                .set_connection_timeout(None)
                .set_response_timeout(None)
                .set_pipeline_buffer_size(QUEUE)
                .set_write_backpressure_boundary(BATCH_BYTES);
            if pushes {
                info = info.set_protocol(ProtocolVersion::RESP3);
                let holder = holder.clone();
                config = config.set_push_sender(move |push| {
                    holder.pushed(&push);
                    Ok::<(), ()>(())
                });
            }
            match MultiplexedConnection::new_with_config(&info, stream, config).await {
                Ok(open) => break open,
                // A server or proxy from before RESP3 does not know HELLO; then wake-ups go without it.
                Err(error) if pushes && knows_no_resp3(&error) => pushes = false,
                Err(error) => return Err(Refusal::handshake(&place, &error)),
            }
        };
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let end = CancellationToken::new();
        let (ticket, moved) = oneshot::channel();
        let over = Over { end: end.clone(), holder: holder.clone(), id };
        let connection = Connection(Arc::new(Inner {
            requests,
            traffic,
            holder,
            opened_in: begun.elapsed(),
            id,
            place: place.into(),
            pushes,
            _ends_with_last_clone: end.clone().drop_guard(),
            end,
            ticket: Mutex::new(Some(ticket)),
            home: OnceLock::new(),
        }));
        tokio::spawn(drive(connection.downgrade(), Box::pin(driver), moved, over));
        if !pushes {
            connection.verify_login().await?;
        }
        if settings.db != 0 {
            connection.select(settings.db).await?;
        }
        if let Some(name) = settings.client_name {
            let mut command = Cmd::with_capacity(3, 32 + name.len());
            // A name is decoration: a server that refuses it can still be locked on.
            let _ = connection.request(command.arg("CLIENT").arg("SETNAME").arg(name)).await;
        }
        Ok(connection)
    }

    /// Without RESP3 there was no handshake to which the server could have said no.
    async fn verify_login(&self) -> Result<(), Refusal> {
        let mut ping = Cmd::with_capacity(1, 4);
        match self.request(ping.arg("PING")).await.map_err(Refusal::from)? {
            Value::ServerError(error) => Err(Refusal::answered(self.place(), error.code())),
            _ => Ok(()),
        }
    }

    async fn select(&self, db: u32) -> Result<(), Refusal> {
        let mut select = Cmd::with_capacity(2, 16);
        match self.request(select.arg("SELECT").arg(db)).await.map_err(Refusal::from)? {
            Value::ServerError(error) if error.code() == "ERR" => Err(Refusal::new(
                Code::InvalidArgument,
                format!("Redis at {} has no database {db}; databases are numbered from 0", self.place()),
            )),
            Value::ServerError(error) => Err(Refusal::answered(self.place(), error.code())),
            _ => Ok(()),
        }
    }

    pub(in crate::stores::redis) fn id(&self) -> u64 {
        self.0.id
    }

    pub(in crate::stores::redis) fn place(&self) -> &str {
        &self.0.place
    }

    /// Whether the server pushes messages on this connection (RESP3).
    pub(in crate::stores::redis) fn pushes(&self) -> bool {
        self.0.pushes
    }

    pub(in crate::stores::redis) fn is_over(&self) -> bool {
        self.0.end.is_cancelled()
    }

    /// Whether another one leads to the same server, as far as that may be asked.
    pub(in crate::stores::redis) async fn leads_to_same(&self, other: &Connection) -> bool {
        match (self.run_id().await, other.run_id().await) {
            (Some(own), Some(other)) => own == other,
            _ => true,
        }
    }

    async fn run_id(&self) -> Option<String> {
        let mut info = Cmd::with_capacity(2, 16);
        let text = match self.request(info.arg("INFO").arg("server")).await.ok()? {
            Value::BulkString(text) => String::from_utf8(text).ok()?,
            Value::VerbatimString { text, .. } => text,
            _ => return None,
        };
        text.lines().find_map(|line| line.strip_prefix("run_id:")).map(|id| id.trim().to_owned())
    }

    /// From now on an event loop drives it, until that ends or hangs. Requests must then be made there.
    pub(in crate::stores::redis) fn move_to(&self, executor: &Arc<Executor>) {
        let home = Home {
            executor: Arc::downgrade(executor),
            driver: OnceLock::new(),
            left: AtomicBool::new(false),
        };
        let ticket = self.0.ticket.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Ok(()), Some(ticket)) = (self.0.home.set(home), ticket) {
            let _ = ticket.send(Arc::clone(executor));
        }
    }

    /// Whether the event loop that polls drives it.
    pub(in crate::stores::redis) fn is_driven_here(&self) -> bool {
        let Some(home) = self.0.home.get() else { return false };
        home.driver.get().is_some_and(TaskRef::is_there)
            && here().is_some_and(|here| std::ptr::eq(Arc::as_ptr(&here), home.executor.as_ptr()))
            && !self.is_over()
    }

    /// Whether it is on its way to an event loop.
    pub(in crate::stores::redis) fn is_moving(&self) -> bool {
        let home = self.0.home.get();
        home.is_some_and(|home| home.driver.get().is_none() && !home.left.load(Ordering::Acquire))
            && !self.is_over()
    }

    /// Closes it for everybody; whoever waits for a reply learns that none comes.
    pub(in crate::stores::redis) fn kill(&self) {
        self.0.end.cancel();
    }

    pub(in crate::stores::redis) async fn ended(&self) {
        self.0.end.cancelled().await;
    }

    pub(in crate::stores::redis) fn traffic(&self) -> Arc<Traffic> {
        self.0.traffic.clone()
    }

    /// Lets whoever holds it find out whether it still works.
    pub(in crate::stores::redis) async fn is_silent(&self) {
        self.0.holder.silent(self.clone()).await;
    }

    pub(in crate::stores::redis) fn downgrade(&self) -> WeakConnection {
        WeakConnection(Arc::downgrade(&self.0))
    }

    /// Sends a request and waits for its reply, which may be an error of the server's
    /// ([`Value::ServerError`]). Cancel safe: the reply of an abandoned request is thrown away.
    ///
    /// # Errors
    /// Of unknown outcome when the connection ends first; not applied when nothing of the request was sent,
    /// and then the connection is over.
    pub(in crate::stores::redis) async fn request(&self, command: &Cmd) -> Result<Value> {
        let asked = self.ask()?;
        let reply = self.0.requests.clone().send_packed_command(command).await;
        self.heard(asked, reply)
    }

    /// The same on the event loop that drives this.
    pub(in crate::stores::redis) async fn request_at_home(&self, command: &Cmd) -> Result<Value> {
        let Some(home) = self.0.home.get() else { return Box::pin(self.request(command)).await };
        let asked = self.ask()?;
        let mut requests = self.0.requests.clone();
        let reply = self.at_home(home, pin!(requests.send_packed_command(command))).await;
        self.heard(asked, reply)
    }

    /// Waits on the event loop that drives this. Who has left it must not wait for that loop's user: then the engine
    /// drives it. Who goes away without the reply leaves nothing behind that could still be sent.
    async fn at_home<T>(&self, home: &Home, mut reply: Pin<&mut impl Future<Output = T>>) -> T {
        let unanswered = Unanswered { connection: self, home };
        let early = stay(poll_fn(|cx| match reply.as_mut().poll(cx) {
            Poll::Ready(reply) => Poll::Ready(Some(reply)),
            Poll::Pending if self.is_driven_here() => Poll::Pending,
            Poll::Pending => Poll::Ready(None),
        }));
        let reply = match early.await {
            Some(reply) => reply,
            None => Box::pin(patiently(reply, || home.leave())).await,
        };
        std::mem::forget(unanswered);
        reply
    }

    /// The same for several requests, sent in one go.
    pub(in crate::stores::redis) async fn request_all(
        &self,
        commands: &redis::Pipeline,
    ) -> Result<Vec<Value>> {
        let asked = self.ask()?;
        let count = commands.len();
        let replies = self.0.requests.clone().send_packed_commands(commands, 0, count).await;
        let replies = self.heard(asked, replies)?;
        if replies.len() == count {
            return Ok(replies);
        }
        Err(error::unexpected(self.place(), &Value::Array(replies)))
    }

    /// Starts or ends the delivery of a channel's messages; answers once the server has confirmed it.
    pub(in crate::stores::redis) async fn subscribe(&self, channel: &str) -> Result<()> {
        let asked = self.ask()?;
        let reply = self.0.requests.clone().subscribe(channel).await;
        self.heard(asked, reply)
    }

    pub(in crate::stores::redis) async fn unsubscribe(&self, channel: &str) -> Result<()> {
        let asked = self.ask()?;
        let reply = self.0.requests.clone().unsubscribe(channel).await;
        self.heard(asked, reply)
    }

    fn ask(&self) -> Result<Asked<'_>> {
        if self.is_over() {
            return Err(error::gone(self.place()));
        }
        let asked = self.0.traffic.ask();
        // Where it is an event loop's own, deadlines end it: a look at it would wake the engine's thread.
        if self.0.home.get().is_none() && self.0.traffic.needs_watching() {
            watchdog::watch(self, self.0.opened_in);
        }
        Ok(asked)
    }

    fn heard<T>(&self, asked: Asked<'_>, reply: redis::RedisResult<T>) -> Result<T> {
        match reply {
            Ok(reply) => {
                asked.answered();
                Ok(reply)
            }
            Err(error) => Err(match error.code() {
                Some(code) => {
                    asked.answered();
                    error::refused(self.place(), code, error.detail())
                }
                None => {
                    let never_left = asked.never_left();
                    // Nothing good comes from it any more.
                    self.kill();
                    if never_left { error::gone(self.place()) } else { error::lost(self.place()) }
                        .because(error.category().to_owned())
                }
            }),
        }
    }
}

/// A request of which nobody knows whether it was sent.
struct Unanswered<'a> {
    connection: &'a Connection,
    home: &'a Home,
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        // What was not sent must never be: whatever follows goes by another connection.
        self.connection.kill();
        if !self.connection.is_driven_here() {
            self.home.leave();
        }
    }
}

impl Home {
    fn leave(&self) {
        self.left.store(true, Ordering::Release);
        if let Some(driver) = self.driver.get() {
            driver.leave();
        }
    }
}

/// Reads and writes until either side ends it: in the engine's runtime, until a ticket takes it elsewhere.
async fn drive(
    connection: WeakConnection,
    mut driver: Driver,
    mut moved: oneshot::Receiver<Arc<Executor>>,
    over: Over,
) {
    let executor = tokio::select! {
        () = &mut driver => None,
        () = over.end.cancelled() => None,
        Ok(executor) = &mut moved => Some(executor),
    };
    let (Some(executor), Some(connection)) = (executor, connection.upgrade()) else { return over.tell() };
    let traffic = connection.traffic();
    let task = executor.spawn(async move {
        stay(async {
            tokio::select! {
                () = driver => {}
                () = over.end.cancelled() => {}
                () = watchdog::unused(&traffic) => {}
            }
        })
        .await;
        over.tell();
    });
    if let Some(home) = connection.0.home.get() {
        let _ = home.driver.set(task);
        if home.left.load(Ordering::Acquire) {
            home.leave();
        }
    }
}

/// Who hears of a connection's end.
struct Over {
    end: CancellationToken,
    holder: Arc<dyn Holder>,
    id: u64,
}

impl Over {
    fn tell(self) {
        self.end.cancel();
        self.holder.ended(self.id);
    }
}

/// Waits for a reply, and does something about it when it does not come soon.
async fn patiently<T>(mut reply: Pin<&mut impl Future<Output = T>>, impatient: impl FnOnce()) -> T {
    if let Ok(reply) = tokio::time::timeout(PATIENCE, reply.as_mut()).await {
        return reply;
    }
    impatient();
    reply.await
}

impl WeakConnection {
    pub(in crate::stores::redis) fn upgrade(&self) -> Option<Connection> {
        self.0.upgrade().map(Connection)
    }
}

impl fmt::Debug for WeakConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WeakConnection")
    }
}

fn knows_no_resp3(error: &redis::RedisError) -> bool {
    matches!(error.kind(), ErrorKind::RESP3NotSupported | ErrorKind::Server(ServerErrorKind::ResponseError))
        || error.code() == Some("NOPROTO")
}
