//! The pure functions, which need no store.

use napi::bindgen_prelude::{Env, JsValue, Unknown};
use napi::sys;
use napi_derive::napi;
use syncguard::engine::{Backoff, Jitter, Policy, Wait};
use syncguard::lock::{
    self, Code, Error, Fence, Limit, LockId, MAX_KEY_LENGTH_BYTES, TIME_TOLERANCE, storage_key_of,
};
use syncguard::stores::target::whole;
use syncguard::stores::{firestore, postgres, redis};

use crate::raw::{self, Value, make_list, make_number, make_object, make_text};
use crate::returned::Returned;
use crate::settings;

#[napi(ts_return_type = "string | Failure")]
pub fn hash_key(value: Unknown<'_>) -> Returned {
    let value = Value::from(&value);
    match value.with_text(lock::hash_key) {
        Some(hash) => Returned::Text(hash),
        None => Returned::Failed(not_a("value", "a string", value)),
    }
}

#[napi(ts_return_type = "string | Failure")]
pub fn normalize_key(key: Unknown<'_>) -> Returned {
    Returned::of(raw::key(Value::from(&key)), |key| Returned::Text(key.as_str().to_owned()))
}

#[napi(ts_return_type = "null | Failure")]
pub fn validate_lock_id(lock_id: Unknown<'_>) -> Returned {
    Returned::of(raw::lock_id(Value::from(&lock_id)), |_| Returned::Nothing)
}

#[napi]
pub fn generate_lock_id() -> String {
    LockId::mint().as_str().to_owned()
}

#[napi(ts_return_type = "string | Failure")]
pub fn make_storage_key(
    prefix: Unknown<'_>,
    key: Unknown<'_>,
    limit: Unknown<'_>,
    reserve: Unknown<'_>,
) -> Returned {
    let make = || {
        let text = |name, value: &Unknown<'_>| {
            let value = Value::from(value);
            value.text().ok_or_else(|| not_a(name, "a string", value))
        };
        let bytes = |name, value: &Unknown<'_>| {
            let value = Value::from(value);
            let number = value.number().ok_or_else(|| not_a(name, "a number of bytes", value))?;
            whole(name, number, 0, 1 << 30).map(|bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
        };
        let limit =
            Limit { bytes: bytes("backendLimitBytes", &limit)?, reserve: bytes("reserveBytes", &reserve)? };
        storage_key_of(&text("prefix", &prefix)?, &text("key", &key)?, limit)
    };
    Returned::of(make(), Returned::Text)
}

#[napi]
pub fn is_live(expires_at_ms: f64, now_ms: f64, tolerance_ms: f64) -> bool {
    // Over f64, because JavaScript backends may bring any numbers; `lock::is_live` is the same predicate.
    expires_at_ms > now_ms - tolerance_ms
}

#[napi(ts_return_type = "string | Failure")]
pub fn format_fence(value: Unknown<'_>) -> Returned {
    let value = Value::from(&value);
    let number = match value.kind() {
        sys::ValueType::napi_number => value.number().map(f64::trunc),
        sys::ValueType::napi_bigint => bigint(value),
        _ => return Returned::Failed(not_a("fence", "a number or bigint", value)),
    };
    let fence = number
        .ok_or_else(|| Error::invalid("fence must have at most 15 digits; a longer bigint was given"))
        .and_then(|number| whole("fence", number, 0, 999_999_999_999_999))
        .map(|number| Fence::new(number).map_or_else(String::new, |fence| fence.to_string()));
    Returned::of(fence, Returned::Text)
}

#[allow(clippy::cast_precision_loss, reason = "larger ones are refused")]
fn bigint(value: Value) -> Option<f64> {
    value.bigint().filter(|number| number.unsigned_abs() < 1 << 53).map(|number| number as f64)
}

#[napi(ts_return_type = "number | Failure")]
pub fn redis_server_time_ms(seconds: Unknown<'_>, micros: Unknown<'_>) -> Returned {
    let part = |name, value: &Unknown<'_>| {
        let value = Value::from(value);
        let number = value.text().and_then(|text| text.parse::<f64>().ok());
        let number = number.or_else(|| value.number()).ok_or_else(|| not_a(name, "digits", value))?;
        whole(name, number, 0, 1 << 53)
    };
    let time = || Ok(part("time[0]", &seconds)? * 1000 + part("time[1]", &micros)? / 1000);
    #[allow(clippy::cast_precision_loss, reason = "a time of day is far below 2^53 ms")]
    Returned::of(time(), |time: u64| Returned::Number(time as f64))
}

