//! From a gRPC status or the connection's failure to a [`lock::Error`](Error). Decided by codes, never by
//! texts; and no text of a server is passed on, since it may quote keys, lock ids or a token.

use std::error::Error as StdError;
use std::io;

use tonic::{Code as Grpc, ConnectError, Status};

use crate::lock::{Code, Error};

/// What was asked of the server, for messages and for what its failure leaves open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Request {
    Read,
    Query,
    Listen,
    Commit,
}

impl Request {
    fn what(self) -> &'static str {
        match self {
            Request::Read => "read of the lock",
            Request::Query => "look-up by lock id",
            Request::Listen => "subscription to the lock",
            Request::Commit => "change of the lock",
        }
    }
}

/// Whether the server refused a change because the documents are no longer as they were seen, or because
/// somebody else is changing them right now.
pub(super) fn is_conflict(code: Grpc) -> bool {
    matches!(
        code,
        // A document is no longer at the update time that was named, is there, or is gone.
        Grpc::FailedPrecondition | Grpc::AlreadyExists | Grpc::NotFound
        // Somebody's transaction holds it.
            | Grpc::Aborted
    )
}

/// Whether the server can have seen a request that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Answered,
    /// There is no connection.
    NoConnection,
    /// The connection ended before the request was on it, or the server says that it left it alone.
    Never,
    Maybe,
}

impl Sent {
    /// `left`: whether anything has left on the connection since the request was handed to it. If not, nothing may
    /// leave afterwards.
    pub(super) fn of(status: &Status, left: impl FnOnce() -> bool) -> Sent {
        let Some(source) = status.source() else { return Sent::Answered };
        // What bounds the making of a connection stands around it, and says no more than this.
        let slow = |error: &io::Error| error.kind() == io::ErrorKind::TimedOut;
        if source.downcast_ref::<io::Error>().is_some_and(slow)
            || chain(source).any(|it| it.is::<ConnectError>())
        {
            return Sent::NoConnection;
        }
        if chain(source).any(is_untouched) || !left() { Sent::Never } else { Sent::Maybe }
    }
}

/// The request was still waiting for its turn when the connection ended, or the server has named it as one that it
/// did not begin: it refused the stream, or went away and the stream is above the last that it takes (RFC 9113, 6.8 and 8.7).
fn is_untouched(error: &(dyn StdError + 'static)) -> bool {
    let waited = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_canceled);
    let refused = error.downcast_ref::<h2::Error>().is_some_and(|error| {
        error.is_remote() && (error.is_go_away() || error.reason() == Some(h2::Reason::REFUSED_STREAM))
    });
    waited || refused
}

/// What a failed call means.
pub(super) fn of_status(place: &str, request: Request, status: &Status, sent: Sent) -> Error {
    match status.source() {
        Some(source) => of_transport(place, request, source, sent),
        None => of_code(place, request, status.code()),
    }
}

/// What the server answered.
pub(super) fn of_code(place: &str, request: Request, code: Grpc) -> Error {
    let what = request.what();
    let error = match code {
        Grpc::PermissionDenied => Error::new(
            Code::AuthFailed,
            format!(
                "Firestore at {place} denied the {what}; give the account the role roles/datastore.user and enable the Firestore API in the project"
            ),
        ),
        Grpc::Unauthenticated => Error::new(
            Code::AuthFailed,
            format!("Firestore at {place} did not accept the credentials for the {what}; check or renew them"),
        ),
        Grpc::DeadlineExceeded => {
            Error::new(Code::NetworkTimeout, format!("Firestore at {place} gave up the {what} for lack of time; try again"))
                .retryable()
        }
        Grpc::ResourceExhausted => Error::new(
            Code::RateLimited,
            format!("Firestore at {place} refused the {what}: a quota or rate limit is used up; try again later or raise it"),
        )
        .retryable(),
        Grpc::NotFound => Error::invalid(format!(
            "Firestore at {place} has no such database; create it, or correct the project and database ids"
        )),
        Grpc::InvalidArgument => Error::invalid(format!(
            "Firestore at {place} calls the {what} invalid; check the project, database and collection names"
        )),
        Grpc::FailedPrecondition => Error::invalid(format!(
            "Firestore at {place} is not set up for the {what}; it must be a database in native mode, and the field lockId must be indexed"
        )),
        Grpc::Unimplemented => {
            Error::invalid(format!("the server at {place} does not know the {what}; is it Firestore?"))
        }
        Grpc::DataLoss | Grpc::OutOfRange | Grpc::AlreadyExists | Grpc::Ok => {
            Error::internal(format!("Firestore at {place} failed in the {what} in a way it never should; report it"))
        }
        Grpc::Aborted | Grpc::Cancelled | Grpc::Unknown | Grpc::Internal | Grpc::Unavailable => {
            Error::unavailable(format!("Firestore at {place} could not do the {what} just now; try again"))
        }
    };
    let error = error.because(format!("gRPC status {code:?}"));
    let may_be_applied = matches!(
        code,
        Grpc::DeadlineExceeded
            | Grpc::Cancelled
            | Grpc::Unknown
            | Grpc::Internal
            | Grpc::Unavailable
            | Grpc::DataLoss
            | Grpc::OutOfRange
    );
    if request == Request::Commit && may_be_applied { error.unknown() } else { error }
}

