//! Requests that wait to go together in one command.

use std::collections::{HashSet, VecDeque};

/// A request that can go with others of its kind.
pub(crate) trait Joinable {
    /// Two requests with the same one never go together.
    fn identity(&self) -> &str;

    /// Whether nobody waits for the answer any more.
    fn is_abandoned(&self) -> bool;
}

/// Takes the first ones from a queue: at most `width`, each identity once. Abandoned ones are dropped; the
/// others stay, in order.
pub(crate) fn take<J: Joinable>(queue: &mut VecDeque<J>, width: usize) -> Vec<J> {
    let mut taken: Vec<J> = Vec::with_capacity(queue.len().min(width));
    let mut later = VecDeque::new();
    let mut seen = HashSet::new();
    while taken.len() < width
        && let Some(job) = queue.pop_front()
    {
        if job.is_abandoned() {
            continue;
        }
        if seen.insert(job.identity().to_owned()) {
            taken.push(job);
        } else {
            later.push_back(job);
        }
    }
    later.append(queue);
    *queue = later;
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Job(&'static str, bool);

    impl Joinable for Job {
        fn identity(&self) -> &str {
            self.0
        }

        fn is_abandoned(&self) -> bool {
            self.1
        }
    }

    fn names(jobs: impl IntoIterator<Item = Job>) -> String {
        jobs.into_iter().map(|job| job.0).collect()
    }

    #[test]
    fn each_identity_goes_once_and_the_rest_stays_in_order() {
        let mut queue: VecDeque<_> = ["a", "b", "a", "c", "b", "a", "d"].map(|name| Job(name, false)).into();
        queue.push_front(Job("x", true));
        assert_eq!(names(take(&mut queue, 3)), "abc");
        assert_eq!(names(take(&mut queue, 9)), "abd");
        assert_eq!(names(take(&mut queue, 9)), "a");
        assert!(take(&mut queue, 9).is_empty());
    }
}
