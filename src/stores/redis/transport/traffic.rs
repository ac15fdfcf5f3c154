//! What goes over a connection: enough to know whether a request has left, and whether replies still come.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

#[derive(Debug, Default)]
pub(in crate::stores::redis) struct Traffic {
    /// How often bytes have left, or may have.
    writes: AtomicU64,
    /// How often bytes have come.
    reads: AtomicU64,
    /// Requests whose reply somebody waits for.
    under_way: AtomicUsize,
    /// Whether something was sent that is not known to be answered.
    due: AtomicBool,
    watched: AtomicBool,
}

/// One request, from before it is handed over until its reply is there or nobody wants it any more.
#[derive(Debug)]
pub(in crate::stores::redis) struct Asked<'a> {
    traffic: &'a Traffic,
    writes_before: u64,
    answered: bool,
}

impl Traffic {
    pub(in crate::stores::redis) fn ask(&self) -> Asked<'_> {
        self.under_way.fetch_add(1, Ordering::SeqCst);
        Asked { traffic: self, writes_before: self.writes.load(Ordering::SeqCst), answered: false }
    }

    pub(in crate::stores::redis) fn wrote(&self) {
        self.writes.fetch_add(1, Ordering::SeqCst);
        self.due.store(true, Ordering::SeqCst);
    }

    pub(in crate::stores::redis) fn read(&self) {
        self.reads.fetch_add(1, Ordering::SeqCst);
        // The reply to a request that nobody waits for.
        if self.under_way.load(Ordering::SeqCst) == 0 {
            self.due.store(false, Ordering::SeqCst);
        }
    }

    pub(in crate::stores::redis) fn reads(&self) -> u64 {
        self.reads.load(Ordering::SeqCst)
    }

    pub(in crate::stores::redis) fn is_awaited(&self) -> bool {
        self.under_way.load(Ordering::SeqCst) > 0
    }

    /// Whether somebody waits for a reply, or has stopped waiting for one that is due.
    pub(in crate::stores::redis) fn is_busy(&self) -> bool {
        self.is_awaited() || self.due.load(Ordering::SeqCst)
    }

    /// True for the one who is to watch from now on.
    pub(in crate::stores::redis) fn needs_watching(&self) -> bool {
        !self.watched.load(Ordering::SeqCst) && !self.watched.swap(true, Ordering::SeqCst)
    }

    /// False when there is something to watch after all.
    pub(in crate::stores::redis) fn stop_watching(&self) -> bool {
        self.watched.store(false, Ordering::SeqCst);
        !(self.is_busy() && self.needs_watching())
    }
}

impl Asked<'_> {
    /// Whether nothing has left since: then the request has not. Only the end of the connection makes it so
    /// for good.
    pub(in crate::stores::redis) fn never_left(&self) -> bool {
        self.traffic.writes.load(Ordering::SeqCst) == self.writes_before
    }

    pub(in crate::stores::redis) fn answered(mut self) {
        self.answered = true;
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if self.traffic.under_way.fetch_sub(1, Ordering::SeqCst) == 1 && self.answered {
            self.traffic.due.store(false, Ordering::SeqCst);
        }
    }
}
