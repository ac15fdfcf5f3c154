//! The pauses between attempts to come back to a server, and the only place that sleeps through them. They grow, and
//! half of each is random, so that the many clients that lose a server at the same moment don't come back in step
//! ("Exponential Backoff And Jitter", AWS Architecture Blog, 2015).

use std::time::Duration;

use tokio::time::Instant;

/// The pauses of one connection, or of one pool of them.
#[derive(Clone, Copy, Debug)]
pub(in crate::stores) struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
    /// No attempt is made before.
    not_before: Option<Instant>,
}

impl Backoff {
    /// Between `first / 2` and `first` after one failure, twice that after each further one, `longest` at most.
    pub const fn new(first: Duration, longest: Duration) -> Backoff {
        Backoff { first, longest, failures: 0, not_before: None }
    }

    /// An attempt has failed, just now.
    pub fn failed(&mut self) {
        self.failures = self.failures.saturating_add(1);
        self.not_before = Some(Instant::now() + self.pause(fastrand::f64()));
    }

    /// An attempt has succeeded: the next failure is the first one again.
    pub fn succeeded(&mut self) {
        *self = Backoff::new(self.first, self.longest);
    }

    /// Waits until the next attempt may be made; not at all where the last one did not fail.
    pub fn wait(&self) -> impl Future<Output = ()> + Send + use<> {
        let not_before = self.not_before;
        async move {
            if let Some(not_before) = not_before {
                tokio::time::sleep_until(not_before).await;
            }
        }
    }

    /// After the failures so far; `random` is in `[0, 1)`.
    fn pause(&self, random: f64) -> Duration {
        let doubled = 2u32.saturating_pow(self.failures.saturating_sub(1));
        let full = self.first.saturating_mul(doubled).min(self.longest);
        full / 2 + (full / 2).mul_f64(random)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FIRST: Duration = Duration::from_millis(10);
    const LONGEST: Duration = Duration::from_millis(500);

    fn after(failures: u32, random: f64) -> Duration {
        Backoff { failures, ..Backoff::new(FIRST, LONGEST) }.pause(random)
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let pauses: Vec<_> = (1..9).map(|failures| after(failures, 0.999_999).as_millis()).collect();
        assert_eq!(pauses, [9, 19, 39, 79, 159, 319, 499, 499]);
        let least: Vec<_> = (1..9).map(|failures| after(failures, 0.0).as_millis()).collect();
        assert_eq!(least, [5, 10, 20, 40, 80, 160, 250, 250]);
        assert!(after(u32::MAX, 1.0) <= LONGEST);
    }

    /// Many clients lose their server at the same moment: in no millisecond more than a few of them come back.
    #[tokio::test(start_paused = true)]
    async fn many_clients_do_not_come_back_in_step() {
        let start = Instant::now();
        let mut clients = vec![Backoff::new(FIRST, LONGEST); 1000];
        let mut back = std::collections::BTreeMap::new();
        for client in &mut clients {
            (0..7).for_each(|_| client.failed());
            let at = client.not_before.expect("it has failed").duration_since(start).as_millis();
            assert!((250..=500).contains(&at), "{at}");
            *back.entry(at).or_insert(0) += 1;
        }
        let most = back.values().max().expect("they come back");
        assert!(back.len() > 150 && *most < 20, "{most} in one millisecond, {} in all", back.len());
    }

    #[tokio::test(start_paused = true)]
    async fn waits_only_after_a_failure() {
        let mut backoff = Backoff::new(FIRST, LONGEST);
        let start = Instant::now();
        backoff.wait().await;
        assert_eq!(start.elapsed(), Duration::ZERO);
        backoff.failed();
        backoff.wait().await;
        let waited = start.elapsed();
        assert!((FIRST / 2..=FIRST + Duration::from_millis(1)).contains(&waited), "{waited:?}");
        // What has passed of it counts.
        backoff.wait().await;
        assert_eq!(start.elapsed(), waited);
        backoff.failed();
        backoff.succeeded();
        backoff.wait().await;
        assert_eq!(start.elapsed(), waited);
    }
}
