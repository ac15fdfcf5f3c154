//! One watcher, from before its channel is open until it leaves.

use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use super::{Source, Watchers};
use crate::backend::Watch;
use crate::lock::Result;

/// One watcher's share in a channel, for as long as it watches or waits to.
pub(in crate::stores) struct Share<S: Source> {
    watchers: Watchers<S>,
    name: S::Name,
    hints: Arc<Notify>,
    opened: Option<oneshot::Receiver<Result<()>>>,
}

impl<S: Source> Share<S> {
    pub(super) fn new(
        watchers: Watchers<S>,
        name: S::Name,
        hints: Arc<Notify>,
        opened: Option<oneshot::Receiver<Result<()>>>,
    ) -> Share<S> {
        Share { watchers, name, hints, opened }
    }

    pub(in crate::stores) fn name(&self) -> &S::Name {
        &self.name
    }

    /// Whether the channel is not open yet.
    pub(in crate::stores) fn waits(&self) -> bool {
        self.opened.is_some()
    }

    /// Waits until the channel is open; `None` when the registry has ended before. Cancel safe.
    pub(in crate::stores) async fn opened(&mut self) -> Option<Result<()>> {
        let answer = match &mut self.opened {
            Some(opened) => opened.await.ok()?,
            None => Ok(()),
        };
        self.opened = None;
        Some(answer)
    }

    /// `with` is dropped after the share.
    pub(in crate::stores) fn into_watch(self, with: impl Send + Sync + 'static) -> Watch {
        Watch::new(Arc::clone(&self.hints), (self, with))
    }
}

impl<S: Source> Drop for Share<S> {
    fn drop(&mut self) {
        let closed = self.watchers.lock().leave(&self.name, &self.hints);
        drop(closed);
    }
}
