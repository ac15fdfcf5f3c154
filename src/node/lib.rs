//! The boundary between syncguard and Node.js: options in, outcomes out, the completion queue,
//! cancellation, JavaScript backends as a Rust `Backend`. It decides nothing.

// Without the exports that napi's macros leave out of test builds, everything looks unused.
#![cfg_attr(test, allow(dead_code, unused_imports))]

mod attachment;
mod client;
#[allow(unsafe_code, reason = "promises, thread-safe functions and hooks of Node-API")]
mod completion;
#[allow(unsafe_code, reason = "handles of libuv, and scopes of Node-API")]
mod event_loop;
mod foreign;
mod foreign_lock;
mod local;
mod nouns;
mod observer;
mod open;
#[allow(unsafe_code, reason = "the Node-API calls of the hot path, checked")]
mod raw;
mod returned;
mod runtime;
mod settings;
#[allow(unsafe_code, reason = "functions of libuv")]
mod uv;
