//! `lock()` over a backend that is written in JavaScript.

use std::sync::Arc;

use napi::bindgen_prelude::{ClassInstance, Env, JsValue, Unknown};
use napi_derive::napi;
use syncguard::engine::{AcquireOptions, Client as Engine, ClientOptions, NoEnvironment};

use crate::attachment::Attachment;
use crate::client::{Cancel, token};
use crate::completion::Completions;
use crate::foreign::ForeignBackend;
use crate::raw::{self, Value};
use crate::returned::Returned;
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
        cancel: Option<ClassInstance<'_, Cancel>>,
        key: Unknown<'_>,
        ttl_ms: Unknown<'_>,
        acquisition: Unknown<'_>,
    ) -> Value {
        let env = key.value().env;
        let cancel = token(&cancel);
        let call = || {
            let queue = Arc::clone(&self.queue);
            let options = AcquireOptions {
                key: raw::key(Value::from(&key))?,
                ttl: settings::ttl(Value::from(&ttl_ms))?,
                keep: None,
                observer: None,
            };
            let policy = settings::policy(Value::from(&acquisition))?;
            let engine = foreign_engine(&queue, adapter, store);
            Ok((Arc::clone(&queue), async move {
                match engine.lock(options, &policy, cancel.as_ref()).await {
                    Ok(lease) => {
                        let lock_id = lease.lock_id;
                        // Its release goes by way of the same engine, which knows the queue to tell.
                        queue.foreign.insert(lock_id, engine);
                        Returned::ForeignGranted(lock_id)
                    }
                    Err(error) => Returned::Failed(error),
                }
            }))
        };
        match call() {
            Ok((queue, call)) => queue.promise(env, call),
            Err(error) => Completions::settled(env, &Returned::Failed(error)),
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
                    return Returned::Released(syncguard::backend::Mutation::NotFound);
                };
                let result = engine.release(lock_id, cancel.as_ref()).await;
                if result.is_ok() {
                    queue.foreign.remove(&lock_id);
                }
                Returned::of(result, Returned::Released)
            }))
        };
        match call() {
            Ok((queue, call)) => queue.promise(env.raw(), call),
            Err(error) => Completions::settled(env.raw(), &Returned::Failed(error)),
        }
    }
}

fn foreign_engine(queue: &Arc<Completions>, adapter: u32, store: u32) -> Engine {
    let backend = Arc::new(ForeignBackend::new(Arc::clone(queue), adapter, store));
    // Whoever wrote the backend tells of losses; here nobody listens.
    let environment = Arc::new(NoEnvironment);
    Engine::new(backend, ClientOptions::default(), environment, runtime::handle().clone())
}
