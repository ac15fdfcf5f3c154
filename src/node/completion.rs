//! How results get back to JavaScript: one queue and one weak thread-safe function per copy of the JavaScript part.
//!
//! A stock async function of napi makes a thread-safe function, a cleanup hook and two tasks per call.
//! Here a call makes a promise and one task; finished results are pushed to a vector, and the event loop
//! is woken only when the vector was empty, so that many results cost one wake-up.

use std::ffi::c_void;
use std::panic::AssertUnwindSafe;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use napi::sys;
use syncguard::backend::{Warning, Warnings};
use syncguard::engine::{Client, Environment};
use syncguard::event_loop::{First, is_here};
use syncguard::lock::{Error, LockId};

use crate::event_loop::EventLoop;
use crate::foreign::{Calls, ForeignLeases};
use crate::raw::{Value, clear_exception, make_number, make_text, make_undefined};
use crate::returned::{Returned, failure};
use crate::runtime;

/// What the event loop is told.
enum Item {
    Settle(Deferred, Returned),
    Event(Event),
    /// There is something to poll.
    Poll,
    /// Asks for a sign of life: being drained is the answer.
    Ping,
}

#[derive(Debug)]
pub enum Event {
    Lost {
        lock_id: LockId,
        error: Error,
    },
    Attempt {
        call: u32,
        adapter: u32,
        lock_id: LockId,
        ttl_ms: u64,
    },
    Undo {
        call: u32,
        adapter: u32,
        lock_id: LockId,
    },
    Password {
        call: u32,
        slot: u32,
    },
    /// A lease file's holder has lost it.
    FileLost {
        slot: u32,
        error: Error,
    },
    /// Whether a process appears to be alive.
    Probe {
        call: u32,
        slot: u32,
        pid: u64,
    },
    Warning(Warning),
    /// A request for a key ended, of an acquisition that somebody observes.
    Asked {
        slot: u32,
        lock_id: Option<LockId>,
        result: &'static str,
        took: Duration,
    },
    /// What nobody waited for any more was released, or could not be.
    Undone {
        slot: u32,
        lock_id: LockId,
        result: &'static str,
        took: Duration,
    },
    /// There is nothing left to hear.
    Unobserved {
        slot: u32,
    },
}

/// A promise's other half. Only the environment's own thread resolves it.
struct Deferred(sys::napi_deferred);

// SAFETY: the pointer is carried to other threads and back, and used on its own thread only.
unsafe impl Send for Deferred {}

/// The queue of one copy of the JavaScript part, in one environment.
pub struct Completions {
    /// Tells this copy from others, also from those that were at its address.
    pub number: u64,
    items: Mutex<Vec<Item>>,
    /// `None` once the copy or its environment has ended: nothing may be called then. Apart from the items, so that
    /// the event loop does not wait for them while it is being woken.
    wake: Mutex<Option<Wake>>,
    /// The function that gets the events; weak unless somebody waits for one. Touched by the environment's thread only.
    dispatch: AtomicPtr<sys::napi_ref__>,
    /// Whether the environment is a worker, whose leases end with it.
    worker: bool,
    /// Results that promises still wait for; touched by the environment's thread only.
    pending: AtomicU64,
    /// When the unanswered ping was sent, in ms since `STARTED`, plus one; 0 when none is.
    ping_sent: AtomicU64,
    /// What polls calls on the environment's own thread, where that can be had.
    event_loop: OnceLock<EventLoop>,
    /// Calls that have ended there, and with the engine.
    ended_here: AtomicU64,
    ended_elsewhere: AtomicU64,
    /// The clients opened in this environment.
    clients: Mutex<Vec<std::sync::Weak<ClientSlot>>>,
    pub calls: Calls,
    pub foreign: ForeignLeases,
}

/// A client that the environment's end must reach.
#[derive(Debug)]
pub struct ClientSlot(pub Client);

struct Wake(sys::napi_threadsafe_function);

