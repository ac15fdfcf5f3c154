//! A backend written in JavaScript, as a Rust `Backend`, so that it goes through the same engine. The
//! JavaScript result stays in JavaScript, under the engine's lock id as the name of the attempt.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use syncguard::backend::{
    AcquireRequest, Acquired, Backend, Capabilities, Find, HandOver, HandedOver, Mutation, Owner, Page,
    StoreId, TimeAuthority, Watch,
};
use syncguard::engine::Client;
use syncguard::lock::{Code, Error, Fence, Key, Lease, LockId, Outcome, Result, Timestamp, Ttl};
use syncguard::stores::target::{PasswordProvider, Secret};
use tokio::sync::oneshot;

use crate::completion::{Completions, Event};
use crate::raw::Value;

/// An error object that stayed in JavaScript, by the number that it is kept under there.
#[derive(Debug)]
pub struct ForeignError(pub f64);

impl fmt::Display for ForeignError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an error of the JavaScript backend")
    }
}

impl std::error::Error for ForeignError {}

/// JavaScript's answer to a call.
#[derive(Debug)]
pub enum Reply {
    Granted { expires_at: Timestamp },
    Refused,
    Mutated(Mutation<()>),
    Password(Secret),
    Failed(Error),
}

/// Calls to JavaScript that are not answered yet.
#[derive(Debug, Default)]
pub struct Calls {
    next: AtomicU32,
    waiting: Mutex<HashMap<u32, oneshot::Sender<Reply>>>,
}

impl Calls {
    fn waiting(&self) -> MutexGuard<'_, HashMap<u32, oneshot::Sender<Reply>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self) -> (u32, oneshot::Receiver<Reply>) {
        let (sender, receiver) = oneshot::channel();
        let call = self.next.fetch_add(1, Ordering::Relaxed);
        self.waiting().insert(call, sender);
        (call, receiver)
    }

    pub fn settle(&self, call: u32, reply: Reply) {
        if let Some(waiting) = self.waiting().remove(&call) {
            // Nobody waits any more after an abort.
            let _ = waiting.send(reply);
        }
    }

    /// The environment has ended and answers nothing any more.
    pub fn forget(&self) {
        self.waiting().clear();
    }
}

/// The engines that JavaScript backends' leases were granted by.
#[derive(Debug, Default)]
pub struct ForeignLeases(Mutex<HashMap<LockId, Client>>);

impl ForeignLeases {
    fn held(&self) -> MutexGuard<'_, HashMap<LockId, Client>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn insert(&self, lock_id: LockId, engine: Client) {
        self.held().insert(lock_id, engine);
    }

    pub fn get(&self, lock_id: &LockId) -> Option<Client> {
        self.held().get(lock_id).cloned()
    }

    pub fn remove(&self, lock_id: &LockId) {
        self.held().remove(lock_id);
    }

    pub fn forget(&self) {
        self.held().clear();
    }
}

pub async fn ask(queue: &Completions, event: impl FnOnce(u32) -> Event) -> Result<Reply> {
    let (call, reply) = queue.calls.begin();
    queue.event(event(call));
    match reply.await {
        Ok(Reply::Failed(error)) => Err(error),
        Ok(reply) => Ok(reply),
        Err(_) => {
            Err(Error::new(Code::Aborted, "the thread that owns the JavaScript code has ended").unknown())
        }
    }
}

/// Reads what TypeScript passed to `settle`.
pub fn reply(result: Value) -> Reply {
    if result.own("failed").is_some() {
        return Reply::Failed(read_failure(result));
    }
    if let Some(granted) = result.own("granted").and_then(Value::flag) {
        if !granted {
            return Reply::Refused;
        }
        let expires = result.own("expiresAtMs").and_then(Value::number).unwrap_or_default();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "saturates, a hint only"
        )]
        return Reply::Granted { expires_at: Timestamp::from_millis(expires as u64) };
    }
    if let Some(text) = result.own("text").and_then(Value::text) {
        let secret = Secret::new(text);
        return Reply::Password(match result.own("user").and_then(Value::text) {
            Some(user) => secret.of_user(user),
            None => secret,
        });
    }
    match (result.own("ok").and_then(Value::flag), result.own("reason").and_then(Value::text).as_deref()) {
        (Some(true), _) => Reply::Mutated(Mutation::Done(())),
        (_, Some("expired")) => Reply::Mutated(Mutation::Expired),
        _ => Reply::Mutated(Mutation::NotFound),
    }
}

