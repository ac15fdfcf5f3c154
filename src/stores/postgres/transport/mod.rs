//! From a socket to a session that is lent for one statement: how it is found, opened, kept and given up.

pub(super) mod attentive;
pub(super) mod connection;
pub(super) mod detached;
pub(super) mod dial;
pub(super) mod pool;
pub(super) mod pooler;
pub(super) mod session;
pub(super) mod stream;
