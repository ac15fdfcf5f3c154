//! One channel, and who watches it.

use std::sync::Arc;

use tokio::sync::{Notify, oneshot};

use super::Number;
use crate::lock::{Error, Result};

/// Whether a channel's hints come. Where a store opens channels by and by, watchers wait for it.
pub(in crate::stores) enum Standing {
    Opening,
    Open,
    /// Who comes now learns why at once; the store goes on trying.
    Failed(Error),
}

pub(super) struct Watched<C> {
    pub(super) number: Number,
    pub(super) channel: C,
    pub(super) standing: Standing,
    pub(super) watchers: Vec<Watcher>,
}

pub(super) struct Watcher {
    hints: Arc<Notify>,
    /// To one who waits until the channel is open.
    waiting: Option<oneshot::Sender<Result<()>>>,
}

impl<C> Watched<C> {
    pub(super) fn new(number: Number, channel: C, standing: Standing) -> Watched<C> {
        Watched { number, channel, standing, watchers: Vec::new() }
    }

    /// Answers what the watcher has to wait for, if it has to.
    pub(super) fn add(&mut self, hints: Arc<Notify>) -> Option<oneshot::Receiver<Result<()>>> {
        let (waiting, opened) = match &self.standing {
            Standing::Open => (None, None),
            Standing::Opening => Some(oneshot::channel()).unzip(),
            Standing::Failed(error) => {
                let (told, opened) = oneshot::channel();
                // The receiver is right here.
                let _ = told.send(Err(error.clone()));
                (None, Some(opened))
            }
        };
        self.watchers.push(Watcher { hints, waiting });
        opened
    }

    /// Whether it was here.
    pub(super) fn remove(&mut self, hints: &Arc<Notify>) -> bool {
        let here = self.watchers.iter().position(|watcher| Arc::ptr_eq(&watcher.hints, hints));
        here.map(|here| self.watchers.remove(here)).is_some()
    }

    pub(super) fn hint(&self) {
        self.watchers.iter().for_each(|watcher| watcher.hints.notify_one());
    }

    pub(super) fn answer(&mut self, answer: &Result<()>) {
        for waiting in self.watchers.iter_mut().filter_map(|watcher| watcher.waiting.take()) {
            // Who waited may just be leaving.
            let _ = waiting.send(answer.clone());
        }
    }
}
