//! Whether a socket that an event loop watches can be read or written.

use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use futures_util::task::AtomicWaker;

/// What is known of one socket, and who waits for it.
#[derive(Debug, Default)]
pub struct Readiness {
    read: Side,
    write: Side,
}

#[derive(Debug, Default)]
pub(crate) struct Side {
    ready: AtomicBool,
    waits: AtomicWaker,
}

impl Readiness {
    /// There may be something to read, or room to write.
    pub(crate) fn set(&self, read: bool, write: bool) {
        if read {
            self.read.set();
        }
        if write {
            self.write.set();
        }
    }

    pub(crate) fn read(&self) -> &Side {
        &self.read
    }

    pub(crate) fn write(&self) -> &Side {
        &self.write
    }
}

impl Side {
    fn set(&self) {
        self.ready.store(true, Ordering::Release);
        self.waits.wake();
    }

    /// Nothing more for now: the loop tells when there is.
    pub(crate) fn is_exhausted(&self) {
        self.ready.store(false, Ordering::Release);
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        if self.ready.load(Ordering::Acquire) {
            return Poll::Ready(());
        }
        self.waits.register(cx.waker());
        // It may have come before that.
        if self.ready.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
    }
}
