//! Requests that wait to go together, in order.

use std::collections::{BTreeMap, HashMap, VecDeque};

/// A request that waits.
pub(crate) trait Waiting {
    /// Whether nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;
}

/// Those that wait, in the order in which they came.
pub(crate) trait Backlog<W>: Default {
    fn is_empty(&self) -> bool;

    fn push(&mut self, waiting: W);

    /// The first ones that may go together, at most `width`. Abandoned ones are dropped; the others stay.
    fn take(&mut self, width: usize) -> Vec<W>;

    fn take_all(&mut self) -> Vec<W>;
}

/// Any of them may go together.
impl<W: Waiting> Backlog<W> for VecDeque<W> {
    fn is_empty(&self) -> bool {
        VecDeque::is_empty(self)
    }

    fn push(&mut self, waiting: W) {
        self.push_back(waiting);
    }

    fn take(&mut self, width: usize) -> Vec<W> {
        let mut taken = Vec::with_capacity(self.len().min(width));
        while taken.len() < width
            && let Some(waiting) = self.pop_front()
        {
            if !waiting.is_abandoned() {
                taken.push(waiting);
            }
        }
        taken
    }

    fn take_all(&mut self) -> Vec<W> {
        self.drain(..).collect()
    }
}

/// A request that can't go with one of the same identity.
pub(crate) trait Distinct {
    fn identity(&self) -> &str;
}

/// Each identity goes once at a time. Taking from it costs what is taken, however many wait.
#[derive(Debug)]
pub(crate) struct DistinctBacklog<J> {
    /// The number of the next one that comes.
    next: u64,
    /// By identity, in order of their numbers; never empty.
    waiting: HashMap<Box<str>, VecDeque<(u64, J)>>,
    /// The first one of each identity.
    first: BTreeMap<u64, Box<str>>,
}

impl<J> Default for DistinctBacklog<J> {
    fn default() -> DistinctBacklog<J> {
        DistinctBacklog { next: 0, waiting: HashMap::new(), first: BTreeMap::new() }
    }
}

impl<J: Distinct + Waiting> Backlog<J> for DistinctBacklog<J> {
    fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    fn push(&mut self, job: J) {
        let number = self.next;
        self.next += 1;
        if let Some(others) = self.waiting.get_mut(job.identity()) {
            others.push_back((number, job));
            return;
        }
        let identity: Box<str> = job.identity().into();
        self.first.insert(number, identity.clone());
        self.waiting.insert(identity, VecDeque::from([(number, job)]));
    }

    fn take(&mut self, width: usize) -> Vec<J> {
        let mut taken = Vec::with_capacity(self.first.len().min(width));
        let mut later = Vec::new();
        while taken.len() < width
            && let Some((_, identity)) = self.first.pop_first()
        {
            let Some(jobs) = self.waiting.get_mut(&identity) else { continue };
            let job = jobs.pop_front().map(|(_, job)| job).filter(|job| !job.is_abandoned());
            match (jobs.front().map(|(number, _)| *number), job.is_some()) {
                (None, _) => drop(self.waiting.remove(&identity)),
                (Some(number), true) => later.push((number, identity)),
                (Some(number), false) => drop(self.first.insert(number, identity)),
            }
            taken.extend(job);
        }
        self.first.extend(later);
        taken
    }

    fn take_all(&mut self) -> Vec<J> {
        self.first.clear();
        let mut all: Vec<_> = self.waiting.drain().flat_map(|(_, jobs)| jobs).collect();
        all.sort_unstable_by_key(|(number, _)| *number);
        all.into_iter().map(|(_, job)| job).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    struct Job(&'static str, bool);

    impl Waiting for Job {
        fn is_abandoned(&self) -> bool {
            self.1
        }
    }

    impl Distinct for Job {
        fn identity(&self) -> &str {
            self.0
        }
    }

    fn names(jobs: impl IntoIterator<Item = Job>) -> String {
        jobs.into_iter().map(|job| job.0).collect()
    }

    fn queue(jobs: impl IntoIterator<Item = (&'static str, bool)>) -> DistinctBacklog<Job> {
        let mut queue = DistinctBacklog::default();
        jobs.into_iter().for_each(|(name, abandoned)| queue.push(Job(name, abandoned)));
        queue
    }

    #[test]
    fn what_may_go_together_goes_in_order() {
        let mut queue: VecDeque<_> = [("x", true), ("a", false), ("a", false), ("b", true), ("c", false)]
            .map(|(n, a)| Job(n, a))
            .into();
        assert_eq!(names(queue.take(2)), "aa");
        assert_eq!(names(queue.take(9)), "c");
        assert!(queue.take(9).is_empty());
    }

    #[test]
    fn each_identity_goes_once_and_the_rest_stays_in_order() {
        let mut queue = queue(["x", "a", "b", "a", "c", "b", "a", "d"].map(|name| (name, name == "x")));
        assert_eq!(names(queue.take(3)), "abc");
        assert_eq!(names(queue.take(9)), "abd");
        assert_eq!(names(queue.take(9)), "a");
        assert!(queue.take(9).is_empty() && queue.is_empty());
    }

    #[test]
    fn an_abandoned_one_keeps_nobody_of_its_identity_from_going() {
        let mut queue = queue([("a", true), ("a", true), ("b", false), ("a", false), ("a", false)]);
        assert_eq!(names(queue.take(9)), "ba");
        assert_eq!(names(queue.take_all()), "a");
        assert!(queue.is_empty());
    }

    #[test]
    fn all_of_them_are_in_order() {
        let mut queue = queue(["b", "a", "b", "c", "a"].map(|name| (name, false)));
        assert_eq!(names(queue.take(1)), "b");
        assert_eq!(names(queue.take_all()), "abca");
        assert!(queue.is_empty() && queue.take(9).is_empty());
    }

    #[test]
    fn a_long_queue_of_one_identity_is_left_in_linear_time() {
        let emptied = |count: usize| {
            let mut queue = queue(std::iter::repeat_n(("a", false), count));
            let began = Instant::now();
            while !queue.take(64).is_empty() {}
            began.elapsed()
        };
        // Quadratic, the larger one would take 256 times as long.
        let small = (0..5).map(|_| emptied(2_000)).min().unwrap_or_default().max(Duration::from_micros(100));
        let large = (0..3).map(|_| emptied(32_000)).min().unwrap_or_default();
        assert!(large < small * 80, "{small:?} for 2,000, {large:?} for 32,000");
    }
}
