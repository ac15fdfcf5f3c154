//! From what Redis, the socket or TLS says to a [`lock::Error`](Error). Decided by codes, never by texts.

use std::io;
use std::sync::Arc;

use redis::{ErrorKind, RedisError, Value};

use crate::lock::{Code, Error};

/// Why there is no connection; cloned for everybody who waited for it. The request was never sent.
#[derive(Clone, Debug)]
pub(super) struct Refusal {
    code: Code,
    message: String,
    retryable: bool,
    cause: Option<String>,
}

impl Refusal {
    pub(super) fn new(code: Code, message: impl Into<String>) -> Refusal {
        Refusal { code, message: message.into(), retryable: false, cause: None }
    }

    pub(super) fn unavailable(message: impl Into<String>) -> Refusal {
        Refusal { retryable: true, ..Refusal::new(Code::ServiceUnavailable, message) }
    }

    pub(super) fn timed_out(message: impl Into<String>) -> Refusal {
        Refusal { retryable: true, ..Refusal::new(Code::NetworkTimeout, message) }
    }

    pub(super) fn code(&self) -> Code {
        self.code
    }

    pub(super) fn message(&self) -> &str {
        &self.message
    }

    pub(super) fn because(mut self, cause: impl ToString) -> Refusal {
        self.cause = Some(cause.to_string());
        self
    }

    /// A socket that could not be opened, or closed during the handshake.
    pub(super) fn io(place: &str, error: &io::Error) -> Refusal {
        if let Some(tls) = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            return Refusal::tls(place, tls);
        }
        // What is wrong with the files that the target names.
        if let Some(own) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
            return Refusal::from(own.clone());
        }
        match error.kind() {
            io::ErrorKind::PermissionDenied => {
                Refusal::new(Code::AuthFailed, format!("the system forbids connecting to Redis at {place}"))
            }
            _ => Refusal::unavailable(format!("cannot connect to Redis at {place}; is the server running?")),
        }
        .because(error)
    }

    fn tls(place: &str, error: &rustls::Error) -> Refusal {
        match error {
            rustls::Error::InvalidCertificate(_) => Refusal::new(
                Code::AuthFailed,
                format!(
                    "the certificate of Redis at {place} is not trusted; check host name and certificate authority"
                ),
            ),
            rustls::Error::AlertReceived(_) => Refusal::new(
                Code::AuthFailed,
                format!("Redis at {place} refused the TLS handshake; it may want a client certificate"),
            ),
            _ => Refusal::unavailable(format!("the TLS handshake with Redis at {place} failed")),
        }
        .because(error)
    }

    /// What came back from the handshake. Its error texts may quote the password, so none is passed on.
    pub(super) fn handshake(place: &str, error: &RedisError) -> Refusal {
        if let Some(io) = io_error(error) {
            return Refusal::io(place, io);
        }
        match (error.kind(), error.code()) {
            (ErrorKind::AuthenticationFailed, _) => Refusal::new(
                Code::AuthFailed,
                format!("Redis at {place} refused the user name or password; check both"),
            ),
            (_, Some(code)) => Refusal::answered(place, code),
            (ErrorKind::Io, None) => {
                Refusal::unavailable(format!("Redis at {place} closed the connection at once"))
            }
            // Most often the connection broke in the middle of a reply.
            (_, None) => Refusal::unavailable(format!(
                "what answers at {place} sent a reply that is cut short or none of Redis's; is it a Redis server?"
            )),
        }
    }

    /// An error reply during the handshake. The general one may mean that the server has too many clients.
    pub(super) fn answered(place: &str, code: &str) -> Refusal {
        let (kind, retryable) = match code {
            "ERR" => (Code::ServiceUnavailable, true),
            code => classify(code),
        };
        let message =
            format!("Redis at {place} refused the connection ({code}); it may have too many clients");
        Refusal { retryable, ..Refusal::new(kind, message) }
    }

    pub(super) fn into_error(self) -> Error {
        let error = Error::new(self.code, self.message);
        let error = if self.retryable { error.retryable() } else { error };
        match self.cause {
            Some(cause) => error.because(cause),
            None => error,
        }
    }
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Refusal {
        Refusal {
            code: error.code(),
            message: error.message().to_owned(),
            retryable: error.is_retryable(),
            // Whatever broke here, no request of the caller's was sent.
            cause: error.cause().map(ToString::to_string),
        }
    }
}

