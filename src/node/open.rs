//! From a target and options to a client: the one place that knows which backends there are.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::{ClassInstance, Either, Env, JsValue, Unknown};
use napi_derive::napi;
use syncguard::backend::Backend;
use syncguard::engine::{AcquireOptions, Client as Engine, ClientOptions, NoEnvironment};
use syncguard::file::{FileBackend, FileConfig};
use syncguard::firestore::{FirestoreBackend, FirestoreConfig};
use syncguard::lock::{Error, LockId, Result};
use syncguard::memory::{MemoryBackend, MemoryConfig};
use syncguard::postgres::{PostgresBackend, PostgresConfig};
use syncguard::redis::{RedisBackend, RedisConfig};
use syncguard::secret::Password;
use syncguard::settings::{Settings, Target};

use crate::client::{Cancel, Client, token};
use crate::completion::Queue;
use crate::foreign::{ForeignBackend, ForeignPassword, reply};
use crate::outcome::Outcome;
use crate::raw::{self, Value};
use crate::{runtime, settings};

thread_local! {
    /// Each environment has a thread of its own.
    static QUEUE: RefCell<Option<Arc<Queue>>> = const { RefCell::new(None) };
}

pub(crate) fn queue() -> Result<Arc<Queue>> {
    QUEUE
        .with_borrow(Clone::clone)
        .ok_or_else(|| Error::internal("the native part was used before it was attached to this thread"))
}

/// Registers the function that gets this thread's events. Once, before anything asynchronous.
#[napi(
    ts_args_type = "dispatch: (event: string, a: unknown, b: unknown, c: unknown, d: unknown) => void, worker: boolean"
)]
pub fn attach(dispatch: Unknown<'_>, worker: bool) {
    let value = Value::from(&dispatch);
    QUEUE.set(Some(Queue::attach(value.env, value, worker)));
}

/// Answers an event that carries a call number.
#[napi]
pub fn settle(call: u32, result: Unknown<'_>) {
    if let Ok(queue) = queue() {
        queue.calls.settle(call, reply(Value::from(&result)));
    }
}

/// A backend with its engine; no I/O yet.
#[napi(
    ts_args_type = "kind: 'redis' | 'postgres' | 'firestore' | 'file' | 'memory' | 'default', target: string | Entries | null, options: Entries, passwordSlot: number | null",
    ts_return_type = "Client | Failure"
)]
pub fn open(
    kind: String,
    target: Unknown<'_>,
    options: Unknown<'_>,
    password_slot: Option<u32>,
) -> Either<Client, Outcome> {
    let open = || {
        let queue = queue()?;
        let (target, password) = where_to(&queue, Value::from(&target), password_slot);
        let mut options = settings::entries(Value::from(&options));
        let client_options = client_options(&mut options)?;
        let dispose_timeout = options.take_millis("disposeTimeoutMs")?;
        // A function: it stays with TypeScript.
        options.taken_elsewhere("onReleaseError");
        let backend = backend(&kind, target, options, password, &client_options)?;
        let environment = Arc::clone(&queue);
        let engine = Engine::new(backend, client_options, environment, runtime::handle().clone());
        Ok(Client::new(queue, engine, dispose_timeout))
    };
    match open() {
        Ok(client) => Either::A(client),
        Err(error) => Either::B(Outcome::Failed(error)),
    }
}

fn where_to(queue: &Arc<Queue>, target: Value, password_slot: Option<u32>) -> (Target, Password) {
    let target = match target.text() {
        Some(url) => Target::Url(url),
        None => Target::Facts(settings::entries(target)),
    };
    let password = match password_slot {
        Some(slot) => Password::Provider(Arc::new(ForeignPassword { queue: Arc::clone(queue), slot })),
        None => Password::None,
    };
    (target, password)
}

/// Makes the PostgreSQL tables.
#[napi(
    ts_args_type = "target: string | Entries, options: Entries, passwordSlot: number | null",
    ts_return_type = "Promise<null | Failure>"
)]
pub fn setup_schema(
    env: Env,
    target: Unknown<'_>,
    options: Unknown<'_>,
    password_slot: Option<u32>,
) -> Value {
    let call = || {
        let queue = queue()?;
        let (target, password) = where_to(&queue, Value::from(&target), password_slot);
        let mut options = settings::entries(Value::from(&options));
        let limits = client_options(&mut options)?;
        let config = PostgresConfig::from_target(target, options, password)?
            .with_operation_timeout(limits.operation_timeout);
        Ok((
            queue,
            async move { Outcome::of(PostgresBackend::setup_schema(config).await, |()| Outcome::Nothing) },
        ))
    };
    match call() {
        Ok((queue, call)) => queue.promise(env.raw(), call),
        Err(error) => Queue::settled(env.raw(), &Outcome::Failed(error)),
    }
}

fn client_options(options: &mut Settings) -> Result<ClientOptions> {
    let defaults = ClientOptions::default();
    let operation_timeout = options.take_millis("operationTimeoutMs")?.unwrap_or(defaults.operation_timeout);
    Ok(ClientOptions { operation_timeout })
}

