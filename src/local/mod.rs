//! What holds on one machine without a store: the lease file, the instance guard, and what both stand on.

mod claim_file;
pub mod file_lock;
pub mod instance;
pub mod process;
