//! Errors told apart from contention, and unknown outcomes.

use std::sync::Arc;

use syncguard::backend::LookupBy;
use syncguard::engine::Policy;
use syncguard::lock::{Code, Error, LockId};
use syncguard::stores::memory::{Fault, Operation};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::world::*;

fn down(times: usize) -> Vec<Fault> {
    (0..times).map(|_| Fault::Fail(unavailable())).collect()
}

#[tokio::test(start_paused = true)]
async fn retryable_ones_are_retried_within_the_limits() {
    for policy in [steady(), polling()] {
        let process = Process::on(&store());
        process.backend.script(Operation::Acquire, down(3));
        let start = Instant::now();
        process.lock(&policy).await.expect("granted at last");
        assert_eq!(process.calls(Operation::Acquire), 4);
        assert!(about(start, Instant::now(), ms(300)));

        process.backend.reset_calls();
        process.backend.script(Operation::Acquire, down(100));
        let policy = Policy { max_retries: 2, ..policy };
        assert_eq!(code(process.lock(&policy).await), Code::ServiceUnavailable);
        assert_eq!(process.calls(Operation::Acquire), 3);
        assert_eq!(process.calls(Operation::Release), 0, "nothing was applied");
    }
}

#[tokio::test(start_paused = true)]
async fn others_end_the_loop() {
    for policy in [steady(), polling()] {
        for code_given in [Code::AuthFailed, Code::Internal, Code::InvalidArgument] {
            let process = Process::on(&store());
            process.backend.script(Operation::Acquire, [Fault::Fail(Error::new(code_given, "no"))]);
            assert_eq!(code(process.lock(&policy).await), code_given);
            assert_eq!(process.requests(), 1);
            no_queue_left(&process);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn the_last_finished_attempt_decides() {
    let store = store();
    let (holder, waiter) = (Process::on(&store), Process::elsewhere(&store, "b"));
    holder.hold().await;
    let policy = Policy { max_retries: 1, ..polling() };
    waiter.backend.script(Operation::Acquire, [Fault::Pass, Fault::Fail(unavailable())]);
    assert_eq!(code(waiter.lock(&policy).await), Code::ServiceUnavailable);
    waiter.backend.script(Operation::Acquire, [Fault::Fail(unavailable()), Fault::Pass]);
    assert_eq!(code(waiter.lock(&policy).await), Code::AcquisitionTimeout);
    // One that is not finished does not count.
    waiter.backend.script(Operation::Acquire, [Fault::Pass, Fault::Hang]);
    let error = waiter.lock(&Policy { timeout: ms(300), ..policy.clone() }).await.expect_err("held");
    assert!(error.code() == Code::AcquisitionTimeout && error.is_unknown());
    waiter.backend.script(Operation::Acquire, [Fault::Fail(unavailable()), Fault::Hang]);
    assert_eq!(code(waiter.lock(&Policy { timeout: ms(300), ..policy }).await), Code::ServiceUnavailable);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_never_answers_is_a_network_timeout() {
    for policy in [steady(), polling()] {
        let process = Process::on(&store());
        process.backend.script(Operation::Acquire, (0..50).map(|_| Fault::Hang));
        let start = Instant::now();
        let policy = Policy { timeout: ms(12_000), ..policy };
        assert_eq!(code(process.lock(&policy).await), Code::NetworkTimeout);
        assert!(about(start, Instant::now(), ms(12_000)));
        // 5 s, 100 ms, 5 s, 100 ms, and what is left: a hang is no round trip to make room for.
        assert_eq!(process.calls(Operation::Acquire), 3);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_repeated_under_the_same_lock_id_and_reclaimed() {
    for policy in [steady(), polling()] {
        for fault in [Fault::LoseReply, Fault::ApplyThenHang] {
            let store = store();
            let process = Process::on(&store);
            process.backend.script(Operation::Acquire, [fault]);
            let start = Instant::now();
            let waiting = process.waiting(&Policy { timeout: ms(20_000), ..policy.clone() });
            settle().await;
            let taken = held(&store).await.expect("it was applied");
            let lease = waiting.await.unwrap().expect("reclaimed");
            assert_eq!(lease, taken, "lock id and fence are those of the first request");
            assert_eq!(process.calls(Operation::Acquire), 2);
            // The local deadline counts from before the request that took it.
            let end = process.client.remaining(&lease.lock_id) + start.elapsed();
            assert_eq!(end, ms(LONG));
            sleep(OPERATION_TIMEOUT * 3).await;
            assert_eq!(process.calls(Operation::Release), 0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_between_does_not_make_an_unknown_outcome_known() {
    let store = store();
    let process = Process::on(&store);
    let rival = Process::elsewhere(&store, "b");
    let late = Arc::new(Notify::new());
    process.backend.script(Operation::Acquire, [Fault::ApplyLate(late.clone())]);
    let start = Instant::now();
    let waiting = process.waiting(&Policy { max_retries: 3, timeout: ms(20_000), ..polling() });
    settle().await;
    let other = rival.hold().await;
    // It hangs for 5 s, is refused at 5.1, the rival leaves and the first request arrives.
    sleep(ms(5150)).await;
    assert_eq!(process.calls(Operation::Acquire), 2);
    rival.free(&other).await;
    late.notify_one();
    settle().await;
    let lease = waiting.await.unwrap().expect("reclaimed");
    assert_eq!(process.client.remaining(&lease.lock_id) + start.elapsed(), ms(LONG));
}

#[tokio::test(start_paused = true)]
async fn after_a_certain_refusal_the_deadline_counts_from_the_request_that_was_granted() {
    let store = store();
    let process = Process::on(&store);
    let rival = Process::elsewhere(&store, "b");
    let other = rival.hold().await;
    let waiting = process.waiting(&polling());
    sleep(ms(350)).await;
    rival.free(&other).await;
    let lease = waiting.await.unwrap().expect("granted");
    assert_eq!(process.client.remaining(&lease.lock_id), ms(LONG));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_at_the_end_is_told_and_undone() {
    let store = store();
    let process = Process::on(&store);
    process.backend.script(Operation::Acquire, [Fault::Pass, Fault::LoseReply, Fault::Fail(unavailable())]);
    let rival = Process::elsewhere(&store, "b");
    let other = rival.hold().await;
    let waiting = process.waiting(&Policy { max_retries: 2, ..polling() });
    sleep(ms(50)).await;
    rival.free(&other).await;
    let error = waiting.await.unwrap().expect_err("the last attempt failed");
    assert!(error.code() == Code::ServiceUnavailable && error.is_unknown());
    settle().await;
    assert_eq!(held(&store).await, None);
}

/// A JavaScript backend can't repeat: its unknown outcome ends the loop, and is undone.
#[tokio::test(start_paused = true)]
async fn where_it_cannot_be_repeated_an_unknown_outcome_ends_the_loop() {
    for fault in [Fault::LoseReply, Fault::ApplyThenHang] {
        let store = store();
        let process = Process::new(store.backend_claiming(|can| can.repeatable = false));
        process.backend.script(Operation::Acquire, [fault]);
        let error = process.lock(&Policy { timeout: ms(20_000), ..steady() }).await.expect_err("unknown");
        assert!(error.is_unknown() && error.is_retryable());
        assert_eq!(process.calls(Operation::Acquire), 1);
        sleep(OPERATION_TIMEOUT * 2).await;
        assert_eq!(held(&store).await, None);
    }
}

#[tokio::test(start_paused = true)]
async fn those_behind_a_head_whose_store_is_down_hear_of_it() {
    let process = Process::on(&store());
    process.backend.script(Operation::Acquire, down(100));
    let head = process.waiting(&Policy { timeout: ms(3000), ..steady() });
    settle().await;
    let behind = process.waiting(&Policy { timeout: ms(500), ..steady() });
    assert_eq!(code(behind.await.unwrap()), Code::ServiceUnavailable);
    assert_eq!(code(head.await.unwrap()), Code::ServiceUnavailable);
}

#[tokio::test(start_paused = true)]
async fn those_behind_a_head_that_is_not_answered_hear_of_it() {
    let process = Process::on(&store());
    process.backend.script(Operation::Acquire, (0..100).map(|_| Fault::Hang));
    let policy = Policy { timeout: ms(500), ..steady() };
    let waiting: Vec<_> = (0..10).map(|_| process.waiting(&policy)).collect();
    for waiting in waiting {
        assert_eq!(code(waiting.await.unwrap()), Code::NetworkTimeout);
    }
    assert_eq!(process.calls(Operation::Acquire), 1, "the others have no time left to ask");
}

#[tokio::test(start_paused = true)]
async fn those_behind_a_head_that_was_refused_blame_contention() {
    let store = store();
    let process = Process::on(&store);
    process.hold().await;
    let _head = process.waiting(&patient());
    settle().await;
    let behind = process.lock(&Policy { timeout: ms(500), ..steady() }).await;
    assert_eq!(code(behind), Code::AcquisitionTimeout);
}

#[tokio::test(start_paused = true)]
async fn the_next_head_asks_for_itself_after_the_first_one_failed() {
    let process = Process::on(&store());
    process.backend.script(Operation::Acquire, [Fault::Fail(Error::internal("unreadable"))]);
    let head = process.waiting(&steady());
    let next = process.waiting(&steady());
    assert_eq!(code(head.await.unwrap()), Code::Internal);
    next.await.unwrap().expect("granted");
    assert_eq!(process.requests(), 2);
}

/// Nothing can have been applied, whatever the store says or does not say.
#[tokio::test(start_paused = true)]
async fn what_only_reads_is_never_of_unknown_outcome() {
    let process = Process::on(&store());
    let (key, id) = (key("k"), LockId::mint());
    for fault in [|| Fault::Hang, || Fault::LoseReply, || Fault::Fail(unavailable().unknown())] {
        for operation in [Operation::Find; 3] {
            process.backend.script(operation, [fault()]);
        }
        let client = &process.client;
        let errors = [
            client.lookup(LookupBy::Key(&key), None).await.expect_err("scripted"),
            client.lookup(LookupBy::LockId(&id), None).await.expect_err("scripted"),
            client.is_locked(&key, None).await.expect_err("scripted"),
        ];
        for error in errors {
            assert!(!error.is_unknown() && error.is_retryable(), "{error:?}");
            assert!(!error.message().contains("unknown"), "{error}");
        }
    }
    process.backend.script(Operation::Find, [Fault::Hang]);
    let cancel = CancellationToken::new();
    let by = LookupBy::Key(&key);
    let (answer, ()) = tokio::join!(process.client.lookup(by, Some(&cancel)), async { cancel.cancel() });
    let error = answer.expect_err("aborted");
    assert!(error.code() == Code::Aborted && !error.is_unknown(), "{error:?}");
}
