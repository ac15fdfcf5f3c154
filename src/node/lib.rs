//! The boundary between syncguard and Node.js: options in, outcomes out, the completion queue,
//! cancellation, JavaScript backends as a Rust `Backend`. It decides nothing.

mod client;
mod completion;
mod foreign;
mod nouns;
mod open;
mod outcome;
mod raw;
mod runtime;
mod settings;
