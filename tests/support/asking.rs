//! What the tests of every store ask and expect, in few words.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::time::Duration;

use syncguard::backend::{AcquireRequest, Acquired, Backend, Mutation, Watch};
use syncguard::lock::{Code, Error, Key, Lease, LockId, Outcome, Ttl};
use syncguard::stores::target::{Setting, Settings};
use tokio::time::timeout;

pub fn settings(values: &[(&str, Setting)]) -> Settings {
    values.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

pub fn text(value: &str) -> Setting {
    Setting::Text(value.to_owned())
}

pub fn key(name: &str) -> Key {
    Key::new(name).expect("a good key")
}

pub fn ttl(millis: u64) -> Ttl {
    Ttl::from_millis(millis).expect("a good ttl")
}

pub fn request(name: &str) -> AcquireRequest {
    AcquireRequest { key: key(name), lock_id: LockId::mint(), ttl: ttl(30_000) }
}

/// Acquires what must be free.
pub async fn take(backend: &dyn Backend, name: &str) -> Lease {
    granted(backend.acquire(&request(name)).await.expect("an answer"))
}

pub fn granted(acquired: Acquired) -> Lease {
    match acquired {
        Acquired::Granted(lease) => lease,
        Acquired::Held { .. } => panic!("somebody else holds the key"),
    }
}

/// What must be held by somebody else.
pub fn assert_held(acquired: &Acquired) {
    assert!(matches!(acquired, Acquired::Held { .. }), "{acquired:?}");
}

pub fn assert_done<T: std::fmt::Debug>(mutation: &Mutation<T>) {
    assert!(matches!(mutation, Mutation::Done(_)), "{mutation:?}");
}

pub fn assert_is(error: &Error, code: Code, retryable: bool, outcome: Outcome) {
    assert_eq!(
        (error.code(), error.is_retryable(), error.outcome()),
        (code, retryable, outcome),
        "{error:?}"
    );
}

pub async fn assert_hinted(watch: &Watch) {
    timeout(Duration::from_secs(5), watch.hint()).await.expect("a hint");
}

/// That no hint comes while a wrong one would.
pub async fn assert_quiet(watch: &Watch, time: Duration) {
    assert!(timeout(time, watch.hint()).await.is_err(), "no hint was due");
}

/// Waits for what happens in the background, and fails when it does not.
pub async fn eventually(what: &str, mut happened: impl AsyncFnMut() -> bool) {
    for _ in 0..500 {
        if happened().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("not within 5 s: {what}");
}
