//! The arithmetic of retries, by properties.

use std::time::Duration;

use proptest::prelude::*;
use syncguard::engine::{Backoff, Jitter, KeepPolicy, Next, Past, Policy, Wait};
use syncguard::lock::{Code, MAX_TIME_MS};
use syncguard::stores::target::{Setting, Settings};

use crate::world::ms;

fn policies() -> impl Strategy<Value = Policy> {
    let times = || prop_oneof![0u64..10_000, 0..=MAX_TIME_MS];
    let backoff = prop_oneof![Just(Backoff::Exponential), Just(Backoff::Fixed)];
    let jitter = prop_oneof![Just(Jitter::Equal), Just(Jitter::Full), Just(Jitter::None)];
    (times(), any::<u32>(), times(), backoff, jitter).prop_map(
        |(timeout, max_retries, delay, backoff, jitter)| {
            let (timeout, retry_delay) = (ms(timeout), ms(delay));
            Policy { timeout, max_retries, retry_delay, backoff, jitter, wait: Wait::Notify }
        },
    )
}

fn randoms() -> impl Strategy<Value = f64> {
    prop_oneof![Just(0.0), Just(1.0 - f64::EPSILON / 2.0), 0.0..1.0]
}

fn durations() -> impl Strategy<Value = Duration> {
    prop_oneof![
        Just(Duration::ZERO),
        (0u64..2_000_000_000).prop_map(Duration::from_nanos),
        (0..=MAX_TIME_MS).prop_map(ms),
        Just(Duration::MAX),
    ]
}

/// The delay before jitter, by the formula of the contract.
fn nominal(policy: &Policy, retry: u32) -> Duration {
    let factor = match policy.backoff {
        Backoff::Fixed => 1,
        Backoff::Exponential => 2u128.checked_pow(retry - 1).unwrap_or(u128::MAX),
    };
    let millis = policy.retry_delay.as_millis().saturating_mul(factor);
    ms(u64::try_from(millis).unwrap_or(u64::MAX).min(MAX_TIME_MS))
}

proptest! {
    #[test]
    fn a_delay_lies_within_its_jitter(policy in policies(), retry in 1u32..30, random in randoms()) {
        let (delay, full) = (policy.delay(retry, random), nominal(&policy, retry));
        let slack = Duration::from_micros(1) + full / 1_000_000_000;
        match policy.jitter {
            Jitter::None => prop_assert_eq!(delay, full),
            Jitter::Full => prop_assert!(delay <= full),
            Jitter::Equal => prop_assert!(delay <= full && delay + slack >= full / 2),
        }
    }

    #[test]
    fn jitter_uses_its_whole_range(policy in policies(), retry in 1u32..10) {
        let full = nominal(&policy, retry);
        let slack = Duration::from_micros(1) + full / 1_000_000_000;
        let (least, most) = (policy.delay(retry, 0.0), policy.delay(retry, 1.0 - f64::EPSILON / 2.0));
        let expected = match policy.jitter {
            Jitter::None => full,
            Jitter::Full => Duration::ZERO,
            Jitter::Equal => full / 2,
        };
        prop_assert!(least <= expected + slack && least + slack >= expected);
        prop_assert!(most + slack >= full);
    }

    #[test]
    fn no_delay_is_too_long_to_wait_for(policy in policies(), retry: u32, random in randoms()) {
        prop_assert!(policy.delay(retry, random) <= ms(MAX_TIME_MS));
    }

    /// A retry starts early enough to finish, never behind its delay nor the holder's expiry.
    #[test]
    fn a_retry_fits_before_the_deadline(
        policy in policies(),
        retries: u32,
        round_trip in durations(),
        left in durations(),
        free_in in prop::option::of(durations()),
        random in randoms(),
    ) {
        let past = Past { retries, round_trip };
        let next = policy.next(&past, left, free_in, random);
        prop_assert_eq!(next == Next::GiveUp, retries >= policy.max_retries, "the retries alone decide");
        let lead = round_trip.saturating_mul(2).max(ms(20));
        match next {
            Next::Retry(delay) => {
                let wish = policy.delay(retries.saturating_add(1), random).min(free_in.unwrap_or(Duration::MAX));
                prop_assert!(delay.saturating_add(lead) <= left || wish.is_zero());
                prop_assert!(delay <= wish);
                prop_assert!(delay == wish || delay == left.saturating_sub(lead), "one last attempt is made");
            }
            Next::NoMore => prop_assert!(left <= lead),
            Next::GiveUp => {}
        }
    }

    /// Attempts by timer alone: never more than the retries, and the last one not behind its lead.
    #[test]
    fn a_whole_acquisition_keeps_its_limits(
        policy in policies(),
        round_trip in (0u64..100).prop_map(ms),
        seed: u64,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut past = Past::default();
        let mut now = round_trip;
        for _ in 0..50 {
            past.round_trip = round_trip;
            let left = policy.timeout.saturating_sub(now);
            let Next::Retry(delay) = policy.next(&past, left, None, random.f64()) else { break };
            now += delay;
            prop_assert!(now + ms(20).max(2 * round_trip) <= policy.timeout || delay.is_zero());
            past.retries += 1;
            prop_assert!(past.retries <= policy.max_retries);
            now += round_trip;
        }
    }
}

