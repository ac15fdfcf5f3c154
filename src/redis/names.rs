//! Under which names a key's data lie: the storage keys of [`crate::lock`] behind the client's own prefix.

use crate::lock::{Error, Key, Limit, LockId, Result, redis_keys, storage_key};

/// The prefixes of one backend.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    client_prefix: String,
    key_prefix: String,
}

/// Where one key's data lie.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) lock: String,
    pub(super) fence: String,
}

impl Names {
    /// # Errors
    /// `InvalidArgument` for a key prefix whose locks would lie where fences lie, or that is too long.
    pub(super) fn new(client_prefix: String, key_prefix: &str) -> Result<Names> {
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
        storage_key(trimmed, &"x".repeat(Limit::REDIS.bytes), Limit::REDIS)?;
        Ok(Names { client_prefix, key_prefix: trimmed.to_owned() })
    }

    /// Names that the client's own prefix stands before, with everything else to be settled.
    pub(super) fn behind(client_prefix: String) -> Names {
        Names { client_prefix, key_prefix: String::new() }
    }

    pub(super) fn into_client_prefix(self) -> String {
        self.client_prefix
    }

    pub(super) fn place(&self, key: &Key) -> Result<Place> {
        let keys = redis_keys(&self.key_prefix, key)?;
        Ok(Place { lock: self.named(keys.lock), fence: self.named(keys.fence) })
    }

    /// The reverse mapping, from lock id to lock.
    pub(super) fn index(&self, id: &LockId) -> Result<String> {
        let mut name = String::with_capacity(3 + LockId::LENGTH);
        name.push_str("id:");
        name.push_str(id.as_str());
        Ok(self.named(storage_key(&self.key_prefix, &name, Limit::REDIS)?))
    }

    /// What every lock's name starts with.
    pub(super) fn all_locks(&self) -> String {
        let colon = if self.key_prefix.is_empty() { "" } else { ":" };
        [&self.client_prefix, &self.key_prefix, colon].concat()
    }

    /// A name for error messages: that of a reverse mapping holds the lock id.
    pub(super) fn shown(&self, name: &str) -> String {
        match name.strip_prefix(&self.all_locks()).and_then(|rest| rest.strip_prefix("id:")) {
            Some(_) => format!("{}id:…", self.all_locks()),
            None => super::error::redact(name),
        }
    }

    /// Where wake-ups about a lock are published; the scripts make the same name.
    pub(super) fn channel(lock: &str) -> String {
        [lock, ":wake"].concat()
    }

    /// Which locks these are: equal for backends that see the same ones.
    pub(super) fn identity(&self) -> String {
        format!("{}|{}", self.client_prefix, self.key_prefix)
    }

    fn named(&self, storage_key: String) -> String {
        if self.client_prefix.is_empty() {
            storage_key
        } else {
            [self.client_prefix.as_str(), &storage_key].concat()
        }
    }
}
