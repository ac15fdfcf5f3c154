//! Finding out that a connection hangs, whoever waits for its replies and however long.
//!
//! A request for a sign of life would have to wait behind the others, and a server that is busy answers
//! nobody: so whoever holds the connection tries another one, which is answered by a server that is well.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::connection::Connection;
use super::traffic::Traffic;
use crate::event_loop::sleep_until;

/// How often a connection is looked at while replies are due.
const LOOK: Duration = Duration::from_millis(100);
/// A connection that nobody has used for so long ends, where it is an event loop's own.
const UNUSED: Duration = Duration::from_secs(30);
/// How many looks in a row may find that nothing came.
const SILENT_LOOKS: u32 = 3;

/// Watches until nothing is due any more. `first_reply_in` is how long connecting took, which is several
/// round trips.
pub(in crate::stores::redis) fn watch(connection: &Connection, first_reply_in: Duration) {
    let patience = SILENT_LOOKS.max(looks(first_reply_in));
    let (traffic, connection) = (connection.traffic(), connection.downgrade());
    tokio::spawn(async move {
        let mut look = interval(LOOK);
        // Where this process was stopped itself, no time has passed for the server.
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.tick().await;
        let (mut reads, mut silent) = (traffic.reads(), 0);
        loop {
            look.tick().await;
            let busy = traffic.is_busy();
            silent = if busy && traffic.reads() == reads { silent + 1 } else { 0 };
            reads = traffic.reads();
            if !busy && traffic.stop_watching() {
                return;
            }
            let Some(connection) = connection.upgrade().filter(|connection| !connection.is_over()) else {
                return;
            };
            if silent >= patience {
                silent = 0;
                connection.is_silent().await;
                look.reset();
            }
        }
    });
}

/// Until nobody has used an event loop's own connection for a while.
pub(in crate::stores::redis) async fn unused(traffic: &Traffic) {
    loop {
        let reads = traffic.reads();
        sleep_until(Instant::now() + UNUSED).await;
        if traffic.reads() == reads && !traffic.is_awaited() {
            return;
        }
    }
}

fn looks(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / LOOK.as_millis()).unwrap_or(u32::MAX)
}
