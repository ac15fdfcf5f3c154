//! What PostgreSQL's errors mean, by SQLSTATE, never by their text.

use std::error::Error as StdError;
use std::io;

use tokio_postgres::error::{DbError, Severity};

use crate::lock::{Code, Error};

/// Why a statement has no answer.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) error: Error,
    pub(super) kind: Kind,
}

/// What a failure means for the connection and for others in the same statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// The connection must not be used again.
    Broken,
    /// Prepared statements went missing: sessions are shared behind our back. Nothing was applied.
    LostStatements,
    /// A prepared statement no longer fits the tables; on a new connection it would. Nothing was applied.
    Stale,
    /// The connection broke before anything of the request was sent.
    Unsent,
    /// The notification was refused, and with it what it was to tell of.
    Untold,
    /// A value is at fault, perhaps of one request only.
    Value,
    /// Anything else.
    Other,
}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        Failure { error, kind: Kind::Other }
    }
}

impl Failure {
    /// Whether nothing was applied, and the same on another connection may work.
    pub(super) fn is_worth_another(&self) -> bool {
        matches!(self.kind, Kind::Stale | Kind::LostStatements | Kind::Unsent)
    }

    /// For a request of which nothing was sent.
    pub(super) fn unsent(self) -> Failure {
        Failure { kind: Kind::Unsent, ..self.not_applied() }
    }

    /// For what goes before the request itself.
    pub(super) fn not_applied(self) -> Failure {
        Failure { error: self.error.not_applied(), ..self }
    }
}

/// A statement that was sent to `place` failed.
pub(super) fn of_statement(place: &str, error: &tokio_postgres::Error) -> Failure {
    let Some(db) = error.as_db_error() else {
        return Failure { error: lost(place, error), kind: Kind::Broken };
    };
    let error = of_server(place, db);
    if db.parsed_severity() != Some(Severity::Error) {
        // A session that dies may die after its commit.
        return Failure { error: error.unknown(), kind: Kind::Broken };
    }
    let code = db.code().code();
    let kind = match code {
        "26000" | "42P05" => Kind::LostStatements,
        "0A000" => Kind::Stale,
        "54000" => Kind::Untold,
        // The next connection may lead to a server that can write.
        "25006" => Kind::Broken,
        _ if code.starts_with("22") || code.starts_with("23") => Kind::Value,
        _ => Kind::Other,
    };
    Failure { error, kind }
}

/// No session came about.
pub(super) fn of_connect(place: &str, error: &tokio_postgres::Error) -> Error {
    if let Some(db) = error.as_db_error() {
        return of_server(place, db);
    }
    // The driver tells kinds of its own errors by these labels only. What follows them may quote secrets.
    let label = error.to_string();
    let source = StdError::source(error).and_then(|source| source.downcast_ref::<io::Error>());
    match source {
        _ if label.starts_with("authentication error") || label.starts_with("invalid configuration") => {
            Error::new(
                Code::AuthFailed,
                format!(
                    "PostgreSQL at {place} asks for a log-in that the settings do not allow; check the password and channel_binding"
                ),
            )
        }
        Some(io) => of_socket(place, io),
        None if label.starts_with("error performing TLS handshake") => Error::unavailable(format!(
            "PostgreSQL at {place} offers no TLS, which sslmode asks for; enable it there"
        )),
        None => Error::unavailable(format!("PostgreSQL at {place} closed the connection during the log-in")),
    }
}

/// The socket or TLS failed before there was a session.
pub(super) fn of_socket(place: &str, error: &io::Error) -> Error {
    let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match tls {
        Some(rustls::Error::InvalidCertificate(why)) => Error::new(
            Code::AuthFailed,
            format!(
                "the certificate of PostgreSQL at {place} is not trusted; check the host name and the certificate authority (sslrootcert or tls.ca)"
            ),
        )
        .because(format!("{why:?}")),
        Some(rustls::Error::AlertReceived(alert)) => Error::new(
            Code::AuthFailed,
            format!("PostgreSQL at {place} refused the TLS handshake; it may want a client certificate"),
        )
        .because(format!("{alert:?}")),
        _ => Error::unavailable(format!("PostgreSQL at {place} can't be reached ({})", error.kind()))
            .because(error.to_string()),
    }
}

