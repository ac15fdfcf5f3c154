use std::error::Error as StdError;
use std::fmt;
use std::sync::Arc;

pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What kind of failure it is. The names are those of the TypeScript `LockError.code`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    ServiceUnavailable,
    AuthFailed,
    InvalidArgument,
    RateLimited,
    NetworkTimeout,
    AcquisitionTimeout,
    Aborted,
    Internal,
    LeaseLost,
}

impl Code {
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
    NotApplied,
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

    pub fn invalid(message: impl Into<String>) -> Self {
        Error::new(Code::InvalidArgument, message)
    }

    pub fn internal(message: impl Into<String>) -> Self {
        Error::new(Code::Internal, message)
    }

    pub fn aborted() -> Self {
        Error::new(Code::Aborted, "the operation was cancelled by user signal")
    }

    /// A store that did not answer in time; what it did with the request is unknown.
    pub fn timed_out(message: impl Into<String>) -> Self {
        Error::new(Code::NetworkTimeout, message).retryable().unknown()
    }

    pub fn unavailable(message: impl Into<String>) -> Self {
        Error::new(Code::ServiceUnavailable, message).retryable()
    }

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

    #[must_use]
    pub fn because(mut self, cause: impl Into<Box<dyn StdError + Send + Sync>>) -> Self {
        self.0.cause = Some(Arc::from(cause.into()));
        self
    }

    pub fn code(&self) -> Code {
        self.0.code
    }

    pub fn message(&self) -> &str {
        &self.0.message
    }

    pub fn is_retryable(&self) -> bool {
        self.0.retryable
    }

    pub fn outcome(&self) -> Outcome {
        self.0.outcome
    }

    pub fn is_unknown(&self) -> bool {
        self.0.outcome == Outcome::Unknown
    }

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