// SAFETY: thread-safe functions are made to be called from any thread.
unsafe impl Send for Wake {}

static COPIES: AtomicU64 = AtomicU64::new(0);
static STARTED: std::sync::LazyLock<Instant> = std::sync::LazyLock::new(Instant::now);

fn now_ms() -> u64 {
    u64::try_from(STARTED.elapsed().as_millis()).unwrap_or(u64::MAX)
}

impl std::fmt::Debug for Completions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Completions")
    }
}

pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Completions {
    /// Makes the queue of the copy that calls; `dispatch` gets the events. `has_loop`: the program is known to have
    /// libuv's loop.
    pub fn attach(dispatch: Value, worker: bool, has_loop: bool) -> Arc<Completions> {
        let env = dispatch.env;
        let mut reference = ptr::null_mut();
        // SAFETY: all pointers are valid for the call.
        unsafe { sys::napi_create_reference(env, dispatch.raw, 0, &mut reference) };
        let queue = Arc::new(Completions {
            number: COPIES.fetch_add(1, Ordering::Relaxed),
            items: Mutex::default(),
            wake: Mutex::default(),
            dispatch: AtomicPtr::new(reference),
            worker,
            pending: AtomicU64::new(0),
            ping_sent: AtomicU64::new(0),
            // Its hook comes after this queue's, and so runs before it.
            event_loop: OnceLock::new(),
            ended_here: AtomicU64::new(0),
            ended_elsewhere: AtomicU64::new(0),
            clients: Mutex::default(),
            calls: Calls::default(),
            foreign: ForeignLeases::default(),
        });
        let mut wake = ptr::null_mut();
        let name = make_text(env, "syncguard");
        // SAFETY: all pointers are valid for the calls; the function's own share in the queue is given back in
        // `finalize`, which Node calls once, after `wake` was taken away by `detach` or by the cleanup hook (hooks
        // run last in, first out).
        unsafe {
            let context = Arc::into_raw(Arc::clone(&queue)).cast_mut().cast();
            sys::napi_create_threadsafe_function(
                env,
                ptr::null_mut(),
                ptr::null_mut(),
                name.raw,
                0,
                1,
                context,
                Some(finalize),
                context,
                Some(drain),
                &mut wake,
            );
            sys::napi_unref_threadsafe_function(env, wake);
            let hook = Arc::into_raw(Arc::clone(&queue));
            sys::napi_add_env_cleanup_hook(env, Some(environment_ended), hook.cast_mut().cast());
        }
        *lock(&queue.wake) = Some(Wake(wake));
        if has_loop && let Some(event_loop) = EventLoop::of(env) {
            event_loop.serve(&queue);
            let _ = queue.event_loop.set(event_loop);
        }
        queue
    }

    /// The copy was collected: nobody is left who could call, or hear of anything. Renewals end with the stall
    /// limit, as in a process whose event loop hangs, since nobody could release these leases.
    pub fn detach(self: &Arc<Self>, env: sys::napi_env) {
        // Nothing is left to do after the environment's end.
        let Some(wake) = lock(&self.wake).take() else { return };
        self.forget();
        if let Some(event_loop) = self.event_loop.get() {
            event_loop.end();
        }
        let hook = Arc::as_ptr(self);
        // SAFETY: on the environment's thread, which has not ended; the hook's share in the queue is given back,
        // since it will not run any more; nobody else has the function, and `finalize` gives its share back.
        unsafe {
            sys::napi_remove_env_cleanup_hook(env, Some(environment_ended), hook.cast_mut().cast());
            drop(Arc::from_raw(hook));
            sys::napi_delete_reference(env, self.dispatch.swap(ptr::null_mut(), Ordering::Relaxed));
            sys::napi_release_threadsafe_function(wake.0, sys::ThreadsafeFunctionReleaseMode::abort);
        }
    }

    /// Drops what nobody will answer or fetch.
    fn forget(&self) {
        lock(&self.items).clear();
        self.calls.forget();
        self.foreign.forget();
    }

    /// Keeps the copy from being collected, or no longer.
    pub fn hold_dispatch(&self, env: sys::napi_env, hold: bool) {
        let (reference, mut count) = (self.dispatch.load(Ordering::Relaxed), 0);
        // SAFETY: on the environment's thread; the reference lives until `detach`, and so as long as the caller.
        unsafe {
            if hold {
                sys::napi_reference_ref(env, reference, &mut count);
            } else {
                sys::napi_reference_unref(env, reference, &mut count);
            }
        }
    }

    /// Runs `call` on the engine's thread and answers a promise of its outcome.
    pub fn promise(
        self: &Arc<Self>,
        env: sys::napi_env,
        call: impl Future<Output = Returned> + Send + 'static,
    ) -> Value {
        let (deferred, promise) = self.pending_promise(env);
        let queue = Arc::clone(self);
        runtime::handle().spawn(async move {
            let outcome = unharmed(call).await;
            queue.settle(deferred, outcome);
        });
        promise
    }

    /// The same on the thread of the caller as long as `call` waits for nothing but what comes to his event loop. With
    /// `at_once` what it asks for has left when this returns.
    pub fn promise_here(
        self: &Arc<Self>,
        env: sys::napi_env,
        call: impl Future<Output = Returned> + Send + 'static,
        at_once: bool,
    ) -> Value {
        let Some(event_loop) = self.event_loop.get() else { return self.promise(env, call) };
        let promise = match event_loop.executor().begin(unharmed(call)) {
            First::Done(outcome) => {
                self.ended_here.fetch_add(1, Ordering::Relaxed);
                Completions::settled(env, &outcome)
            }
            First::Pending(started) => {
                let (deferred, promise) = self.pending_promise(env);
                let queue = Arc::clone(self);
                started.then(move |outcome| queue.settle(deferred, outcome));
                event_loop.send(at_once);
                promise
            }
        };
        // Whoever polls here wakes nobody.
        if self.items() > 0 {
            self.wake_event_loop();
        }
        promise
    }

    fn pending_promise(&self, env: sys::napi_env) -> (Deferred, Value) {
        let mut deferred = ptr::null_mut();
        let mut raw = ptr::null_mut();
        // SAFETY: env is the one of the running call.
        unsafe { sys::napi_create_promise(env, &mut deferred, &mut raw) };
        if self.pending.fetch_add(1, Ordering::Relaxed) == 0 {
            self.hold_loop(env, true);
        }
        (Deferred(deferred), Value { env, raw })
    }

    fn settle(&self, deferred: Deferred, outcome: Returned) {
        let ended = if is_here() { &self.ended_here } else { &self.ended_elsewhere };
        ended.fetch_add(1, Ordering::Relaxed);
        self.push(Item::Settle(deferred, outcome));
    }

    /// How many calls have ended on the thread of the caller, and with the engine.
    pub fn ended(&self) -> (u64, u64) {
        (self.ended_here.load(Ordering::Relaxed), self.ended_elsewhere.load(Ordering::Relaxed))
    }

    /// A promise that is settled already, for arguments that never reach the store.
    pub fn settled(env: sys::napi_env, outcome: &Returned) -> Value {
        let mut deferred = ptr::null_mut();
        let mut raw = ptr::null_mut();
        // SAFETY: as in `promise`.
        unsafe {
            sys::napi_create_promise(env, &mut deferred, &mut raw);
            sys::napi_resolve_deferred(env, deferred, outcome.to_js(env).raw);
        }
        Value { env, raw }
    }

    pub fn event(&self, event: Event) {
        self.push(Item::Event(event));
    }

    pub fn adopt(&self, client: &Arc<ClientSlot>) {
        let mut clients = lock(&self.clients);
        clients.retain(|client| client.strong_count() > 0);
        clients.push(Arc::downgrade(client));
    }

    fn push(&self, item: Item) {
        let first = {
            let mut items = lock(&self.items);
            items.push(item);
            items.len() == 1
        };
        // Who polls on the environment's thread fetches it there.
        if first && !is_here() {
            self.wake_event_loop();
        }
    }

    fn wake_event_loop(&self) {
        match &*lock(&self.wake) {
            // SAFETY: nothing has ended while `wake` is locked, so the function has not been freed.
            Some(wake) => unsafe {
                let mode = sys::ThreadsafeFunctionCallMode::nonblocking;
                sys::napi_call_threadsafe_function(wake.0, ptr::null_mut(), mode);
            },
            // Nobody will ever fetch it.
            None => lock(&self.items).clear(),
        }
    }

    /// Has what is ready polled on the environment's thread.
    pub fn wake(&self) {
        self.push(Item::Poll);
    }

    pub fn items(&self) -> usize {
        lock(&self.items).len()
    }

    /// Whether nobody waits for anything but what is about to be told.
    pub fn is_all_settled_by(&self, items: usize) -> bool {
        self.pending.load(Ordering::Relaxed) == items as u64
    }

    /// Settles the first promises and tells events, on the environment's thread.
    pub fn drain(&self, env: sys::napi_env, most: usize) {
        let mut items = std::mem::take(&mut *lock(&self.items));
        if items.len() > most {
            let mut rest = items.split_off(most);
            let mut later = lock(&self.items);
            rest.append(&mut later);
            *later = rest;
        }
        let mut settled = 0;
        for item in items {
            match item {
                Item::Settle(deferred, outcome) => {
                    settled += 1;
                    // SAFETY: on the environment's thread; each deferred is resolved once.
                    unsafe { sys::napi_resolve_deferred(env, deferred.0, outcome.to_js(env).raw) };
                }
                Item::Event(event) => dispatch(env, self.dispatch.load(Ordering::Relaxed), &event),
                Item::Ping => self.ping_sent.store(0, Ordering::Relaxed),
                Item::Poll => {}
            }
        }
        if settled > 0 && self.pending.fetch_sub(settled, Ordering::Relaxed) == settled {
            self.hold_loop(env, false);
        }
    }

    /// Pending promises hold the event loop; nothing else of ours does.
    fn hold_loop(&self, env: sys::napi_env, hold: bool) {
        if let Some(wake) = &*lock(&self.wake) {
            // SAFETY: on the environment's thread, which has not ended.
            unsafe {
                if hold {
                    sys::napi_ref_threadsafe_function(env, wake.0);
                } else {
                    sys::napi_unref_threadsafe_function(env, wake.0);
                }
            }
        }
    }
}

