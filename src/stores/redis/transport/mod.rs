//! From a socket to the server, or the node of a cluster, that a request goes to: how it is found, reached, kept and given up.

pub(super) mod cluster;
pub(super) mod connection;
pub(super) mod corked;
pub(super) mod dial;
pub(super) mod lane;
pub(super) mod link;
pub(super) mod sentinel;
pub(super) mod server;
pub(super) mod slots;
pub(super) mod stream;
pub(super) mod topology;
pub(super) mod traffic;
pub(super) mod watchdog;
