//! The rules about many at once.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::sync::Barrier;

use super::trial::{LONG, Trial, by_id, grant, release, request, same, still};
use crate::backend::{Acquired, Mutation};

pub(super) async fn one_of_many_wins(t: &Trial) {
    const RACERS: usize = 16;
    let backends = [t.backend().await, t.backend().await, t.backend().await];
    for _ in 0..5 {
        let key = t.key();
        let start = Arc::new(Barrier::new(RACERS));
        let racers: Vec<_> = (0..RACERS)
            .map(|n| {
                let (backend, start) = (backends[n % backends.len()].clone(), start.clone());
                let request = request(&key, LONG);
                tokio::spawn(async move {
                    start.wait().await;
                    backend.acquire(&request).await
                })
            })
            .collect();
        let mut winners = Vec::new();
        for racer in racers {
            match racer.await.expect("a racer ends").expect("acquire answers") {
                Acquired::Granted(lease) => winners.push(lease),
                Acquired::Held { .. } => {}
            }
        }
        assert_eq!(winners.len(), 1, "exactly one of {RACERS} is granted the key");
        still(&backends[0], &winners[0]).await;
    }
}

/// Holders exclude each other, so the order in which they note their fences is that of their holding.
pub(super) async fn fences_follow_the_order_of_holders(t: &Trial) {
    const GRANTS: usize = 6;
    let backends = [t.backend().await, t.backend().await];
    let key = t.key();
    let noted = Arc::new(Mutex::new(Vec::new()));
    let workers: Vec<_> = (0..4)
        .map(|n| {
            let (backend, key, noted) = (backends[n % 2].clone(), key.clone(), noted.clone());
            tokio::spawn(async move {
                for _ in 0..GRANTS {
                    let lease = loop {
                        match backend.acquire(&request(&key, LONG)).await.expect("acquire answers") {
                            Acquired::Granted(lease) => break lease,
                            Acquired::Held { .. } => tokio::time::sleep(Duration::from_millis(1)).await,
                        }
                    };
                    noted.lock().expect("no holder failed").push(lease.fence);
                    tokio::task::yield_now().await;
                    assert_eq!(release(&backend, lease).await, Mutation::Done(()), "a holder can release");
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.expect("a worker ends");
    }
    let fences = noted.lock().expect("no holder failed");
    assert_eq!(fences.len(), 4 * GRANTS);
    for pair in fences.windows(2) {
        assert!(pair[0] < pair[1], "{} does not follow {}", pair[1], pair[0]);
    }
}

/// A caller may go at any moment; those who stay must get their own answers.
pub(super) async fn a_dropped_call_spoils_no_other(t: &Trial) {
    let backend = t.backend().await;
    for n in 0..60 {
        let abandoned = t.request(LONG);
        {
            let mut call = pin!(backend.acquire(&abandoned));
            for _ in 0..n % 6 {
                if poll_fn(|cx| Poll::Ready(call.as_mut().poll(cx))).await.is_ready() {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
        let lease = grant(&backend, &t.request(LONG)).await;
        let found = by_id(&backend, &lease.lock_id).await.expect("the lease is there");
        same(&found, &lease);
        assert_eq!(release(&backend, lease).await, Mutation::Done(()));
    }
}
