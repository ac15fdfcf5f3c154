//! A second executor for the engine's futures: the event loop of whoever calls.
//!
//! A call that crosses to the engine's thread and back wakes two sleeping threads each way. Where there is nothing to
//! wait for but a store's reply, the caller's own thread does the work instead: the call is polled there, and so is a
//! connection whose socket that thread's event loop watches. What has to wait for anything else goes on with the
//! engine, where it is polled as before: a future can't tell, and nothing is decided here.
//!
//! - [`Executor`] has the tasks of one event loop; [`Reactor`] is what the loop itself can do.
//! - `stay` marks a wait for something that comes to this loop; a task that waits without it goes to the engine, and
//!   `leave` asks for that.
//! - `sleep_until` and `timeout_at` need no timer of the engine's, which would wake its thread.

mod executor;
mod here;
#[cfg(all(any(test, feature = "testing"), target_os = "linux"))]
mod poller;
mod readiness;
mod task;
mod timers;

pub use self::executor::{Executor, Reactor, Watch};
pub use self::here::is_here;
pub(crate) use self::here::{here, leave, spawn, stay, yield_now};
#[cfg(all(any(test, feature = "testing"), target_os = "linux"))]
pub use self::poller::Poller;
pub use self::readiness::Readiness;
pub(crate) use self::task::TaskRef;
pub use self::task::{First, Started};
pub(crate) use self::timers::{sleep_until, timeout_at};

#[cfg(all(test, target_os = "linux"))]
mod tests;