/// The socket's error behind an error of the crate's, which keeps it shared.
fn io_error(error: &RedisError) -> Option<&io::Error> {
    let cause = std::error::Error::source(error)?;
    cause.downcast_ref::<Arc<dyn std::error::Error + Send + Sync>>()?.downcast_ref()
}

/// The connection broke before anything was sent.
pub(super) fn gone(place: &str) -> Error {
    Error::unavailable(format!("the connection to Redis at {place} is gone; another one is being made"))
}

/// The connection broke after the request may have been sent.
pub(super) fn lost(place: &str) -> Error {
    Error::unavailable(format!("the connection to Redis at {place} broke before the reply came")).unknown()
}

/// An error reply to a command of ours. Redis refuses before it does anything, so nothing was applied.
pub(super) fn refused(place: &str, code: &str, details: Option<&str>) -> Error {
    let (kind, retryable) = classify(code);
    let message = match kind {
        Code::AuthFailed => format!(
            "Redis at {place} denies a command or key ({code}); docs/redis.md says which ones to grant"
        ),
        Code::RateLimited => format!("Redis at {place} is out of memory ({code}); raise maxmemory"),
        Code::ServiceUnavailable => format!("Redis at {place} cannot serve requests now ({code})"),
        _ => format!("Redis at {place} answered with the error {code}"),
    };
    let error = Error::new(kind, message).because(redact(details.unwrap_or_default()));
    if retryable { error.retryable() } else { error }
}

/// The code of an error, and whether a retry may help.
fn classify(code: &str) -> (Code, bool) {
    match code {
        "WRONGPASS" | "NOAUTH" | "NOPERM" | "DENIED" => (Code::AuthFailed, false),
        "LOADING" | "BUSY" | "TRYAGAIN" | "CLUSTERDOWN" | "MASTERDOWN" | "READONLY" | "NOREPLICAS"
        | "MISCONF" | "MOVED" | "ASK" => (Code::ServiceUnavailable, true),
        "OOM" => (Code::RateLimited, true),
        _ => (Code::Internal, false),
    }
}

/// A reply that none of our requests can have.
pub(super) fn unexpected(place: &str, reply: &Value) -> Error {
    let kind = match reply {
        Value::Nil => "nothing",
        Value::Int(_) => "an integer",
        Value::BulkString(_) | Value::SimpleString(_) | Value::Okay => "a string",
        Value::Array(_) => "another array",
        _ => "a value of another type",
    };
    Error::internal(format!(
        "Redis at {place} answered {kind} where a reply of syncguard's script was expected"
    ))
    .unknown()
}

/// Hides what may be a lock id: every run of exactly 22 characters of base64url.
pub(super) fn redact(text: &str) -> String {
    let is_id = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let run = rest.find(|c| !is_id(c)).unwrap_or(rest.len());
        shown.push_str(if run == crate::lock::LockId::LENGTH { "…" } else { &rest[..run] });
        rest = &rest[run..];
        let gap = rest.find(is_id).unwrap_or(rest.len());
        shown.push_str(&rest[..gap]);
        rest = &rest[gap..];
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_ids_are_hidden_and_nothing_else() {
        assert_eq!(redact("key syncguard:id:AAAAAAAAAAAAAAAAAAAAAA is"), "key syncguard:id:… is");
        assert_eq!(redact("é AAAAAAAAAAAAAAAAAAAAAAA -- x"), "é AAAAAAAAAAAAAAAAAAAAAAA -- x");
        assert_eq!(redact(""), "");
    }
}