impl Warnings for Completions {
    fn warn(&self, warning: Warning) {
        self.event(Event::Warning(warning));
    }
}

impl Environment for Completions {
    fn lost(&self, lock_id: &LockId, error: Error) {
        self.event(Event::Lost { lock_id: *lock_id, error });
    }

    fn is_busy(&self) -> bool {
        self.event_loop.get().is_some_and(|event_loop| event_loop.executor().is_busy())
    }

    fn pass_on(&self) {
        if let Some(event_loop) = self.event_loop.get() {
            event_loop.executor().pass_on();
        }
    }

    fn ping(&self) {
        let unanswered =
            self.ping_sent.compare_exchange(0, now_ms() + 1, Ordering::Relaxed, Ordering::Relaxed);
        if unanswered.is_ok() {
            self.push(Item::Ping);
        }
    }

    fn silent_for(&self) -> Duration {
        match self.ping_sent.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            sent => Duration::from_millis((now_ms() + 1).saturating_sub(sent)),
        }
    }
}

/// Runs on the environment's thread whenever the vector was filled.
unsafe extern "C" fn drain(
    env: sys::napi_env,
    _callback: sys::napi_value,
    context: *mut c_void,
    _data: *mut c_void,
) {
    if env.is_null() || context.is_null() {
        return;
    }
    // SAFETY: the function has its share in the queue until `finalize`.
    let queue = unsafe { &*context.cast::<Completions>() };
    queue.drain(env, usize::MAX);
    if let Some(event_loop) = queue.event_loop.get() {
        event_loop.turn();
    }
}

