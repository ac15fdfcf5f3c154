//! The event loop of one environment as an executor: libuv watches the sockets, and whatever becomes ready is polled,
//! settled and sent on in one turn of the loop. Everything here happens on the environment's thread, but for waking it.

use std::ffi::c_int;
use std::io;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread::ThreadId;
use std::time::Instant;

use napi::sys;
use socket2::Socket;
use syncguard::event_loop::{Executor, Reactor, Readiness, Watch};

use crate::completion::{Completions, lock};
use crate::raw::make_text;
use crate::runtime;
use crate::uv::{Handle, Kind, Loop, PollCallback, READABLE, Uv, WRITABLE};

/// So many results at once are settled in two halves where nothing else is under way.
const WORTH_SPLITTING: usize = 4;

/// One environment's event loop.
#[derive(Debug)]
pub struct EventLoop(Arc<Side>);

/// What callbacks reach.
#[derive(Debug)]
struct Side {
    uv: &'static Uv,
    uv_loop: *mut Loop,
    env: sys::napi_env,
    thread: ThreadId,
    context: AtomicPtr<sys::napi_async_context__>,
    hook: AtomicPtr<sys::napi_async_cleanup_hook_handle__>,
    executor: OnceLock<Arc<Executor>>,
    queue: OnceLock<Weak<Completions>>,
    /// Run at the end of a turn, when something is to leave then.
    prepare: *mut Handle,
    check: *mut Handle,
    timer: *mut Handle,
    ending_turn: AtomicBool,
    /// Whether what became ready is being settled: whatever that causes leaves afterwards.
    in_turn: AtomicBool,
    /// Whether a call has left by itself since something came.
    has_left: AtomicBool,
    /// Sockets whose watching was ended by another thread.
    unwatched: Mutex<Vec<Arc<Watched>>>,
    watched: Mutex<Vec<Weak<Watched>>>,
    /// Handles that are not closed yet.
    handles: AtomicUsize,
    over: AtomicBool,
}

// SAFETY: the pointers are used on the environment's thread only, and what is shared is locked or atomic.
unsafe impl Send for Side {}
// SAFETY: as above.
unsafe impl Sync for Side {}

/// A socket that the loop watches.
#[derive(Debug)]
struct Watched {
    handle: AtomicPtr<Handle>,
    readiness: Arc<Readiness>,
    /// Not closed before the handle is.
    _socket: Arc<Socket>,
    side: Arc<Side>,
}

/// What the handles' data points to.
enum Data {
    Side(Arc<Side>),
    Watched(Arc<Watched>),
}

impl EventLoop {
    /// That of the environment that calls; `None` where libuv can't be had.
    pub fn of(env: sys::napi_env) -> Option<EventLoop> {
        // Watching sockets is untried elsewhere: there all calls are the engine's.
        if cfg!(not(unix)) {
            return None;
        }
        let uv = Uv::get()?;
        let (mut uv_loop, mut context) = (ptr::null_mut(), ptr::null_mut());
        let name = make_text(env, "syncguard");
        // SAFETY: all pointers are valid for the calls, on the environment's thread.
        unsafe {
            if sys::napi_get_uv_event_loop(env, &mut uv_loop) != sys::Status::napi_ok
                || sys::napi_async_init(env, ptr::null_mut(), name.raw, &mut context) != sys::Status::napi_ok
            {
                return None;
            }
        }
        let uv_loop: *mut Loop = uv_loop.cast();
        let side = Arc::new(Side {
            uv,
            uv_loop,
            env,
            thread: std::thread::current().id(),
            context: AtomicPtr::new(context),
            hook: AtomicPtr::default(),
            executor: OnceLock::new(),
            queue: OnceLock::new(),
            prepare: uv.allocate(Kind::Prepare),
            check: uv.allocate(Kind::Check),
            timer: uv.allocate(Kind::Timer),
            ending_turn: AtomicBool::new(false),
            in_turn: AtomicBool::new(false),
            has_left: AtomicBool::new(false),
            unwatched: Mutex::default(),
            watched: Mutex::default(),
            handles: AtomicUsize::new(3),
            over: AtomicBool::new(false),
        });
        let reactor = OfSide(Arc::downgrade(&side));
        let _ = side.executor.set(Executor::new(reactor, runtime::handle().clone()));
        // SAFETY: the handles have the sizes that libuv asks for, and live until their close callbacks; the hook's
        // share is given back when all of them are closed.
        unsafe {
            (uv.prepare_init)(uv_loop, side.prepare);
            (uv.check_init)(uv_loop, side.check);
            (uv.timer_init)(uv_loop, side.timer);
            for handle in [side.prepare, side.check, side.timer] {
                uv.attach(handle, Data::Side(Arc::clone(&side)));
            }
            let mut hook = ptr::null_mut();
            let share = Arc::into_raw(Arc::clone(&side)).cast_mut().cast();
            sys::napi_add_async_cleanup_hook(env, Some(environment_ends), share, &mut hook);
            side.hook.store(hook, Relaxed);
        }
        Some(EventLoop(side))
    }

