//! What stores beyond a network have in common.

pub(super) mod pem;
pub(super) mod tls;
mod verify;
