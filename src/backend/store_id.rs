//! Which store a backend leads to, as a structure, so that waiters of one store meet and of two never do.

use std::collections::hash_map::DefaultHasher;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;

/// Which store it is: backends with equal ones see the same locks, so their waiters share a queue. A structure, since
/// parts that are joined into one text could mean another store. Holds no secret. Cheap to clone, compare and hash.
#[derive(Clone)]
pub struct StoreId(Arc<Inner>);

struct Inner {
    hash: u64,
    kind: &'static str,
    parts: Vec<Part>,
}

/// What tells stores of a kind apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Part {
    /// It was left open.
    Nothing,
    /// A number, as a port.
    Number(u64),
    /// A text, as a host.
    Text(String),
    /// A path.
    Path(PathBuf),
    /// Several, in order.
    Parts(Vec<Part>),
}

impl StoreId {
    /// The identity of the store of this kind with these parts.
    pub fn new(kind: &'static str, parts: impl Into<Vec<Part>>) -> StoreId {
        let parts = parts.into();
        let mut hasher = DefaultHasher::new();
        (kind, &parts).hash(&mut hasher);
        StoreId(Arc::new(Inner { hash: hasher.finish(), kind, parts }))
    }

    /// What it was made of.
    pub fn parts(&self) -> &[Part] {
        &self.0.parts
    }
}

impl PartialEq for StoreId {
    fn eq(&self, other: &StoreId) -> bool {
        let (one, other) = (&self.0, &other.0);
        Arc::ptr_eq(one, other)
            || (one.hash == other.hash && one.kind == other.kind && one.parts == other.parts)
    }
}

impl Eq for StoreId {}

impl Hash for StoreId {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0.hash);
    }
}

impl fmt::Debug for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple(self.0.kind).field(&self.0.parts).finish()
    }
}

impl From<&str> for Part {
    fn from(text: &str) -> Part {
        Part::Text(text.to_owned())
    }
}

impl From<String> for Part {
    fn from(text: String) -> Part {
        Part::Text(text)
    }
}

impl From<u16> for Part {
    fn from(number: u16) -> Part {
        Part::Number(number.into())
    }
}

impl From<u32> for Part {
    fn from(number: u32) -> Part {
        Part::Number(number.into())
    }
}

impl From<u64> for Part {
    fn from(number: u64) -> Part {
        Part::Number(number)
    }
}

impl From<PathBuf> for Part {
    fn from(path: PathBuf) -> Part {
        Part::Path(path)
    }
}

impl<P: Into<Part>> From<Option<P>> for Part {
    fn from(part: Option<P>) -> Part {
        part.map_or(Part::Nothing, Into::into)
    }
}

impl From<Vec<Part>> for Part {
    fn from(parts: Vec<Part>) -> Part {
        Part::Parts(parts)
    }
}

impl<const N: usize> From<[Part; N]> for Part {
    fn from(parts: [Part; N]) -> Part {
        Part::Parts(parts.into())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_part_runs_into_another() {
        let texts = |texts: &[&str]| -> Vec<Part> { texts.iter().map(|text| Part::from(*text)).collect() };
        let all = [
            StoreId::new("redis", texts(&["a|b", "c"])),
            StoreId::new("redis", texts(&["a", "b|c"])),
            StoreId::new("redis", texts(&["a|b|c"])),
            StoreId::new("redis", texts(&["a", "b", "c"])),
            StoreId::new("redis", texts(&["a", "bc"])),
            StoreId::new("redis", [Part::from(texts(&["a"])), Part::from(texts(&["b", "c"]))]),
            StoreId::new("redis", [Part::from(texts(&["a", "b"])), Part::from(texts(&["c"]))]),
            StoreId::new("file", texts(&["a", "bc"])),
            StoreId::new("redis", [Part::Nothing]),
            StoreId::new("redis", texts(&[""])),
            StoreId::new("redis", texts(&["1"])),
            StoreId::new("redis", [Part::from(1_u32)]),
            StoreId::new("redis", [Part::from(PathBuf::from("1"))]),
            StoreId::new("redis", []),
        ];
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), all.len());
        for one in &all {
            let same = StoreId::new(one.0.kind, one.parts());
            assert!(same == *one && all.iter().filter(|other| **other == same).count() == 1, "{one:?}");
            assert!(HashSet::from([one]).contains(&same));
        }
    }
}