    /// Who is told what is ready, and settles it.
    pub fn serve(&self, queue: &Arc<Completions>) {
        let _ = self.0.queue.set(Arc::downgrade(queue));
    }

    pub fn executor(&self) -> &Arc<Executor> {
        self.0.executor()
    }

    /// Has leave what a call asks for: the first one since something came at once, and so any after which its caller may
    /// do something long; the others together, at the end of the turn. What is settled together causes several calls, as
    /// a rule: of those only the first leaves at once, and only where its caller may do something long.
    pub fn send(&self, at_once: bool) {
        let side = &self.0;
        let in_turn = side.in_turn.load(Relaxed);
        let first = !side.has_left.load(Relaxed);
        let leaves = if in_turn { first && at_once } else { first || at_once };
        if leaves {
            side.has_left.store(true, Relaxed);
            side.executor().run();
        } else if !in_turn && !side.ending_turn.swap(true, Relaxed) {
            // SAFETY: on the environment's thread, and the handles are not closed before the environment's end.
            unsafe {
                (side.uv.prepare_start)(side.prepare, Some(turn_ends));
                (side.uv.check_start)(side.check, Some(turn_ends));
            }
        }
    }

    /// Whatever is ready, on the environment's thread.
    pub fn turn(&self) {
        self.0.turn();
    }

    /// Nobody calls any more: what is under way goes on with the engine.
    pub fn end(&self) {
        self.0.end();
    }
}

impl Side {
    fn executor(&self) -> &Arc<Executor> {
        // Set before anybody has this.
        self.executor.get().unwrap_or_else(|| unreachable!("an event loop without an executor"))
    }

    fn is_here(&self) -> bool {
        std::thread::current().id() == self.thread
    }

    /// Polls what is ready, settles what is done, and sends what that has caused.
    fn turn(&self) {
        self.close_unwatched();
        let Some(queue) = self.queue.get().and_then(Weak::upgrade) else { return };
        if self.over.load(Relaxed) || self.in_turn.swap(true, Relaxed) {
            return;
        }
        self.has_left.store(false, Relaxed);
        let mut handles = ptr::null_mut();
        // SAFETY: on the environment's thread, between its other work; scopes are closed in reverse order.
        unsafe {
            sys::napi_open_handle_scope(self.env, &mut handles);
            let mut first = true;
            loop {
                self.executor().run();
                let items = queue.items();
                if items == 0 {
                    break;
                }
                // Where all that was under way has come back, what the first half of it causes leaves before the rest
                // is settled: so the store and this thread work at the same time from then on.
                let all = first && items >= WORTH_SPLITTING && queue.is_all_settled_by(items);
                let most = if all { items / 2 } else { items };
                let mut scope = ptr::null_mut();
                let context = self.context.load(Relaxed);
                sys::napi_open_callback_scope(self.env, ptr::null_mut(), context, &mut scope);
                first = false;
                queue.drain(self.env, most);
                // Here JavaScript runs: what waited for promises, and its next calls.
                sys::napi_close_callback_scope(self.env, scope);
                if self.over.load(Relaxed) {
                    break;
                }
            }
            sys::napi_close_handle_scope(self.env, handles);
        }
        self.has_left.store(false, Relaxed);
        self.in_turn.store(false, Relaxed);
    }

    fn close_unwatched(&self) {
        let unwatched = std::mem::take(&mut *lock(&self.unwatched));
        unwatched.iter().for_each(|watched| watched.close());
    }

    fn wake(&self) {
        if let Some(queue) = self.queue.get().and_then(Weak::upgrade) {
            queue.wake();
        }
    }

    fn end(self: &Arc<Self>) {
        if self.over.swap(true, Relaxed) {
            return;
        }
        self.executor().end();
        let watched = std::mem::take(&mut *lock(&self.watched));
        watched.iter().filter_map(Weak::upgrade).for_each(|watched| watched.close());
        self.close_unwatched();
        // SAFETY: on the environment's thread, once; each handle's data is given back by its close callback.
        unsafe {
            let context = self.context.swap(ptr::null_mut(), Relaxed);
            sys::napi_async_destroy(self.env, context);
            for handle in [self.prepare, self.check, self.timer] {
                (self.uv.close)(handle, Some(closed));
            }
        }
    }

