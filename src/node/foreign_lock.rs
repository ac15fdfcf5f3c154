//! `lock()` over a backend that is written in JavaScript, or wrapped by something that is.

use std::sync::Arc;
use std::time::Duration;

use napi::bindgen_prelude::{ClassInstance, Env, JsValue, Unknown};
use napi_derive::napi;
use syncguard::engine::{AcquireOptions, Client as Engine, ClientOptions, NoEnvironment};
use syncguard::lock::LockId;

use crate::attachment::Attachment;
use crate::client::{Cancel, Client, token};
use crate::completion::Queue;
use crate::foreign::ForeignBackend;
use crate::outcome::Outcome;
use crate::raw::{self, Value};
use crate::{runtime, settings};

#[napi]
impl Attachment {
    /// The acquisition loop over a JavaScript backend.
    #[napi(ts_return_type = "Promise<{ ok: true, lockId: string } | Failure>")]
    #[allow(clippy::too_many_arguments, reason = "one crossing of the boundary")]
    pub fn lock_foreign(
        &self,
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
            let queue = Arc::clone(&self.queue);
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
    pub fn release_foreign(
        &self,
        env: Env,
        cancel: Option<ClassInstance<'_, Cancel>>,
        lock_id: Unknown<'_>,
    ) -> Value {
        let cancel = token(&cancel);
        let call = || {
            let queue = Arc::clone(&self.queue);
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