fn read_failure(result: Value) -> Error {
    let text = |name| result.own(name).and_then(Value::text);
    let code = text("code").unwrap_or_default();
    let code = Code::ALL.into_iter().find(|known| known.as_str() == code).unwrap_or(Code::Internal);
    let (retryable, outcome) = code.defaults();
    let mut error = Error::new(code, text("message").unwrap_or_default());
    if result.own("retryable").and_then(Value::flag).unwrap_or(retryable) {
        error = error.retryable();
    }
    if text("outcome").map_or(outcome == Outcome::Unknown, |outcome| outcome == "unknown") {
        error = error.unknown();
    }
    if let Some(foreign) = result.own("foreign").and_then(Value::number) {
        error = error.because(ForeignError(foreign));
    }
    error
}

/// A password or token function of the user's.
#[derive(Debug)]
pub struct ForeignPassword {
    pub queue: Arc<Completions>,
    pub slot: u32,
}

#[async_trait]
impl PasswordProvider for ForeignPassword {
    async fn password(&self) -> Result<Secret> {
        let slot = self.slot;
        match ask(&self.queue, |call| Event::Password { call, slot }).await? {
            Reply::Password(secret) => Ok(secret),
            _ => Err(Error::new(Code::AuthFailed, "the password or token function must answer a string")),
        }
    }
}

#[derive(Debug)]
pub struct ForeignBackend {
    queue: Arc<Completions>,
    adapter: u32,
    capabilities: Capabilities,
}

impl ForeignBackend {
    /// `store` numbers the JavaScript object, so that its waiters share a queue.
    pub fn new(queue: Arc<Completions>, adapter: u32, store: u32) -> ForeignBackend {
        let capabilities = Capabilities {
            name: "javascript",
            store: StoreId::new("javascript", [queue.number.into(), store.into()]),
            time_authority: TimeAuthority::Client,
            wakes: false,
            hands_over: false,
            event_loop: false,
            repeatable: false,
        };
        ForeignBackend { queue, adapter, capabilities }
    }
}

fn cannot<T>() -> Result<T> {
    Err(Error::internal("the engine asked a JavaScript backend for what it does not do"))
}

#[async_trait]
impl Backend for ForeignBackend {
    fn capabilities(&self) -> &Capabilities {
        &self.capabilities
    }

    async fn acquire(&self, request: &AcquireRequest) -> Result<Acquired> {
        let (adapter, lock_id, ttl_ms) = (self.adapter, request.lock_id, request.ttl.as_millis());
        let reply = ask(&self.queue, |call| Event::Attempt { call, adapter, lock_id, ttl_ms }).await?;
        let Reply::Granted { expires_at } = reply else {
            return Ok(Acquired::Held { free_in: None });
        };
        Ok(Acquired::Granted(Lease {
            key: request.key.clone(),
            lock_id,
            fence: Fence::next(None, 0)?,
            acquired_at: Timestamp::now(),
            expires_at,
        }))
    }

    async fn release(&self, owner: &Owner) -> Result<Mutation<()>> {
        let (adapter, lock_id) = (self.adapter, owner.lock_id);
        match ask(&self.queue, |call| Event::Undo { call, adapter, lock_id }).await? {
            Reply::Mutated(mutation) => Ok(mutation),
            _ => Ok(Mutation::NotFound),
        }
    }

    async fn hand_over(&self, _: &HandOver<'_>) -> Result<HandedOver> {
        cannot()
    }

    async fn extend(&self, _: &Owner, _: Ttl) -> Result<Mutation<Timestamp>> {
        cannot()
    }

    async fn extend_many(&self, owners: &[(Owner, Ttl)]) -> Vec<Result<Mutation<Timestamp>>> {
        owners.iter().map(|_| cannot()).collect()
    }

    async fn find(&self, _: Find<'_>) -> Result<Page> {
        cannot()
    }

    async fn watch(&self, _: &Key) -> Result<Watch> {
        cannot()
    }

    async fn close(&self) -> Result<()> {
        Ok(())
    }
}