fn settings(entries: &[(&str, Setting)]) -> Settings {
    entries.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let policy = Policy::from_settings(settings(&[])).expect("nothing is wrong");
    assert_eq!(policy, Policy::default());
    assert_eq!((policy.timeout, policy.max_retries, policy.retry_delay), (ms(5000), 10, ms(100)));
    assert_eq!(
        (policy.backoff, policy.jitter, policy.wait),
        (Backoff::Exponential, Jitter::Equal, Wait::Notify)
    );
    let keep = KeepPolicy::from_settings(settings(&[])).expect("nothing is wrong");
    assert_eq!((keep.interval, keep.max_hold, keep.stall), (None, None, ms(30_000)));
}

#[test]
fn settings_are_read_by_name_and_others_ignored() {
    let policy = Policy::from_settings(settings(&[
        ("timeoutMs", Setting::Number(1.0)),
        ("maxRetries", Setting::Number(0.0)),
        ("retryDelayMs", Setting::Number(7.0)),
        ("backoff", Setting::Text("fixed".into())),
        ("jitter", Setting::Text("full".into())),
        ("wait", Setting::Text("poll".into())),
        ("colour", Setting::Text("blue".into())),
    ]))
    .expect("nothing is wrong");
    let expected = Policy {
        timeout: ms(1),
        max_retries: 0,
        retry_delay: ms(7),
        backoff: Backoff::Fixed,
        jitter: Jitter::Full,
        wait: Wait::Poll,
    };
    assert_eq!(policy, expected);
}

#[test]
fn wrong_settings_are_named() {
    for (name, value) in [
        ("timeoutMs", Setting::Number(f64::NAN)),
        ("timeoutMs", Setting::Number(1.5)),
        ("maxRetries", Setting::Number(-1.0)),
        ("retryDelayMs", Setting::Text("7".into())),
        ("backoff", Setting::Text("linear".into())),
        ("jitter", Setting::Flag(true)),
        ("wait", Setting::Text("block".into())),
    ] {
        let error = Policy::from_settings(settings(&[(name, value)])).expect_err("it is wrong");
        assert!(error.code() == Code::InvalidArgument && error.message().contains(name), "{error}");
    }
}

#[test]
fn an_interval_that_could_not_keep_the_lease_is_refused() {
    let keep = KeepPolicy { interval: Some(ms(1000)), ..KeepPolicy::default() };
    assert!(keep.check(ms(1001)).is_ok());
    assert_eq!(keep.check(ms(1000)).expect_err("too long").code(), Code::InvalidArgument);
}
