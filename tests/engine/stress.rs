//! Many clients on many threads with everything going wrong at once, and a checker of the histories.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use syncguard::backend::{BackendExt, Mutation};
use syncguard::engine::{AcquireOptions, KeepPolicy, Policy, Wait};
use syncguard::lock::{Code, Fence, Lease};
use syncguard::stores::memory::{Fault, MemoryClock, MemoryStore, Operation};
use tokio::sync::Notify;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use crate::world::{Process, elsewhere, key, ms, no_queue_left, ttl, unavailable};

const OPERATION_TIMEOUT: Duration = Duration::from_millis(150);
const TTL_MS: u64 = 400;
const KEYS: [&str; 4] = ["a", "b", "c", "d"];
/// So many grants say something, however long a busy machine takes for them.
const ENOUGH: usize = 300;
const LONGEST: Duration = Duration::from_secs(60);
/// How much later than promised a thread may run on a machine that is busy with other tests.
const SLACK: Duration = Duration::from_secs(3);

/// One grant, on this machine's clock.
#[derive(Debug)]
struct Grant {
    key: &'static str,
    fence: Fence,
    asked: Instant,
    returned: Instant,
    /// The release was called, or the local deadline passed.
    end: Instant,
}

#[derive(Default)]
struct History {
    grants: Mutex<Vec<Grant>>,
    settled: AtomicUsize,
    faults: AtomicUsize,
}

fn fault(pending: &Arc<Mutex<Vec<Arc<Notify>>>>) -> Fault {
    let go = || {
        let go = Arc::new(Notify::new());
        pending.lock().unwrap().push(go.clone());
        go
    };
    match fastrand::u32(0..8) {
        0 => Fault::Fail(unavailable()),
        1 | 2 => Fault::LoseReply,
        3 => Fault::Hang,
        4 => Fault::ApplyThenHang,
        5 => Fault::HoldRequest(go()),
        6 => Fault::HoldReply(go()),
        _ => Fault::ApplyLate(go()),
    }
}

/// Breaks calls at random, and lets what is held back go before the operation timeout has passed.
async fn trouble(store: MemoryStore, processes: Vec<Process>, history: Arc<History>, over: Arc<AtomicBool>) {
    let operations = [Operation::Acquire, Operation::HandOver, Operation::Release, Operation::ExtendMany];
    while !over.load(Ordering::SeqCst) {
        let pending = Arc::default();
        let process = &processes[fastrand::usize(0..processes.len())];
        let operation = operations[fastrand::usize(0..operations.len())];
        process.backend.script(operation, [fault(&pending)]);
        history.faults.fetch_add(1, Ordering::SeqCst);
        store.lose_hints(fastrand::u32(0..4) == 0);
        let released = pending.clone();
        tokio::spawn(async move {
            for _ in 0..20 {
                sleep(ms(fastrand::u64(1..10))).await;
                for go in released.lock().unwrap().iter() {
                    go.notify_one();
                }
            }
        });
        sleep(ms(fastrand::u64(5..100))).await;
    }
    store.lose_hints(false);
}

fn random_policy() -> Policy {
    Policy {
        timeout: ms(fastrand::u64(1..1500)),
        max_retries: [0, 1, 10, 1000][fastrand::usize(0..4)],
        retry_delay: ms(fastrand::u64(1..100)),
        wait: if fastrand::u32(0..6) == 0 { Wait::Poll } else { Wait::Notify },
        ..Policy::default()
    }
}

async fn one_turn(process: &Process, history: &History) {
    let policy = random_policy();
    let keep = (fastrand::u32(0..4) == 0).then(KeepPolicy::default);
    let name = KEYS[fastrand::usize(0..KEYS.len())];
    let options = AcquireOptions { key: key(name), ttl: ttl(TTL_MS), keep, observer: None };
    let cancel = CancellationToken::new();
    if fastrand::u32(0..3) == 0 {
        let (cancel, after) = (cancel.clone(), ms(fastrand::u64(0..200)));
        tokio::spawn(async move {
            sleep(after).await;
            cancel.cancel();
        });
    }
    let asked = Instant::now();
    let result = process.client.lock(options, &policy, Some(&cancel)).await;
    let returned = Instant::now();
    assert!(returned - asked <= policy.timeout + SLACK, "it settled after {:?}", returned - asked);
    history.settled.fetch_add(1, Ordering::SeqCst);
    let lease = match result {
        Ok(lease) => lease,
        Err(error) => {
            let expected =
                [Code::AcquisitionTimeout, Code::Aborted, Code::ServiceUnavailable, Code::NetworkTimeout];
            assert!(expected.contains(&error.code()), "{error:?}");
            return;
        }
    };
    let read = Instant::now();
    let deadline = read + process.client.remaining(&lease.lock_id);
    // Sometimes past the deadline.
    sleep(if fastrand::u32(0..30) == 0 { ms(TTL_MS + 200) } else { ms(fastrand::u64(0..4)) }).await;
    let released = Instant::now();
    // The store's clock counts whole milliseconds, and this one lets a record vanish up to one too early.
    let deadline = deadline.checked_sub(ms(1)).unwrap_or(deadline);
    let end = if keep_alive(process, &lease) { released } else { released.min(deadline) };
    history.grants.lock().unwrap().push(Grant { key: name, fence: lease.fence, asked, returned, end });
    release(process, &lease).await;
}