/// A panic is a bug of ours; it must neither kill the process nor leave a promise hanging.
fn unharmed(call: impl Future<Output = Returned>) -> impl Future<Output = Returned> {
    AssertUnwindSafe(call).catch_unwind().map(|outcome| {
        outcome.unwrap_or_else(|_| {
            Returned::Failed(Error::internal("a bug in syncguard: the operation panicked").unknown())
        })
    })
}

fn dispatch(env: sys::napi_env, reference: sys::napi_ref, event: &Event) {
    let text = |text: &str| make_text(env, text);
    let number = |number: u32| make_number(env, number.into());
    let millis = |took: &Duration| make_number(env, took.as_secs_f64() * 1000.0);
    let arguments = match event {
        Event::Lost { lock_id, error } => {
            vec![text("lost"), text(lock_id.as_str()), failure(env, error)]
        }
        Event::Attempt { call, adapter, lock_id, ttl_ms } => {
            #[allow(clippy::cast_precision_loss, reason = "a TTL is below 2^53 ms")]
            let ttl = make_number(env, *ttl_ms as f64);
            vec![text("attempt"), number(*call), number(*adapter), text(lock_id.as_str()), ttl]
        }
        Event::Undo { call, adapter, lock_id } => {
            vec![text("undo"), number(*call), number(*adapter), text(lock_id.as_str())]
        }
        Event::Password { call, slot } => vec![text("password"), number(*call), number(*slot)],
        Event::FileLost { slot, error } => vec![text("fileLost"), number(*slot), failure(env, error)],
        Event::Probe { call, slot, pid } => {
            #[allow(clippy::cast_precision_loss, reason = "a pid is below 2^53")]
            let pid = make_number(env, *pid as f64);
            vec![text("probe"), number(*call), number(*slot), pid]
        }
        Event::Warning(Warning { kind, code, text: message }) => {
            vec![text("warning"), text(kind), text(code), text(message)]
        }
        Event::Asked { slot, lock_id, result, took } => {
            let lock_id = lock_id.as_ref().map_or_else(|| make_undefined(env), |id| text(id.as_str()));
            vec![text("asked"), number(*slot), text(result), lock_id, millis(took)]
        }
        Event::Undone { slot, lock_id, result, took } => {
            vec![text("undone"), number(*slot), text(result), text(lock_id.as_str()), millis(took)]
        }
        Event::Unobserved { slot } => vec![text("unobserved"), number(*slot)],
    };
    let raw: Vec<sys::napi_value> = arguments.iter().map(|argument| argument.raw).collect();
    let (mut function, mut result) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: on the environment's thread; there is no reference after `detach`, and no function once it is collected.
    unsafe {
        if !reference.is_null() {
            sys::napi_get_reference_value(env, reference, &mut function);
        }
        if function.is_null() {
            return;
        }
        let this = make_undefined(env).raw;
        sys::napi_call_function(env, this, function, raw.len(), raw.as_ptr(), &mut result);
    }
    clear_exception(env);
}

unsafe extern "C" fn environment_ended(hook: *mut c_void) {
    // SAFETY: the pointer is the one that `attach` registered, and the hook runs once.
    let queue = unsafe { Arc::from_raw(hook.cast::<Completions>()) };
    *lock(&queue.wake) = None;
    queue.forget();
    if queue.worker {
        for slot in lock(&queue.clients).drain(..).filter_map(|slot| slot.upgrade()) {
            slot.0.abandon();
        }
    }
}

unsafe extern "C" fn finalize(_env: sys::napi_env, data: *mut c_void, _hint: *mut c_void) {
    // SAFETY: the pointer is the one that `attach` made, and Node finalizes once.
    drop(unsafe { Arc::from_raw(data.cast::<Completions>()) });
}
