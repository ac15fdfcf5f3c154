//! The rules about keys: whatever their text, each leads to its own lease.

use super::trial::{
    LONG, Trial, by_id, by_key, extend, grant, is_locked, key, refuse, release, request, still,
};
use crate::backend::Mutation;
use crate::lock::{Key, Lease, MAX_KEY_LENGTH_BYTES};

/// Keys that mean something to some store, to its layout or to a shell.
const HOSTILE: &[&str] = &[
    "x",
    "fence:x",
    "fence:syncguard:x",
    "syncguard:x",
    "id:x",
    "id:AAAAAAAAAAAAAAAAAAAAAA",
    "{a}",
    "}{",
    "a",
    "a:b",
    "a:",
    ":a",
    ":",
    "a/b",
    "a\\b",
    "/",
    "%2F",
    "%",
    ".",
    "..",
    "...",
    "__x__",
    "__id__",
    "____",
    "../../etc/passwd",
    "/etc/passwd",
    "'; DROP TABLE x; --",
    "\"",
    "`",
    "$1",
    "$(id)",
    "*",
    "?",
    "[a]",
    "-",
    "--",
    "0",
    "-1",
    "null",
    "🔒",
    "🔒 lock",
    "👩‍👩‍👧‍👦",
    "a\tb\nc\r",
    "\u{1}",
    "\u{7f}",
    "\u{feff}",
    "\u{200b}",
    "\u{202e}",
    "\u{ffff}",
    "\u{10ffff}",
    "CON",
    "nul.txt",
    ".lock",
    "a.lock",
    ".tmp",
    "~",
    "#",
    "a b",
    " ",
];

/// Keys that something on the way may take for one another.
const SIMILAR: &[&str] = &[
    "similar",
    "SIMILAR",
    "Similar",
    "similar ",
    " similar",
    "similar.",
    "similar/",
    "similar:",
    "similar\u{200b}",
    "ﬁ",
    "fi",
    "ß",
    "ss",
    "SS",
    "ı",
    "i",
    "I",
    "İ",
    "e",
    "é",
    "E",
    "Å",
    "A",
    "１",
    "1",
    "01",
    "1.0",
    "K",
    "k",
    "\u{3b1}",
    "\u{430}",
    "1e0",
    "µ",
    "μ",
];

pub(super) async fn hostile_ones_work_and_stay_distinct(t: &Trial) {
    distinct(t, HOSTILE.iter().map(|text| key(text)).collect()).await;
}

pub(super) async fn similar_ones_stay_distinct(t: &Trial) {
    distinct(t, SIMILAR.iter().map(|text| key(text)).collect()).await;
}

pub(super) async fn long_ones_work_and_stay_distinct(t: &Trial) {
    let mut texts = Vec::new();
    for letter in ["k", "é", "𝔘", "/", ".", "%", " ", "\u{1}", "'", "x:"] {
        let full = letter.repeat(MAX_KEY_LENGTH_BYTES / letter.len());
        // A head and a tail that differ, at the full length and one letter below it.
        texts.push(format!("{}{}", &full[..full.len() - letter.len()], "z".repeat(letter.len())));
        texts.push(format!("{}{}", "z".repeat(letter.len()), &full[letter.len()..]));
        texts.push(full[letter.len()..].to_owned());
        texts.push(full);
    }
    // Around the lengths at which file systems and hashed forms set in.
    texts.extend([1, 22, 100, 143, 200, 254, 255, 256, 400, 511].map(|length| "n".repeat(length)));
    assert!(texts.iter().all(|text| text.len() <= MAX_KEY_LENGTH_BYTES));
    distinct(t, texts.iter().map(|text| key(text)).collect()).await;
}

/// Holds all of the keys at once, and checks that each leads to its own lease and ends alone.
async fn distinct(t: &Trial, keys: Vec<Key>) {
    let (ours, theirs) = t.two_backends().await;
    let mut leases: Vec<Lease> = Vec::new();
    for (n, key) in keys.iter().enumerate() {
        assert!(!is_locked(&theirs, key).await, "key {n} is free before anybody takes it");
        leases.push(grant(&ours, &request(key, LONG)).await);
    }
    for lease in &mut leases {
        still(&theirs, lease).await;
        refuse(&theirs, &request(&lease.key, LONG)).await;
        match extend(&theirs, lease.lock_id, 2 * LONG).await {
            Mutation::Done(expires_at) => lease.expires_at = expires_at,
            other => panic!("a live lease is extended by its lock id, got {other:?}"),
        }
    }
    for lease in &leases {
        still(&theirs, lease).await;
    }
    // From both ends, so that one key's release would be noticed at a neighbour that is still held.
    while let Some(last) = leases.pop() {
        if !leases.is_empty() {
            leases.reverse();
        }
        assert_eq!(release(&theirs, last.lock_id).await, Mutation::Done(()));
        assert_eq!(by_key(&ours, &last.key).await, None);
        assert_eq!(by_id(&ours, &last.lock_id).await, None);
        for lease in leases.iter().rev().take(3) {
            still(&ours, lease).await;
        }
    }
    for key in &keys {
        assert!(!is_locked(&ours, key).await, "every key is free again");
    }
}

pub(super) async fn equal_under_nfc_are_one_lock(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let forms =
        [("caf\u{e9}", "cafe\u{301}"), ("\u{c5}", "A\u{30a}"), ("\u{ac01}", "\u{1100}\u{1161}\u{11a8}")];
    for (composed, decomposed) in forms {
        let lease = grant(&ours, &request(&key(composed), LONG)).await;
        refuse(&theirs, &request(&key(decomposed), LONG)).await;
        let found = by_key(&theirs, &key(decomposed)).await.expect("found under its other spelling");
        assert_eq!(found.key.as_str(), composed, "what is stored is the composed form");
        assert_eq!(release(&theirs, lease.lock_id).await, Mutation::Done(()));
    }
}

pub(super) async fn may_name_the_index_or_fence_of_another(t: &Trial) {
    let (ours, theirs) = t.two_backends().await;
    let victim = grant(&ours, &t.request(LONG)).await;
    let (name, id) = (victim.key.as_str(), victim.lock_id);
    let aliases = [
        format!("id:{}", id.as_str()),
        format!("fence:{name}"),
        format!("syncguard:{name}"),
        format!("fence:syncguard:{name}"),
        format!("syncguard:id:{}", id.as_str()),
        format!("syncguard:fence:syncguard:{name}"),
        id.as_str().to_owned(),
        format!("{{{name}}}"),
    ];
    let mut others = Vec::new();
    for alias in &aliases {
        others.push(grant(&theirs, &request(&key(alias), LONG)).await);
        still(&theirs, &victim).await;
    }
    for other in others {
        still(&ours, &other).await;
        assert_eq!(release(&theirs, other.lock_id).await, Mutation::Done(()));
        still(&ours, &victim).await;
    }
    assert_eq!(release(&theirs, id).await, Mutation::Done(()));
    let next = grant(&ours, &request(&victim.key, LONG)).await;
    assert!(next.fence > victim.fence);
}
