//! What goes back to JavaScript. Async calls resolve with a record, because a rejected async function
//! of Node-API loses the error's code; TypeScript turns a failure into a `LockError`.

use napi::bindgen_prelude::{ToNapiValue, TypeName};
use napi::sys;
use syncguard::backend::{Acquired, Mutation};
use syncguard::local::file_lock::HeldBy;
use syncguard::local::instance::Holder;
use syncguard::lock::{Error, Lease, LockId, Outcome, Result, Timestamp};

use crate::foreign::ForeignError;
use crate::raw::{Value, make_flag, make_null, make_number, make_object, make_text};

/// One answer, still without an environment.
#[derive(Debug)]
pub enum Returned {
    Granted(Lease),
    Refused,
    /// An acquire of a JavaScript backend: the result itself stayed in JavaScript, under this name.
    ForeignGranted(LockId),
    Released(Mutation<()>),
    Extended(Mutation<Timestamp>),
    Flag(bool),
    Found(Option<Lease>),
    Nothing,
    Text(String),
    Number(f64),
    Failed(Error),
}

impl Returned {
    pub fn of<T>(result: Result<T>, outcome: impl FnOnce(T) -> Returned) -> Returned {
        match result {
            Ok(value) => outcome(value),
            Err(error) => Returned::Failed(error),
        }
    }

    pub fn acquired(acquired: Acquired) -> Returned {
        match acquired {
            Acquired::Granted(lease) => Returned::Granted(lease),
            Acquired::Held { .. } => Returned::Refused,
        }
    }

    pub fn to_js(&self, env: sys::napi_env) -> Value {
        let flag = |flag| make_flag(env, flag);
        let text = |text: &str| make_text(env, text);
        match self {
            Returned::Granted(lease) => make_object(
                env,
                &[
                    (c"ok", flag(true)),
                    (c"lockId", text(lease.lock_id.as_str())),
                    (c"expiresAtMs", millis(env, lease.expires_at)),
                    (c"fence", text(&lease.fence.to_string())),
                ],
            ),
            Returned::Refused => make_object(env, &[(c"ok", flag(false))]),
            Returned::ForeignGranted(lock_id) => {
                make_object(env, &[(c"ok", flag(true)), (c"lockId", text(lock_id.as_str()))])
            }
            Returned::Released(mutation) => mutated(env, *mutation, |()| None),
            Returned::Extended(mutation) => {
                mutated(env, *mutation, |at| Some((c"expiresAtMs", millis(env, at))))
            }
            Returned::Flag(value) => flag(*value),
            Returned::Found(None) | Returned::Nothing => make_null(env),
            Returned::Found(Some(lease)) => make_object(
                env,
                &[
                    (c"key", text(lease.key.as_str())),
                    (c"lockId", text(lease.lock_id.as_str())),
                    (c"expiresAtMs", millis(env, lease.expires_at)),
                    (c"acquiredAtMs", millis(env, lease.acquired_at)),
                    (c"fence", text(&lease.fence.to_string())),
                ],
            ),
            Returned::Text(value) => text(value),
            Returned::Number(number) => make_number(env, *number),
            Returned::Failed(error) => failure(env, error),
        }
    }
}

impl ToNapiValue for Returned {
    #[allow(unsafe_code, reason = "the trait's signature; nothing in it is unsafe")]
    unsafe fn to_napi_value(env: sys::napi_env, outcome: Self) -> napi::Result<sys::napi_value> {
        Ok(outcome.to_js(env).raw)
    }
}

impl TypeName for Returned {
    fn type_name() -> &'static str {
        "unknown"
    }

    fn value_type() -> napi::ValueType {
        napi::ValueType::Unknown
    }
}

fn mutated<T>(
    env: sys::napi_env,
    mutation: Mutation<T>,
    more: impl FnOnce(T) -> Option<(&'static std::ffi::CStr, Value)>,
) -> Value {
    let refused =
        |reason| make_object(env, &[(c"ok", make_flag(env, false)), (c"reason", make_text(env, reason))]);
    match mutation {
        Mutation::Done(value) => match more(value) {
            Some(property) => make_object(env, &[(c"ok", make_flag(env, true)), property]),
            None => make_object(env, &[(c"ok", make_flag(env, true))]),
        },
        Mutation::Expired => refused("expired"),
        Mutation::NotFound => refused("not-found"),
    }
}

#[allow(clippy::cast_precision_loss, reason = "times of day are far below 2^53 ms")]
fn millis(env: sys::napi_env, at: Timestamp) -> Value {
    make_number(env, at.as_millis() as f64)
}

pub fn failure(env: sys::napi_env, error: &Error) -> Value {
    let outcome = match error.outcome() {
        Outcome::NotApplied => "not-applied",
        Outcome::Unknown => "unknown",
    };
    let mut properties = vec![
        (c"failed", make_flag(env, true)),
        (c"code", make_text(env, error.code().as_str())),
        (c"message", make_text(env, error.message())),
        (c"retryable", make_flag(env, error.is_retryable())),
        (c"outcome", make_text(env, outcome)),
    ];
    if let Some(holder) = holder(env, error) {
        properties.push((c"holder", holder));
    } else if let Some(cause) = error.cause() {
        match cause.downcast_ref::<ForeignError>() {
            Some(foreign) => properties.push((c"foreign", make_number(env, foreign.0))),
            None => properties.push((c"cause", make_text(env, &cause.to_string()))),
        }
    }
    make_object(env, &properties)
}

/// Who holds a lease file or is the one instance, where the error says so.
#[allow(clippy::cast_precision_loss, reason = "pids and times are below 2^53")]
fn holder(env: sys::napi_env, error: &Error) -> Option<Value> {
    if let Some(holder) = HeldBy::of(error) {
        let pid = holder.pid().map(|pid| (c"pid", make_number(env, pid as f64)));
        let host = holder.host().map(|host| (c"host", make_text(env, host)));
        return Some(make_object(env, &pid.into_iter().chain(host).collect::<Vec<_>>()));
    }
    let holder = Holder::of(error)?;
    let mut properties =
        vec![(c"pid", make_number(env, holder.pid().into())), (c"sinceMs", millis(env, holder.since()))];
    if let Some(line) = holder.command_line() {
        properties.push((c"commandLine", make_text(env, line)));
    }
    Some(make_object(env, &properties))
}
