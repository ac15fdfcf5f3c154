//! The rules of `find`, a page at a time. What one key or lock id finds is in `lookup` and `is_locked`.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::trial::{LONG, SHORT, Trial, fence, grant, key, release, request, same};
use crate::backend::{Backend, Find, Mutation, Span};
use crate::lock::{Code, Lease};

/// All pages, one after another. Fails the rule where one holds too many leases, or there is no end.
async fn pages(backend: &Arc<dyn Backend>, prefix: &str, limit: usize) -> Vec<Lease> {
    let (mut found, mut cursor) = (Vec::new(), None);
    for _ in 0..1000 {
        let span = Span { prefix, limit, cursor: cursor.as_deref() };
        let page = backend.find(Find::Prefix(span)).await.expect("find answers");
        assert!(page.leases.len() <= limit, "a page holds {limit} leases at most, got {}", page.leases.len());
        found.extend(page.leases);
        match page.cursor {
            Some(next) => cursor = Some(next),
            None => return found,
        }
    }
    panic!("a thousand pages of {limit} are not the end");
}

/// Fails the rule unless each lease was found, once, and nothing else.
fn are(found: &[Lease], leases: &[Lease]) {
    let by_key: BTreeMap<&str, &Lease> = found.iter().map(|lease| (lease.key.as_str(), lease)).collect();
    assert_eq!(by_key.len(), found.len(), "no lease is found twice");
    let expected: Vec<&str> = {
        let mut keys: Vec<&str> = leases.iter().map(|lease| lease.key.as_str()).collect();
        keys.sort_unstable();
        keys
    };
    assert_eq!(by_key.keys().copied().collect::<Vec<_>>(), expected);
    for lease in leases {
        same(by_key[lease.key.as_str()], lease);
    }
}

pub(super) async fn finds_all_that_are_held_page_by_page(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let prefix = format!("{}:", t.key().as_str());
    let mut leases = Vec::new();
    for number in 0..7 {
        let backend = if number % 2 == 0 { &ours } else { &theirs };
        leases.push(grant(backend, &request(&key(&format!("{prefix}{number}")), LONG)).await);
    }
    for limit in [1, 2, 3, 7, 100] {
        are(&pages(&ours, &prefix, limit).await, &leases);
    }
    assert_eq!(release(&ours, leases.remove(3)).await, Mutation::Done(()));
    are(&pages(&theirs, &prefix, 2).await, &leases);
}

pub(super) async fn finds_by_the_beginning_of_the_users_key(t: &Trial) {
    let backend = t.backend().await;
    let own = t.key();
    let own = own.as_str();
    let mut leases = BTreeMap::new();
    let long = "x".repeat(400);
    for name in ["a", "a:b", "a*", "a?c", "[ab]", "a/b", "A", "ä", "a\\", "a%2F", "..", &long] {
        let lease = grant(&backend, &request(&key(&format!("{own}{name}")), LONG)).await;
        leases.insert(name.to_owned(), lease);
    }
    for prefix in ["", "a", "a:", "a*", "a?", "[", "a/", "A", "ä", "a\\", "a%", ".", &long[..300], "zz"] {
        let expected: Vec<Lease> = leases
            .iter()
            .filter(|(name, _)| name.starts_with(prefix))
            .map(|(_, lease)| lease.clone())
            .collect();
        are(&pages(&backend, &format!("{own}{prefix}"), 5).await, &expected);
    }
    // All there are, of whomever: at least these.
    let all = pages(&backend, "", 4).await;
    assert!(leases.values().all(|lease| all.iter().any(|found| found.key == lease.key)));
}

pub(super) async fn finds_nothing_that_has_ended(t: &Trial) {
    let backend = t.backend().await;
    let prefix = format!("{}:", t.key().as_str());
    assert_eq!(pages(&backend, &prefix, 3).await, []);
    let short = grant(&backend, &request(&key(&format!("{prefix}short")), SHORT)).await;
    let long = grant(&backend, &request(&key(&format!("{prefix}long")), LONG)).await;
    t.outlive(&short).await;
    are(&pages(&backend, &prefix, 3).await, std::slice::from_ref(&long));
    assert_eq!(release(&backend, long).await, Mutation::Done(()));
    assert_eq!(pages(&backend, &prefix, 3).await, []);
}

pub(super) async fn leaves_out_what_cannot_be_read(t: &Trial) {
    let backend = t.backend().await;
    let prefix = format!("{}:", t.key().as_str());
    let lease = grant(&backend, &request(&key(&format!("{prefix}good")), LONG)).await;
    let bad = key(&format!("{prefix}bad"));
    t.spoil(&bad).await;
    are(&pages(&backend, &prefix, 1).await, std::slice::from_ref(&lease));
    let error = backend.find(Find::Key { key: &bad, clean_up: false }).await.expect_err("it is there");
    assert_eq!(error.code(), Code::Internal);
}

pub(super) async fn finds_no_fence_and_no_reverse_mapping(t: &Trial) {
    let backend = t.backend().await;
    let held = t.key();
    t.set_fence(&held, Some(fence(7))).await;
    let lease = grant(&backend, &request(&held, LONG)).await;
    let found = pages(&backend, "", 3).await;
    are(&found, std::slice::from_ref(&lease));
}
