//! The engine's thread. It is this process's, not an environment's: napi would end its own runtime with
//! the last environment, and workers come and go.

use std::sync::LazyLock;

use tokio::runtime::{Builder, Handle, Runtime};

/// Its other threads resolve names and load certificates: never the last one, so that names which hang delay no
/// others. They end when there is nothing to do. Files have threads of their own.
const MOST_BLOCKING: usize = 512;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(MOST_BLOCKING)
        .thread_name("syncguard")
        .enable_all()
        .build()
        .expect("the operating system gives us a thread")
});

pub fn handle() -> &'static Handle {
    RUNTIME.handle()
}
