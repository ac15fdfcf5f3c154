//! The rules of what a refusal says about when the key comes free.

use std::time::Duration;

use super::trial::{CLOCK_SLACK, LONG, Trial, extend, grant, refuse, request, ttl};
use crate::backend::Mutation;
use crate::lock::{Lease, MAX_TIME_MS};

/// A millisecond or two by which stores round, on top of what they said.
const ROUNDING: Duration = Duration::from_millis(5);

pub(super) async fn is_what_is_left_of_the_lease(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(LONG)).await;
    t.advance(Duration::from_millis(200)).await;
    for millis in [None, Some(LONG / 2), Some(3 * LONG)] {
        let mut end = t.end(&lease);
        if let Some(millis) = millis {
            let Mutation::Done(expires_at) = extend(&ours, lease.clone(), millis).await else {
                panic!("a live lease can be extended")
            };
            end = t.end(&Lease { expires_at, ..lease.clone() });
        }
        let before = t.now();
        let Some(free_in) = refuse(&theirs, &request(&lease.key, LONG)).await else { return };
        let (most, least) = (end.since(before) + CLOCK_SLACK, end.since(t.now()).saturating_sub(CLOCK_SLACK));
        assert!(
            (least..=most).contains(&free_in),
            "the holder's record ends in {least:?} to {most:?}, got {free_in:?}"
        );
    }
}

pub(super) async fn is_enough(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(300)).await;
    let next = request(&lease.key, LONG);
    let Some(free_in) = refuse(&theirs, &next).await else { return };
    t.advance(free_in + ROUNDING).await;
    grant(&theirs, &next).await;
}

pub(super) async fn copes_with_a_hundred_years(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let lease = grant(&ours, &t.request(MAX_TIME_MS)).await;
    let Some(free_in) = refuse(&theirs, &request(&lease.key, LONG)).await else { return };
    let all = ttl(MAX_TIME_MS).as_duration() + t.tolerance();
    assert!(
        free_in <= all + CLOCK_SLACK && free_in + Duration::from_secs(60) >= all,
        "a hundred years, got {free_in:?}"
    );
}
