//! How far behind this machine is: what a busy one costs a test that counts time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

/// What a timer of 1 ms takes on an idle machine at most.
const PUNCTUAL: Duration = Duration::from_millis(3);

/// Adds up by how much timers are late, until it is dropped.
pub struct Lag {
    micros: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Lag {
    pub fn measure() -> Lag {
        let micros = Arc::new(AtomicU64::new(0));
        let total = micros.clone();
        let task = tokio::spawn(async move {
            loop {
                let start = Instant::now();
                tokio::time::sleep(Duration::from_millis(1)).await;
                let late = start.elapsed().saturating_sub(PUNCTUAL);
                total.fetch_add(late.as_micros().try_into().unwrap_or(0), Ordering::SeqCst);
            }
        });
        Lag { micros, task }
    }

    pub fn total(&self) -> Duration {
        Duration::from_micros(self.micros.load(Ordering::SeqCst))
    }
}

impl Drop for Lag {
    fn drop(&mut self) {
        self.task.abort();
    }
}
