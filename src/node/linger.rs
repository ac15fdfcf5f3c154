//! Stays awake for what is about to come.
//!
//! A call that is alone crosses to the engine's thread, to the server and back, and most of its time goes
//! into waking threads that have just fallen asleep. So while one call is under way, and for a moment after
//! it, the engine's thread looks for the reply or the next call instead of sleeping: as long as that pays.
//! On a slow network, between rare calls, with many calls under way or on one processor it does not.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use crate::runtime;

/// How long to stay awake for a reply or a next call: some times longer than waking up takes.
const LIMIT: Duration = Duration::from_micros(200);

static UNDER_WAY: AtomicU32 = AtomicU32::new(0);
/// Calls begun and ended.
static EVENTS: AtomicU64 = AtomicU64::new(0);
static LINGERS: AtomicBool = AtomicBool::new(false);
static REPLIES: Luck = Luck::new();
static NEXT_CALLS: Luck = Luck::new();

static ANOTHER_PROCESSOR: LazyLock<bool> =
    LazyLock::new(|| std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1));

/// A call under way, until it is dropped.
pub struct UnderWay(());

impl UnderWay {
    pub fn begin() -> UnderWay {
        let alone = UNDER_WAY.fetch_add(1, Relaxed) == 0;
        EVENTS.fetch_add(1, Relaxed);
        if alone && *ANOTHER_PROCESSOR && REPLIES.is_worth_trying() && !LINGERS.swap(true, Relaxed) {
            runtime::handle().spawn(linger());
        }
        UnderWay(())
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        UNDER_WAY.fetch_sub(1, Relaxed);
        EVENTS.fetch_add(1, Relaxed);
    }
}

async fn linger() {
    loop {
        let came = match UNDER_WAY.load(Relaxed) {
            0 => NEXT_CALLS.is_worth_trying() && NEXT_CALLS.tried(something_happens().await),
            1 => REPLIES.tried(something_happens().await),
            _ => false,
        };
        if !came {
            break;
        }
    }
    LINGERS.store(false, Relaxed);
}

/// Whether a call begins or ends soon. Other tasks, timers and sockets have their turn meanwhile.
async fn something_happens() -> bool {
    let seen = EVENTS.load(Relaxed);
    let begin = Instant::now();
    while EVENTS.load(Relaxed) == seen {
        if begin.elapsed() > LIMIT {
            return false;
        }
        tokio::task::yield_now().await;
    }
    true
}

/// Whether lingering has paid lately.
struct Luck {
    score: AtomicU32,
    asked: AtomicU32,
}

impl Luck {
    const BEST: u32 = 8;
    /// What a new chance is worth: the first tries fail where everybody has fallen asleep.
    const CHANCE: u32 = 4;
    /// Out of luck, there is a new chance once in so many calls.
    const RARELY: u32 = 128;

    const fn new() -> Luck {
        Luck { score: AtomicU32::new(Luck::CHANCE), asked: AtomicU32::new(0) }
    }

    fn is_worth_trying(&self) -> bool {
        if self.score.load(Relaxed) > 0 {
            return true;
        }
        let chance = self.asked.fetch_add(1, Relaxed) % Luck::RARELY == Luck::RARELY - 1;
        if chance {
            self.score.store(Luck::CHANCE, Relaxed);
        }
        chance
    }

    fn tried(&self, paid: bool) -> bool {
        let score = self.score.load(Relaxed);
        let next = if paid { (score + 1).min(Luck::BEST) } else { score.saturating_sub(1) };
        self.score.store(next, Relaxed);
        paid
    }
}
