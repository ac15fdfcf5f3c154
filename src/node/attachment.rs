//! One copy of the JavaScript part in one environment. There may be several in a thread: bundles, jest's module
//! registries, contexts of `vm`. Each has its own queue and its own functions to be called, and ends when it is collected.

use std::sync::Arc;

use napi::bindgen_prelude::{Env, ObjectFinalize, Unknown};
use napi_derive::napi;

use crate::completion::Completions;
use crate::foreign::reply;
use crate::raw::{Value, make_number, make_object};

/// What everything of a copy hangs on.
#[napi(custom_finalize)]
pub struct Attachment {
    pub(crate) queue: Arc<Completions>,
}

impl ObjectFinalize for Attachment {
    fn finalize(self, env: Env) -> napi::Result<()> {
        self.queue.detach(env.raw());
        Ok(())
    }
}

/// Registers the function that gets a copy's events, before anything asynchronous. It is held weakly, since it
/// leads to all of the copy: who attaches keeps it for as long as the attachment. `hasLoop`: this is a program that is
/// known to have libuv's event loop.
#[napi(ts_args_type = "dispatch: Dispatch, worker: boolean, hasLoop: boolean")]
pub fn attach(dispatch: Unknown<'_>, worker: bool, has_loop: bool) -> Attachment {
    Attachment { queue: Completions::attach(Value::from(&dispatch), worker, has_loop) }
}

#[napi]
impl Attachment {
    /// Answers an event that carries a call number.
    #[napi(ts_args_type = "call: number, result: Settlement")]
    pub fn settle(&self, call: u32, result: Unknown<'_>) {
        self.queue.calls.settle(call, reply(Value::from(&result)));
    }

    /// How many calls have ended on the thread of their caller, and how many with the engine.
    #[napi(ts_return_type = "{ here: number, elsewhere: number }")]
    #[allow(clippy::cast_precision_loss, reason = "counts are below 2^53")]
    pub fn ended(&self, env: Env) -> Value {
        let (here, elsewhere) = self.queue.ended();
        let number = |count: u64| make_number(env.raw(), count as f64);
        make_object(env.raw(), &[(c"here", number(here)), (c"elsewhere", number(elsewhere))])
    }

    /// Whether somebody waits to hear of an event: then the copy must not be collected.
    #[napi]
    pub fn hold(&self, env: Env, hold: bool) {
        self.queue.hold_dispatch(env.raw(), hold);
    }
}