/// The call never got an answer, because there is no connection or it broke.
fn of_transport(place: &str, request: Request, source: &(dyn StdError + 'static), sent: Sent) -> Error {
    let error = chain(source).find_map(|error| of_tls(place, error)).unwrap_or_else(|| {
        let timed_out = chain(source)
            .filter_map(|error| error.downcast_ref::<io::Error>())
            .any(|error| error.kind() == io::ErrorKind::TimedOut);
        match (sent == Sent::NoConnection, timed_out) {
            (true, true) => Error::new(
                Code::NetworkTimeout,
                format!("Firestore at {place} did not accept a connection in time"),
            )
            .retryable(),
            (true, false) => Error::unavailable(format!(
                "cannot connect to Firestore at {place}; is it running and reachable?"
            )),
            (false, _) => Error::unavailable(format!("the connection to Firestore at {place} broke")),
        }
    });
    let texts: Vec<String> = chain(source).map(ToString::to_string).collect();
    let error = error.because(texts.join(": "));
    if request == Request::Commit && sent == Sent::Maybe { error.unknown() } else { error }
}

fn of_tls(place: &str, error: &(dyn StdError + 'static)) -> Option<Error> {
    let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
    let tls = error
        .downcast_ref::<rustls::Error>()
        .or_else(|| inside.and_then(|inside| inside.downcast_ref::<rustls::Error>()))?;
    match tls {
        rustls::Error::InvalidCertificate(_) => Some(Error::new(
            Code::AuthFailed,
            format!(
                "the certificate of Firestore at {place} is not trusted; check the host and the system's certificate authorities"
            ),
        )),
        _ => Some(Error::unavailable(format!("the TLS handshake with Firestore at {place} failed"))),
    }
}

fn chain<'a>(error: &'a (dyn StdError + 'static)) -> impl Iterator<Item = &'a (dyn StdError + 'static)> {
    std::iter::successors(Some(error), |error: &&(dyn StdError + 'static)| (*error).source())
}

/// Others changed the documents each time they had been read.
pub(super) fn contended(place: &str) -> Error {
    Error::unavailable(format!("others kept changing the lock at {place} at the same time; try again"))
}

pub(super) fn closed() -> Error {
    Error::invalid("this Firestore backend is closed; create a new one")
}

/// A reply that Firestore's interface does not allow.
pub(super) fn strange(place: &str, what: &str) -> Error {
    Error::internal(format!("the server at {place} answered {what}, which Firestore never does"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lock::Outcome;

    #[test]
    fn each_status_has_its_code_and_outcome() {
        use Code::{AuthFailed, InvalidArgument, NetworkTimeout, RateLimited, ServiceUnavailable};
        for (status, code, retryable, outcome) in [
            (Grpc::Unavailable, ServiceUnavailable, true, Outcome::Unknown),
            (Grpc::Internal, ServiceUnavailable, true, Outcome::Unknown),
            (Grpc::Aborted, ServiceUnavailable, true, Outcome::NotApplied),
            (Grpc::PermissionDenied, AuthFailed, false, Outcome::NotApplied),
            (Grpc::Unauthenticated, AuthFailed, false, Outcome::NotApplied),
            (Grpc::DeadlineExceeded, NetworkTimeout, true, Outcome::Unknown),
            (Grpc::ResourceExhausted, RateLimited, true, Outcome::NotApplied),
            (Grpc::InvalidArgument, InvalidArgument, false, Outcome::NotApplied),
            (Grpc::FailedPrecondition, InvalidArgument, false, Outcome::NotApplied),
            (Grpc::NotFound, InvalidArgument, false, Outcome::NotApplied),
        ] {
            let error = of_code("here", Request::Commit, status);
            assert_eq!(
                (error.code(), error.is_retryable(), error.outcome()),
                (code, retryable, outcome),
                "{status:?}"
            );
            assert_eq!(
                of_code("here", Request::Read, status).outcome(),
                Outcome::NotApplied,
                "a read changes nothing"
            );
        }
    }

    #[test]
    fn no_text_of_a_server_is_passed_on() {
        let error = of_status("here", Request::Commit, &Status::unauthenticated("canary"), Sent::Answered);
        assert!(!format!("{error:?} {error}").contains("canary"));
    }
}
