//! What a user should know of, though no call fails by it.

use std::fmt::Debug;

/// What a backend's user should know, though nothing has failed. Names no key, lock id or secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// As Node.js prints it in front of the text.
    pub kind: &'static str,
    /// By which a program tells one from another.
    pub code: &'static str,
    /// For people.
    pub text: String,
}

/// Hears warnings. Called from the engine's thread; must not block.
pub trait Warnings: Debug + Send + Sync + 'static {
    /// Hears one.
    fn warn(&self, warning: Warning);
}

/// Drops them, for users of this crate from Rust.
#[derive(Debug)]
pub struct NoWarnings;

impl Warnings for NoWarnings {
    fn warn(&self, _: Warning) {}
}