pub(super) fn lost(place: &str, error: &tokio_postgres::Error) -> Error {
    let cause = StdError::source(error).map_or_else(|| error.to_string(), ToString::to_string);
    Error::unavailable(format!("the connection to PostgreSQL at {place} broke before the reply came"))
        .unknown()
        .because(cause)
}

pub(super) fn hung(place: &str) -> Failure {
    let error = Error::timed_out(format!("PostgreSQL at {place} did not answer in time"));
    Failure { error, kind: Kind::Broken }
}

pub(super) fn closed() -> Error {
    Error::invalid("the PostgreSQL backend is closed; create another one")
}

/// An error that the server sent. What it was about was rolled back.
fn of_server(place: &str, db: &DbError) -> Error {
    let code = db.code().code();
    let error = match code {
        "25006" => Error::unavailable(format!(
            "PostgreSQL at {place} is read-only, such as a standby; connect to the primary, or list all servers with target_session_attrs=read-write"
        )),
        "55P03" => Error::unavailable(format!(
            "another session holds a lock of PostgreSQL's for longer than this one waits (at {place})"
        )),
        // A table that changed under a statement's plan; the next one is planned anew.
        "0A000" | "26000" | "42P05" => Error::unavailable(format!(
            "PostgreSQL at {place} no longer has a prepared statement; behind a pooler set pgbouncer: true"
        )),
        "42P01" | "3F000" => Error::invalid(format!(
            "a table of syncguard's is missing at {place}; call setupSchema once, with the same tableName, fenceTableName and schema"
        )),
        "3D000" => Error::invalid(format!(
            "PostgreSQL at {place} has no database of the name that the target gives; correct it, or create the database"
        )),
        "42704" | "22023" => Error::invalid(format!(
            "PostgreSQL at {place} does not know something that the settings name, such as a parameter in options; correct it"
        )),
        "42883" => Error::invalid(format!(
            "a function is missing at {place}; syncguard needs PostgreSQL 12 or later, with pg_catalog in the search path, and triggers on its tables that work"
        )),
        "54000" => Error::unavailable(format!(
            "PostgreSQL at {place} can't notify, since its queue of notifications is full; end the session that listens in a long transaction"
        )),
        "42703" | "42P10" => Error::invalid(format!(
            "a table at {place} lacks a column or key that syncguard needs; choose other table names and call setupSchema"
        )),
        "42501" => Error::new(
            Code::AuthFailed,
            format!(
                "PostgreSQL at {place} denies a table; grant SELECT, INSERT, UPDATE and DELETE on both tables, and USAGE on the schema"
            ),
        ),
        "57014" => Error::new(
            Code::NetworkTimeout,
            format!("PostgreSQL at {place} stopped a statement that took longer than operationTimeoutMs"),
        )
        .retryable(),
        "53300" => Error::new(
            Code::RateLimited,
            format!("PostgreSQL at {place} has no connection left; lower poolSize or raise max_connections"),
        )
        .retryable(),
        _ => match &code[..code.len().min(2)] {
            "08" | "57" | "25" => {
                Error::unavailable(format!("PostgreSQL at {place} ended the session or refuses it now"))
            }
            "28" => Error::new(
                Code::AuthFailed,
                format!("PostgreSQL at {place} refused the user or password; check both"),
            ),
            "40" => Error::unavailable(format!("PostgreSQL at {place} gave way to another transaction")),
            "53" => {
                Error::new(Code::RateLimited, format!("PostgreSQL at {place} lacks resources")).retryable()
            }
            "22" => Error::invalid(format!(
                "PostgreSQL at {place} can't store a value; the database's encoding should be UTF8"
            )),
            _ => {
                Error::internal(format!("PostgreSQL at {place} answered with an error that is not expected"))
            }
        },
    };
    // Neither detail nor hint, which quote values; the message of these errors quotes none of ours.
    error.because(format!("SQLSTATE {code}: {}", db.message()))
}
