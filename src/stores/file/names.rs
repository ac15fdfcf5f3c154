//! File names that no key can escape from and no two keys share.

use sha2::{Digest, Sha256};

use crate::lock::{Key, LockId};

pub(super) const SHARDS: usize = 64;
const LONGEST_READABLE: usize = 100;

/// The names of one key's files.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Names {
    stem: Box<str>,
}

impl Names {
    pub(super) fn of(key: &Key) -> Names {
        let key = key.as_str();
        // No capitals: on some filesystems `A` and `a` are one name. `k-` keeps away from `.`, `..` and
        // the device names of Windows.
        let safe =
            |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.') && key.is_ascii();
        let stem = if key.len() <= LONGEST_READABLE && key.bytes().all(safe) {
            format!("k-{key}")
        } else {
            format!("h-{}", hash(key))
        };
        Names { stem: stem.into() }
    }

    /// The names of a key whose files have this stem.
    pub(super) fn from_stem(stem: &str) -> Names {
        Names { stem: stem.into() }
    }

    pub(super) fn stem(&self) -> &str {
        &self.stem
    }

    pub(super) fn held(&self) -> String {
        self.with(".held")
    }

    pub(super) fn free(&self) -> String {
        self.with(".free")
    }

    pub(super) fn next(&self) -> String {
        self.with(".next")
    }

    pub(super) fn bell(&self) -> String {
        self.with(".bell")
    }

    pub(super) fn waiter(&self, number: u32) -> String {
        format!("{}.wait-{number}", self.stem)
    }

    fn with(&self, suffix: &str) -> String {
        [&self.stem, suffix].concat()
    }

    /// Which OS lock serialises this key's changes (FNV-1a; the same in every process).
    pub(super) fn shard(&self) -> usize {
        let hash = self.stem.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        usize::try_from((hash >> 32) % SHARDS as u64).unwrap_or(0)
    }
}

/// The second name of the record that a lock id got. Hashed: a lock id is a secret, and names of files
/// are seen by backups and by whoever looks at open files.
pub(super) fn index(id: &LockId) -> String {
    format!("{}.index", hash(id.as_str()))
}

pub(super) fn shard(number: usize) -> String {
    format!("shard-{number:02x}")
}

pub(super) fn floor(shard: usize) -> String {
    format!("floor-{shard:02x}")
}

pub(super) fn floor_draft(shard: usize) -> String {
    format!("floor-{shard:02x}.draft")
}

/// The first 160 bits of SHA-256, in hexadecimal.
fn hash(text: &str) -> String {
    Sha256::digest(text.as_bytes())[..20].iter().map(|byte| format!("{byte:02x}")).collect()
}

/// What a file in a boot's directory is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind<'a> {
    /// Of one key: its stem.
    Held(&'a str),
    Free(&'a str),
    Next(&'a str),
    Bell(&'a str),
    Waiter(&'a str),
    Index,
    Shard,
    Floor,
}

impl Kind<'_> {
    /// `None` for what this backend never made.
    pub(super) fn of(name: &str) -> Option<Kind<'_>> {
        let is_numbered = |name: &str, prefix: &str| {
            name.strip_prefix(prefix).is_some_and(|rest| rest.len() == 2 && rest.bytes().all(is_hex))
        };
        let is_floor = |name: &str| is_numbered(name, "floor-");
        if is_numbered(name, "shard-") {
            return Some(Kind::Shard);
        }
        if is_floor(name) || name.strip_suffix(".draft").is_some_and(is_floor) {
            return Some(Kind::Floor);
        }
        let (stem, suffix) = name.rsplit_once('.')?;
        if suffix == "index" {
            return (stem.len() == 40 && stem.bytes().all(is_hex)).then_some(Kind::Index);
        }
        if !stem.starts_with("k-") && !stem.starts_with("h-") {
            return None;
        }
        match suffix {
            "held" => Some(Kind::Held(stem)),
            "free" => Some(Kind::Free(stem)),
            "next" => Some(Kind::Next(stem)),
            "bell" => Some(Kind::Bell(stem)),
            _ if suffix.strip_prefix("wait-").is_some_and(|n| n.parse::<u32>().is_ok()) => {
                Some(Kind::Waiter(stem))
            }
            _ => None,
        }
    }
}

/// Whether it can be the name of a boot: a UUID, or what other platforms than Linux call it.
pub(super) fn is_boot(name: &str) -> bool {
    let uuid = name.len() == 36
        && name.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        });
    uuid || name.strip_prefix("boot-").is_some_and(|n| !n.is_empty() && n.bytes().all(is_hex))
}

fn is_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    fn held(key: &str) -> String {
        Names::of(&Key::new(key).unwrap()).held()
    }

    #[test]
    fn short_safe_keys_are_readable_and_others_hashed() {
        assert_eq!(held("orders.42_a-b"), "k-orders.42_a-b.held");
        for key in ["a/b", "../../etc/passwd", "A", "a:b", "é", " ", "\n", &"a".repeat(101)] {
            assert!(held(key).starts_with("h-") && held(key).len() == 47, "{key:?}: {}", held(key));
        }
    }

    #[test]
    fn hostile_keys_stay_apart_whatever_the_case_of_the_filesystem() {
        let keys = [
            ".", "..", "a", "A", "a.held", "a.free", "k-a", "h-a", "id:x", "{a}", "}{", "%2F", "__x__",
            "a/b", "a\\b", "con", "nul", "a.", "a ", "../a", "shard-00", "x.index", "😀",
        ];
        let names: HashSet<String> = keys.iter().map(|key| held(key).to_lowercase()).collect();
        assert_eq!(names.len(), keys.len());
    }

    proptest! {
        #[test]
        fn no_key_escapes(text in "\\PC{1,120}") {
            let Ok(key) = Key::new(&text) else { return Ok(()) };
            let names = Names::of(&key);
            let all = [names.held(), names.free(), names.next(), names.bell(), names.waiter(7)];
            let distinct: HashSet<&String> = all.iter().collect();
            prop_assert_eq!(distinct.len(), all.len());
            for name in &all {
                prop_assert!(!name.contains(['/', '\\', '\0']) && !name.starts_with('.') && name.len() < 128);
                prop_assert!(Kind::of(name).is_some());
            }
            prop_assert!(names.shard() < SHARDS);
        }

        #[test]
        fn only_equal_keys_share_a_name(a in "[a-zA-Z./%-]{1,4}", b in "[a-zA-Z./%-]{1,4}") {
            prop_assert_eq!(held(&a).to_lowercase() == held(&b).to_lowercase(), a == b);
        }
    }

    #[test]
    fn what_is_not_ours_has_no_kind() {
        for name in
            ["notes.txt", "k-a", "a.held", "shard-0", "shard-zz", "x.index", "k-a.wait-", ".", "k-a.wait-x"]
        {
            assert_eq!(Kind::of(name), None, "{name}");
        }
        assert!(is_boot("65ad4c04-6fdf-48f1-8eb8-1e667fdfa740") && is_boot("boot-1f"));
        assert!(!is_boot("..") && !is_boot("65ad4c04-6fdf-48f1-8eb8-1e667fdfa74") && !is_boot("boot-"));
    }
}
