//! The engine over the memory backend: every fault at the call where the test wants it, on a clock that
//! stands still until nothing is left to do.

mod abort;
mod close;
mod deadline;
mod errors;
mod extend;
mod fairness;
mod hand_over;
mod hints;
mod keep;
mod model;
mod observer;
mod once;
mod policy;
mod queue;
mod release;
mod retries;
mod stress;
mod world;
