//! Who waits here for a key, in what order, and whose turn it is.

pub(super) mod hand_over;
mod head_start;
pub(super) mod queue;
#[cfg(test)]
mod queue_tests;
pub(super) mod store_key;
pub(super) mod subscription;
pub(super) mod ticket;
pub(super) mod turn;
pub(super) mod waiter;
