//! JavaScript values as settings.

use napi::sys::ValueType;
use syncguard::engine::{KeepPolicy, Policy};
use syncguard::lock::{Error, Result, Ttl};
use syncguard::stores::target::{Setting, Settings, millis};

use crate::raw::Value;

/// What an argument may hold. Settings that hold anything else complain when a backend takes them.
fn setting(value: Value) -> Setting {
    match value.kind() {
        ValueType::napi_string => {
            value.text().map_or_else(|| Setting::Other(value.kind_name().into()), Setting::Text)
        }
        ValueType::napi_number => Setting::Number(value.number().unwrap_or(f64::NAN)),
        ValueType::napi_boolean => Setting::Flag(value.flag().unwrap_or_default()),
        ValueType::napi_object => match (value.bytes(), value.own("type").and_then(Value::text)) {
            (Some(bytes), _) => Setting::Bytes(bytes),
            (None, Some(kind)) => Setting::Other(kind),
            (None, None) => Setting::Other("an object".into()),
        },
        _ => Setting::Other(value.kind_name().into()),
    }
}

/// Entries `[name, value]` that TypeScript made of an object's own properties.
pub fn entries(list: Value) -> Settings {
    (0..list.length())
        .filter_map(|index| {
            let entry = list.element(index)?;
            // A name that is no Unicode text is one that nobody knows.
            let name = entry.element(0)?.with_text(String::from_utf16_lossy)?;
            Some((name, setting(entry.element(1)?)))
        })
        .collect()
}

/// The object's own properties of these names; others are ignored, because people spread shared objects.
fn named(what: &str, object: Value, names: &[&'static str]) -> Result<Settings> {
    if object.kind() != ValueType::napi_object || object.is_array() {
        return Err(Error::invalid(format!("{what} must be an object; {} was given", object.kind_name())));
    }
    Ok(names.iter().filter_map(|name| Some(((*name).to_owned(), setting(object.own(name)?)))).collect())
}

/// # Errors
/// `InvalidArgument` for anything but a valid `ttlMs`.
pub fn ttl(value: Value) -> Result<Ttl> {
    Ttl::from_millis(time("ttlMs", value)?)
}

/// # Errors
/// `InvalidArgument` that names the argument, for anything but a valid time.
pub fn time(name: &str, value: Value) -> Result<u64> {
    match value.number() {
        Some(number) => millis(name, number),
        None => Err(Error::invalid(format!(
            "{name} must be a positive integer of milliseconds; {} was given",
            value.kind_name()
        ))),
    }
}

/// # Errors
/// `InvalidArgument` that names the option of `acquisition`.
pub fn policy(value: Value) -> Result<Policy> {
    if value.kind() == ValueType::napi_undefined {
        return Ok(Policy::default());
    }
    let names = ["timeoutMs", "maxRetries", "retryDelayMs", "backoff", "jitter", "wait"];
    Policy::from_settings(named("acquisition", value, &names)?)
}

/// # Errors
/// `InvalidArgument` for anything but a valid `autoExtend`.
pub fn keep(value: Value, ttl: Ttl) -> Result<Option<KeepPolicy>> {
    let policy = match value.kind() {
        ValueType::napi_undefined | ValueType::napi_null => return Ok(None),
        ValueType::napi_boolean => match value.flag() {
            Some(true) => KeepPolicy::default(),
            _ => return Ok(None),
        },
        _ => {
            let names = ["intervalMs", "maxHoldMs", "stallMs"];
            KeepPolicy::from_settings(named("autoExtend", value, &names)?)?
        }
    };
    policy.check(ttl.as_duration())?;
    Ok(Some(policy))
}
