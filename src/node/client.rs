//! A native backend with its engine, as JavaScript holds it.

use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::{ClassInstance, Env, JsValue, Unknown};
use napi::sys;
use napi_derive::napi;
use syncguard::backend::{LookupBy, TimeAuthority};
use syncguard::engine::{AcquireOptions, Client as Engine, Observer};
use syncguard::lock::Result;
use tokio_util::sync::CancellationToken;

use crate::completion::{ClientSlot, Completions};
use crate::observer::ForeignObserver;
use crate::raw::{self, Value, make_flag, make_number, make_object, make_text};
use crate::returned::Returned;
use crate::settings;

/// Ends one call early.
#[napi]
#[derive(Default)]
pub struct Cancel(CancellationToken);

#[napi]
impl Cancel {
    #[napi(constructor)]
    pub fn new() -> Cancel {
        Cancel::default()
    }

    #[napi]
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

type MaybeCancel<'a> = Option<ClassInstance<'a, Cancel>>;

pub(crate) fn token(cancel: &MaybeCancel<'_>) -> Option<CancellationToken> {
    cancel.as_ref().map(|cancel| cancel.0.clone())
}

#[napi]
pub struct Client {
    queue: Arc<Completions>,
    slot: Arc<ClientSlot>,
    dispose_timeout: Option<Duration>,
}

impl Client {
    pub fn new(queue: Arc<Completions>, engine: Engine, dispose_timeout: Option<Duration>) -> Client {
        let slot = Arc::new(ClientSlot(engine));
        queue.adopt(&slot);
        Client { queue, slot, dispose_timeout }
    }

    pub fn engine(&self) -> Engine {
        self.slot.0.clone()
    }

    /// The same on the caller's thread as long as nothing is to be waited for but the store's reply.
    fn promise_here<F: Future<Output = Returned> + Send + 'static>(
        &self,
        env: sys::napi_env,
        call: Result<F>,
        at_once: bool,
    ) -> Value {
        match call {
            Ok(call) if self.slot.0.capabilities().event_loop => self.queue.promise_here(env, call, at_once),
            call => self.promise(env, call),
        }
    }

    /// A promise of the call's outcome; arguments that can't be read settle it at once.
    fn promise<F: Future<Output = Returned> + Send + 'static>(
        &self,
        env: sys::napi_env,
        call: Result<F>,
    ) -> Value {
        match call {
            Ok(call) => self.queue.promise(env, call),
            Err(error) => Completions::settled(env, &Returned::Failed(error)),
        }
    }
}

#[napi]
impl Client {
    #[napi(getter, ts_return_type = "BackendInfo")]
    pub fn info(&self, env: Env) -> Value {
        let capabilities = self.slot.0.capabilities();
        let authority = match capabilities.time_authority {
            TimeAuthority::Server => "server",
            TimeAuthority::Client => "client",
        };
        let mut properties = vec![
            (c"backend", make_text(env.raw(), capabilities.name)),
            (c"supportsFencing", make_flag(env.raw(), true)),
            (c"timeAuthority", make_text(env.raw(), authority)),
        ];
        if let Some(timeout) = self.dispose_timeout {
            properties.push((c"disposeTimeoutMs", make_number(env.raw(), timeout.as_secs_f64() * 1000.0)));
        }
        make_object(env.raw(), &properties)
    }

    /// Asks the store for a key that nobody has, so that a wrong address or password shows now.
    #[napi(ts_return_type = "Promise<null | Failure>")]
    pub fn check(&self, env: Env) -> Value {
        let engine = self.engine();
        let call = async move {
            let checked = match syncguard::lock::Key::new("syncguard:check") {
                Ok(key) => engine.is_locked(&key, None).await,
                Err(error) => Err(error),
            };
            Returned::of(checked, |_| Returned::Nothing)
        };
        self.queue.promise(env.raw(), call)
    }

    /// One attempt, past the queue.
    #[napi(ts_return_type = "Promise<Grant | { ok: false } | Failure>")]
    pub fn acquire(
        &self,
        cancel: MaybeCancel<'_>,
        key: Unknown<'_>,
        ttl_ms: Unknown<'_>,
        keep: Unknown<'_>,
    ) -> Value {
        let (cancel, engine) = (token(&cancel), self.engine());
        let call = acquire_options(&key, &ttl_ms, &keep).map(|options| async move {
            Returned::of(engine.acquire(options, cancel.as_ref()).await, Returned::acquired)
        });
        self.promise_here(key.value().env, call, false)
    }

