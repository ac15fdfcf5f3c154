//! The line against a model: random arrivals, patience and hold times, on a clock that stands still.

use std::collections::VecDeque;

use proptest::prelude::*;
use syncguard::engine::Policy;
use syncguard::lock::{Code, Fence};
use syncguard::stores::memory::{Fault, Operation};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;

use crate::world::*;

#[derive(Clone, Debug)]
struct Plan {
    joins_at: u64,
    patience: u64,
    /// Leaves by an abort, not by its timeout.
    aborts: bool,
    holds: u64,
}

/// How one waiter ended: granted when, or not.
type Ending = Option<u64>;

fn plans() -> impl Strategy<Value = Vec<Plan>> {
    let plan = (0u64..300, 5u64..400, any::<bool>(), 0u64..60)
        .prop_map(|(joins_at, patience, aborts, holds)| Plan { joins_at, patience, aborts, holds });
    prop::collection::vec(plan, 1..12).prop_map(|mut plans| {
        plans.sort_by_key(|plan| plan.joins_at);
        // No two at once, so that the order is certain.
        for (index, plan) in plans.iter_mut().enumerate() {
            plan.joins_at = plan.joins_at * 12 + index as u64;
            plan.patience *= 3;
        }
        plans
    })
}

/// For so long a lease passes from hand to hand before those might get a turn who leave no mark, which costs 10 ms.
const NEVER_ALONE_FOR: u64 = 120;

/// First come, first served, and nobody waits while the key is free. `None` where two things happen so
/// close together that either order is right, or the key stays here so long that the first in line may wait for others.
fn model(plans: &[Plan]) -> Option<Vec<Ending>> {
    let (mut free_at, mut ours_since) = (0, 0);
    let mut line: VecDeque<(usize, &Plan)> = plans.iter().enumerate().collect();
    let mut endings = vec![None; plans.len()];
    while let Some((number, plan)) = line.pop_front() {
        let turn = plan.joins_at.max(free_at);
        let leaves_at = plan.joins_at + plan.patience;
        if turn.abs_diff(leaves_at) <= 4 {
            return None;
        }
        if turn < leaves_at {
            if turn > free_at {
                ours_since = turn;
            } else if turn - ours_since >= NEVER_ALONE_FOR {
                return None;
            }
            endings[number] = Some(turn);
            free_at = turn + plan.holds;
        }
    }
    Some(endings)
}

/// Runs the plans on one process, and answers the endings and the fences of those that were granted.
async fn run(process: &Process, plans: &[Plan], policy: &Policy) -> Vec<(Ending, Option<Fence>)> {
    let start = Instant::now();
    let tasks: Vec<_> = plans
        .iter()
        .cloned()
        .map(|plan| {
            let (process, policy) = (process.clone(), policy.clone());
            tokio::spawn(async move {
                sleep(ms(plan.joins_at)).await;
                let timeout = if plan.aborts { ms(60_000) } else { ms(plan.patience) };
                let cancel = CancellationToken::new();
                let aborting = plan.aborts.then(|| {
                    let cancel = cancel.clone();
                    tokio::spawn(async move {
                        sleep(ms(plan.patience)).await;
                        cancel.cancel();
                    })
                });
                let policy = Policy { timeout, ..policy };
                let joined = Instant::now();
                let result = process.client.lock(options(LONG), &policy, Some(&cancel)).await;
                assert!(joined.elapsed() <= ms(plan.patience + 50), "it settles in time");
                if let Some(aborting) = aborting {
                    aborting.abort();
                }
                let lease = match result {
                    Ok(lease) => lease,
                    Err(error) => {
                        assert_ne!(error.code(), Code::Internal, "{error:?}");
                        return (None, None);
                    }
                };
                let at = u64::try_from(start.elapsed().as_millis()).expect("short");
                sleep(ms(plan.holds)).await;
                while process.release(&lease).await.is_err() {}
                (Some(at), Some(lease.fence))
            })
        })
        .collect();
    let mut endings = Vec::new();
    for task in tasks {
        endings.push(task.await.expect("no panic"));
    }
    endings
}

fn paused(test: impl Future<Output = Result<(), TestCaseError>>) -> Result<(), TestCaseError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
    runtime.expect("a runtime").block_on(test)
}

fn rising(fences: impl Iterator<Item = Option<Fence>>) -> bool {
    let granted: Vec<Fence> = fences.flatten().collect();
    granted.is_sorted() && granted.windows(2).all(|two| two[0] != two[1])
}

fn faults() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec(0u8..5, 0..12)
}

fn fault(number: u8) -> Fault {
    match number {
        0 => Fault::Fail(unavailable()),
        1 => Fault::LoseReply,
        2 => Fault::ApplyThenHang,
        3 => Fault::Hang,
        _ => Fault::Pass,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    /// With and without hand-overs and wake-ups: who gets the key, and when, is what the model says.
    #[test]
    fn the_line_is_first_come_first_served(plans in plans(), hands_over: bool, wakes: bool) {
        let Some(expected) = model(&plans) else { return Err(TestCaseError::reject("too close")) };
        paused(async {
            let store = store();
            let process =
                Process::new(store.backend_claiming(|can| (can.hands_over, can.wakes) = (hands_over, wakes)));
            let endings = run(&process, &plans, &patient()).await;
            for (number, ((ending, _), expected)) in endings.iter().zip(&expected).enumerate() {
                prop_assert_eq!(ending.is_some(), expected.is_some(), "waiter {}: {:?}", number, endings);
                if let (Some(at), Some(expected)) = (ending, expected) {
                    // Each step before may have cost a tick of the timer.
                    prop_assert!(at.abs_diff(*expected) <= 3, "waiter {number} at {at}, not {expected}");
                }
            }
            prop_assert!(rising(endings.iter().map(|(_, fence)| *fence)));
            prop_assert_eq!(held(&store).await, None);
            no_queue_left(&process);
            Ok(())
        })?;
    }

    /// Whatever fails: nobody passes another, everybody settles, nothing is left.
    #[test]
    fn no_fault_breaks_the_order(
        plans in plans(),
        acquires in faults(),
        hand_overs in faults(),
        releases in faults(),
    ) {
        paused(async {
            let store = store();
            let process = Process::on(&store);
            process.backend.script(Operation::Acquire, acquires.iter().copied().map(fault));
            process.backend.script(Operation::HandOver, hand_overs.iter().copied().map(fault));
            process.backend.script(Operation::Release, releases.iter().copied().map(fault));
            let policy = Policy { max_retries: 1000, ..steady() };
            let endings = run(&process, &plans, &policy).await;
            prop_assert!(rising(endings.iter().map(|(_, fence)| *fence)), "{endings:?}");
            no_queue_left(&process);
            // What nobody could undo is gone by its TTL and the tolerance.
            sleep(ms(LONG + 1000) + OPERATION_TIMEOUT * 4).await;
            prop_assert_eq!(held(&store).await, None);
            prop_assert!(store.subscribers(&key("k")) == 0);
            Ok(())
        })?;
    }
}
