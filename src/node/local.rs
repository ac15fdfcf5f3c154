//! `FileLock` and `guard`: what one machine needs without a store.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use napi::bindgen_prelude::{Either, Env, Unknown};
use napi::sys::ValueType;
use napi_derive::napi;
use syncguard::backend::Mutation;
use syncguard::local::file_lock::{HeldLeaseFile, LeaseFile, LeaseFileOptions, OnLost, ProcessProbe};
use syncguard::local::instance;
use syncguard::lock::{Error, Result};

use crate::attachment::Attachment;
use crate::completion::{Completions, Event};
use crate::foreign::{Reply, ask};
use crate::raw::Value;
use crate::returned::Returned;
use crate::{runtime, settings};

#[napi]
impl Attachment {
    /// Opens nothing yet.
    #[napi(
        ts_args_type = "path: unknown, options: Entries, slot: number, asksProbe: boolean",
        ts_return_type = "FileLock | Failure"
    )]
    pub fn file_lock(
        &self,
        path: Unknown<'_>,
        options: Unknown<'_>,
        slot: u32,
        asks_probe: bool,
    ) -> Either<FileLock, Returned> {
        let make = || {
            let path = text("path", Value::from(&path))?;
            LeaseFile::check_path(&path)?;
            Ok(FileLock {
                queue: Arc::clone(&self.queue),
                path: path.into(),
                options: LeaseFileOptions::from_settings(settings::entries(Value::from(&options)))?,
                slot,
                asks_probe,
                held: Arc::default(),
            })
        };
        make().map_or_else(|error| Either::B(Returned::Failed(error)), Either::A)
    }

    /// Claims nothing yet.
    #[napi(ts_args_type = "directory: unknown, name: unknown", ts_return_type = "Guard | Failure")]
    pub fn single_instance(&self, directory: Unknown<'_>, name: Unknown<'_>) -> Either<Guard, Returned> {
        let make = || {
            Ok(Guard {
                queue: Arc::clone(&self.queue),
                directory: text("dir", Value::from(&directory))?.into(),
                name: text("name", Value::from(&name))?,
                guard: Arc::default(),
            })
        };
        make().map_or_else(|error| Either::B(Returned::Failed(error)), Either::A)
    }
}

/// A lease file as JavaScript holds it. The slot is where TypeScript keeps its callbacks.
#[napi]
pub struct FileLock {
    queue: Arc<Completions>,
    path: PathBuf,
    options: LeaseFileOptions,
    slot: u32,
    asks_probe: bool,
    held: Arc<Mutex<Option<Arc<HeldLeaseFile>>>>,
}

#[napi]
impl FileLock {
    #[napi(ts_return_type = "Promise<null | Failure>")]
    pub fn acquire(&self, env: Env) -> Value {
        let (path, options, slot) = (self.path.clone(), self.options.clone(), self.slot);
        let (queue, held) = (Arc::clone(&self.queue), Arc::clone(&self.held));
        let probe = self.asks_probe.then(|| {
            let queue = Arc::clone(&self.queue);
            Arc::new(ForeignProbe { queue, slot }) as Arc<dyn ProcessProbe>
        });
        self.queue.promise(env.raw(), async move {
            if current(&held).is_some_and(|held| held.is_held()) {
                return Returned::Failed(Error::invalid("this FileLock is held already; release it first"));
            }
            let on_lost: OnLost = Box::new(move |error| queue.event(Event::FileLost { slot, error }));
            let taken = LeaseFile::acquire_async(path, options, probe, Some(on_lost)).await;
            Returned::of(taken, |taken| {
                *held.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(taken));
                Returned::Nothing
            })
        })
    }

    #[napi(ts_return_type = "Promise<{ ok: true } | Refused | Failure>")]
    pub fn release(&self, env: Env) -> Value {
        let held = current(&self.held);
        let release = async move {
            let released = match held {
                Some(held) => held.release_async().await,
                None => Ok(false),
            };
            Returned::of(released, |released| {
                Returned::Released(if released { Mutation::Done(()) } else { Mutation::NotFound })
            })
        };
        self.queue.promise_here(env.raw(), release, true)
    }

    /// Releases while JavaScript waits, for a process that is about to end. What the system refuses becomes stale by
    /// itself.
    #[napi]
    pub fn leave(&self) {
        if let Some(held) = current(&self.held) {
            held.leave();
        }
    }

    #[napi(getter)]
    pub fn held(&self) -> bool {
        current(&self.held).is_some_and(|held| held.is_held())
    }
}

fn current(held: &Mutex<Option<Arc<HeldLeaseFile>>>) -> Option<Arc<HeldLeaseFile>> {
    held.lock().unwrap_or_else(PoisonError::into_inner).clone()
}

/// The user's `processAppearsAlive`. Called on a thread for blocking work, so it may wait for JavaScript.
struct ForeignProbe {
    queue: Arc<Completions>,
    slot: u32,
}

impl ProcessProbe for ForeignProbe {
    fn appears_alive(&self, pid: u64) -> bool {
        let slot = self.slot;
        let answer = runtime::handle().block_on(ask(&self.queue, |call| Event::Probe { call, slot, pid }));
        // A function that failed tells nothing, and what is not known to be dead is alive.
        !matches!(answer, Ok(Reply::Mutated(Mutation::NotFound | Mutation::Expired)))
    }
}

/// The claim to be the only instance, as JavaScript holds it.
#[napi]
pub struct Guard {
    queue: Arc<Completions>,
    directory: PathBuf,
    name: String,
    guard: Arc<Mutex<Option<Arc<instance::Guard>>>>,
}

#[napi]
impl Guard {
    /// Answers the state and the path.
    #[napi(ts_return_type = "Promise<string | Failure>")]
    pub fn start(&self, env: Env) -> Value {
        let (directory, name, slot) = (self.directory.clone(), self.name.clone(), Arc::clone(&self.guard));
        self.queue.promise(env.raw(), async move {
            let claimed = instance::guard_async(directory, name.into()).await;
            Returned::of(claimed, |claimed| {
                let state = claimed.state().as_str().to_owned();
                *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::new(claimed));
                Returned::Text(state)
            })
        })
    }

    #[napi(ts_return_type = "Promise<null | Failure>")]
    pub fn cleanup(&self, env: Env) -> Value {
        let guard = self.guard.lock().unwrap_or_else(PoisonError::into_inner).clone();
        self.queue.promise(env.raw(), async move {
            let cleaned = match guard {
                Some(guard) => guard.cleanup_async().await,
                None => Ok(()),
            };
            Returned::of(cleaned, |()| Returned::Nothing)
        })
    }
}

fn text(name: &str, value: Value) -> Result<String> {
    value.text().ok_or_else(|| {
        // Replaced by U+FFFD, it would make two names one.
        let given = match value.kind() {
            ValueType::napi_string => "a string with a lone surrogate",
            _ => value.kind_name(),
        };
        Error::invalid(format!("{name} must be a string of whole characters; {given} was given"))
    })
}
