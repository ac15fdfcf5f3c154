//! Under which names a key's data lie: the storage keys of [`crate::lock`] behind the client's own prefix.

use crate::backend::Part;
use crate::lock::{self, Error, Key, Limit, LockId, Result, StorageKeys, short_form, storage_key};

use super::transport::slots::hash_tag;

/// How long a name may be, and what is kept free for names derived from it.
pub const LIMIT: Limit = Limit { bytes: 1000, reserve: 26 };

/// A key's names on one server. A key that would lie where reverse mappings or fences lie takes the hashed form.
///
/// # Errors
/// `InvalidArgument` when the prefix leaves no room.
pub fn storage_keys(prefix: &str, key: &Key) -> Result<StorageKeys> {
    let collides = key.as_str().starts_with("id:") || key.as_str().starts_with("fence:");
    lock::storage_keys(prefix, key, LIMIT, collides)
}

/// A key's names in a cluster, whose nodes split by what stands between braces: a hash of the key, so that
/// lock and fence lie together and no key can choose its node's neighbours.
///
/// # Errors
/// As [`storage_keys`].
pub fn cluster_keys(prefix: &str, key: &Key) -> Result<StorageKeys> {
    let tag = format!("{{{}}}", short_form(prefix, key.as_str()));
    let lock = storage_key(prefix, &tag, LIMIT)?;
    let fence = storage_key(prefix, &format!("fence:{tag}"), LIMIT)?;
    Ok(StorageKeys { lock, fence })
}

/// The prefixes of one backend.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    client_prefix: String,
    key_prefix: String,
    layout: Layout,
}

/// So that fences keep their hash tag: a longer name would be shortened to a hash.
const LONGEST_TAGGED_PREFIX: usize = 900;

/// Where one key's data lie.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) lock: String,
    pub(super) fence: String,
}

/// How names are made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Layout {
    /// That of the original library. Its three names of a key lie wherever they fall, so it takes one
    /// server, or a prefix with a hash tag, which brings all keys to one node of a cluster.
    #[default]
    Original,
    /// A hash tag for each key; the reverse mapping lies elsewhere.
    Tagged,
}

impl Names {
    /// # Errors
    /// `InvalidArgument` for a key prefix whose locks would lie where fences lie, that is too long, or whose
    /// braces a cluster would misread.
    pub(super) fn new(client_prefix: String, key_prefix: &str, in_cluster: bool) -> Result<Names> {
        let trimmed = key_prefix.trim_end_matches(':');
        if trimmed.contains("fence:") || trimmed.ends_with("fence") {
            return Err(Error::invalid(format!(
                "keyPrefix must not contain \"fence:\" or end in \"fence\", where fence counters lie; {key_prefix:?} was given"
            )));
        }
        if key_prefix.contains('\0') {
            return Err(Error::invalid("keyPrefix must not contain U+0000"));
        }
        // The longest short form of a key: whoever has room for it has room for every key.
        storage_key(trimmed, &"x".repeat(LIMIT.bytes), LIMIT)?;
        let before = [&client_prefix, trimmed].concat();
        let layout = match (in_cluster, hash_tag(&before)) {
            (false, _) | (true, Some(_)) => Layout::Original,
            (true, None) if before.contains('{') => {
                return Err(Error::invalid(
                    "a prefix with \"{\" must hold a whole hash tag in a Redis Cluster, as in \"{app}\"; or leave the brace out",
                ));
            }
            (true, None) => Layout::Tagged,
        };
        if layout == Layout::Tagged && trimmed.len() > LONGEST_TAGGED_PREFIX {
            return Err(Error::invalid(format!(
                "keyPrefix must have at most {LONGEST_TAGGED_PREFIX} bytes in a Redis Cluster; {} were given",
                trimmed.len()
            )));
        }
        Ok(Names { client_prefix, key_prefix: trimmed.to_owned(), layout })
    }

    pub(super) fn place(&self, key: &Key) -> Result<Place> {
        let keys = match self.layout {
            Layout::Original => storage_keys(&self.key_prefix, key)?,
            Layout::Tagged => cluster_keys(&self.key_prefix, key)?,
        };
        Ok(Place { lock: self.named(keys.lock), fence: self.named(keys.fence) })
    }

    /// The reverse mapping, from lock id to lock.
    pub(super) fn index(&self, id: &LockId) -> Result<String> {
        let mut name = String::with_capacity(3 + LockId::LENGTH);
        name.push_str("id:");
        name.push_str(id.as_str());
        Ok(self.named(storage_key(&self.key_prefix, &name, LIMIT)?))
    }

    /// What every lock's name starts with.
    pub(super) fn all_locks(&self) -> String {
        let colon = if self.key_prefix.is_empty() { "" } else { ":" };
        [&self.client_prefix, &self.key_prefix, colon].concat()
    }

    /// Whether scripts reach the reverse mapping from the lock.
    pub(super) fn index_is_beside_lock(&self) -> bool {
        self.layout == Layout::Original
    }

    /// Whether a lock may have this name.
    pub(super) fn is_lock(&self, name: &str) -> bool {
        match name.strip_prefix(&self.all_locks()) {
            Some(rest) => !rest.is_empty() && !rest.starts_with("id:") && !rest.starts_with("fence:"),
            None => false,
        }
    }

    /// A name for error messages: that of a reverse mapping holds the lock id.
    pub(super) fn shown(&self, name: &str) -> String {
        match name.strip_prefix(&self.all_locks()).and_then(|rest| rest.strip_prefix("id:")) {
            Some(_) => format!("{}id:…", self.all_locks()),
            None => name.to_owned(),
        }
    }

    /// Where wake-ups about a lock are published; the scripts make the same name.
    pub(super) fn channel(lock: &str) -> String {
        [lock, ":wake"].concat()
    }

    /// Which locks these are: equal for backends that see the same ones.
    pub(super) fn identity(&self) -> Part {
        [self.client_prefix.as_str(), &self.key_prefix].map(Part::from).into()
    }

    fn named(&self, storage_key: String) -> String {
        if self.client_prefix.is_empty() {
            storage_key
        } else {
            [self.client_prefix.as_str(), &storage_key].concat()
        }
    }
}
