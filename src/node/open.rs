//! From a target and options of JavaScript to a client. Which stores there are, the core knows.

use std::sync::Arc;

use napi::bindgen_prelude::{Either, Env, Unknown};
use napi_derive::napi;
use syncguard::backend::Surroundings;
use syncguard::engine::{Client as Engine, ClientOptions};
use syncguard::lock::{Error, Result};
use syncguard::stores;
use syncguard::stores::target::{Password, Settings, Target};

use crate::attachment::Attachment;
use crate::client::Client;
use crate::completion::Completions;
use crate::foreign::ForeignPassword;
use crate::raw::Value;
use crate::returned::Returned;
use crate::{runtime, settings};

#[napi]
impl Attachment {
    /// A backend with its engine; no I/O yet.
    #[napi(
        ts_args_type = "kind: Kind, target: string | Entries | null, options: Entries, passwordSlot: number | null",
        ts_return_type = "Client | Failure"
    )]
    pub fn open(
        &self,
        kind: String,
        target: Unknown<'_>,
        options: Unknown<'_>,
        password_slot: Option<u32>,
    ) -> Either<Client, Returned> {
        let open = || {
            let queue = Arc::clone(&self.queue);
            let (target, password) = where_to(&queue, Value::from(&target), password_slot)?;
            let mut options = settings::entries(Value::from(&options));
            let client_options = client_options(&mut options)?;
            let dispose_timeout = options.take_millis("disposeTimeoutMs")?;
            // A function: it stays with TypeScript.
            options.taken_elsewhere("onReleaseError");
            let surroundings = surroundings(&client_options, &queue);
            let backend = stores::open(kind.parse()?, target, options, password, &surroundings)?;
            let environment = Arc::clone(&queue);
            let engine = Engine::new(backend, client_options, environment, runtime::handle().clone());
            Ok(Client::new(queue, engine, dispose_timeout))
        };
        match open() {
            Ok(client) => Either::A(client),
            Err(error) => Either::B(Returned::Failed(error)),
        }
    }

    /// Makes at a store what a backend needs there: tables.
    #[napi(
        ts_args_type = "kind: Kind, target: string | Entries, options: Entries, passwordSlot: number | null",
        ts_return_type = "Promise<null | Failure>"
    )]
    pub fn set_up(
        &self,
        env: Env,
        kind: String,
        target: Unknown<'_>,
        options: Unknown<'_>,
        password_slot: Option<u32>,
    ) -> Value {
        let call = || {
            let queue = Arc::clone(&self.queue);
            let (target, password) = where_to(&queue, Value::from(&target), password_slot)?;
            let mut options = settings::entries(Value::from(&options));
            let limits = client_options(&mut options)?;
            // Nothing to this call; but it gets the object with which a backend is opened, too.
            options.take_millis("disposeTimeoutMs")?;
            options.taken_elsewhere("onReleaseError");
            let surroundings = surroundings(&limits, &queue);
            let work = stores::set_up(kind.parse()?, target, options, password, &surroundings)?;
            Ok((queue, async move { Returned::of(work.await, |()| Returned::Nothing) }))
        };
        match call() {
            Ok((queue, call)) => queue.promise(env.raw(), call),
            Err(error) => Completions::settled(env.raw(), &Returned::Failed(error)),
        }
    }

    /// Crosses the boundary and comes back: the floor of every call, for the benchmark.
    #[napi(ts_return_type = "Promise<null>")]
    pub fn empty_call(&self, env: Env) -> Value {
        self.queue.promise_here(env.raw(), async { Returned::Nothing }, false)
    }
}

fn where_to(
    queue: &Arc<Completions>,
    target: Value,
    password_slot: Option<u32>,
) -> Result<(Target, Password)> {
    let target = match target.text() {
        Some(url) => Target::Url(url),
        None if target.kind() == napi::sys::ValueType::napi_string => {
            return Err(Error::invalid(format!("target must be a URL; {} was given", target.kind_name())));
        }
        None => Target::Facts(settings::entries(target)),
    };
    let password = match password_slot {
        Some(slot) => Password::Provider(Arc::new(ForeignPassword { queue: Arc::clone(queue), slot })),
        None => Password::None,
    };
    Ok((target, password))
}

fn client_options(options: &mut Settings) -> Result<ClientOptions> {
    let defaults = ClientOptions::default();
    let operation_timeout = options.take_millis("operationTimeoutMs")?.unwrap_or(defaults.operation_timeout);
    Ok(ClientOptions { operation_timeout })
}

fn surroundings(options: &ClientOptions, queue: &Arc<Completions>) -> Surroundings {
    Surroundings { operation_timeout: options.operation_timeout, warnings: Arc::clone(queue) as _ }
}