    /// A handle is closed; with the last one the environment may end.
    fn is_closed(self: &Arc<Self>) {
        if self.handles.fetch_sub(1, Relaxed) == 1 && self.over.load(Relaxed) {
            let hook = self.hook.swap(ptr::null_mut(), Relaxed);
            // SAFETY: the hook was added with a share of this, which it can't use any more.
            unsafe {
                sys::napi_remove_async_cleanup_hook(hook);
                Arc::decrement_strong_count(Arc::as_ptr(self));
            }
        }
    }
}

/// What the core asks of the loop.
struct OfSide(Weak<Side>);

impl Reactor for OfSide {
    fn wake(&self) {
        if let Some(side) = self.0.upgrade() {
            side.wake();
        }
    }

    fn fire_at(&self, when: Instant) {
        let Some(side) = self.0.upgrade().filter(|side| !side.over.load(Relaxed)) else { return };
        // A whole millisecond later, so that it has come when the loop looks.
        let wait = when.saturating_duration_since(Instant::now()).as_millis() + 1;
        // SAFETY: on the environment's thread, before its end.
        unsafe {
            // The loop's own clock stands while it is busy.
            (side.uv.update_time)(side.uv_loop);
            (side.uv.timer_start)(side.timer, Some(time_is_up), u64::try_from(wait).unwrap_or(u64::MAX), 0);
        }
    }

    fn watch(&self, socket: Arc<Socket>, readiness: Arc<Readiness>) -> io::Result<Box<dyn Watch>> {
        #[cfg(unix)]
        let descriptor = {
            use std::os::fd::AsRawFd;
            socket.as_raw_fd()
        };
        // Untried there, so the engine's way stays.
        #[cfg(not(unix))]
        let descriptor: c_int = return Err(io::ErrorKind::Unsupported.into());
        let side = self.0.upgrade().filter(|side| !side.over.load(Relaxed) && side.is_here());
        let Some(side) = side else { return Err(io::ErrorKind::NotConnected.into()) };
        let uv = side.uv;
        let handle = uv.allocate(Kind::Poll);
        let watched = Arc::new(Watched {
            handle: AtomicPtr::new(handle),
            readiness,
            _socket: socket,
            side: Arc::clone(&side),
        });
        // SAFETY: as in `of`; where libuv refuses the descriptor there is no handle to be closed.
        unsafe {
            let refused = (uv.poll_init)(side.uv_loop, handle, descriptor);
            if refused != 0 {
                uv.free(handle, Kind::Poll);
                return Err(io::Error::other(uv.text(refused)));
            }
            uv.attach(handle, Data::Watched(Arc::clone(&watched)));
            side.handles.fetch_add(1, Relaxed);
            (uv.poll_start)(handle, READABLE, Some(is_ready as PollCallback));
        }
        let mut all = lock(&side.watched);
        all.retain(|watched| watched.strong_count() > 0);
        all.push(Arc::downgrade(&watched));
        drop(all);
        Ok(Box::new(Watching(watched)))
    }
}

/// The stream's share in it.
struct Watching(Arc<Watched>);

impl Watch for Watching {
    fn until_writable(&self) {
        let handle = self.0.handle.load(Relaxed);
        if !handle.is_null() && self.0.side.is_here() {
            // SAFETY: on the environment's thread, and the handle is not closed.
            unsafe {
                (self.0.side.uv.poll_start)(handle, READABLE | WRITABLE, Some(is_ready as PollCallback));
            }
        }
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let side = &self.0.side;
        if side.is_here() {
            self.0.close();
        } else if !side.over.load(Relaxed) {
            lock(&side.unwatched).push(Arc::clone(&self.0));
            side.wake();
        }
    }
}

impl Watched {
    /// On the environment's thread; at most one call closes it.
    fn close(&self) {
        let handle = self.handle.swap(ptr::null_mut(), Relaxed);
        if !handle.is_null() {
            // SAFETY: it was initialised and not closed; its data is given back by the callback.
            unsafe { (self.side.uv.close)(handle, Some(closed)) };
        }
    }
}