    /// Attempts until granted or out of time, in line with this process's other waiters. An observer hears of them.
    #[napi(ts_return_type = "Promise<Grant | Failure>")]
    #[allow(clippy::too_many_arguments, reason = "one crossing of the boundary")]
    pub fn lock(
        &self,
        cancel: MaybeCancel<'_>,
        key: Unknown<'_>,
        ttl_ms: Unknown<'_>,
        acquisition: Unknown<'_>,
        keep: Unknown<'_>,
        observer: Option<u32>,
    ) -> Value {
        let (cancel, engine) = (token(&cancel), self.engine());
        // Made in any case: TypeScript hears when it goes.
        let observer =
            observer.map(|slot| Arc::new(ForeignObserver { queue: Arc::clone(&self.queue), slot }));
        let call = acquire_options(&key, &ttl_ms, &keep).and_then(|mut options| {
            options.observer = observer.map(|observer| observer as Arc<dyn Observer>);
            let policy = settings::policy(Value::from(&acquisition))?;
            Ok(async move {
                Returned::of(engine.lock(options, &policy, cancel.as_ref()).await, Returned::Granted)
            })
        });
        self.promise_here(key.value().env, call, false)
    }

    #[napi(ts_return_type = "Promise<{ ok: true } | Refused | Failure>")]
    pub fn release(&self, cancel: MaybeCancel<'_>, lock_id: Unknown<'_>) -> Value {
        let (cancel, engine) = (token(&cancel), self.engine());
        let call = raw::lock_id(Value::from(&lock_id)).map(|lock_id| async move {
            Returned::of(engine.release(lock_id, cancel.as_ref()).await, Returned::Released)
        });
        // Its caller may go on with something long.
        self.promise_here(lock_id.value().env, call, true)
    }

    #[napi(ts_return_type = "Promise<{ ok: true, expiresAtMs: number } | Refused | Failure>")]
    pub fn extend(
        &self,
        cancel: MaybeCancel<'_>,
        lock_id: Unknown<'_>,
        ttl_ms: Unknown<'_>,
        only_if_held: bool,
    ) -> Value {
        let (cancel, engine) = (token(&cancel), self.engine());
        let call = raw::lock_id(Value::from(&lock_id)).and_then(|lock_id| {
            let ttl = settings::ttl(Value::from(&ttl_ms))?;
            Ok(async move {
                let result = engine.extend(lock_id, ttl, only_if_held, cancel.as_ref()).await;
                Returned::of(result, Returned::Extended)
            })
        });
        self.promise_here(lock_id.value().env, call, true)
    }

    #[napi(ts_return_type = "Promise<boolean | Failure>")]
    pub fn is_locked(&self, cancel: MaybeCancel<'_>, key: Unknown<'_>) -> Value {
        let (cancel, engine) = (token(&cancel), self.engine());
        let call = raw::key(Value::from(&key)).map(|key| async move {
            Returned::of(engine.is_locked(&key, cancel.as_ref()).await, Returned::Flag)
        });
        self.promise(key.value().env, call)
    }

    #[napi(ts_return_type = "Promise<null | LeaseRecord | Failure>")]
    pub fn lookup(
        &self,
        cancel: MaybeCancel<'_>,
        #[napi(ts_arg_type = "'key' | 'lockId'")] by: String,
        value: Unknown<'_>,
    ) -> Value {
        let (cancel, engine) = (token(&cancel), self.engine());
        let env = value.value().env;
        let value = Value::from(&value);
        if by == "key" {
            let call = raw::key(value).map(|key| async move {
                Returned::of(engine.lookup(LookupBy::Key(&key), cancel.as_ref()).await, Returned::Found)
            });
            return self.promise(env, call);
        }
        let call = raw::lock_id(value).map(|lock_id| async move {
            Returned::of(engine.lookup(LookupBy::LockId(&lock_id), cancel.as_ref()).await, Returned::Found)
        });
        self.promise(env, call)
    }

    /// How long the lease is certainly still ours, in ms; 0 when it is not. Local, no I/O.
    #[napi]
    pub fn remaining_ms(&self, lock_id: Unknown<'_>) -> f64 {
        let lock_id = raw::lock_id(Value::from(&lock_id));
        lock_id.map_or(0.0, |lock_id| self.slot.0.remaining(&lock_id).as_secs_f64() * 1000.0)
    }

    #[napi(ts_return_type = "Promise<null | Failure>")]
    pub fn close(&self, env: Env) -> Value {
        let engine = self.engine();
        let call = async move { Returned::of(engine.close().await, |()| Returned::Nothing) };
        self.queue.promise(env.raw(), call)
    }
}

pub(crate) fn acquire_options(
    key: &Unknown<'_>,
    ttl_ms: &Unknown<'_>,
    keep: &Unknown<'_>,
) -> Result<AcquireOptions> {
    let key = raw::key(Value::from(key))?;
    let ttl = settings::ttl(Value::from(ttl_ms))?;
    let keep = settings::keep(Value::from(keep), ttl)?;
    Ok(AcquireOptions { key, ttl, keep, observer: None })
}
