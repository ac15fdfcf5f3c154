//! What is held: its deadline, its renewal, its end.

pub(super) mod by_lock_id;
mod deadline;
pub(super) mod extend;
mod held;
pub(super) mod keeper;
pub(super) mod leases;
pub(super) mod release;
mod renewal;
mod table;