fn backend(
    kind: &str,
    target: Target,
    options: Settings,
    password: Password,
    limits: &ClientOptions,
) -> Result<Arc<dyn Backend>> {
    match kind {
        "redis" => {
            let config = RedisConfig::from_target(target, options, password)?;
            Ok(Arc::new(RedisBackend::new(config)))
        }
        "postgres" => {
            let config = PostgresConfig::from_target(target, options, password)?;
            let config = config.with_operation_timeout(limits.operation_timeout);
            Ok(Arc::new(PostgresBackend::new(config)))
        }
        "firestore" => {
            let config = FirestoreConfig::from_target(target, options, password)?;
            Ok(Arc::new(FirestoreBackend::new(config)))
        }
        "file" => Ok(Arc::new(FileBackend::new(FileConfig::from_target(target, options)?))),
        "memory" => Ok(Arc::new(MemoryBackend::open(&MemoryConfig::from_target(target, options)?))),
        "default" => {
            let directory = FileConfig::default_directory()?;
            Ok(Arc::new(FileBackend::new(FileConfig::in_directory(directory, options)?)))
        }
        other => Err(Error::invalid(format!("there is no backend {other:?}"))),
    }
}

/// Crosses the boundary and comes back: the floor of every call, for the benchmark.
#[napi(ts_return_type = "Promise<null>")]
pub fn empty_call(env: Env) -> Value {
    match queue() {
        Ok(queue) => queue.promise(env.raw(), async { Outcome::Nothing }),
        Err(error) => Queue::settled(env.raw(), &Outcome::Failed(error)),
    }
}

/// The acquisition loop over a JavaScript backend.
#[napi(ts_return_type = "Promise<{ ok: true, lockId: string } | Failure>")]
#[allow(clippy::too_many_arguments, reason = "one crossing of the boundary")]
pub fn lock_foreign(
    adapter: u32,
    store: u32,
    inner: Option<ClassInstance<'_, Client>>,
    cancel: Option<ClassInstance<'_, Cancel>>,
    key: Unknown<'_>,
    ttl_ms: Unknown<'_>,
    acquisition: Unknown<'_>,
) -> Value {
    let env = key.value().env;
    let cancel = token(&cancel);
    let inner = inner.as_ref().map(|inner| inner.engine());
    let call = || {
        let queue = queue()?;
        let options = AcquireOptions {
            key: raw::key(Value::from(&key))?,
            ttl: settings::ttl(Value::from(&ttl_ms))?,
            keep: None,
            lock_id: Some(LockId::mint()),
        };
        let policy = settings::policy(Value::from(&acquisition))?;
        let engine = foreign_engine(&queue, adapter, store, inner);
        Ok((Arc::clone(&queue), async move {
            match engine.lock(options, &policy, cancel.as_ref()).await {
                Ok(lease) => {
                    let lock_id = lease.lock_id;
                    // Its release goes by way of the same engine, which knows the queue to tell.
                    queue.foreign.insert(lock_id, engine);
                    Outcome::ForeignGranted(lock_id)
                }
                Err(error) => Outcome::Failed(error),
            }
        }))
    };
    match call() {
        Ok((queue, call)) => queue.promise(env, call),
        Err(error) => Queue::settled(env, &Outcome::Failed(error)),
    }
}

/// Releases what `lockForeign` was granted.
#[napi(ts_return_type = "Promise<{ ok: true } | Refused | Failure>")]
pub fn release_foreign(env: Env, cancel: Option<ClassInstance<'_, Cancel>>, lock_id: Unknown<'_>) -> Value {
    let cancel = token(&cancel);
    let call = || {
        let queue = queue()?;
        let lock_id = raw::lock_id(Value::from(&lock_id))?;
        let engine = queue.foreign.get(&lock_id);
        Ok((Arc::clone(&queue), async move {
            let Some(engine) = engine else {
                return Outcome::Released(syncguard::backend::Mutation::NotFound);
            };
            let result = engine.release(lock_id, cancel.as_ref()).await;
            if result.is_ok() {
                queue.foreign.remove(&lock_id);
            }
            Outcome::of(result, Outcome::Released)
        }))
    };
    match call() {
        Ok((queue, call)) => queue.promise(env.raw(), call),
        Err(error) => Queue::settled(env.raw(), &Outcome::Failed(error)),
    }
}

/// By how much a native client below is given the first word on a call that hangs.
const FIRST_WORD: Duration = Duration::from_millis(200);

fn foreign_engine(queue: &Arc<Queue>, adapter: u32, store: u32, inner: Option<Engine>) -> Engine {
    let options = inner.as_ref().map_or_else(ClientOptions::default, |inner| ClientOptions {
        operation_timeout: inner.options().operation_timeout.saturating_add(FIRST_WORD),
    });
    let backend = Arc::new(ForeignBackend::new(Arc::clone(queue), adapter, store, inner));
    // A wrapper's own client tells of losses; here nobody listens.
    let environment = Arc::new(NoEnvironment);
    Engine::new(backend, options, environment, runtime::handle().clone())
}
