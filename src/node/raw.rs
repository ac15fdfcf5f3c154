//! Reading and making JavaScript values. The few Node-API calls that the hot path needs stand here,
//! checked, so that no other file of this package is unsafe but the completion queue.

use std::ptr;

use napi::bindgen_prelude::{JsValue, ToNapiValue, TypeName, Unknown};
use napi::sys;
use syncguard::lock::{Error, Key, LockId, Result};

/// A value of an environment, valid during the call that brought it.
#[derive(Clone, Copy)]
pub struct Value {
    pub env: sys::napi_env,
    pub raw: sys::napi_value,
}

impl From<&Unknown<'_>> for Value {
    fn from(unknown: &Unknown<'_>) -> Value {
        let value = unknown.value();
        Value { env: value.env, raw: value.value }
    }
}

impl ToNapiValue for Value {
    unsafe fn to_napi_value(_: sys::napi_env, value: Self) -> napi::Result<sys::napi_value> {
        Ok(value.raw)
    }
}

impl TypeName for Value {
    fn type_name() -> &'static str {
        "unknown"
    }

    fn value_type() -> napi::ValueType {
        napi::ValueType::Unknown
    }
}

impl Value {
    pub fn kind(self) -> sys::napi_valuetype {
        let mut kind = sys::ValueType::napi_undefined;
        // SAFETY: env and raw come from one call of Node's and `kind` outlives it.
        unsafe { sys::napi_typeof(self.env, self.raw, &mut kind) };
        kind
    }

    pub fn is_absent(self) -> bool {
        matches!(self.kind(), sys::ValueType::napi_undefined | sys::ValueType::napi_null)
    }

    /// What it is, for an error message.
    pub fn kind_name(self) -> &'static str {
        match self.kind() {
            sys::ValueType::napi_undefined => "undefined",
            sys::ValueType::napi_null => "null",
            sys::ValueType::napi_boolean => "a boolean",
            sys::ValueType::napi_number => "a number",
            sys::ValueType::napi_string if self.text().is_none() => "a string with a lone surrogate",
            sys::ValueType::napi_string => "a string",
            sys::ValueType::napi_symbol => "a symbol",
            sys::ValueType::napi_function => "a function",
            sys::ValueType::napi_bigint => "a bigint",
            _ if self.is_array() => "an array",
            _ => "an object",
        }
    }

    pub fn is_array(self) -> bool {
        let mut is_array = false;
        // SAFETY: as in `kind`.
        unsafe { sys::napi_is_array(self.env, self.raw, &mut is_array) };
        is_array
    }

    /// `None` when it is no number.
    pub fn number(self) -> Option<f64> {
        let mut number = 0.0;
        // SAFETY: as in `kind`; a value of another type is answered by a status.
        let status = unsafe { sys::napi_get_value_double(self.env, self.raw, &mut number) };
        (status == sys::Status::napi_ok).then_some(number)
    }

    /// `None` when it is no bigint or does not fit.
    pub fn bigint(self) -> Option<i64> {
        let (mut number, mut lossless) = (0i64, false);
        // SAFETY: as in `number`.
        let status =
            unsafe { sys::napi_get_value_bigint_int64(self.env, self.raw, &mut number, &mut lossless) };
        (status == sys::Status::napi_ok && lossless).then_some(number)
    }

    pub fn flag(self) -> Option<bool> {
        let mut flag = false;
        // SAFETY: as in `number`.
        let status = unsafe { sys::napi_get_value_bool(self.env, self.raw, &mut flag) };
        (status == sys::Status::napi_ok).then_some(flag)
    }

    /// The code units of a string, so that a lone surrogate stays visible; `None` when it is no string.
    pub fn with_text<T>(self, read: impl FnOnce(&[u16]) -> T) -> Option<T> {
        self.with_units::<600, T>(read)
    }

    /// The same with room for what is shorter than `SHORT`.
    fn with_units<const SHORT: usize, T>(self, read: impl FnOnce(&[u16]) -> T) -> Option<T> {
        let mut buffer = [0u16; SHORT];
        let mut length = 0;
        // SAFETY: the buffer has the size that is passed; a value of another type is answered by a status.
        let status = unsafe {
            sys::napi_get_value_string_utf16(
                self.env,
                self.raw,
                buffer.as_mut_ptr(),
                buffer.len(),
                &mut length,
            )
        };
        if status != sys::Status::napi_ok {
            return None;
        }
        if length + 1 < buffer.len() {
            return Some(read(&buffer[..length]));
        }
        // SAFETY: a null buffer asks for the length only.
        unsafe {
            sys::napi_get_value_string_utf16(self.env, self.raw, ptr::null_mut(), 0, &mut length);
        }
        let mut long = vec![0u16; length + 1];
        // SAFETY: as above.
        unsafe {
            sys::napi_get_value_string_utf16(self.env, self.raw, long.as_mut_ptr(), long.len(), &mut length);
        }
        long.truncate(length);
        Some(read(&long))
    }

    /// The text of a string; `None` when it is none or holds a lone surrogate, which no store, path or URL can:
    /// a replacement in its place would make two names one. [`Value::kind_name`] says which of the two it was.
    pub fn text(self) -> Option<String> {
        self.with_text(|units| String::from_utf16(units).ok())?
    }

    /// Bytes of a `Uint8Array` or `Buffer`.
    pub fn bytes(self) -> Option<Vec<u8>> {
        let (mut kind, mut length, mut data) = (0, 0, ptr::null_mut());
        // SAFETY: as in `number`; the data pointer is read before any JavaScript can run.
        unsafe {
            let status = sys::napi_get_typedarray_info(
                self.env,
                self.raw,
                &mut kind,
                &mut length,
                &mut data,
                ptr::null_mut(),
                ptr::null_mut(),
            );
            let is_bytes = status == sys::Status::napi_ok && kind == sys::TypedarrayType::uint8_array;
            match (is_bytes, data.is_null()) {
                (false, _) => None,
                (true, true) => Some(Vec::new()),
                (true, false) => Some(std::slice::from_raw_parts(data.cast(), length).to_vec()),
            }
        }
    }

    /// A property that the object itself has; `None` when it has none or it is `undefined`.
    pub fn own(self, name: &str) -> Option<Value> {
        let key = self.make_text(name);
        let mut has = false;
        let mut raw = ptr::null_mut();
        // SAFETY: as in `kind`; a getter that throws leaves an exception, which is cleared.
        unsafe {
            let status = sys::napi_has_own_property(self.env, self.raw, key.raw, &mut has);
            if status != sys::Status::napi_ok || !has {
                return None;
            }
            if sys::napi_get_property(self.env, self.raw, key.raw, &mut raw) != sys::Status::napi_ok {
                clear_exception(self.env);
                return None;
            }
        }
        let value = Value { env: self.env, raw };
        (value.kind() != sys::ValueType::napi_undefined).then_some(value)
    }

    pub fn element(self, index: u32) -> Option<Value> {
        let mut raw = ptr::null_mut();
        // SAFETY: as in `kind`.
        let status = unsafe { sys::napi_get_element(self.env, self.raw, index, &mut raw) };
        (status == sys::Status::napi_ok).then_some(Value { env: self.env, raw })
    }

    pub fn length(self) -> u32 {
        let mut length = 0;
        // SAFETY: as in `kind`; anything but an array is answered by a status and has no elements.
        unsafe { sys::napi_get_array_length(self.env, self.raw, &mut length) };
        length
    }

    pub fn make_text(self, text: &str) -> Value {
        make_text(self.env, text)
    }
}