#[napi(ts_return_type = "null | Failure")]
pub fn check_time(name: String, ms: Unknown<'_>) -> Returned {
    Returned::of(settings::time(&name, Value::from(&ms)), |_| Returned::Nothing)
}

/// Acquisition options with their defaults filled in.
#[napi(ts_return_type = "Policy | Failure")]
pub fn policy(options: Unknown<'_>) -> Value {
    let env = options.value().env;
    match settings::policy(Value::from(&options)) {
        Ok(policy) => policy_object(env, &policy),
        Err(error) => Returned::Failed(error).to_js(env),
    }
}

fn policy_object(env: sys::napi_env, policy: &Policy) -> Value {
    let backoff = match policy.backoff {
        Backoff::Exponential => Policy::BACKOFFS[0],
        Backoff::Fixed => Policy::BACKOFFS[1],
    };
    let jitter = match policy.jitter {
        Jitter::Equal => Policy::JITTERS[0],
        Jitter::Full => Policy::JITTERS[1],
        Jitter::None => Policy::JITTERS[2],
    };
    let wait = match policy.wait {
        Wait::Notify => Policy::WAITS[0],
        Wait::Poll => Policy::WAITS[1],
    };
    #[allow(clippy::cast_precision_loss, reason = "times are below 2^53 ms")]
    let millis = |time: std::time::Duration| make_number(env, time.as_millis() as f64);
    make_object(
        env,
        &[
            (c"timeoutMs", millis(policy.timeout)),
            (c"maxRetries", make_number(env, policy.max_retries.into())),
            (c"retryDelayMs", millis(policy.retry_delay)),
            (c"backoff", make_text(env, backoff)),
            (c"jitter", make_text(env, jitter)),
            (c"wait", make_text(env, wait)),
        ],
    )
}

/// The constants that the package exports.
#[napi(ts_return_type = "Constants")]
pub fn constants(env: Env) -> Value {
    #[allow(clippy::cast_precision_loss, reason = "small constants")]
    let number = |number: usize| make_number(env.raw(), number as f64);
    let limits = |pick: fn(Limit) -> usize| {
        make_object(
            env.raw(),
            &[
                (c"REDIS", number(pick(redis::LIMIT))),
                (c"POSTGRES", number(pick(postgres::LIMIT))),
                (c"FIRESTORE", number(pick(firestore::LIMIT))),
            ],
        )
    };
    let policy = policy_object(env.raw(), &Policy::default());
    let of_policy = |name: &'static std::ffi::CStr| {
        (name, name.to_str().ok().and_then(|name| policy.own(name)).unwrap_or(policy))
    };
    let lock_defaults = [c"maxRetries", c"retryDelayMs", c"timeoutMs", c"backoff", c"jitter"].map(of_policy);
    make_object(
        env.raw(),
        &[
            (
                c"ERROR_CODES",
                make_list(env.raw(), &Code::ALL.map(|code| make_text(env.raw(), code.as_str()))),
            ),
            (c"MAX_KEY_LENGTH_BYTES", number(MAX_KEY_LENGTH_BYTES)),
            (c"TIME_TOLERANCE_MS", make_number(env.raw(), TIME_TOLERANCE.as_secs_f64() * 1000.0)),
            (c"BACKEND_DEFAULTS", make_object(env.raw(), &[(c"ttlMs", number(DEFAULT_TTL_MS))])),
            (c"LOCK_DEFAULTS", make_object(env.raw(), &lock_defaults)),
            (c"BACKEND_LIMITS", limits(|limit| limit.bytes)),
            (c"RESERVE_BYTES", limits(|limit| limit.reserve)),
            (
                c"FENCE_THRESHOLDS",
                make_object(
                    env.raw(),
                    &[
                        (c"MAX", make_text(env.raw(), &Fence::MAX.to_string())),
                        (c"WARN", make_text(env.raw(), &Fence::WARN.to_string())),
                    ],
                ),
            ),
        ],
    )
}

const DEFAULT_TTL_MS: usize = 30_000;

fn not_a(name: &str, allowed: &str, value: Value) -> Error {
    Error::invalid(format!("{name} must be {allowed}; {} was given", value.kind_name()))
}