/// A kept lease lives on past its first deadline, as long as the client says so.
fn keep_alive(process: &Process, lease: &Lease) -> bool {
    process.client.remaining(&lease.lock_id) > ms(1)
}

async fn release(process: &Process, lease: &Lease) {
    for _ in 0..5 {
        match process.release(lease).await {
            Ok(_) => break,
            Err(error) => assert!(error.is_retryable(), "{error:?}"),
        }
    }
    // A second one frees nobody else's lease, and says so.
    if let Ok(again) = process.release(lease).await {
        assert!(matches!(again, Mutation::NotFound | Mutation::Done(())), "{again:?}");
    }
}

fn check(mut grants: Vec<Grant>) {
    let fences: HashSet<Fence> = grants.iter().map(|grant| grant.fence).collect();
    assert_eq!(fences.len(), grants.len(), "a fence was granted twice");
    grants.sort_by_key(|grant| grant.returned);
    let mut latest: Option<&Grant> = None;
    for grant in &grants {
        if let Some(before) = latest {
            assert!(before.end <= grant.returned, "two holders at once: {before:?} and {grant:?}");
        }
        if latest.is_none_or(|before| before.end < grant.end) {
            latest = Some(grant);
        }
    }
    // A grant that returned before another was asked for has the lower fence.
    let mut by_asked: Vec<&Grant> = grants.iter().collect();
    by_asked.sort_by_key(|grant| grant.asked);
    let mut returned = grants.iter().peekable();
    let mut highest = None;
    for grant in by_asked {
        while let Some(earlier) = returned.next_if(|earlier| earlier.returned <= grant.asked) {
            highest = highest.max(Some(earlier.fence));
        }
        assert!(highest < Some(grant.fence) || highest.is_none(), "a fence that does not rise: {grant:?}");
    }
}

async fn run(store: MemoryStore, seconds: u64, hands_over: bool) {
    let processes: Vec<Process> = (0..6)
        .map(|number| {
            // Three processes with two clients each.
            let backend = store.backend_claiming(|can| {
                can.hands_over = hands_over;
                can.store = elsewhere(&can.store, &format!("{}", number / 2));
            });
            Process::with_timeout(backend, OPERATION_TIMEOUT)
        })
        .collect();
    let (history, over) = (Arc::new(History::default()), Arc::new(AtomicBool::new(false)));
    let breaking = tokio::spawn(trouble(store.clone(), processes.clone(), history.clone(), over.clone()));
    let begin = Instant::now();
    let goes_on = move |history: &History| {
        let few = history.grants.lock().unwrap().len() <= ENOUGH;
        begin.elapsed() < if few { LONGEST } else { Duration::from_secs(seconds) }
    };
    let tasks: Vec<_> = (0..48)
        .map(|number| {
            let (process, history) = (processes[number % processes.len()].clone(), history.clone());
            tokio::spawn(async move {
                while goes_on(&history) {
                    one_turn(&process, &history).await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("every rule holds");
    }
    over.store(true, Ordering::SeqCst);
    breaking.await.expect("no panic");
    let mut grants = std::mem::take(&mut *history.grants.lock().unwrap());
    let (settled, faults) = (history.settled.load(Ordering::SeqCst), history.faults.load(Ordering::SeqCst));
    println!("{} grants of {settled} with {faults} faults", grants.len());
    assert!(grants.len() > ENOUGH, "only {} grants of {settled} with {faults} faults", grants.len());
    for name in KEYS {
        check(grants.extract_if(.., |grant| grant.key == name).collect());
    }
    // Whatever was left behind is gone by its TTL and the tolerance; the next one gets in.
    sleep(ms(TTL_MS + 1500) + OPERATION_TIMEOUT).await;
    for name in KEYS {
        assert!(!store.backend().is_locked(&key(name)).await.expect("answers"), "kept without a holder");
        assert_eq!(store.subscribers(&key(name)), 0);
    }
    processes.iter().for_each(no_queue_left);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_rule_holds_with_hand_overs() {
    run(MemoryStore::vanishing(MemoryClock::real()), 4, true).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_rule_holds_without() {
    run(MemoryStore::new(MemoryClock::real()), 3, false).await;
}

#[test]
fn the_checker_can_fail() {
    let start = Instant::now();
    let at = |millis| start + ms(millis);
    let grant = |fence, asked, returned, end| Grant {
        key: "a",
        fence: Fence::new(fence).expect("a valid fence"),
        asked: at(asked),
        returned: at(returned),
        end: at(end),
    };
    let fails = |grants| std::panic::catch_unwind(|| check(grants)).is_err();
    assert!(!fails(vec![grant(1, 0, 1, 2), grant(2, 0, 2, 4), grant(3, 3, 5, 6)]));
    assert!(fails(vec![grant(1, 0, 1, 2), grant(1, 0, 3, 4)]), "a fence twice");
    assert!(fails(vec![grant(1, 0, 1, 5), grant(2, 0, 3, 4)]), "two holders");
    assert!(fails(vec![grant(2, 0, 1, 2), grant(1, 3, 4, 5)]), "fences out of order");
}