/// # Errors
/// `InvalidArgument` for anything but a valid key.
pub fn key(value: Value) -> Result<Key> {
    value.with_text(Key::from_utf16).unwrap_or_else(|| {
        Err(Error::invalid(format!(
            "key must be a string of 1 to 512 bytes of UTF-8; {} was given",
            value.kind_name()
        )))
    })
}

/// # Errors
/// `InvalidArgument` for anything but a valid lock id; never shows what was given.
pub fn lock_id(value: Value) -> Result<LockId> {
    value.with_units::<{ LockId::LENGTH + 2 }, _>(LockId::from_utf16).unwrap_or_else(|| {
        Err(Error::invalid(format!(
            "Invalid lockId format: it must be a string of exactly 22 characters; {} was given",
            value.kind_name()
        )))
    })
}

pub fn make_text(env: sys::napi_env, text: &str) -> Value {
    let length = isize::try_from(text.len()).unwrap_or(0);
    let mut raw = ptr::null_mut();
    // SAFETY: the pointer and length are those of a str; ASCII is both Latin-1 and UTF-8.
    unsafe {
        if text.is_ascii() {
            sys::napi_create_string_latin1(env, text.as_ptr().cast(), length, &mut raw);
        } else {
            sys::napi_create_string_utf8(env, text.as_ptr().cast(), length, &mut raw);
        }
    }
    Value { env, raw }
}

pub fn make_number(env: sys::napi_env, number: f64) -> Value {
    let mut raw = ptr::null_mut();
    // SAFETY: `raw` outlives the call.
    unsafe { sys::napi_create_double(env, number, &mut raw) };
    Value { env, raw }
}

pub fn make_flag(env: sys::napi_env, flag: bool) -> Value {
    let mut raw = ptr::null_mut();
    // SAFETY: as in `make_number`.
    unsafe { sys::napi_get_boolean(env, flag, &mut raw) };
    Value { env, raw }
}

pub fn make_null(env: sys::napi_env) -> Value {
    let mut raw = ptr::null_mut();
    // SAFETY: as in `make_number`.
    unsafe { sys::napi_get_null(env, &mut raw) };
    Value { env, raw }
}

pub fn make_undefined(env: sys::napi_env) -> Value {
    let mut raw = ptr::null_mut();
    // SAFETY: as in `make_number`.
    unsafe { sys::napi_get_undefined(env, &mut raw) };
    Value { env, raw }
}

/// An object with these properties; the names end in NUL.
pub fn make_object(env: sys::napi_env, properties: &[(&std::ffi::CStr, Value)]) -> Value {
    let mut raw = ptr::null_mut();
    // SAFETY: as in `make_number`; names are NUL-terminated.
    unsafe {
        sys::napi_create_object(env, &mut raw);
        for (name, value) in properties {
            sys::napi_set_named_property(env, raw, name.as_ptr(), value.raw);
        }
    }
    Value { env, raw }
}

pub fn make_list(env: sys::napi_env, items: &[Value]) -> Value {
    let mut raw = ptr::null_mut();
    // SAFETY: as in `make_number`.
    unsafe {
        sys::napi_create_array_with_length(env, items.len(), &mut raw);
        for (place, item) in (0..).zip(items) {
            sys::napi_set_element(env, raw, place, item.raw);
        }
    }
    Value { env, raw }
}

/// Drops an exception that JavaScript code called from here has thrown.
pub fn clear_exception(env: sys::napi_env) {
    let mut pending = false;
    let mut exception = ptr::null_mut();
    // SAFETY: as in `make_number`.
    unsafe {
        sys::napi_is_exception_pending(env, &mut pending);
        if pending {
            sys::napi_get_and_clear_last_exception(env, &mut exception);
        }
    }
}
