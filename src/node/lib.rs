//! The boundary between syncguard and Node.js: options in, outcomes out, the completion queue,
//! cancellation, JavaScript backends as a Rust `Backend`. It decides nothing.

// Without the exports that napi's macros leave out of test builds, everything looks unused.
#![cfg_attr(test, allow(dead_code, unused_imports))]

mod attachment;
mod client;
mod completion;
mod foreign;
mod foreign_lock;
mod linger;
mod local;
mod nouns;
mod open;
mod outcome;
mod raw;
mod runtime;
mod settings;
