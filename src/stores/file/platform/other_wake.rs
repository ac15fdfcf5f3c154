//! The system's own watcher of files, by `notify`, for the bells. A holder's death is not told here: a
//! waiter finds out when it tries again.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::Mutex as AsyncMutex;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::local::process::ProcessId;

/// Files that somebody may write to.
pub(crate) struct Bells {
    watched: Mutex<Watched>,
    rung: AsyncMutex<UnboundedReceiver<()>>,
}

struct Watched {
    watcher: RecommendedWatcher,
    paths: HashMap<i32, PathBuf>,
    last: i32,
}

impl Bells {
    pub(crate) fn new() -> io::Result<Bells> {
        let (ring, rung) = unbounded_channel();
        let watcher = notify::recommended_watcher(move |_event| {
            // The receiver has gone when nobody listens any more.
            let _ = ring.send(());
        })
        .map_err(io::Error::other)?;
        let watched = Watched { watcher, paths: HashMap::new(), last: 0 };
        Ok(Bells { watched: Mutex::new(watched), rung: AsyncMutex::new(rung) })
    }

    pub(crate) fn add(&self, path: &Path, _bell: &File) -> io::Result<i32> {
        let mut watched = self.watched();
        watched.watcher.watch(path, RecursiveMode::NonRecursive).map_err(io::Error::other)?;
        watched.last += 1;
        let number = watched.last;
        watched.paths.insert(number, path.to_owned());
        Ok(number)
    }

    pub(crate) fn remove(&self, number: i32) {
        let mut watched = self.watched();
        if let Some(path) = watched.paths.remove(&number)
            && !watched.paths.values().any(|other| *other == path)
        {
            let _ = watched.watcher.unwatch(&path);
        }
    }

    /// Waits until something was rung. Which it was is not told: the system may name it otherwise than
    /// we do, so whoever waits looks.
    pub(crate) async fn next(&self, mut rung: impl FnMut(Option<i32>) -> bool) -> io::Result<()> {
        let event = self.rung.lock().await.recv().await;
        if event.is_some() && rung(None) { Ok(()) } else { Err(io::ErrorKind::BrokenPipe.into()) }
    }

    fn watched(&self) -> MutexGuard<'_, Watched> {
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Bells {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bells")
    }
}

/// The end of a process.
#[derive(Debug)]
pub(crate) struct Death;

impl Death {
    /// # Errors
    /// Always: it can't be watched here.
    pub(crate) fn of(_process: &ProcessId) -> io::Result<Death> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(crate) async fn comes(&self) {
        std::future::pending().await
    }
}
