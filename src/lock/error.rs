//! The one error, and the codes it may have.

use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

/// Of whatever may fail with this crate's [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is. The names are those of the TypeScript `LockError.code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// The store could not be reached or is not able to answer now.
    ServiceUnavailable,
    /// The store refused who asks, or what they may do.
    AuthFailed,
    /// What was asked for can never be answered.
    InvalidArgument,
    /// The store had too many requests.
    RateLimited,
    /// The store did not answer in time.
    NetworkTimeout,
    /// The lock did not come free in time.
    AcquisitionTimeout,
    /// The caller's signal ended it.
    Aborted,
    /// Whatever has no name of its own, bugs of ours included.
    Internal,
    /// The lease ended before its holder was done.
    LeaseLost,
}

impl Code {
    /// Every code.
    pub const ALL: [Code; 9] = [
        Code::ServiceUnavailable,
        Code::AuthFailed,
        Code::InvalidArgument,
        Code::RateLimited,
        Code::NetworkTimeout,
        Code::AcquisitionTimeout,
        Code::Aborted,
        Code::Internal,
        Code::LeaseLost,
    ];

    /// What an error of this code means where nobody says more: whether to try again may help, and whether the
    /// request may have been applied.
    pub const fn defaults(self) -> (bool, Outcome) {
        match self {
            Code::ServiceUnavailable | Code::RateLimited => (true, Outcome::NotApplied),
            Code::NetworkTimeout => (false, Outcome::Unknown),
            _ => (false, Outcome::NotApplied),
        }
    }

    /// The name as TypeScript has it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Code::ServiceUnavailable => "ServiceUnavailable",
            Code::AuthFailed => "AuthFailed",
            Code::InvalidArgument => "InvalidArgument",
            Code::RateLimited => "RateLimited",
            Code::NetworkTimeout => "NetworkTimeout",
            Code::AcquisitionTimeout => "AcquisitionTimeout",
            Code::Aborted => "Aborted",
            Code::Internal => "Internal",
            Code::LeaseLost => "LeaseLost",
        }
    }
}

/// Whether the request that failed may have changed the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It certainly has not.
    NotApplied,
    /// It may have.
    Unknown,
}

/// The one error of this crate: a code, a sentence, and what a caller needs to decide what to do next.
///
/// No message or cause may hold a password, a token or a lock id.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone)]
struct Inner {
    code: Code,
    message: String,
    retryable: bool,
    outcome: Outcome,
    cause: Option<Arc<dyn StdError + Send + Sync>>,
}

impl Error {
    /// An error that a retry does not help and whose request was not applied.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Error(Box::new(Inner {
            code,
            message: message.into(),
            retryable: false,
            outcome: Outcome::NotApplied,
            cause: None,
        }))
    }

    /// An `InvalidArgument`.
    pub fn invalid(message: impl Into<String>) -> Self {
        Error::new(Code::InvalidArgument, message)
    }

    /// An `Internal` error.
    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(Code::Internal, message)
    }

    /// The error of an operation that the caller's signal ended.
    pub fn aborted() -> Self {
        Error::new(Code::Aborted, "the operation was cancelled by user signal")
    }

    /// A store that did not answer in time; what it did with the request is unknown.
    pub fn timed_out(message: impl Into<String>) -> Self {
        Error::new(Code::NetworkTimeout, message).retryable().unknown()
    }

    /// A store that could not be reached; a retry may help.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Error::new(Code::ServiceUnavailable, message).retryable()
    }

    /// Marks the failure as one that a retry may help.
    #[must_use]
    pub fn retryable(mut self) -> Self {
        self.0.retryable = true;
        self
    }

    /// Marks the request as one that may have been applied.
    #[must_use]
    pub fn unknown(mut self) -> Self {
        self.0.outcome = Outcome::Unknown;
        self
    }

    /// Marks the request as one that changed nothing for certain, as one that only reads.
    #[must_use]
    pub fn not_applied(mut self) -> Self {
        self.0.outcome = Outcome::NotApplied;
        self
    }

    /// With what caused it.
    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(Arc::from(cause.into()));
        self
    }

    /// What kind of failure it is.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The sentence, without the code.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// Whether a retry may help.
    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    /// Whether the request may have changed the store.
    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    /// Whether it is unknown if the request was applied.
    pub fn is_unknown(&self) -> bool {
        self.0.outcome == Outcome::Unknown
    }

    /// What caused it.
    pub fn cause(&self) -> Option<&(dyn StdError + Send + Sync + 'static)> {
        self.0.cause.as_deref()
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Error")
            .field("code", &self.0.code)
            .field("message", &self.0.message)
            .field("retryable", &self.0.retryable)
            .field("outcome", &self.0.outcome)
            .field("cause", &self.0.cause.as_ref().map(ToString::to_string))
            .finish()
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.0.code.as_str(), self.0.message)
    }
}

impl StdError for Error {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.0.cause.as_deref().map(|cause| cause as &(dyn StdError + 'static))
    }
}
