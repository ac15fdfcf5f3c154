//! What stores beyond a network have in common.

pub(super) mod backoff;
pub(super) mod pem;
pub(crate) mod socket;
pub(super) mod stream;
pub(super) mod tapped;
pub(super) mod tls;
mod verify;
