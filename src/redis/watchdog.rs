//! Finding out that a connection hangs.

use std::time::Duration;

use redis::Cmd;
use tokio::runtime::Handle;

use super::connection::Connection;

/// Watches over a request that somebody waits for. Who stops waiting may have had enough of a connection
/// that hangs, so then it is asked for a sign of life, and given up if there is none.
pub(super) struct Watchdog<'a> {
    guarded: Option<(&'a Connection, Duration, Handle)>,
}

impl Watchdog<'_> {
    /// `patience` is how long a sign of life may take.
    pub(super) fn over(connection: &Connection, patience: Duration) -> Watchdog<'_> {
        Watchdog { guarded: Some((connection, patience, Handle::current())) }
    }

    pub(super) fn answered(mut self) {
        self.guarded = None;
    }
}

impl Drop for Watchdog<'_> {
    fn drop(&mut self) {
        let Some((connection, patience, runtime)) = self.guarded.take() else { return };
        if !connection.suspect() {
            return;
        }
        let connection = connection.clone();
        runtime.spawn(async move {
            let mut ping = Cmd::with_capacity(1, 4);
            match tokio::time::timeout(patience, connection.request(ping.arg("PING"))).await {
                Ok(_) => connection.acquit(),
                Err(_) => connection.kill(),
            }
        });
    }
}