impl Uv {
    /// Memory for a handle, to be initialised.
    fn allocate(&self, kind: Kind) -> *mut Handle {
        let memory = vec![0u64; self.words(kind)].into_boxed_slice();
        Box::into_raw(memory).cast()
    }

    fn words(&self, kind: Kind) -> usize {
        // SAFETY: it takes a number and answers one.
        unsafe { (self.handle_size)(kind as c_int) }.div_ceil(size_of::<u64>())
    }

    /// # Safety
    /// The handle came from [`Uv::allocate`] for this kind, and libuv knows nothing of it any more.
    unsafe fn free(&self, handle: *mut Handle, kind: Kind) {
        let memory = ptr::slice_from_raw_parts_mut(handle.cast::<u64>(), self.words(kind));
        // SAFETY: as said above.
        drop(unsafe { Box::from_raw(memory) });
    }

    /// Gives an initialised handle its data, until [`closed`]. It does not hold the loop.
    ///
    /// # Safety
    /// On the loop's thread, once.
    unsafe fn attach(&self, handle: *mut Handle, data: Data) {
        // SAFETY: as said above.
        unsafe {
            (self.set_data)(handle, Box::into_raw(Box::new(data)).cast());
            (self.unref)(handle);
        }
    }

    fn text(&self, error: c_int) -> String {
        // SAFETY: libuv answers a constant text.
        let text = unsafe { std::ffi::CStr::from_ptr((self.strerror)(error)) };
        text.to_string_lossy().into_owned()
    }
}

/// The data of a handle of ours.
///
/// # Safety
/// In a callback of that handle other than [`closed`].
unsafe fn data<'a>(handle: *mut Handle) -> Option<&'a Data> {
    // SAFETY: `attach` has set it, and it lives until `closed`.
    unsafe { Uv::get().map(|uv| &*(uv.get_data)(handle).cast::<Data>()) }
}

unsafe extern "C" fn is_ready(handle: *mut Handle, status: c_int, events: c_int) {
    // SAFETY: a callback of the handle.
    let Some(Data::Watched(watched)) = (unsafe { data(handle) }) else { return };
    let watched = Arc::clone(watched);
    // Where it failed, reading and writing tell how.
    let failed = status != 0;
    let writable = events & WRITABLE != 0;
    let readable = events & READABLE != 0;
    watched.side.executor().is_ready(&watched.readiness, failed || readable, failed || writable);
    if failed || writable {
        // SAFETY: as above; it is asked for anew where a write does not fit.
        unsafe { (watched.side.uv.poll_start)(handle, READABLE, Some(is_ready as PollCallback)) };
    }
    watched.side.turn();
}

unsafe extern "C" fn turn_ends(handle: *mut Handle) {
    // SAFETY: a callback of the handle.
    let Some(Data::Side(side)) = (unsafe { data(handle) }) else { return };
    let side = Arc::clone(side);
    side.ending_turn.store(false, Relaxed);
    // SAFETY: on the loop's thread; both were started.
    unsafe {
        (side.uv.prepare_stop)(side.prepare);
        (side.uv.check_stop)(side.check);
    }
    side.has_left.store(false, Relaxed);
    side.turn();
}

unsafe extern "C" fn time_is_up(handle: *mut Handle) {
    // SAFETY: a callback of the handle.
    let Some(Data::Side(side)) = (unsafe { data(handle) }) else { return };
    let side = Arc::clone(side);
    side.executor().fire();
    side.turn();
}

unsafe extern "C" fn closed(handle: *mut Handle) {
    let Some(uv) = Uv::get() else { return };
    // SAFETY: libuv knows nothing of the handle any more, and `attach` made its data.
    unsafe {
        let data = Box::from_raw((uv.get_data)(handle).cast::<Data>());
        let (side, kind) = match &*data {
            Data::Side(side) => {
                let kind = match handle {
                    handle if handle == side.timer => Kind::Timer,
                    handle if handle == side.check => Kind::Check,
                    _ => Kind::Prepare,
                };
                (Arc::clone(side), kind)
            }
            Data::Watched(watched) => (Arc::clone(&watched.side), Kind::Poll),
        };
        drop(data);
        uv.free(handle, kind);
        side.is_closed();
    }
}

unsafe extern "C" fn environment_ends(
    _hook: sys::napi_async_cleanup_hook_handle,
    side: *mut std::ffi::c_void,
) {
    // SAFETY: the hook's share, which is given back when the last handle is closed.
    let side = unsafe {
        Arc::increment_strong_count(side.cast::<Side>());
        Arc::from_raw(side.cast::<Side>().cast_const())
    };
    side.end();
}
