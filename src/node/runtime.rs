//! The engine's thread. It is this process's, not an environment's: napi would end its own runtime with
//! the last environment, and workers come and go.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Handle, Runtime};

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(4)
        .thread_name("syncguard")
        .enable_all()
        .build()
        .expect("the operating system gives us a thread")
});

pub fn handle() -> &'static Handle {
    RUNTIME.handle()
}
