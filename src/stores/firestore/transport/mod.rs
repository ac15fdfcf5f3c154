//! From a socket to a reply: how the server is reached, what is asked of it, and when a connection is given up.

pub(super) mod connection;
pub(super) mod link;
pub(super) mod proto;
pub(super) mod requests;
pub(super) mod wire;
