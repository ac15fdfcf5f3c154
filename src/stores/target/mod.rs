//! What every store's target and options are made of: names and plain values, and passwords that no debug print shows.

mod secret;
mod settings;

pub use secret::*;
pub use settings::*;
